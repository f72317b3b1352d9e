"""A little mouse seen from above: rendered pictures in which the true place of every body part is known.

It walks between goals, pauses, looks around, bends while it turns, and passes under a roof and a rail that hide
parts of it. Coordinates follow DeepLabCut: origin at the top left, x to the right, y down, and pixel centres at whole
numbers (the pixel in column 0 has its centre at x = 0), because labels are set in napari or matplotlib, whose
pictures lie so. All drawing is by signed distance from exact centres, anti-aliased, without a half-pixel bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

BODYPARTS = ("snout", "leftear", "rightear", "bodycenter", "tailbase")
SKELETON = (
    ("snout", "leftear"),
    ("snout", "rightear"),
    ("leftear", "bodycenter"),
    ("rightear", "bodycenter"),
    ("bodycenter", "tailbase"),
)

# The animal lengthwise, px at 256x192: distance from the snout's tip, and half width there.
_OUTLINE = np.array(
    [
        [1.5, 1.6],
        [5, 3.3],
        [10, 5.5],
        [15, 7.2],
        [21, 7.2],
        [29, 8.8],
        [38, 10.2],
        [48, 10.8],
        [55, 9.0],
        [60, 5.2],
        [63, 2.6],
    ]
)
_CENTER, _EARS, _TAILBASE, _TAIL_END = 38.0, 15.0, 62.0, 112.0
_EAR_ASIDE, _EAR_RADIUS = 7.0, 4.4
_SPINE = np.arange(0.0, _TAIL_END + 0.1, 1.0)
_PAWS = (
    (25.0, 8.2, 0.0),
    (25.0, -8.2, np.pi),
    (50.0, 10.4, np.pi),
    (50.0, -10.4, 0.0),
)  # along, aside, gait phase

_WALL = 9.0
_REACH = 47.0  # px that the body's centre keeps from the picture's edge
_STEP = 1 / 120  # s, at most, between two states of the walk
_NOISE = 2.6  # grey levels, a decent camera in fair light
_SHADOW = np.array([3.0, 4.0])

_EYE = np.array([25, 18, 18], dtype=np.float32)
_NOSE = np.array([214, 138, 132], dtype=np.float32)
_PAW = np.array([224, 168, 158], dtype=np.float32)
_TAIL = np.array([188, 140, 130], dtype=np.float32)
# The ears differ, as an ear tag makes them: left and right can be told apart even where the body is hidden.
_LEFT_EAR = np.array([232, 176, 164], dtype=np.float32)
_RIGHT_EAR = np.array([150, 92, 92], dtype=np.float32)
_FURS = np.array([[120, 92, 70], [78, 74, 78], [150, 126, 98], [98, 80, 66]], dtype=np.float32)
_FLOORS = np.array([[196, 186, 168], [178, 184, 180], [202, 194, 184], [184, 174, 152]], dtype=np.float32)


@dataclass(frozen=True)
class SceneSettings:
    """What to render: *seed* gives path, floor and hiding places, *subject_seed* fur and size."""

    frames: int
    fps: Fraction
    seed: int
    subject_seed: int
    width: int = 256
    height: int = 192


@dataclass(frozen=True)
class Posture:
    """The animal at one moment: where its body's centre is, where it heads, and how it is bent."""

    x: float
    y: float
    heading: float  # rad, 0 to the right, growing clockwise as y points down
    bend: float  # rad per px along the spine
    head_turn: float  # rad that the head turns further than the body
    gait: float  # rad, phase of the steps
    tail_swing: float  # rad, phase of the tail


class Scene:
    """A sequence of pictures and the truth about them; equal settings give equal pixels."""

    def __init__(self, settings: SceneSettings) -> None:
        self.settings = settings
        self._unit = min(settings.width / 256, settings.height / 192)
        subject = np.random.default_rng([settings.subject_seed, 11])
        kind = settings.subject_seed % len(_FURS)
        self._fur = _FURS[kind] + subject.normal(0, 4, 3).astype(np.float32)
        self._scale = self._unit * subject.uniform(0.94, 1.06)
        self._fur_noise = _smooth_noise(subject, 64, 64, 3) * 9 + subject.normal(0, 4, (64, 64)).astype(np.float32)
        place = np.random.default_rng([settings.seed, 12])
        self._roof, self._rail = _hiding_places(place, settings.width, settings.height, self._unit)
        self._floor = _floor(place, settings.width, settings.height, self._unit, _FLOORS[kind])
        self._cover, self._cover_alpha = self._covers(place)
        self._shade_floor()

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield for each frame the picture and the truth.

        Yields
        ------
        picture
            (height, width, 3) uint8 RGB.
        points
            (5, 2) float64 px, x and y of each of `BODYPARTS`, also where hidden.
        visible
            (5,) bool, whether nothing lies over the body part.
        """
        camera = np.random.default_rng([self.settings.seed, 13])
        grain = camera.normal(0, _NOISE, (self.settings.height + 64, self.settings.width + 64, 3)).astype(np.float32)
        for posture in self.postures():
            picture = self._floor.copy()
            spine, angles = self._spine(posture)
            self._draw_animal(picture, spine, angles, posture)
            picture += (self._cover - picture) * self._cover_alpha
            dy, dx = camera.integers(0, 64, 2)
            picture += grain[dy : dy + self.settings.height, dx : dx + self.settings.width]
            picture += np.float32(camera.normal(0, 0.8))
            points = self._points(spine, angles)
            yield np.clip(picture + 0.5, 0, 255).astype(np.uint8), points, self._visible(points)

    def postures(self) -> list[Posture]:
        """Walk the animal through the arena: one posture a frame."""
        return _walk(self.settings, self._unit, self._roof)

    def _spine(self, posture: Posture) -> tuple[np.ndarray, np.ndarray]:
        """Return places (n, 2) px and directions to the head (n,) rad, 1 px apart from snout to tail's end."""
        ahead = _CENTER - _SPINE
        head = posture.head_turn * np.clip((ahead - 12) / 14, 0, 1)
        along = np.clip(ahead, _CENTER - _TAILBASE, None)
        behind = np.clip(_SPINE - _TAILBASE, 0, None)
        tail = np.sin(posture.tail_swing - behind / 16) * behind / 55 - posture.bend * behind * 0.9
        angles = posture.heading + posture.bend * along + head + tail
        steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * self._scale
        places = -np.cumsum(steps, axis=0)
        center = int(_CENTER)
        return places - places[center] + (posture.x, posture.y), angles

    def _points(self, spine: np.ndarray, angles: np.ndarray) -> np.ndarray:
        """Return (5, 2) px in the order of `BODYPARTS`."""
        left, right = (self._aside(spine, angles, _EARS, side * _EAR_ASIDE) for side in (-1, 1))
        return np.array([spine[0], left, right, spine[int(_CENTER)], spine[int(_TAILBASE)]])

    def _aside(self, spine: np.ndarray, angles: np.ndarray, along: float, aside: float) -> np.ndarray:
        """Return the place *aside* px to the animal's right (y points down) of its spine at *along*."""
        at = int(along)
        return spine[at] + aside * self._scale * np.array([-np.sin(angles[at]), np.cos(angles[at])])

    def _visible(self, points: np.ndarray) -> np.ndarray:
        x, y = points[:, 0], points[:, 1]
        return (self._roof.distance(x, y) > 0) & (self._rail.distance(x, y) > 0)

    def _draw_animal(self, picture: np.ndarray, spine: np.ndarray, angles: np.ndarray, posture: Posture) -> None:
        s = self._scale
        x0, y0 = np.maximum(np.floor(spine.min(axis=0) - 16 * s).astype(int), 0)
        x1, y1 = np.ceil(spine.max(axis=0) + 16 * s).astype(int)
        patch = picture[y0 : y1 + 1, x0 : x1 + 1]
        x = np.arange(x0, x0 + patch.shape[1], dtype=np.float32)
        y = np.arange(y0, y0 + patch.shape[0], dtype=np.float32)[:, None]

        along = np.arange(1.5, 63.1, 2.6)
        radii = (np.interp(along, _OUTLINE[:, 0], _OUTLINE[:, 1]) * s).astype(np.float32)
        nodes = _at(spine, along)
        body, nearest, height = _blobs(x, y, nodes, radii)
        tail = _thread(x, y, _at(spine, np.linspace(_TAILBASE - 1, _TAIL_END, 13)), 2.3 * s, 0.8 * s)
        dx, dy = np.round(_SHADOW * s).astype(int)
        shadow = np.clip((4 * s - np.minimum(body, tail)) / (7 * s), 0, 1) * 0.42
        patch[dy:, dx:] *= 1 - shadow[: shadow.shape[0] - dy, : shadow.shape[1] - dx, None]

        for paw_along, aside, phase in _PAWS:
            swing = 3.5 * np.sin(posture.gait + phase)
            _spot(patch, x, y, self._aside(spine, angles, paw_along - swing, aside), 2.6 * s, _PAW)
        _blend(patch, _coverage(tail), _TAIL)
        _blend(patch, _coverage(body), self._fur_colour(x, y, nodes, angles, along, nearest, height))
        for side, colour in ((-1, _LEFT_EAR), (1, _RIGHT_EAR)):
            ear = self._aside(spine, angles, _EARS, side * _EAR_ASIDE)
            _spot(patch, x, y, ear, _EAR_RADIUS * s, self._fur * 0.62)
            _spot(patch, x, y, ear, (_EAR_RADIUS - 1.1) * s, colour)
            _spot(patch, x, y, self._aside(spine, angles, 7.0, side * 3.6), 1.15 * s, _EYE)
        _spot(patch, x, y, spine[0] + (spine[1] - spine[0]) * 0.4, 1.5 * s, _NOSE)

    def _fur_colour(
        self,
        x: np.ndarray,
        y: np.ndarray,
        nodes: np.ndarray,
        angles: np.ndarray,
        along: np.ndarray,
        nearest: np.ndarray,
        height: np.ndarray,
    ) -> np.ndarray:
        """Return (h, w, 3): fur that moves with the body, lit from the upper left."""
        turn = angles[along.astype(int)].astype(np.float32)[nearest]
        node = nodes.astype(np.float32)[nearest]
        aside = (x - node[..., 0]) * -np.sin(turn) + (y - node[..., 1]) * np.cos(turn)
        rows = (along[nearest] / 1.6).astype(int) % 64
        hair = self._fur_noise[rows, (aside / self._scale * 1.4 + 32).astype(int) % 64]
        slope_y, slope_x = np.gradient(height)
        light = 0.74 + 0.030 * height / self._scale + 0.11 * np.clip(-slope_x - slope_y, -1.5, 1.5)
        stripe = 1 - 0.10 * np.exp(-((aside / (3.5 * self._scale)) ** 2))  # mice are darker along the back
        return (self._fur + hair[..., None]) * (light * stripe)[..., None].astype(np.float32)

    def _covers(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return colour (h, w, 3) and opacity (h, w, 1) of what hangs over the arena: a roof and a rail."""
        x, y = self._grid()
        along, aside = self._roof.local(x, y)
        ridges = 10 * np.sin(along / self._unit * 1.1) + _smooth_noise(rng, x.shape[0], x.shape[1], 6) * 7
        edge = np.clip(-self._roof.distance(x, y) / (3 * self._unit), 0, 1)
        roof = np.array([164, 124, 82]) + ridges[..., None] - 34 * (1 - edge[..., None]) - aside[..., None] * 0.15
        _, across = self._rail.local(x, y)
        rail = np.array([118, 124, 132]) + 46 * np.cos(across / self._rail.half[1] * 1.4 + 0.5)[..., None] - 18
        over_roof = _coverage(self._rail.distance(x, y))[..., None]
        alpha = np.maximum(_coverage(self._roof.distance(x, y))[..., None], over_roof)
        return (roof + (rail - roof) * over_roof).astype(np.float32), alpha.astype(np.float32)

    def _shade_floor(self) -> None:
        """Put the shadows of roof and rail on the floor."""
        x, y = self._grid()
        dx, dy = 5 * self._unit, 6 * self._unit
        near = np.minimum(self._roof.distance(x - dx, y - dy), self._rail.distance(x - dx, y - dy))
        self._floor *= (1 - 0.38 * np.clip(0.5 - near / (8 * self._unit), 0, 1))[..., None].astype(np.float32)

    def _grid(self) -> tuple[np.ndarray, np.ndarray]:
        y, x = np.mgrid[0 : self.settings.height, 0 : self.settings.width].astype(np.float64)
        return x, y


@dataclass(frozen=True)
class _Box:
    """A rounded rectangle that lies turned over the arena."""

    center: tuple[float, float]
    half: tuple[float, float]
    angle: float
    corner: float

    def local(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coordinates along and across the box, from its centre."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        dx, dy = x - self.center[0], y - self.center[1]
        return dx * c + dy * s, dy * c - dx * s

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return px from the edge, negative inside."""
        along, across = self.local(x, y)
        qx = np.abs(along) - self.half[0] + self.corner
        qy = np.abs(across) - self.half[1] + self.corner
        return np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - self.corner


def draw_spot(picture: np.ndarray, x: float, y: float, radius: float, colour: np.ndarray) -> None:
    """Draw an anti-aliased disc of *radius* px, centred at (*x*, *y*), into a float32 (h, w, 3) picture."""
    height, width = picture.shape[:2]
    _spot(picture, np.arange(width), np.arange(height)[:, None], np.array([x, y]), radius, colour)


def _hiding_places(rng: np.random.Generator, width: int, height: int, unit: float) -> tuple[_Box, _Box]:
    """Return a roof against one side of the arena and a rail across it elsewhere."""
    side = int(rng.integers(2))
    roof_x = width * (rng.uniform(0.17, 0.24) if side else rng.uniform(0.76, 0.83))
    roof = _Box(
        center=(roof_x, height * rng.uniform(0.3, 0.7)),
        half=(rng.uniform(21, 25) * unit, rng.uniform(15, 19) * unit),
        angle=rng.uniform(-0.5, 0.5),
        corner=4 * unit,
    )
    rail_x = width * (rng.uniform(0.55, 0.7) if side else rng.uniform(0.3, 0.45))
    rail = _Box(
        center=(rail_x, height / 2),
        half=(float(width + height), rng.uniform(3.6, 4.6) * unit),
        angle=np.pi / 2 + rng.uniform(-0.35, 0.35),
        corner=0.0,
    )
    return roof, rail


def _floor(rng: np.random.Generator, width: int, height: int, unit: float, colour: np.ndarray) -> np.ndarray:
    """Return (h, w, 3) float32: wood-chip bedding in a walled arena under uneven light."""
    tone = sum(_smooth_noise(rng, height, width, size * unit) * gain for size, gain in ((28, 7), (9, 6), (3, 6)))
    tint = _smooth_noise(rng, height, width, 18 * unit) * 4
    floor = colour + np.stack([tone + tint, tone, tone - tint], axis=-1)
    for _ in range(420):
        _chip(floor, rng, unit)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    arena = _Box(
        ((width - 1) / 2, (height - 1) / 2),
        (width / 2 - _WALL * unit, height / 2 - _WALL * unit),
        0,
        10 * unit,
    )
    inside = arena.distance(x, y)
    floor *= (1 - 0.35 * np.clip(1 + inside / (9 * unit), 0, 1))[..., None]
    wall = (
        np.array([92, 98, 104])
        + np.clip(inside[..., None], 0, 6) * 4
        + _smooth_noise(rng, height, width, 5)[..., None] * 2
    )
    floor += (wall - floor) * np.clip(0.5 + inside, 0, 1)[..., None]
    lamp_x, lamp_y = width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7)
    fall = ((x - lamp_x) / width) ** 2 + ((y - lamp_y) / height) ** 2
    return (floor * (1.04 - 0.34 * fall)[..., None]).astype(np.float32)


def _chip(floor: np.ndarray, rng: np.random.Generator, unit: float) -> None:
    """Lay one chip of wood onto the floor."""
    height, width = floor.shape[:2]
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    chip = _Box(
        (x, y),
        (rng.uniform(1.6, 4.5) * unit, rng.uniform(0.7, 1.4) * unit),
        rng.uniform(0, np.pi),
        0.6 * unit,
    )
    reach = int(6 * unit) + 1
    rows = slice(max(int(y) - reach, 0), int(y) + reach)
    columns = slice(max(int(x) - reach, 0), int(x) + reach)
    patch = floor[rows, columns]
    py, px = np.mgrid[rows.start : rows.start + patch.shape[0], columns.start : columns.start + patch.shape[1]]
    shade = rng.normal(0, 17) + np.array([3, 0, -6])
    patch += _coverage(chip.distance(px, py))[..., None] * 0.85 * shade


def _walk(settings: SceneSettings, unit: float, roof: _Box) -> list[Posture]:
    rng = np.random.default_rng([settings.seed, 14])
    low = np.array([_REACH, _REACH]) * unit
    high = np.array([settings.width - 1, settings.height - 1]) - low
    place, heading = rng.uniform(low, high), rng.uniform(-np.pi, np.pi)
    goal = rng.uniform(low, high)
    speed = turning = head = head_goal = gait = swing = pause = 0.0
    pace = rng.uniform(60, 110)
    substeps = int(np.ceil(1 / (float(settings.fps) * _STEP)))
    dt = 1 / float(settings.fps) / substeps
    postures = []
    for _ in range(settings.frames):
        for _ in range(substeps):
            away = goal - place
            if np.hypot(*away) < 12 * unit:
                under_roof = rng.random() < 0.2
                goal = np.clip(roof.center + rng.normal(0, 6, 2), low, high) if under_roof else rng.uniform(low, high)
                pace = rng.uniform(45, 130)
                pause = rng.uniform(0.3, 1.4) if rng.random() < 0.45 else 0.0
                away = goal - place
            off = (np.arctan2(away[1], away[0]) - heading + np.pi) % (2 * np.pi) - np.pi
            pause -= dt
            walking = pause <= 0
            wanted_turn = np.clip(3.2 * off, -3.4, 3.4) if walking else 0.0
            wanted_speed = pace * unit * max(0.25, np.cos(off)) if walking else 0.0
            if rng.random() < dt / 0.5:
                head_goal = float(rng.normal(0, 0.14 if walking else 0.42))
            turning += (wanted_turn - turning) * dt / 0.16
            speed += (wanted_speed - speed) * dt / 0.22
            head += (np.clip(head_goal + 0.10 * turning, -0.7, 0.7) - head) * dt / 0.14
            heading += turning * dt
            place = np.clip(place + speed * dt * np.array([np.cos(heading), np.sin(heading)]), low, high)
            gait += speed / unit * dt * 0.32
            swing += (1.2 + speed / unit * 0.03) * dt
        bend = float(np.clip(turning * 0.0062, -0.02, 0.02))
        postures.append(Posture(float(place[0]), float(place[1]), heading, bend, float(head), gait, swing))
    return postures


def _at(spine: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return places (n, 2) on the spine, between its nodes too."""
    return np.stack([np.interp(along, _SPINE, spine[:, axis]) for axis in (0, 1)], axis=1)


def _blobs(
    x: np.ndarray, y: np.ndarray, nodes: np.ndarray, radii: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for balls along a line: px from their outline, the nearest ball, and how high they stand."""
    best = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, dtype=np.float32)
    nearest = np.zeros(best.shape, dtype=np.intp)
    height = np.zeros_like(best)
    for number, ((cx, cy), radius) in enumerate(zip(nodes.astype(np.float32), radii, strict=True)):
        squared = (x - cx) ** 2 + (y - cy) ** 2
        distance = np.sqrt(squared) - radius
        nearest[distance < best] = number
        np.minimum(best, distance, out=best)
        np.maximum(height, radius * radius - squared, out=height)
    return best, nearest, np.sqrt(height)


def _thread(x: np.ndarray, y: np.ndarray, nodes: np.ndarray, thick: float, thin: float) -> np.ndarray:
    """Return px from the outline of a line through *nodes*, its half width from *thick* to *thin*."""
    best = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, dtype=np.float32)
    radii = np.linspace(thick, thin, len(nodes)).astype(np.float32)
    nodes = nodes.astype(np.float32)
    for (ax, ay), (bx, by), ra, rb in zip(nodes[:-1], nodes[1:], radii[:-1], radii[1:], strict=True):
        ux, uy = bx - ax, by - ay
        px, py = x - ax, y - ay
        t = np.clip((px * ux + py * uy) / (ux * ux + uy * uy), 0, 1)
        px, py = px - t * ux, py - t * uy
        np.minimum(best, np.sqrt(px * px + py * py) - (ra + (rb - ra) * t), out=best)
    return best


def _spot(
    patch: np.ndarray, x: np.ndarray, y: np.ndarray, center: np.ndarray, radius: float, colour: np.ndarray
) -> None:
    """Draw a disc into *patch*, whose pixel centres are at *x* (w,) and *y* (h, 1)."""
    left, right = np.searchsorted(x, [center[0] - radius - 1, center[0] + radius + 1])
    top, bottom = np.searchsorted(y[:, 0], [center[1] - radius - 1, center[1] + radius + 1])
    distance = np.hypot(x[left:right] - center[0], y[top:bottom] - center[1]) - radius
    _blend(patch[top:bottom, left:right], _coverage(distance), colour)


def _coverage(distance: np.ndarray) -> np.ndarray:
    """Return the share of each pixel that lies inside an outline, from its centre's distance to it in px."""
    return np.clip(0.5 - distance, 0, 1)


def _blend(patch: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> None:
    patch += (colour - patch) * alpha[..., None]


def _smooth_noise(rng: np.random.Generator, height: int, width: int, size: float) -> np.ndarray:
    """Return (height, width) float32 noise of unit spread whose blotches are about *size* px wide."""
    from PIL import Image

    coarse = rng.normal(0, 1, (max(2, round(height / size)), max(2, round(width / size)))).astype(np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return fine / max(float(fine.std()), 1e-6)
