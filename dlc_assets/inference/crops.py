"""Which part of the frame a network sees: the crops of setups and sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlc_assets.lab.errors import SettingsError, did_you_mean
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.settings import CropSettings
from dlc_assets.recordings.info import RecordingInfo, SessionInfo
from dlc_assets.recordings.setups import setup_period

if TYPE_CHECKING:
    from dlc_assets.video.decode import Crop


def crop_of(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> Crop | None:
    """Return the part of *recording*'s frames that a network sees, None where it sees all of them.

    What session.yaml states of the recording counts, else the setup of its device on the session's day.

    Raises
    ------
    SettingsError
        The crop does not lie in the recording's frame, or the setup depends on a day that is not known.
    """
    stated, where = _stated(lab, session, recording)
    if stated is None:
        return None
    whole = (0, recording.width, 0, recording.height)
    left, right = stated.x or whole[:2]
    top, bottom = stated.y or whole[2:]
    if right > recording.width or bottom > recording.height:
        raise SettingsError(
            f"{where}: the crop x: [{left}, {right}], y: [{top}, {bottom}] does not lie in the frame of {session.session}, "
            f"{recording.recording}, which is {recording.width} px wide and {recording.height} px high. Correct the crop, or "
            "state one for this recording in session.yaml."
        )
    crop = (left, right, top, bottom)
    return None if crop == whole else crop


def _stated(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> tuple[CropSettings | None, str]:
    """Return the crop that counts for *recording* as it is written, and where it is written."""
    if recording.crop is not None:
        return recording.crop, f"session.yaml of {session.session}: recordings.{recording.recording}.crop"
    found = setup_period(lab, session, recording)
    return (None, "") if found is None else (found[0].crop, f"{found[1]}.crop")


def crop_hashes(lab: Lab, session: SessionInfo, recordings: Sequence[RecordingInfo]) -> dict[str, str]:
    """Return the crops of *recordings* as inputs of their poses; none for a recording that is seen whole.

    Raises
    ------
    SettingsError
        As `crop_of`.
    """
    crops = {recording.recording: crop_of(lab, session, recording) for recording in recordings}
    return {
        f"crop of {name}": f"x {crop[0]}-{crop[1]}, y {crop[2]}-{crop[3]}"
        for name, crop in crops.items()
        if crop is not None
    }


def setup_problems(lab: Lab) -> list[str]:
    """Return a sentence for each setup of a camera that lab.yaml's devices do not list."""
    devices = lab.settings.devices
    return [
        f'lab.yaml: setups names the device "{device}", which is not among lab.yaml\'s devices.'
        f"{did_you_mean(device, devices)} Devices: {', '.join(devices)}."
        for device in lab.settings.setups
        if devices and device not in devices
    ]
