"""What a change of the release rules would do: which recordings change their version, and what would mix in which groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from dlc_assets.inference.releases import releases_of
from dlc_assets.lab.cohorts import Cohort, cohorts
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.lab.settings import ReleaseRule
from dlc_assets.recordings.info import SessionInfo
from dlc_assets.state.choosing import tags_of
from dlc_assets.training.models import ModelVersion, find_version

_ANY_OTHER = "\0"  # a device that no rule names
_LISTED = 5


@dataclass(frozen=True)
class Effect:
    """What becomes of one recording: the version (``model@version``, None: none) that the rules name before and after.

    `there` says whether poses by the version that counts afterwards exist already.
    """

    session: str
    day: date | None
    recording: str
    device: str
    before: str | None
    after: str | None
    there: bool

    @property
    def changes(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True)
class Mixing:
    """A group whose sessions would have poses by several versions on one device.

    Parameters
    ----------
    kind
        cohort, device, subject or tag.
    versions
        Sessions by version (``model@version``), once everything is analysed that the rules ask for.
    to_come
        The version that sessions to come in the group take; empty where there are none.
    """

    kind: str
    name: str
    versions: dict[str, int]
    to_come: str

    def __str__(self) -> str:
        counted = [_counted(count, version) for version, count in self.versions.items()]
        if self.kind == "cohort":
            return f'the frozen cohort "{self.name}" keeps its versions, and the released poses are others: {", ".join(counted)}'
        coming = [f"sessions to come by {self.to_come}"] if self.to_come else []
        return f"{self.kind} {self.name}: {', '.join([*counted, *coming])}"


def _counted(count: int, version: str) -> str:
    return f"{count} session{'' if count == 1 else 's'} by {version}"


def effects(
    lab: Lab, sessions: Iterable[SessionInfo], before: Sequence[ReleaseRule], after: Sequence[ReleaseRule]
) -> list[Effect]:
    """Return what becomes of each recording of *sessions* when the rules *after* take the place of the rules *before*."""
    rows = []
    for session in sessions:
        was, now = _versions(lab, session, before), _versions(lab, session, after)
        for recording in session.recordings:
            name = recording.recording
            version = now.get(name)
            rows.append(
                Effect(
                    session=session.session,
                    day=session.day,
                    recording=name,
                    device=recording.device,
                    before=str(was[name]) if name in was else None,
                    after=str(version) if version is not None else None,
                    there=version is not None and _analysed(lab, version, session.session, name),
                )
            )
    return rows


def _versions(lab: Lab, session: SessionInfo, rules: Sequence[ReleaseRule]) -> dict[str, ModelVersion]:
    releases = releases_of(lab, session, rules)
    return {
        name: version for model, version in releases.versions.items() for name in releases.recordings.get(model, ())
    }


def _analysed(lab: Lab, version: ModelVersion, session: str, recording: str) -> bool:
    manifest = read_manifest(lab.layout.pose_folder(version.model, version.version, session))
    return manifest is not None and any(row["recording"] == recording for row in manifest.details["recordings"])


def mixings(
    lab: Lab, sessions: Iterable[SessionInfo], rows: Sequence[Effect], devices: Iterable[str], released: str
) -> list[Mixing]:
    """Return the groups that would mix versions after a release: frozen cohorts, devices, tags, subjects.

    Parameters
    ----------
    rows
        The `effects` of the release on *sessions*.
    devices
        Those that the release is for.
    released
        The version that their sessions to come take, as ``model@version``.
    """
    chosen = set(devices)
    counts: dict[tuple[str, str], dict[str, set[tuple[str, str]]]] = {}
    by_session = {session.session: session for session in sessions}
    for row in rows:
        if row.after is None or row.device not in chosen:
            continue
        for group in _groups(lab, by_session[row.session], row.device):
            counts.setdefault(group, {}).setdefault(row.device, set()).add((row.after, row.session))
    found = [mixing for cohort in cohorts(lab.layout) if (mixing := _of_cohort(cohort, rows)) is not None]
    for (kind, name), of_device in sorted(counts.items()):
        if any({version for version, _ in pairs} | {released} != {released} for pairs in of_device.values()):
            counted = Counter(version for version, _ in set().union(*of_device.values()))
            found.append(Mixing(kind, name, dict(sorted(counted.items())), released))
    return found


def _groups(lab: Lab, session: SessionInfo, device: str) -> Iterator[tuple[str, str]]:
    yield "device", device
    if session.subject is not None:
        yield "subject", session.subject
    for name, value in tags_of(lab, session).items():
        yield "tag", f"{name}={value}"


def _of_cohort(cohort: Cohort, rows: Sequence[Effect]) -> Mixing | None:
    """Return what the released poses of a frozen cohort's sessions would be, where the release takes them away from its versions."""
    counted: Counter[str] = Counter()
    left = set()
    for row in rows:
        pinned = {f"{model}@{version}" for model, version in cohort.sessions.get(row.session, {}).items()}
        if row.changes and row.before in pinned and row.after is not None and row.after not in pinned:
            left.add((row.after, row.session))
    counted.update(version for version, _ in left)
    return Mixing("cohort", cohort.name, dict(sorted(counted.items())), "") if counted else None


def conflicts(
    lab: Lab, sessions: Sequence[SessionInfo], before: Sequence[ReleaseRule], after: Sequence[ReleaseRule]
) -> list[str]:
    """Return a sentence for each session, and each kind of session to come, that could no longer be analysed.

    A session takes one version of a model: rules that name two for its cameras stop its analysis.
    """
    problems = []
    stopped = [
        session.session
        for session in sessions
        if {*releases_of(lab, session, after).waiting} - {*releases_of(lab, session, before).waiting}
    ]
    if stopped:
        listed = ", ".join(stopped[:_LISTED]) + (", ..." if len(stopped) > _LISTED else "")
        problems.append(
            f"{len(stopped)} sessions could no longer be analysed, as they would need two versions of one model: {listed}."
        )
    for cameras in sorted({tuple(sorted({r.device for r in session.recordings})) for session in sessions}):
        clash = next(
            (
                c
                for day in _days(after)
                if (c := _clash(lab, cameras, day, after)) and not _clash(lab, cameras, day, before)
            ),
            "",
        )
        if clash and not stopped:
            problems.append(f"sessions to come with the cameras {', '.join(cameras)} could not be analysed: {clash}.")
    return problems


def _clash(lab: Lab, cameras: Sequence[str], day: date | None, rules: Sequence[ReleaseRule]) -> str:
    versions: dict[str, dict[str, str]] = {}
    for camera in cameras:
        rule = next((rule for rule in rules if rule.matches(camera, day)), None)
        if rule is not None:
            versions.setdefault(rule.model_name, {}).setdefault(_meaning(lab, rule)[0], camera)
    for of_camera in versions.values():
        if len(of_camera) > 1:
            return " and ".join(f"{version} for {camera}" for version, camera in of_camera.items())
    return ""


def same_meaning(lab: Lab, before: Sequence[ReleaseRule], after: Sequence[ReleaseRule]) -> bool:
    """Say whether both lists of rules name the same version, equally firmly, for every camera on every day."""
    rules = (*before, *after)
    cameras = {_ANY_OTHER, *(device for rule in rules for device in rule.devices or ())}
    return all(
        _chosen(lab, before, camera, day) == _chosen(lab, after, camera, day)
        for camera in cameras
        for day in _days(rules)
    )


def unreached(rules: Sequence[ReleaseRule]) -> list[int]:
    """Return the places (from 0) of the rules that no recording can fall under: those in front of them take all."""
    cameras = {_ANY_OTHER, *(device for rule in rules for device in rule.devices or ())}
    reached = {
        next((place for place, rule in enumerate(rules) if rule.matches(camera, day)), None)
        for camera in cameras
        for day in _days(rules)
    }
    return [place for place in range(len(rules)) if place not in reached]


def _chosen(lab: Lab, rules: Sequence[ReleaseRule], camera: str, day: date | None) -> tuple[str, bool] | None:
    rule = next((rule for rule in rules if rule.matches(camera, day)), None)
    return None if rule is None else _meaning(lab, rule)


def _meaning(lab: Lab, rule: ReleaseRule) -> tuple[str, bool]:
    """Return the version that *rule* names, and whether it stays the same when the model is trained again."""
    try:
        version = str(find_version(lab.layout, rule.model))
    except DlcAssetsError:
        version = rule.model
    return version, rule.version is not None


def _days(rules: Iterable[ReleaseRule]) -> list[date | None]:
    """Return days among which is one of every period that *rules* tell apart, and None for sessions without a day."""
    days: set[date] = {date.min, date.max}
    for rule in rules:
        for edge in (rule.first, rule.until):
            if edge is not None:
                days |= {edge, edge - timedelta(days=1) if edge > date.min else edge}
                days.add(edge + timedelta(days=1) if edge < date.max else edge)
    return [None, *sorted(days)]
