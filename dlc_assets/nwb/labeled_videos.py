"""The labeled videos of a session's poses, as its NWB file refers to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dlc_assets.derived.product import derived_manifest
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.nwb.description import LabeledVideo
from dlc_assets.review.labeled_video import ASSET, labeled_video_files

# (recording, model, version, whether the poses that are drawn are filtered)
Drawn = tuple[str, str, str, bool]


def labeled_videos(lab: Lab, poses: Mapping[str, Manifest]) -> dict[Drawn, LabeledVideo]:
    """Return the labeled videos that are made of the pose tables *poses*, as they are now; none where `nwb.labeled_videos` is off."""
    return {
        (row["recording"], made.details["model"], made.details["version"], made.details["poses"] == "filtered"): (
            LabeledVideo(
                file=file,
                first_frame=row["first_frame"],
                end_frame=row["end_frame"],
                width=row["width"],
                height=row["height"],
            )
        )
        for made in _made(lab, poses)
        for row, file in zip(made.details["recordings"], labeled_video_files(lab, made), strict=True)
    }


def labeled_video_hashes(lab: Lab, poses: Mapping[str, Manifest]) -> dict[str, str]:
    """Return the labeled videos of *poses* as an input of a session's file; nothing where there are none."""
    found = sorted(made.data_version for made in _made(lab, poses))
    return {"labeled videos": content_hash(found)} if found else {}


def _made(lab: Lab, poses: Mapping[str, Manifest]) -> Iterator[Manifest]:
    if not lab.settings.nwb.labeled_videos:
        return
    for table in poses.values():
        details = table.details
        made = derived_manifest(lab, ASSET, details["model"], details["version"], details["session"])
        if made is not None and made.inputs["poses"] == table.data_version:
            yield made
