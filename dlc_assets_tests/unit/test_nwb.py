"""A session becomes an NWB file that archives accept and that gives back exactly what was put in."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dlc_assets.lab.errors import DlcAssetsError, InputError, NotFoundError
from dlc_assets.lab.files import sha256_file
from dlc_assets.nwb.contents import Videos
from dlc_assets.nwb.description import (
    DeviceDescription,
    LabeledFrame,
    LabeledVideo,
    RecordingPoses,
    SessionDescription,
    SubjectDescription,
    missing_metadata,
    nwb_content_hash,
    nwb_relative_path,
)
from dlc_assets.nwb.readback import readback_findings
from dlc_assets.nwb.session_file import read_provenance, write_session_nwb
from dlc_assets.nwb.streams import CHUNK_FRAMES
from dlc_assets.nwb.validation import check_nwb
from dlc_assets.nwb.video_files import remove_unused_videos
from dlc_assets.poses.schema import Track

FRAMES = 60
TOP = DeviceDescription(name="top", description="Camera above the arena.", manufacturer="Basler", model="acA1300-200um")
SIDE = DeviceDescription(
    name="side", description="Camera beside the arena.", manufacturer="Basler", model="acA1300-200um"
)
SUBJECT = SubjectDescription(
    subject_id="m01",
    sex="F",
    date_of_birth=date(2026, 2, 1),
    description="Mouse of the control group.",
    strain="C57BL/6J",
    genotype="wt",
    weight="24.5 g",
)
SESSION = SessionDescription(
    identifier="sub-m01_ses-20260501",
    session_id="20260501",
    start=datetime(2026, 5, 1, 10, 12, tzinfo=timezone(timedelta(hours=2))),
    description="Open field, first day.",
    experimenters=("Doe, Jane",),
    institution="University of Somewhere",
    lab="Smith lab",
    keywords=("open field", "pose estimation"),
    experiment_description="Free exploration of an open field.",
    subject=SUBJECT,
)


def invented_track(bodypart: str, frames: int = FRAMES, seed: int = 0) -> Track:
    rng = np.random.default_rng(seed)
    x, y = (rng.uniform(0, 48, frames).astype(np.float32) for _ in range(2))
    x[3] = y[3] = np.nan
    return Track("", bodypart, x, y, rng.uniform(0, 1, frames).astype(np.float32))


def write_video(path: Path, frames: int) -> Path:
    """Write a gray video of 64x48 px at 30 frames per second."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            pixels = np.full((48, 64, 3), number % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def tiny_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("recordings") / "top.MP4", FRAMES)


@pytest.fixture
def top(tiny_video: Path) -> RecordingPoses:
    return RecordingPoses(
        recording="top",
        device=TOP,
        video_files=(tiny_video,),
        part_frame_counts=(FRAMES,),
        width=64,
        height=48,
        times=0.5 + np.arange(FRAMES) / 30,
        rate=Fraction(30),
        tracks=[invented_track("snout", seed=1), invented_track("tail/base", seed=2)],
        scorer="openfield-resnet50@1a2b3c4d5e6f",
        software_version="3.0.2",
        skeleton=(("snout", "tail/base"),),
        confidence_definition="Value of the score map at its peak, after a sigmoid.",
        crop=(0, 64, 0, 40),
        provenance={
            "model": "openfield-resnet50",
            "video_sha256": ["ab" * 32],
            "rate": 1.5,
            "nested": {"a": None},
        },
    )


def place(folder: Path, session: SessionDescription = SESSION, *, with_video: bool = True) -> Path:
    subject_id = session.subject.subject_id if session.subject else None
    return folder / nwb_relative_path(subject_id, session.session_id, with_video=with_video)


def written(
    folder: Path, *recordings: RecordingPoses, session: SessionDescription = SESSION, videos: Videos = "link"
) -> Path:
    """Write a file with every warning an error, and return its path."""
    path = place(folder, session, with_video=videos != "leave_out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_session_nwb(path, session, recordings, videos=videos)
    return path


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading, with every warning an error."""
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with NWBHDF5IO(path, "r") as io:
            yield io.read()


def inspector_messages(path: Path) -> list[Any]:
    """Return what NWB Inspector says by its default configuration."""
    from nwbinspector import inspect_nwbfile

    with warnings.catch_warnings():
        return list(inspect_nwbfile(nwbfile_path=path))


def tracks_of(table: pd.DataFrame) -> list[Track]:
    """Return the tracks of a single-animal table in DeepLabCut's layout (scorer, body part, coordinate)."""
    table = table.droplevel(0, axis=1)
    return [
        Track("", part, *(table[part][c].to_numpy(np.float32) for c in ("x", "y", "likelihood")))
        for part in dict.fromkeys(table.columns.get_level_values(0))
    ]


@pytest.fixture(scope="session")
def openfield(real_data: Path) -> RecordingPoses:
    """The open-field video of 2330 frames with the poses of a published network."""
    import av

    video = real_data / "openfield" / "videos" / "m3v1mp4.mp4"
    table = next((real_data / "openfield-reference-poses").glob("*Oct30shuffle1_100000.h5"))
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        pts = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        rate, tick = stream.average_rate, stream.time_base
    return RecordingPoses(
        recording="top",
        device=TOP,
        video_files=(video,),
        part_frame_counts=(len(pts),),
        width=640,
        height=480,
        times=np.array(pts) * float(tick),
        rate=Fraction(rate),
        tracks=tracks_of(pd.read_hdf(table)),
        scorer="DLC_resnet50_openfieldOct30shuffle1_100000",
        software_version="2.0.5",
        skeleton=(("snout", "leftear"), ("snout", "rightear"), ("leftear", "tailbase")),
        confidence_definition="Value of the score map at its peak, after a sigmoid.",
        provenance={"model": "openfield"},
    )


def assert_movement_reads(path: Path, tracks: Sequence[Track], key: str = "PoseEstimation") -> Any:
    """Compare positions and confidence as movement reads them with *tracks*, exactly; return its dataset."""
    from movement.io import load_poses

    dataset = load_poses.from_nwb_file(path, pose_estimation_key=key).isel(individuals=0)
    assert set(dataset.keypoints.values) == {track.bodypart for track in tracks}
    for track in tracks:
        position = dataset.position.sel(keypoints=track.bodypart)
        np.testing.assert_array_equal(position.sel(space="x").values.astype(np.float32), track.x)
        np.testing.assert_array_equal(position.sel(space="y").values.astype(np.float32), track.y)
        confidence = dataset.confidence.sel(keypoints=track.bodypart)
        np.testing.assert_array_equal(confidence.values.astype(np.float32), track.likelihood)
    return dataset


# What archives and readers get


def test_a_fully_described_real_session_is_clean_by_every_rule(tmp_path: Path, openfield: RecordingPoses) -> None:
    import pynwb

    path = written(tmp_path, openfield)
    assert pynwb.validate(path=str(path)) == []
    assert inspector_messages(path) == []
    assert check_nwb(path) == []
    assert missing_metadata(SESSION) == []


def test_movement_reads_the_real_poses_exactly(tmp_path: Path, openfield: RecordingPoses) -> None:
    dataset = assert_movement_reads(written(tmp_path, openfield), openfield.tracks)
    assert openfield.rate is not None
    assert dataset.fps == pytest.approx(float(openfield.rate), abs=1e-6)
    assert dataset.sizes["time"] == 2330


def test_dandi_validate_finds_no_fault_with_a_linked_video(tmp_path: Path, top: RecordingPoses) -> None:
    (tmp_path / "dandiset.yaml").write_text(
        "identifier: DANDI:000001\nname: Open field\ndescription: Mice in an open field.\n"
    )
    path = written(tmp_path, top)
    done = subprocess.run(
        [Path(sys.executable).with_name("dandi"), "validate", "--min-severity", "ERROR", path],
        env={**os.environ, "DANDI_NO_ET": "1", "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No errors found" in done.stdout + done.stderr


def test_regular_times_become_a_rate_and_a_start(tmp_path: Path, top: RecordingPoses) -> None:
    with opened(written(tmp_path, top)) as nwbfile:
        for series in (
            nwbfile.acquisition["Video_top"],
            nwbfile.processing["behavior"]["PoseEstimation"]["snout"],
        ):
            assert (series.starting_time, series.rate, series.timestamps) == (0.5, 30.0, None)
        assert nwbfile.acquisition["Video_top"].num_samples == FRAMES


def test_regular_times_without_a_stated_rate_become_a_rate_too(tmp_path: Path, top: RecordingPoses) -> None:
    path = written(tmp_path, replace(top, rate=None))
    with opened(path) as nwbfile:
        assert nwbfile.acquisition["Video_top"].rate == pytest.approx(30.0, abs=1e-9)
    assert check_nwb(path) == []


def test_a_stated_rate_that_does_not_give_the_times_is_not_used(tmp_path: Path, top: RecordingPoses) -> None:
    times = top.times.copy()
    times[30:] += 1 / 30  # one frame was dropped
    with opened(written(tmp_path, replace(top, times=times))) as nwbfile:
        series = nwbfile.processing["behavior"]["PoseEstimation"]["snout"]
        np.testing.assert_array_equal(series.timestamps[:], times)


def test_real_irregular_times_come_back_exactly_and_are_stored_once(tmp_path: Path, real_data: Path) -> None:
    folder = real_data / "ibl-paw-left"
    times = np.load(next(folder.glob("*.timestamps.left.npy")))
    table = pd.read_csv(next(folder.glob("*rng=0.csv")), header=[0, 1, 2], index_col=0)
    assert len(times) == len(table)
    paws = RecordingPoses(
        recording="left",
        device=SIDE,
        video_files=(write_video(tmp_path / "left.mp4", len(times)),),
        part_frame_counts=(len(times),),
        width=64,
        height=48,
        times=times,
        rate=None,
        tracks=tracks_of(table),
        scorer="heatmap_mhcrnn_tracker",
        source_software="Lightning Pose",
    )
    path = written(tmp_path, paws)
    with opened(path) as nwbfile:
        video = nwbfile.acquisition["Video_left"]
        for series in nwbfile.processing["behavior"]["PoseEstimation"].pose_estimation_series.values():
            np.testing.assert_array_equal(series.timestamps[:], times)
            assert series.timestamps.id == video.timestamps.id  # the same HDF5 dataset
    assert_movement_reads(path, paws.tracks)
    assert check_nwb(path) == []


def test_two_cameras_share_a_file_a_skeleton_and_a_camera_model(tmp_path: Path, top: RecordingPoses) -> None:
    tracks = [invented_track("snout", seed=3), invented_track("tail/base", seed=4)]
    side = replace(top, recording="side", device=SIDE, tracks=tracks)
    path = written(tmp_path, top, side)
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        behavior = nwbfile.processing["behavior"]
        assert set(behavior.data_interfaces) == {"Skeletons", "PoseEstimation_top", "PoseEstimation_side"}
        assert len(behavior["Skeletons"].skeletons) == 1
        assert len(nwbfile.device_models) == 1
        assert behavior["PoseEstimation_side"].device.name == "side"
        assert behavior["PoseEstimation_side"].source_video.name == "Video_side"
    shown = [replace(track, bodypart=track.bodypart.replace("/", "-")) for track in tracks]
    assert_movement_reads(path, shown, "PoseEstimation_side")


def test_a_recording_in_parts_has_a_video_series_a_part_and_keeps_the_gap(
    tmp_path: Path, top: RecordingPoses, tiny_video: Path
) -> None:
    times = np.concatenate([np.arange(40) / 30, 2 + np.arange(20) / 30])
    parts = replace(
        top,
        times=times,
        video_files=(tiny_video, write_video(tmp_path / "top-2.mp4", 20)),
        part_frame_counts=(40, 20),
    )
    path = written(tmp_path, parts)
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        first, second = (nwbfile.acquisition[f"Video_top_part{n}"] for n in (1, 2))
        assert (first.num_samples, first.starting_time, second.num_samples, second.starting_time) == (
            40,
            0,
            20,
            2,
        )
        poses = nwbfile.processing["behavior"]["PoseEstimation"]
        assert poses.source_video is None  # it can name one video only
        for series in poses.pose_estimation_series.values():
            np.testing.assert_array_equal(series.timestamps[:], times)


def test_a_body_part_with_a_slash_is_named_without_and_explained(tmp_path: Path, top: RecordingPoses) -> None:
    with opened(written(tmp_path, top)) as nwbfile:
        poses = nwbfile.processing["behavior"]["PoseEstimation"]
        assert list(poses.skeleton.nodes[:]) == ["snout", "tail-base"]
        assert poses.skeleton.edges[:].tolist() == [[0, 1]]
        assert "tail/base" in poses["tail-base"].description


def test_the_file_says_what_the_numbers_mean(tmp_path: Path, top: RecordingPoses) -> None:
    with opened(written(tmp_path, top)) as nwbfile:
        poses = nwbfile.processing["behavior"]["PoseEstimation"]
        assert (poses.source_software, poses.source_software_version) == ("DeepLabCut", "3.0.2")
        assert poses.scorer == top.scorer
        assert "x 0 to 64, y 0 to 40" in poses.description
        snout = poses["snout"]
        assert (snout.unit, snout.confidence_definition) == ("pixels", top.confidence_definition)
        assert "top left" in snout.reference_frame
        assert "y points down" in snout.reference_frame
        assert (snout.data.dtype, snout.data.compression, snout.data.shuffle) == (np.float32, "gzip", True)
        assert np.isnan(snout.data[3]).all()
        assert nwbfile.subject.age == "P89D"
        assert nwbfile.subject.date_of_birth.date() == date(2026, 2, 1)
        assert nwbfile.session_start_time == SESSION.start


def test_provenance_comes_back_as_it_went_in(tmp_path: Path, top: RecordingPoses) -> None:
    provenance = read_provenance(written(tmp_path, top))
    assert provenance["content_hash"] == nwb_content_hash(SESSION, [top])
    [poses] = provenance["recordings"]["top"].pop("poses")
    assert poses == {
        "pose_estimation": "PoseEstimation",
        "individual": "",
        "model": "",
        "provenance": top.provenance,
    }
    assert provenance["recordings"]["top"] == {"videos": ["top.MP4"]}


def test_provenance_of_a_file_by_another_program_is_refused(real_data: Path, tmp_path: Path) -> None:
    foreign = next((real_data / "openfield-reference-poses").glob("*.nwb"))
    with pytest.raises(InputError, match="another program"):
        read_provenance(foreign)
    with pytest.raises(NotFoundError, match=r"no\.nwb"):
        read_provenance(tmp_path / "no.nwb")


# Videos


def test_a_linked_video_leaves_the_original_untouched_to_the_last_attribute(
    tmp_path: Path, top: RecordingPoses, tiny_video: Path
) -> None:
    before, content = tiny_video.stat(), sha256_file(tiny_video)
    path = written(tmp_path, top)
    [beside] = path.with_suffix("").iterdir()
    after = tiny_video.stat()
    assert beside.is_symlink()
    assert beside.suffix == ".mp4"
    assert beside.resolve() == tiny_video.resolve()
    assert (before.st_ctime_ns, before.st_mtime_ns, before.st_nlink) == (
        after.st_ctime_ns,
        after.st_mtime_ns,
        after.st_nlink,
    )
    assert sha256_file(tiny_video) == content


def test_videos_are_named_as_dandi_organize_names_them(tmp_path: Path, top: RecordingPoses) -> None:
    path = written(tmp_path, top)
    with opened(path) as nwbfile:
        video = nwbfile.acquisition["Video_top"]
        [relative] = video.external_file[:]
        assert relative == f"{path.stem}/{video.object_id}_external_file_0.mp4"
        assert (path.parent / relative).is_file()
        assert video.dimension[:].tolist() == [64, 48]
        assert video.object_id == read_object_id(written(tmp_path, top))


def read_object_id(path: Path) -> str:
    with opened(path) as nwbfile:
        return str(nwbfile.acquisition["Video_top"].object_id)


def test_a_lab_that_moves_as_a_whole_keeps_its_videos(tmp_path: Path, top: RecordingPoses) -> None:
    (tmp_path / "lab" / "recordings").mkdir(parents=True)
    video = write_video(tmp_path / "lab" / "recordings" / "top.mp4", FRAMES)
    path = written(tmp_path / "lab" / "store" / "nwb", replace(top, video_files=(video,)))
    (tmp_path / "lab").rename(tmp_path / "moved")
    assert check_nwb(tmp_path / "moved" / path.relative_to(tmp_path / "lab")) == []


def test_a_copied_video_is_a_file_of_its_own_and_replaces_a_link(
    tmp_path: Path, top: RecordingPoses, tiny_video: Path
) -> None:
    written(tmp_path, top)
    path = written(tmp_path, top, videos="copy")
    [beside] = path.with_suffix("").iterdir()
    assert not beside.is_symlink()
    assert sha256_file(beside) == sha256_file(tiny_video)
    made = beside.stat().st_ino
    written(tmp_path, top, videos="copy")
    assert beside.stat().st_ino == made  # an unchanged video is not copied again


def test_a_file_without_videos_says_so_in_its_name(tmp_path: Path, top: RecordingPoses) -> None:
    path = written(tmp_path, top, videos="leave_out")
    assert path.name == "sub-m01_ses-20260501_behavior.nwb"
    assert list(path.parent.iterdir()) == [path]
    assert check_nwb(path) == []
    assert read_provenance(path)["recordings"]["top"]["videos"] == ["top.MP4"]


def test_writing_again_removes_videos_no_longer_used_and_nothing_else(tmp_path: Path, top: RecordingPoses) -> None:
    path = written(tmp_path, top, replace(top, recording="side", device=SIDE))
    (path.with_suffix("") / "notes.txt").write_text("mine")
    assert len(list(path.with_suffix("").iterdir())) == 3
    written(tmp_path, top)
    assert sorted(place.suffix for place in path.with_suffix("").iterdir()) == [".mp4", ".txt"]
    (path.with_suffix("") / "notes.txt").unlink()
    remove_unused_videos(path, ())
    assert not path.with_suffix("").exists()


# Several animals, several models


def animal(individual: str, seed: int) -> list[Track]:
    parts = ("snout", "tail/base")
    return [replace(invented_track(part, seed=seed + n), individual=individual) for n, part in enumerate(parts)]


def test_animals_that_were_not_told_apart_are_tracks_of_a_group_in_one_file(
    tmp_path: Path, top: RecordingPoses
) -> None:
    corner = replace(invented_track("corner", seed=9), individual="single")
    path = written(tmp_path, replace(top, tracks=[*animal("mouse1", 3), *animal("mouse2", 5), corner]))
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        behavior = nwbfile.processing["behavior"]
        names = {"Skeletons", "PoseEstimation_mouse1", "PoseEstimation_mouse2", "PoseEstimation_single"}
        assert set(behavior.data_interfaces) == names
        one, other, single = (behavior[f"PoseEstimation_{name}"] for name in ("mouse1", "mouse2", "single"))
        assert one.skeleton is other.skeleton
        assert (one.skeleton.subject, single.skeleton.subject) == (None, None)
        assert single.skeleton.edges is None
        assert "not told apart" in one.description
        assert "belong to no animal" in single.description
    assert_movement_reads(
        path, [replace(t, bodypart=t.bodypart.replace("/", "-")) for t in animal("mouse2", 5)], "PoseEstimation_mouse2"
    )


def test_an_identified_animal_is_the_subject_of_its_file(tmp_path: Path, top: RecordingPoses) -> None:
    corner = replace(invented_track("corner", seed=9), individual="single")
    path = written(tmp_path, replace(top, tracks=[*animal("mouse1", 3), corner], identified="mouse1"))
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        behavior = nwbfile.processing["behavior"]
        assert behavior["PoseEstimation"].skeleton.subject is nwbfile.subject
        assert "not told apart" not in behavior["PoseEstimation"].description
        assert behavior["PoseEstimation_single"].skeleton.subject is None


def test_poses_by_two_models_share_the_video_its_clock_and_the_skeleton(tmp_path: Path, top: RecordingPoses) -> None:
    times = top.times.copy()
    times[30:] += 1 / 30
    old = replace(top, model="old", times=times)
    new = replace(top, model="new", times=times, tracks=[invented_track("snout", seed=7), invented_track("tail/base")])
    path = written(tmp_path, old, new)
    assert check_nwb(path) == []
    assert readback_findings(path, [old, new]) == []
    with opened(path) as nwbfile:
        behavior = nwbfile.processing["behavior"]
        assert len(nwbfile.acquisition) == 1
        assert behavior["PoseEstimation_old"].skeleton is behavior["PoseEstimation_new"].skeleton
        clocks = {behavior[f"PoseEstimation_{name}"]["snout"].timestamps.id for name in ("old", "new")}
        assert clocks == {nwbfile.acquisition["Video_top"].timestamps.id}


def test_filtered_poses_stand_beside_the_others_on_the_same_clock(tmp_path: Path, top: RecordingPoses) -> None:
    top = replace(top, tracks=[invented_track("snout", seed=1), invented_track("tail", seed=2)], skeleton=())
    tracks = [replace(track, x=track.x + 1, y=np.full_like(track.y, np.nan)) for track in top.tracks]
    irregular = np.cumsum(np.full(FRAMES, 0.03)) + 1e-3 * (np.arange(FRAMES) % 3)
    raw = replace(top, times=irregular, rate=None)
    filtered = replace(raw, tracks=tracks, filters="median over 0.1 s")
    path = written(tmp_path, raw, filtered)
    assert not readback_findings(path, [raw, filtered])
    with opened(path) as nwbfile:
        behavior = nwbfile.processing["behavior"]
        one, other = behavior["PoseEstimation"], behavior["PoseEstimation_filtered"]
        assert other.skeleton is one.skeleton
        assert "filtered: median over 0.1 s." in other.description
        assert "filtered" not in one.description
        assert other["snout"].timestamps is one["snout"].timestamps
        assert other["snout"].confidence_definition.endswith("It is that of the estimate before it was filtered.")
        np.testing.assert_array_equal(other["snout"].data[:, 0], tracks[0].x)
    assert_movement_reads(path, top.tracks)
    kept = read_provenance(path)["recordings"]["top"]["poses"]
    assert [entry.get("filters") for entry in kept] == [None, "median over 0.1 s"]
    swapped = [replace(raw, tracks=tracks), filtered]
    assert [finding.check for finding in readback_findings(path, swapped)] == ["equals_pose_table"] * 2
    assert check_nwb(path) == []


def test_a_labeled_video_is_linked_from_its_poses_with_the_times_of_its_frames(
    tmp_path: Path, top: RecordingPoses
) -> None:
    labeled = write_video(tmp_path / "labeled.mp4", 20)
    shown = LabeledVideo(file=labeled, first_frame=30, end_frame=50, width=64, height=48)
    path = written(tmp_path / "nwb", replace(top, labeled_video=shown))
    with opened(path) as nwbfile:
        poses = nwbfile.processing["behavior"]["PoseEstimation"]
        series = poses.labeled_video
        assert series.name == "LabeledVideo_top"
        assert (series.starting_time, series.rate, series.num_samples) == (pytest.approx(0.5 + 1), 30.0, 20)
        assert (path.parent / series.external_file[0]).resolve() == labeled.resolve()
        assert poses.source_video.name == "Video_top"
    irregular = replace(top, times=np.cumsum(np.full(FRAMES, 0.03)) + 1e-3 * (np.arange(FRAMES) % 3), rate=None)
    path = written(tmp_path / "other", replace(irregular, labeled_video=shown))
    with opened(path) as nwbfile:
        series = nwbfile.processing["behavior"]["PoseEstimation"].labeled_video
        np.testing.assert_array_equal(series.timestamps[:], irregular.times[30:50])
    path = written(tmp_path / "bare", replace(top, labeled_video=shown), videos="leave_out")
    with opened(path) as nwbfile:
        assert nwbfile.processing["behavior"]["PoseEstimation"].labeled_video is None


def test_frames_that_people_labeled_are_said_by_their_number_in_the_video(
    tmp_path: Path, top: RecordingPoses, tiny_video: Path
) -> None:
    parts = ("tail/base", "snout", "not in the poses")
    labels = [
        LabeledFrame(frame=frame, annotator="Doe", bodyparts=parts, xy=np.array([[1.5, 2], [np.nan, np.nan], [3, 4]]))
        for frame in (7, 45)
    ]
    split = replace(
        top,
        video_files=(tiny_video, write_video(tmp_path / "top-2.mp4", 20)),
        part_frame_counts=(40, 20),
        labeled_frames=labels,
    )
    path = written(tmp_path, split)
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        behavior = nwbfile.processing["behavior"]
        frames = behavior["PoseTraining"].training_frames.training_frames
        first, second = frames["frame_0000007"], frames["frame_0000045"]
        assert (first.source_video.name, int(first.source_video_frame_index)) == ("Video_top_part1", 7)
        assert (second.source_video.name, int(second.source_video_frame_index)) == ("Video_top_part2", 5)
        [instance] = first.skeleton_instances.skeleton_instances.values()
        assert instance.skeleton is behavior["PoseEstimation"].skeleton
        np.testing.assert_array_equal(instance.node_locations[:], [[np.nan, np.nan], [1.5, 2]])
        assert instance.node_visibility[:].tolist() == [False, True]


# What is read back


def test_what_was_written_is_read_back_bit_for_bit(tmp_path: Path, top: RecordingPoses) -> None:
    assert readback_findings(written(tmp_path, top), [top]) == []
    irregular = replace(top, times=np.cumsum(np.random.default_rng(1).uniform(0.01, 0.05, FRAMES)))
    path = written(tmp_path, irregular)
    assert readback_findings(path, [irregular]) == []
    [late] = readback_findings(path, [replace(irregular, times=np.asarray(irregular.times) + 2e-9)])
    assert "within 1 ns" in late.message


def test_poses_that_are_not_in_the_file_are_missed(tmp_path: Path, top: RecordingPoses) -> None:
    path = written(tmp_path, top)
    [finding] = readback_findings(path, [replace(top, model="another")])
    assert "are not all there" in finding.message


@pytest.mark.parametrize(("dataset", "frame"), [("data", 17), ("confidence", 41)])
def test_a_changed_value_is_found_by_its_frame(tmp_path: Path, top: RecordingPoses, dataset: str, frame: int) -> None:
    import h5py

    path = written(tmp_path, top)
    with h5py.File(path, "r+") as file:
        values = file[f"processing/behavior/PoseEstimation/tail-base/{dataset}"]
        values[frame] = np.nextafter(values[frame], np.float32(1e9))
    [finding] = readback_findings(path, [top])
    assert finding.location == "/processing/behavior/PoseEstimation/tail-base"
    assert f"from frame {frame} on" in finding.message


def test_a_long_recording_is_written_in_chunks_and_comes_back(tmp_path: Path, top: RecordingPoses) -> None:
    frames = CHUNK_FRAMES + 1000
    long = replace(
        top,
        times=np.arange(frames) / 30,
        part_frame_counts=(frames,),
        tracks=[invented_track("snout", frames, seed=1), invented_track("tail/base", frames, seed=2)],
    )
    path = written(tmp_path, long, videos="leave_out")
    assert readback_findings(path, [long]) == []
    with opened(path) as nwbfile:
        snout = nwbfile.processing["behavior"]["PoseEstimation"]["snout"]
        assert (snout.data.shape, snout.data.chunks) == ((frames, 2), (CHUNK_FRAMES, 1))
        assert (snout.confidence.shape, snout.confidence.chunks) == ((frames,), (CHUNK_FRAMES,))


def test_times_that_a_rate_gives_back_only_roughly_are_written_one_by_one(tmp_path: Path, top: RecordingPoses) -> None:
    rounded = replace(
        top, times=np.round(np.arange(FRAMES) / 30, 3)
    )  # as containers with a clock of milliseconds have them
    path = written(tmp_path, rounded)
    assert readback_findings(path, [rounded]) == []
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        assert nwbfile.acquisition["Video_top"].rate is None


def test_a_file_is_read_without_the_extension_being_imported(tmp_path: Path, top: RecordingPoses) -> None:
    path = written(tmp_path, top)
    code = (
        "import sys, pynwb\n"
        f"with pynwb.NWBHDF5IO({str(path)!r}, 'r') as io:\n"
        "    poses = io.read().processing['behavior']['PoseEstimation']\n"
        "    print(poses['snout'].data.shape, poses.skeleton.nodes[:].tolist(), 'ndx_pose' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(60, 2) ['snout', 'tail-base'] False"


def test_videos_can_be_left_where_they_are(tmp_path: Path, top: RecordingPoses) -> None:
    (tmp_path / "recordings").mkdir()
    video = write_video(tmp_path / "recordings" / "top.mp4", FRAMES)
    path = written(tmp_path / "store", replace(top, video_files=(video,)), videos="relative")
    assert check_nwb(path) == []
    assert not path.with_suffix("").exists()
    with opened(path) as nwbfile:
        [file] = nwbfile.acquisition["Video_top"].external_file[:]
        assert file == "../../recordings/top.mp4"
        assert (path.parent / file).resolve() == video.resolve()


# What is refused, before anything is written


def refused(folder: Path, match: str, *recordings: RecordingPoses, session: SessionDescription = SESSION) -> None:
    with pytest.raises(InputError, match=match):
        write_session_nwb(place(folder, session), session, recordings)
    assert list(folder.iterdir()) == []


def test_lengths_that_disagree_are_named_all_three(tmp_path: Path, top: RecordingPoses) -> None:
    refused(
        tmp_path,
        "60 poses, 59 times and 61 video frames",
        replace(top, times=top.times[:-1], part_frame_counts=(61,)),
    )
    shorter = replace(top.tracks[0], x=top.tracks[0].x[:-2])
    refused(tmp_path, "58 poses, 60 times and 60 video frames", replace(top, tracks=[shorter, top.tracks[1]]))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"times": np.zeros(FRAMES)}, "times must increase, but frame 1 is at 0.0 s after 0.0 s"),
        ({"times": np.full(FRAMES, np.nan)}, "the time of frame 0 is nan"),
        ({"tracks": []}, "no body part"),
        ({"identified": "m1"}, 'has no individual "m1"'),
        (
            {"tracks": [invented_track("a/b"), invented_track("a-b")]},
            '"a/b" and "a-b" would have the same name',
        ),
        ({"skeleton": (("snout", "Tail/base"),)}, 'Did you mean "tail/base"'),
        ({"video_files": (Path("nowhere.mp4"),)}, r"no video at nowhere\.mp4"),
        ({"video_files": ()}, "0 video files but 1 frame counts"),
        ({"part_frame_counts": (40, 20)}, "1 video files but 2 frame counts"),
    ],
)
def test_a_recording_that_does_not_fit_is_refused(
    tmp_path: Path, top: RecordingPoses, changes: dict[str, Any], match: str
) -> None:
    refused(tmp_path, match, replace(top, **changes))


def test_recordings_that_contradict_each_other_are_refused(tmp_path: Path, top: RecordingPoses) -> None:
    refused(tmp_path, "at least one recording")
    refused(tmp_path, 'recording "top" came 2 times', top, top)
    refused(tmp_path, 'recordings "a/b" and "a-b"', replace(top, recording="a/b"), replace(top, recording="a-b"))
    earlier = replace(top, model="b", times=top.times + 1)
    refused(tmp_path, "not of the same frames at the same times", replace(top, model="a"), earlier)
    other = replace(top, recording="again", device=replace(TOP, description="Camera below."))
    refused(tmp_path, 'describe device "top" differently', top, other)


def test_a_path_that_names_another_session_is_refused(tmp_path: Path, top: RecordingPoses) -> None:
    elsewhere = tmp_path / nwb_relative_path("m02", SESSION.session_id, with_video=True)
    with pytest.raises(InputError, match=r"must end in sub-m01/sub-m01_ses-20260501_behavior\+image\.nwb"):
        write_session_nwb(elsewhere, SESSION, [top])
    assert not elsewhere.parent.exists()


def test_a_failed_writing_leaves_the_earlier_file(
    tmp_path: Path, top: RecordingPoses, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pynwb import NWBHDF5IO

    path = written(tmp_path, top)
    before = sha256_file(path)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(NWBHDF5IO, "write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_session_nwb(path, SESSION, [top])
    assert sha256_file(path) == before
    assert sorted(p.name for p in path.parent.iterdir()) == [path.stem, path.name]


@pytest.mark.parametrize("label", ["a_b", "a b", "a.b", "a:b", "a@b", "a/b", "", 'a"b', "a%b", "a;b"])
def test_labels_that_dandi_cannot_carry_are_refused(label: str) -> None:
    with pytest.raises(DlcAssetsError):
        nwb_relative_path("m01", label, with_video=True)
    with pytest.raises(DlcAssetsError):
        SubjectDescription(subject_id=label)
    with pytest.raises(DlcAssetsError):
        replace(SESSION, session_id=label)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sex": "male"}, "expected M"),
        ({"species": "mouse"}, "Latin name"),
        ({"age": "90 days"}, "P90D"),
        ({"weight": "24.5"}, "24.5 g"),
    ],
)
def test_a_subject_that_dandi_would_refuse_is_refused_here(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        replace(SUBJECT, **changes)


def test_a_session_needs_a_time_zone_names_and_text(tmp_path: Path, top: RecordingPoses) -> None:
    with pytest.raises(InputError, match="no time zone"):
        replace(SESSION, start=datetime(2026, 5, 1))
    with pytest.raises(InputError, match="Last, First"):
        replace(SESSION, experimenters=("Jane Doe",))
    with pytest.raises(InputError, match="empty or blank"):
        replace(SESSION, description=" ")
    unborn = replace(SESSION, subject=replace(SUBJECT, date_of_birth=date(2026, 6, 1)))
    refused(tmp_path, "born on 2026-06-01, after its session", top, session=unborn)


# What is not known


def test_what_archives_will_ask_for_is_named(tmp_path: Path, top: RecordingPoses) -> None:
    bare = SessionDescription(
        identifier="ses-1",
        session_id="1",
        start=datetime(2026, 5, 1, tzinfo=UTC),
        description="Open field.",
        subject=SubjectDescription(subject_id="m01", species=None),
    )
    asked = missing_metadata(bare)
    for name in ("species", "date_of_birth", "sex", "experimenters", "institution", "keywords"):
        assert any(name in line for line in asked), name
    path = written(tmp_path, top, session=bare)
    with opened(path) as nwbfile:
        assert (nwbfile.subject.sex, nwbfile.subject.species, nwbfile.subject.age) == ("U", None, None)
    errors = {finding.check for finding in check_nwb(path) if finding.severity == "error"}
    assert errors == {"check_subject_species_exists", "check_subject_age"}


def test_a_species_that_dandi_does_not_know_by_name_is_told_with_what_to_write() -> None:
    cat = replace(SESSION, subject=replace(SUBJECT, species="Felis catus"))
    assert missing_metadata(cat) == [
        "subject.species as http://purl.obolibrary.org/obo/NCBITaxon_9685 (DANDI does not know Felis catus)"
    ]
    assert missing_metadata(SESSION) == []


def test_a_session_without_a_subject_has_a_file_and_the_archive_s_objection(
    tmp_path: Path, top: RecordingPoses
) -> None:
    nobody = replace(SESSION, subject=None)
    path = written(tmp_path, top, session=nobody)
    assert path == tmp_path / "ses-20260501_behavior+image.nwb"
    assert missing_metadata(nobody) == ["subject: DANDI requires one"]
    assert [(f.severity, f.check) for f in check_nwb(path)] == [("error", "check_subject_exists")]


def test_a_device_without_a_maker_is_still_described(tmp_path: Path, top: RecordingPoses) -> None:
    path = written(tmp_path, replace(top, device=DeviceDescription(name="top", model="own build")))
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        assert nwbfile.devices["top"].description == "Camera top. Model: own build."


# What makes a file out of date


def test_the_content_hash_follows_the_content(top: RecordingPoses, tiny_video: Path) -> None:
    made = nwb_content_hash(SESSION, [top])
    nudged = replace(top.tracks[0], x=top.tracks[0].x + np.float32(1e-3))
    changed = [
        (SESSION, replace(top, tracks=[nudged, top.tracks[1]])),
        (SESSION, replace(top, times=top.times + 1)),
        (SESSION, replace(top, provenance={"model": "another"})),
        (SESSION, replace(top, device=SIDE)),
        (replace(SESSION, subject=replace(SUBJECT, sex="M")), top),
    ]
    hashes = {nwb_content_hash(session, [recording]) for session, recording in changed}
    assert len(hashes | {made}) == len(changed) + 1
    stated = {nwb_content_hash(SESSION, [replace(top, data_version=version)]) for version in "ab"}
    assert len(stated | hashes | {made}) == len(changed) + 3
    moved = replace(top, video_files=(Path("/elsewhere") / tiny_video.name,))
    assert nwb_content_hash(SESSION, [moved]) == made


# What the check sees that validators do not


def test_a_body_part_that_was_never_detected_is_said_so_in_the_file(tmp_path: Path, top: RecordingPoses) -> None:
    nothing = np.full(FRAMES, np.nan, dtype=np.float32)
    lost = replace(top.tracks[0], x=nothing, y=nothing)
    path = written(tmp_path, replace(top, tracks=[lost, top.tracks[1]]))
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        poses = nwbfile.processing["behavior"]["PoseEstimation"]
        assert "not detected in any frame" in poses["snout"].description
        assert "not detected in any frame" not in poses["tail-base"].description


def test_a_body_part_without_a_position_of_which_the_file_says_nothing_is_found(
    tmp_path: Path, top: RecordingPoses
) -> None:
    import h5py

    path = written(tmp_path, top)
    with h5py.File(path, "r+") as file:
        file["processing/behavior/PoseEstimation/snout/data"][:] = np.nan
    [finding] = check_nwb(path)
    assert (finding.severity, finding.check) == ("violation", "positions_present")
    assert finding.location == "/processing/behavior/PoseEstimation/snout"


def test_a_renamed_file_and_a_missing_video_are_found(tmp_path: Path, top: RecordingPoses) -> None:
    path = written(tmp_path, top)
    renamed = path.rename(path.with_name("sub-m01_ses-other_behavior+image.nwb"))
    assert [f.check for f in check_nwb(renamed)] == ["path_names_session"]
    next((path.with_suffix("")).iterdir()).unlink()
    checks = {f.check for f in check_nwb(renamed)}
    assert checks == {"path_names_session", "check_image_series_external_file_valid"}


def test_a_skeleton_that_does_not_fit_its_series_is_found(tmp_path: Path, top: RecordingPoses) -> None:
    import h5py

    path = written(tmp_path, top)
    with h5py.File(path, "r+") as file:
        file["processing/behavior/Skeletons/Skeleton_top/nodes"][0] = "nose"
    [finding] = check_nwb(path)
    assert (finding.severity, finding.check) == ("error", "skeleton_fits_series")
    assert "nose" in finding.message


def test_a_file_that_is_no_nwb_is_one_finding(tmp_path: Path) -> None:
    path = tmp_path / "ses-1_behavior.nwb"
    path.write_bytes(b"not HDF5")
    assert [(f.severity, f.check) for f in check_nwb(path)] == [("error", "readable")]
    with pytest.raises(NotFoundError):
        check_nwb(tmp_path / "absent.nwb")


def test_describing_a_session_loads_no_nwb_library() -> None:
    code = (
        "import sys, dlc_assets.nwb.description, dlc_assets.nwb.session_file, dlc_assets.nwb.validation; "
        "print(sorted({'pynwb', 'ndx_pose', 'nwbinspector', 'hdmf', 'h5py', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
