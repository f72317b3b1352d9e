"""What things are called inside an NWB file."""

from __future__ import annotations

from collections.abc import Sequence

from dlc_assets.nwb.description import RecordingPoses

# DeepLabCut's name for the body parts of a multi-animal project that belong to no animal.
UNIQUE = "single"


def object_name(text: str) -> str:
    """Return *text* as HDF5 and NWB can name an object: a slash is a path there, colons are unwanted."""
    return text.replace("/", "-").replace("\\", "-").replace(":", "-")


def pose_estimation_names(
    recordings: Sequence[RecordingPoses], *, always_with_recording: bool = False
) -> dict[tuple[int, str], str]:
    """Return the container's name of each recording's individual (movement's ``pose_estimation_key``).

    ``PoseEstimation`` where there is one recording by one model of one animal (what readers open by default); each of recording,
    individual and model is added where the file has several, as in ``PoseEstimation_top_m01_openfield``. The file's own subject is
    not named again. Filtered poses end in ``_filtered``.

    Returns
    -------
    dict
        By (place in *recordings*, individual).
    """
    several = always_with_recording or len({recording.recording for recording in recordings}) > 1
    names = {}
    for place, recording in enumerate(recordings):
        models = len({other.model for other in recordings if other.recording == recording.recording})
        for individual in recording.individuals:
            parts = [
                "PoseEstimation",
                *([recording.recording] if several else []),
                *([individual] if individual and individual != recording.identified else []),
                *([recording.model] if models > 1 else []),
                *(["filtered"] if recording.filters else []),
            ]
            names[place, individual] = object_name("_".join(parts))
    return names
