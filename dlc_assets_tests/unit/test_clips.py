"""Clips for the proof of a precision: from several sessions, of one camera, without those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc_assets.inference.clips import clips_around
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.recordings.info import need_session_info
from dlc_assets_tests.graph.small_lab import FIRST, SECOND, SESSIONS, THIRD, record, video_of, write_small_lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    write_small_lab(tmp_path)
    opened = open_lab_folder(tmp_path)
    record(opened, *SESSIONS)
    return opened


def brightness(lab: Lab, frames: int, said: list[str]) -> list[list[float]]:
    """Return the mean brightness of each picture of each clip: it rises by 3 a frame, by 36 a session."""
    session, _ = need_session_info(lab.layout, FIRST)
    clips = clips_around(lab, session, session.recordings[0], frames, said.append)
    return [[float(np.mean(picture)) for picture in clip] for clip in clips]


def test_the_session_itself_comes_first_and_others_add_theirs(lab: Lab) -> None:
    own, *others = brightness(lab, 6, [])
    assert own == pytest.approx([15, 18], abs=3)  # the two frames in the middle of twelve
    assert [clip[0] for clip in others] == pytest.approx([51, 87], abs=3)
    assert [len(clip) for clip in others] == [2, 2]


def test_a_lab_of_one_session_gives_all_frames_from_it(tmp_path: Path) -> None:
    write_small_lab(tmp_path)
    lab = open_lab_folder(tmp_path)
    record(lab, FIRST)
    (clip,) = brightness(lab, 10, [])
    assert len(clip) == 10
    assert np.allclose(np.diff(clip), 3, atol=1.5)


def test_a_video_that_is_gone_is_left_out_and_said(lab: Lab) -> None:
    (lab.root / video_of(SECOND)).unlink()
    said: list[str] = []
    assert len(brightness(lab, 6, said)) == 2
    assert len(said) == 1
    assert SECOND in said[0]
    assert THIRD not in said[0]
