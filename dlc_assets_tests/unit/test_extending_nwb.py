"""The poses of a session join an NWB file that another program wrote, and nothing that is in it changes."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import sha256_file
from dlc_assets.nwb.contents import Videos
from dlc_assets.nwb.description import RecordingPoses, SessionDescription
from dlc_assets.nwb.extending import path_of_extended
from dlc_assets.nwb.readback import readback_findings
from dlc_assets.nwb.session_file import extend_session_nwb, read_provenance
from dlc_assets.nwb.validation import check_nwb
from dlc_assets_tests.unit.test_nwb import FRAMES, SESSION, invented_track, opened, tiny_video, top, write_video

__all__ = ["tiny_video", "top"]  # fixtures

Change = Callable[[Any], None]


def nothing(_: Any) -> None:
    """Leave the file as it is."""


def write_ephys(path: Path, change: Change = nothing, **fields: Any) -> Path:
    """Write a session with a voltage trace, a behavior module of its own, and a subject; *change* may add to it."""
    import pynwb
    from pynwb.file import Subject

    nwbfile = pynwb.NWBFile(
        **{
            "session_description": "Recorded with electrodes.",
            "identifier": "ephys-1",
            "session_start_time": SESSION.start,
            "session_id": SESSION.session_id,
            "experimenter": ["Doe, Jane"],
            "institution": "University of Somewhere",
            "keywords": ["electrophysiology"],
            "experiment_description": "A mouse runs.",
            "data_collection": "Notes of the rig.",
            "subject": Subject(
                subject_id="m01", species="Mus musculus", sex="F", age="P89D", description="Mouse of the control group."
            ),
            **fields,
        }
    )
    model = nwbfile.create_device_model(name="probe model", manufacturer="Maker", description="A probe.")
    probe = nwbfile.create_device(name="probe", description="A probe.", model=model)
    group = nwbfile.create_electrode_group(name="shank", description="One shank.", location="CA1", device=probe)
    for _ in range(2):
        nwbfile.add_electrode(location="CA1", group=group)
    region = nwbfile.create_electrode_table_region(region=[0, 1], description="both")
    values = np.random.default_rng(1).normal(size=(500, 2)).astype(np.float32)
    series = pynwb.ecephys.ElectricalSeries(name="lfp", data=values, electrodes=region, rate=1000.0, description="LFP.")
    nwbfile.add_acquisition(series)
    change(nwbfile)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pynwb.NWBHDF5IO(path, "w") as io:
            io.write(nwbfile)
    return path


def contents(path: Path) -> dict[str, Any]:
    """Return everything that an HDF5 file holds: attributes and values of each object by its name."""
    found: dict[str, Any] = {}

    def plain(held: Any, value: Any) -> Any:
        return held.file[value].name if isinstance(value, h5py.Reference) else np.asarray(value).tolist()

    def take(name: str, held: Any) -> None:
        attributes = {key: plain(held, value) for key, value in held.attrs.items()}
        values = None
        if isinstance(held, h5py.Dataset):
            values = str(held[()])
            if h5py.check_ref_dtype(held.dtype) is not None:
                values = str([held.file[reference].name for reference in np.atleast_1d(held[()])])
        found[name] = (attributes, values)

    with h5py.File(path, "r") as file:
        take("/", file)
        file.visititems(take)
    return found


def extended(
    folder: Path,
    source: Path,
    *recordings: RecordingPoses,
    session: SessionDescription = SESSION,
    videos: Videos = "link",
) -> Path:
    path = folder / path_of_extended(source, session, with_video=videos != "leave_out")
    extend_session_nwb(path, source, session, recordings, videos=videos)
    return path


def test_poses_join_a_session_with_electrodes_and_nothing_of_it_changes(tmp_path: Path, top: RecordingPoses) -> None:
    source = write_ephys(tmp_path / "rig" / "ephys.nwb")
    before = sha256_file(source)
    path = extended(tmp_path / "store", source, top)
    assert path.name == "sub-m01_ses-20260501_behavior+ecephys+image.nwb"
    assert sha256_file(source) == before
    there, here = contents(source), contents(path)
    assert {name: here[name] for name in there if name not in {"/", "specifications"}} == {
        name: there[name] for name in there if name not in {"/", "specifications"}
    }
    assert readback_findings(path, [top]) == []
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        assert nwbfile.identifier == "ephys-1"
        assert nwbfile.data_collection == "Notes of the rig."
        poses = nwbfile.processing["behavior"]["PoseEstimation"]
        assert poses.skeleton.subject is nwbfile.subject
        assert poses.source_video.name == "Video_top"
    assert read_provenance(path)["recordings"]["top"]["poses"][0]["provenance"] == top.provenance


def test_extending_again_gives_the_same_data(tmp_path: Path, top: RecordingPoses) -> None:
    source = write_ephys(tmp_path / "ephys.nwb")
    first = contents(extended(tmp_path / "store", source, top))
    second = contents(extended(tmp_path / "store", source, top))
    assert first.keys() == second.keys()
    assert {name: values for name, (_, values) in first.items() if "object_id" not in name} == {
        name: values for name, (_, values) in second.items() if "object_id" not in name
    }


def test_a_camera_and_a_video_that_are_there_are_used(tmp_path: Path, top: RecordingPoses, tiny_video: Path) -> None:
    from pynwb.image import ImageSeries

    (tmp_path / "rig").mkdir()
    (tmp_path / "rig" / tiny_video.name).symlink_to(tiny_video)

    def with_video(nwbfile: Any) -> None:
        camera = nwbfile.create_device(name="top", description="The rig's own words.")
        nwbfile.add_acquisition(
            ImageSeries(
                name="camera_top",
                description="From above.",
                format="external",
                external_file=[tiny_video.name],
                starting_frame=[0],
                dimension=[64, 48],
                rate=30.0,
                starting_time=0.5,
                num_samples=FRAMES,
                device=camera,
            )
        )

    source = write_ephys(tmp_path / "rig" / "ephys.nwb", with_video)
    path = extended(tmp_path / "store", source, top)
    with opened(path) as nwbfile:
        poses = nwbfile.processing["behavior"]["PoseEstimation"]
        assert poses.source_video is nwbfile.acquisition["camera_top"]
        assert poses.device.description == "The rig's own words."
        assert set(nwbfile.acquisition) == {"lfp", "camera_top"}
    assert (path.parent / tiny_video.name).resolve() == tiny_video.resolve()
    assert check_nwb(path) == []


def test_poses_of_another_program_are_kept_and_ours_name_their_recording(tmp_path: Path, top: RecordingPoses) -> None:
    from ndx_pose import PoseEstimation, PoseEstimationSeries, Skeleton, Skeletons

    def with_poses(nwbfile: Any) -> None:
        behavior = nwbfile.create_processing_module("behavior", "By another program.")
        skeleton = Skeleton(name="other", nodes=["nose"])
        behavior.add(Skeletons(skeletons=[skeleton]))
        series = PoseEstimationSeries(
            name="nose",
            data=np.ones((5, 2)),
            reference_frame="top left",
            rate=30.0,
            confidence=np.ones(5),
            unit="pixels",
        )
        behavior.add(PoseEstimation(name="PoseEstimation", pose_estimation_series=[series], skeleton=skeleton))

    path = extended(tmp_path / "store", write_ephys(tmp_path / "ephys.nwb", with_poses), top)
    with opened(path) as nwbfile:
        behavior = nwbfile.processing["behavior"]
        assert set(behavior.data_interfaces) == {"Skeletons", "PoseEstimation", "PoseEstimation_top"}
        assert set(behavior["Skeletons"].skeletons) == {"other", "Skeleton_top"}
    assert readback_findings(path, [top]) == []
    with pytest.raises(InputError, match="has PoseEstimation_top in processing/behavior already"):
        extended(tmp_path / "again", path, top)


def test_the_extended_file_is_read_where_the_extension_is_not_installed(tmp_path: Path, top: RecordingPoses) -> None:
    path = tmp_path / "store" / "sub-m01" / "sub-m01_ses-20260501_behavior+ecephys+image.nwb"
    source = write_ephys(tmp_path / "ephys.nwb")
    (tmp_path / "poses.py").write_text(
        "import pickle, sys\n"
        "from dlc_assets.nwb.session_file import extend_session_nwb\n"
        "assert 'ndx_pose' not in sys.modules\n"
        "extend_session_nwb(*pickle.loads(open(sys.argv[1], 'rb').read()))\n"
    )
    (tmp_path / "arguments").write_bytes(pickle.dumps((path, source, SESSION, [top])))
    subprocess.run([sys.executable, tmp_path / "poses.py", tmp_path / "arguments"], check=True, timeout=120)
    code = (
        "import sys, pynwb\n"
        f"with pynwb.NWBHDF5IO({str(path)!r}, 'r') as io:\n"
        "    poses = io.read().processing['behavior']['PoseEstimation']\n"
        "    print(type(poses).__name__, poses['snout'].data.shape, 'ndx_pose' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "PoseEstimation (60, 2) False"


def test_a_file_that_names_no_session_is_given_it(tmp_path: Path, top: RecordingPoses) -> None:
    path = extended(tmp_path / "store", write_ephys(tmp_path / "ephys.nwb", session_id=None), top)
    with opened(path) as nwbfile:
        assert nwbfile.session_id == SESSION.session_id
    assert check_nwb(path) == []


def test_two_recordings_of_irregular_times_are_added(tmp_path: Path, top: RecordingPoses) -> None:
    times = top.times + np.random.default_rng(2).uniform(0, 0.01, FRAMES)
    video = write_video(tmp_path / "side.mp4", FRAMES)
    tracks = [invented_track("paw", seed=8)]
    side = replace(top, recording="side", video_files=(video,), times=times, tracks=tracks, skeleton=(), rate=None)
    path = extended(tmp_path / "store", write_ephys(tmp_path / "ephys.nwb"), top, side, videos="copy")
    assert readback_findings(path, [top, side]) == []
    assert check_nwb(path) == []


@pytest.mark.parametrize(
    ("session", "fields", "match"),
    [
        (replace(SESSION, session_id="20260502"), {}, 'of session "20260501", the videos are of session "20260502"'),
        (replace(SESSION, subject=None), {}, 'of subject "m01", the videos are of subject "None"'),
        (replace(SESSION, start=SESSION.start + timedelta(seconds=3)), {}, r"write start: 2026-05-01T10:12:00\+02:00"),
        (
            SESSION,
            {"timestamps_reference_time": SESSION.start + timedelta(minutes=1)},
            r"its times count from 2026-05-01T10:13:00",
        ),
    ],
)
def test_a_file_of_another_session_subject_or_clock_is_refused(
    tmp_path: Path, top: RecordingPoses, session: SessionDescription, fields: dict[str, Any], match: str
) -> None:
    source = write_ephys(tmp_path / "ephys.nwb", **fields)
    with pytest.raises(InputError, match=match):
        extended(tmp_path / "store", source, top, session=session)
    assert not (tmp_path / "store").exists()


def test_what_is_no_nwb_file_or_leads_elsewhere_is_refused(tmp_path: Path, top: RecordingPoses) -> None:
    text = tmp_path / "ephys.nwb"
    text.write_text("not HDF5")
    with pytest.raises(InputError, match="expected an NWB file in HDF5"):
        extend_session_nwb(tmp_path / "out.nwb", text, SESSION, [top])
    with h5py.File(tmp_path / "plain.nwb", "w") as file:
        file["values"] = [1, 2]
    with pytest.raises(InputError, match="cannot be read as NWB"):
        extend_session_nwb(tmp_path / "out.nwb", tmp_path / "plain.nwb", SESSION, [top])
    source = write_ephys(tmp_path / "linked.nwb")
    with h5py.File(source, "r+") as file:
        file["acquisition/elsewhere"] = h5py.ExternalLink("raw.nwb", "/acquisition/raw")
    with pytest.raises(InputError, match="takes /acquisition/elsewhere from another file by a link"):
        extend_session_nwb(tmp_path / "out.nwb", source, SESSION, [top])


def test_a_failure_in_the_middle_leaves_the_former_file(
    tmp_path: Path, top: RecordingPoses, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pynwb import NWBHDF5IO

    source = write_ephys(tmp_path / "ephys.nwb")
    path = extended(tmp_path / "store", source, top)
    before = sha256_file(path)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(NWBHDF5IO, "write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        extended(tmp_path / "store", source, top)
    assert sha256_file(path) == before
    assert sorted(p.name for p in path.parent.iterdir()) == [path.stem, path.name]
