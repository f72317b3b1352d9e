"""The README.txt of a bundle: what is in it and how to check it, for people who have never seen a lab."""

from __future__ import annotations

import textwrap

from dlc_assets.bundles.content import MANIFEST, SESSION, Bundle, BundledPoses
from dlc_assets.bundles.software import requirement
from dlc_assets.lab.files import size_words

_WIDTH = 100


def readme(bundle: Bundle) -> str:
    """Return the text of *bundle*'s README.txt."""
    first = bundle.poses[0]
    needed = requirement(first.software)
    videos = sorted({video.name for poses in bundle.poses for video in poses.videos})
    asked = " ".join(f"--video {name}" for name in videos[: len(first.videos)])
    parts = [
        f"Poses of the session {bundle.session}\n{'=' * (21 + len(bundle.session))}",
        _filled(
            f"This file was written by dlc-assets {bundle.software['dlc-assets']} on {bundle.made[:10]}. It holds the positions of body "
            "parts that DeepLabCut found in the videos of one session, and what is needed to find them again: the networks, their "
            "configuration, the settings and the versions of the programs. The videos are not in it; each is named by its sha256."
        ),
        "WHAT IS IN IT\n\n" + _listed(bundle),
        "THE POSES\n\n" + "\n\n".join(_poses(poses) for poses in bundle.poses),
        _filled(f"They were chosen by {bundle.chosen_by}."),
        *(["NOTES\n\n" + "\n".join(_filled(f"- {note}") for note in bundle.notes)] if bundle.notes else []),
        "TO MAKE THEM AGAIN\n\n"
        + _filled(
            "In an environment of Python 3.11 or 3.12 install dlc-assets and the versions that made the poses. You need a video named "
            "above, and no lab:"
        )
        + f"\n\n    pip install {needed}\n    dlc-assets verify {bundle.session}.zip {asked}",
        _filled(
            "The command checks that nothing in this file is damaged and that the video is the one named here, estimates its poses again "
            "with the same settings, and says how far they lie from these. It ends with 0 if they agree within the tolerance: "
            f"{first.tolerances.exact.sentence()}. Where a GPU computed in float32 on either side: {first.tolerances.gpu.sentence()}. "
            f"Where a reduced precision was used on either side: {first.tolerances.reduced.sentence()}."
        ),
        _filled(
            "A network's file can be made to do harm when it is loaded. DeepLabCut loads weights only, unless TORCH_LOAD_WEIGHTS_ONLY is "
            "set to false; verify bundles of people whom you trust."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


def _listed(bundle: Bundle) -> str:
    rows = [
        (MANIFEST, "everything below for programs, with the sha256 of each member"),
        (SESSION, "the session and its recordings as they were probed: counts, rates, hashes"),
        ("recordings/", "the time of each frame, s on the session's clock (Parquet)"),
        ("poses/", "the poses (Parquet: recording, frame, time, individual, bodypart, x, y, likelihood)"),
        ("models/", "the networks: weights, pytorch_config.yaml, and what is known of their training"),
    ]
    return "\n".join(f"{name:<14}{what}" for name, what in rows)


def _poses(poses: BundledPoses) -> str:
    inference = poses.inference
    how = [
        f"{name} {inference[name]}" for name in ("precision", "path", "backend", "device_name") if inference.get(name)
    ]
    settings = [f"snapshot {poses.snapshot}"] if poses.snapshot else []
    if poses.crop is not None:
        x0, x1, y0, y1 = poses.crop
        settings.append(f"cropped to x {x0} to {x1}, y {y0} to {y1} px")
    if poses.dynamic_cropping is not None:
        dynamic = poses.dynamic_cropping
        settings.append(f"dynamic cropping, threshold {dynamic.threshold:g}, margin {dynamic.margin} px")
    software = ", ".join(f"{name} {number}" for name, number in poses.software.items()) or "not known"
    lines = [f"{poses.recording}: {poses.frames} frames, by {poses.model}@{poses.version}, {poses.table}"]
    for video in poses.videos:
        counted = [f"{video.frames} frames"] if video.frames is not None else []
        sized = [size_words(video.size)] if video.size is not None else []
        lines.append(f"  video {', '.join([video.name, *counted, *sized])}\n    sha256 {video.sha256}")
    lines.append(f"  made {poses.created[:10]} with {software}; {', '.join([*how, *settings])}")
    lines.append(f"  times: {poses.clock}")
    return "\n".join(lines)
