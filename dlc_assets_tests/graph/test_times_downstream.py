"""Uneven times from a file beside a video reach the NWB file as they are, and the file's clock is named in the recordings' table."""

from __future__ import annotations

import numpy as np
import pynwb
import pytest

from dlc_assets.nwb.export import export_session
from dlc_assets.recordings.info import need_session_info
from dlc_assets_tests.graph.conftest import Graph, rows_of
from dlc_assets_tests.graph.small_lab import FIRST, as_if_analysed, as_if_trained, video_of


@pytest.mark.parametrize("even", [False, True])
def test_times_of_a_file_beside_the_video_flow_into_poses_and_nwb(small: Graph, even: bool) -> None:
    video = small.root / video_of(FIRST)
    given = np.arange(12) * 4_000_000 + (0 if even else np.r_[np.zeros(5, int), np.full(7, 9_000_001)])
    (video.parent / "top.csv").write_text("\n".join(map(str, given)))
    (video.parent / "session.yaml").write_text(
        "start: 2026-05-01T10:00:00\nrecordings: {top: {offset: 2.5, timestamps: {file: top.csv, unit: ns}}}\n"
    )
    assert small.run("record", FIRST).success
    (row,) = rows_of(small.materialization("session_recordings", FIRST).metadata["recordings"])
    assert str(row["times"]).startswith("time stamps of top.csv (in ns)")
    recording = need_session_info(small.lab.layout, FIRST)[0].recording("top")
    assert (recording.regular, recording.rate == "250") == (even, even)
    as_if_trained(small.lab)
    as_if_analysed(small.lab, FIRST)
    manifest, _ = export_session(small.lab, FIRST, overrides={}, recompute=False, run_id="", log=lambda _: None)
    with pynwb.NWBHDF5IO(small.lab.layout.nwb / manifest.details["path"], "r") as stream:
        shown = stream.read().acquisition["Video_top"]
        if even:
            assert (shown.rate, shown.starting_time, shown.timestamps) == (250.0, 2.5, None)
        else:
            np.testing.assert_array_equal(shown.timestamps[:], given / 1e9 + 2.5)
