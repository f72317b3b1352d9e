"""From a lab's store to NWB files: which poses, about whom, under which name; and what is refused before any long work."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc_assets
from dlc_assets.derived.filtered_poses import filter_session
from dlc_assets.lab.errors import DlcAssetsError, InputError, NotFoundError, SettingsError
from dlc_assets.lab.files import sha256_file, write_json
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.session_metadata import Consent, Identity
from dlc_assets.nwb.export import export_session, nwb_files, nwb_manifest
from dlc_assets.nwb.session_file import read_provenance
from dlc_assets.nwb.training_frames import training_frames
from dlc_assets.nwb.validation import check_nwb
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.recordings.info import RecordedFile, SessionInfo, StoredFile, need_session_info, read_times, write_times
from dlc_assets.review.labeled_video import label_session
from dlc_assets.training.dataset import image_of_frame
from dlc_assets.training.frozen import FRAMES as FRAMES_FILE
from dlc_assets.training.models import ModelVersion
from dlc_assets.video.frames import read_frames
from dlc_assets_tests.unit.released_lab import add_session, add_version, reopened, write_lab
from dlc_assets_tests.unit.test_extending_nwb import write_ephys
from dlc_assets_tests.unit.test_nwb import FRAMES, invented_track, opened, tiny_video

__all__ = ["tiny_video"]  # a fixture

KEY = "sub-m01_ses-20260501"
START = datetime(2026, 5, 1, 10, 12, tzinfo=timezone(timedelta(hours=2)))
LAB = """\
name: Smith lab
institution: University of Somewhere
timezone: Europe/Zurich
experimenters: ["Doe, Jane"]
devices: {top: {description: camera above, manufacturer: Basler, model: acA1300}}
subject_defaults: {species: Mus musculus, sex: F, description: a mouse}
subjects: {m01: {date_of_birth: 2026-02-01}, m02: {date_of_birth: 2026-02-02}, h01: {species: Homo sapiens, age: P30Y}}
nwb: {keywords: [open field], experiment_description: Free exploration.}
release: [{model: walker}]
review: {auto: false}
"""


@pytest.fixture
def lab(tmp_path: Path, tiny_video: Path) -> Lab:
    """A session whose video is there, not analysed yet."""
    lab = write_lab(tmp_path / "lab", LAB)
    video = lab.root / "recordings" / "top.mp4"
    video.parent.mkdir()
    shutil.copy(tiny_video, video)
    session_of(lab, KEY, video)
    return lab


def session_of(lab: Lab, key: str, video: Path, **stated: Any) -> None:
    add_session(lab, key, START.date())
    info, _ = need_session_info(lab.layout, key)
    status = video.stat()
    file = RecordedFile(
        path=video.relative_to(lab.root).as_posix(),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=sha256_file(video),
        frame_count=FRAMES,
    )
    recording = info.recordings[0].model_copy(update={"files": [file], "rate": "30", "frame_count": FRAMES})
    restate(lab, info.model_copy(update={"start": START, "recordings": [recording], **stated}))
    write_times(lab.layout.recording_times(key, "top"), np.arange(FRAMES) / 30, [FRAMES])


def restate(lab: Lab, info: SessionInfo) -> None:
    """Store *info* as what is known of its session."""
    Manifest(
        asset="session_recordings",
        key=info.session,
        inputs={},
        data_version=info.model_dump_json(),
        details=info.model_dump(mode="json"),
    ).write(lab.layout.session_recordings(info.session))


def state(lab: Lab, key: str = KEY, **stated: Any) -> None:
    """State something else of a session."""
    restate(lab, need_session_info(lab.layout, key)[0].model_copy(update=stated))


def analyse(lab: Lab, version: ModelVersion, tracks: Sequence[Track] | None = None, key: str = KEY) -> list[Track]:
    """Store poses of a session by *version*."""
    made = list(tracks or [invented_track("snout", seed=1), invented_track("tailbase", seed=2)])
    metadata = PoseMetadata(
        model=version.model,
        version=version.version,
        session=key,
        recording="top",
        device="top",
        frame_count=FRAMES,
        software={"deeplabcut": "3.0.2"},
        bodyparts=list(dict.fromkeys(track.bodypart for track in made)),
        skeleton=[["snout", "tailbase"]],
        scorer=f"{version.model}_{version.version}",
    )
    summary = write_pose_table(
        lab.layout.pose_file(version.model, version.version, key, "top"), made, np.arange(FRAMES) / 30, metadata
    )
    row = {"recording": "top", "device": "top", "frames": FRAMES, "rows": 1, "data_version": summary.data_version}
    Manifest(
        asset="pose_table",
        key=f"{version.model}|{key}",
        inputs={},
        data_version=summary.data_version,
        details={"model": version.model, "version": version.version, "session": key, "recordings": [row]},
        run_id="run-of-the-poses",
    ).write(lab.layout.pose_folder(version.model, version.version, key))
    return made


def export(lab: Lab, key: str = KEY, **stated: Any) -> tuple[Manifest, bool]:
    overrides = {name: stated.pop(name) for name in ("models", "session", "videos") if name in stated}
    settings = {"recompute": False, "run_id": "run-of-the-export", "log": lambda _: None, "cohort": None, **stated}
    return export_session(reopened(lab), key, overrides=overrides, **settings)


def animals(*names: str) -> list[Track]:
    return [
        replace(invented_track(part, seed=10 * number + place), individual=name)
        for number, name in enumerate(names)
        for place, part in enumerate(("snout", "tailbase"))
    ]


# One animal


def test_the_released_poses_become_a_file_that_is_clean_and_says_how_they_were_made(lab: Lab) -> None:
    version = add_version(lab)
    analyse(lab, version)
    manifest, written_now = export(lab)
    [path] = nwb_files(lab, manifest)
    assert written_now
    assert path == lab.layout.nwb / "sub-m01" / f"{KEY}_behavior+image.nwb"
    assert manifest.details["findings"] == []
    assert manifest.problems == []
    provenance = read_provenance(path)["recordings"]["top"]["poses"][0]["provenance"]
    assert (provenance["model"], provenance["version"]) == (version.model, version.version)
    assert provenance["runs"] == {"export": "run-of-the-export", "poses": "run-of-the-poses"}
    assert {"dlc-assets", "pynwb", "ndx-pose"} <= provenance["packages"].keys()
    assert export(lab)[1] is False
    assert export(lab, recompute=True)[1] is True


def test_what_readers_are_told_of_the_likelihood_is_what_the_network_does(lab: Lab) -> None:
    version = add_version(lab)
    version.pytorch_config.write_text(
        "model: {heads: {bodypart: {predictor: {type: HeatmapPredictor, apply_sigmoid: false, clip_scores: true}}}}\n"
    )
    analyse(lab, version)
    [path] = nwb_files(lab, export(lab)[0])
    with opened(path) as nwbfile:
        snout = nwbfile.processing["behavior"]["PoseEstimation"]["snout"]
        assert snout.confidence_definition.endswith("at its peak, clipped to 0 to 1.")


def test_poses_of_several_models_go_into_one_file_when_asked(lab: Lab) -> None:
    first = add_version(lab)
    analyse(lab, first)
    other = add_version(lab, "runner", b"other")
    analyse(lab, other, [invented_track("snout", seed=5), invented_track("tailbase", seed=6)])
    manifest, _ = export(lab, models=["walker", "runner"])
    assert manifest.custom
    assert manifest.details["findings"] == []
    [path] = nwb_files(lab, manifest)
    with opened(path) as nwbfile:
        names = set(nwbfile.processing["behavior"].data_interfaces)
        assert names == {"Skeletons", "PoseEstimation_walker", "PoseEstimation_runner"}
        assert len(nwbfile.acquisition) == 1
    assert export(lab, models=["walker", "runner"])[1] is False
    analyse(lab, other, [invented_track("snout", seed=7), invented_track("tailbase", seed=8)])
    assert export(lab, models=["walker", "runner"])[1] is True


def test_two_versions_of_a_model_go_into_one_file(lab: Lab) -> None:
    first, second = add_version(lab), add_version(lab, weights=b"second")
    for seed, version in enumerate((first, second)):
        analyse(lab, version, [invented_track("snout", seed=seed), invented_track("tailbase", seed=seed)])
    [path] = nwb_files(lab, export(lab, models=[f"walker@{first.version}", f"walker@{second.version}"])[0])
    with opened(path) as nwbfile:
        names = {f"PoseEstimation_walker-{version.version}" for version in (first, second)}
        assert names < set(nwbfile.processing["behavior"].data_interfaces)


def test_a_model_without_poses_of_the_session_is_said(lab: Lab) -> None:
    add_version(lab)
    with pytest.raises(NotFoundError, match=f"dlc-assets analyze {KEY} --model walker"):
        export(lab, models=["walker"])
    with pytest.raises(NotFoundError, match='Did you mean "walker"'):
        export(lab, models=["walkr"])


# Several animals


def test_animals_that_nobody_told_apart_stay_tracks_of_their_group(lab: Lab) -> None:
    analyse(lab, add_version(lab), animals("one", "two"))
    manifest, _ = export(lab)
    [path] = nwb_files(lab, manifest)
    assert path.parent.name == "sub-m01"
    with opened(path) as nwbfile:
        names = set(nwbfile.processing["behavior"].data_interfaces)
        assert names == {"Skeletons", "PoseEstimation_one", "PoseEstimation_two"}
        assert nwbfile.subject.subject_id == "m01"


def test_animals_that_were_told_apart_have_a_file_each_and_share_what_is_of_none(lab: Lab) -> None:
    corner = replace(invented_track("corner", seed=99), individual="single")
    tracks = analyse(lab, add_version(lab), [*animals("one", "two"), corner])
    state(lab, identity=Identity(how="marked", by="Doe, Jane", individuals={"one": "m01", "two": "m02"}))
    manifest, _ = export(lab)
    assert manifest.details["findings"] == []
    paths = nwb_files(lab, manifest)
    assert [path.name for path in paths] == [f"sub-{m}_ses-20260501_behavior+image.nwb" for m in ("m01", "m02")]
    for path, name, subject in zip(paths, ("one", "two"), ("m01", "m02"), strict=True):
        with opened(path) as nwbfile:
            behavior = nwbfile.processing["behavior"]
            assert nwbfile.subject.subject_id == subject
            assert set(behavior.data_interfaces) == {"Skeletons", "PoseEstimation", "PoseEstimation_single"}
            own = next(track for track in tracks if (track.individual, track.bodypart) == (name, "snout"))
            np.testing.assert_array_equal(behavior["PoseEstimation"]["snout"].data[:, 0], own.x)
    assert len({opened_identifier(path) for path in paths}) == 2
    state(lab, identity=None)
    [group] = nwb_files(lab, export(lab)[0])
    assert group == paths[0]  # the group bears the name m01, too
    assert not paths[1].exists()
    assert not paths[1].with_suffix("").exists()


def opened_identifier(path: Path) -> str:
    with opened(path) as nwbfile:
        return str(nwbfile.identifier)


def test_an_identity_of_animals_that_are_not_there_is_refused(lab: Lab) -> None:
    analyse(lab, add_version(lab), animals("one", "two"))
    state(lab, identity=Identity(how="verified", individuals={"on": "m01"}))
    with pytest.raises(
        SettingsError, match=r'names the individual "on", which the poses do not have\. Did you mean "one"'
    ):
        export(lab)


def test_a_file_of_another_session_is_not_written_over(lab: Lab) -> None:
    version = add_version(lab)
    analyse(lab, version)
    [path] = nwb_files(lab, export(lab)[0])
    before = sha256_file(path)
    cage = "sub-cage_ses-20260501"
    session_of(
        lab, cage, lab.root / "recordings" / "top.mp4", identity=Identity(how="marked", individuals={"one": "m01"})
    )
    analyse(lab, version, animals("one"), cage)
    with pytest.raises(InputError, match=f"is that of another: its identifier is .*{KEY}"):
        export(lab, cage)
    assert sha256_file(path) == before


# What may leave, and what it joins


def test_videos_of_people_are_left_out_without_consent(lab: Lab) -> None:
    key = "sub-h01_ses-1"
    session_of(lab, key, lab.root / "recordings" / "top.mp4")
    analyse(lab, add_version(lab), key=key)
    manifest, _ = export(lab, key)
    [path] = nwb_files(lab, manifest)
    assert path.name == f"{key}_behavior.nwb"
    assert any("videos are left out" in problem and "consent" in problem for problem in manifest.problems)
    assert list(path.parent.iterdir()) == [path]
    state(lab, key, consent=Consent(videos=True, by="Doe, Jane"))
    manifest, _ = export(lab, key)
    [with_video] = nwb_files(lab, manifest)
    assert with_video.name == f"{key}_behavior+image.nwb"
    assert not path.exists()
    assert not any("left out" in problem for problem in manifest.problems)


def test_filtered_poses_follow_into_the_file_once_they_are_made(lab: Lab) -> None:
    version = add_version(lab)
    analyse(lab, version)
    manifest, _ = export(lab)
    assert manifest.problems == []
    path = lab.layout.settings_file
    path.write_text(path.read_text().replace("review: {auto: false}\n", "filters: [{step: confidence, below: 0.99}]\n"))
    lab = reopened(lab)
    manifest, _ = export(lab, recompute=True)
    (problem,) = manifest.problems
    assert problem == f"filtered poses by {version} are left out: they are not made (`dlc-assets review` does)"
    filter_session(lab, "walker", KEY, overrides={}, recompute=False, run_id="", log=print)
    manifest, written_now = export(lab)
    assert (written_now, manifest.problems, manifest.details["findings"]) == (True, [], [])
    [file] = nwb_files(lab, manifest)
    poses = read_provenance(file)["recordings"]["top"]["poses"]
    assert [entry["pose_estimation"] for entry in poses] == ["PoseEstimation", "PoseEstimation_filtered"]
    assert poses[1]["filters"] == "confidence below 0.99"
    assert poses[1]["provenance"]["filters"][0]["below"] == 0.99
    assert export(lab)[1] is False
    path.write_text(path.read_text().replace("nwb: {keywords", "nwb: {filtered: false, keywords"))
    manifest, written_now = export(reopened(lab))
    assert written_now
    assert len(read_provenance(nwb_files(lab, manifest)[0])["recordings"]["top"]["poses"]) == 1


def test_a_labeled_video_follows_into_the_file_where_the_lab_wants_it(lab: Lab) -> None:
    analyse(lab, add_version(lab))
    path = lab.layout.settings_file
    path.write_text(path.read_text().replace("nwb: {keywords", "nwb: {labeled_videos: true, keywords"))
    lab = reopened(lab)
    manifest, _ = export(lab)
    assert "labeled videos" not in manifest.inputs
    span = {"start": 3, "end": 20, "span_unit": "frames"}
    label_session(lab, "walker", KEY, overrides=span, recompute=False, run_id="", log=print)
    manifest, written_now = export(lab)
    assert written_now
    [file] = nwb_files(lab, manifest)
    with opened(file) as nwbfile:
        series = nwbfile.processing["behavior"]["PoseEstimation"].labeled_video
        assert series.num_samples == 17
        assert series.starting_time == pytest.approx(float(read_times(lab.layout, KEY, "top")[3]))
        linked = file.parent / series.external_file[0]
    assert linked.resolve().is_relative_to(lab.layout.derived("labeled_video").resolve())
    assert manifest.details["findings"] == []
    assert export(lab)[1] is False


def test_a_session_s_file_of_the_rig_is_extended_and_the_export_follows_it(lab: Lab) -> None:
    analyse(lab, add_version(lab))
    source = write_ephys(lab.root / "rig" / "ephys.nwb")
    state(lab, extend_nwb=stored(lab, source))
    before = sha256_file(source)
    manifest, _ = export(lab)
    [path] = nwb_files(lab, manifest)
    assert path.name == f"{KEY}_behavior+ecephys+image.nwb"
    assert manifest.details["findings"] == []
    assert sha256_file(source) == before
    assert export(lab)[1] is False
    write_ephys(source, lambda nwbfile: nwbfile.add_unit(spike_times=[0.1, 0.2]))
    with pytest.raises(InputError, match=r"ephys\.nwb had .* bytes when the session was probed"):
        export(lab, recompute=True)
    state(lab, extend_nwb=stored(lab, source))
    manifest, written_now = export(lab)
    assert written_now
    with opened(nwb_files(lab, manifest)[0]) as nwbfile:
        assert len(nwbfile.units) == 1
        assert "PoseEstimation" in nwbfile.processing["behavior"].data_interfaces


def stored(lab: Lab, path: Path) -> StoredFile:
    status = path.stat()
    return StoredFile(
        path=path.relative_to(lab.root).as_posix(),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=sha256_file(path),
    )


# Refused before any long work


def test_what_is_wrong_is_said_all_at_once_and_nothing_is_written(lab: Lab) -> None:
    analyse(lab, add_version(lab))
    (lab.root / "lab.yaml").write_text(LAB.replace("species: Mus musculus, ", "", 1))
    (lab.root / "recordings" / "top.mp4").rename(lab.root / "recordings" / "moved.mp4")
    with pytest.raises(InputError) as refused:
        export(lab)
    said = str(refused.value)
    assert "subjects.m01.species" in said
    assert "subject_defaults.species" in said
    assert "top.mp4 is not where it was" in said
    assert not lab.layout.nwb.exists()


# In one call


def test_one_call_writes_the_file_and_a_second_leaves_it(lab: Lab) -> None:
    analyse(lab, add_version(lab))
    [path] = dlc_assets.session_to_nwb(KEY, lab=lab.root)
    made = path.stat()
    assert dlc_assets.session_to_nwb(KEY, lab=lab.root) == [path]
    assert path.stat().st_ino == made.st_ino
    assert dlc_assets.open_lab(lab.root).nwb_files(KEY) == [path]
    assert check_nwb(path) == []


def test_one_call_takes_what_is_stated_of_the_session(lab: Lab) -> None:
    analyse(lab, add_version(lab))
    stated = {
        "session_id": "pilot",
        "start": START + timedelta(hours=1),
        "keywords": "pilot",
        "subject": {"subject_id": "m77", "species": "Rattus norvegicus", "age": "P12W", "date_of_birth": None},
    }
    [path] = dlc_assets.session_to_nwb(KEY, lab=lab.root, videos="leave_out", session_overrides=stated)
    assert path.name == "sub-m77_ses-pilot_behavior.nwb"
    assert check_nwb(path) == []
    with opened(path) as nwbfile:
        assert (nwbfile.subject.species, nwbfile.subject.age) == ("Rattus norvegicus", "P12W")
        assert nwbfile.session_start_time == START + timedelta(hours=1)
        assert list(nwbfile.keywords[:]) == ["pilot"]
    manifest = nwb_manifest(lab, KEY)
    assert manifest is not None
    assert manifest.custom


@pytest.mark.parametrize(
    ("stated", "match"),
    [
        ({"subjct": {}}, 'unknown "subjct". Did you mean "subject"'),
        ({"subject": {"specie": "Mus musculus"}}, 'unknown "specie". Did you mean "species"'),
        ({"subject": {"species": "mouse"}}, "Mus musculus"),
        ({"subject": {"age": "90 days"}}, "P90D"),
        ({"session_id": "day_1"}, '"day-1" would do'),
        ({"start": "noon"}, "ISO 8601"),
        ({"start": datetime(2026, 5, 1, 10)}, "no time zone"),
    ],
)
def test_one_call_refuses_what_no_archive_takes(lab: Lab, stated: dict[str, Any], match: str) -> None:
    analyse(lab, add_version(lab))
    with pytest.raises(DlcAssetsError, match=match):
        dlc_assets.session_to_nwb(KEY, lab=lab.root, session_overrides=stated)
    assert not lab.layout.nwb.exists()


# Frames that people labeled


def dataset_of(lab: Lab, version: ModelVersion, frames: dict[str, tuple[str, np.ndarray]]) -> None:
    """Store pictures of the version's training dataset: set and picture by ``folder/name``."""
    from PIL import Image

    folder = lab.layout.dataset(version.model, "d1")
    rows = []
    for name, (of_set, picture) in frames.items():
        above, _, image = name.partition("/")
        row = {"folder": above, "image": image, "scorer": "Doe", "set": of_set, "xy": [[1.0, 2.0], [None, None]]}
        path = image_of_frame(folder, row)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        rows.append(row)
    write_json(folder / FRAMES_FILE, rows)


def test_only_labeled_frames_that_are_this_video_s_are_found(lab: Lab) -> None:
    version = add_version(lab)
    pictures = read_frames(lab.root / "recordings" / "top.mp4", [5, 20, 30, 40])
    dataset_of(
        lab,
        version,
        {
            "top/img0005.png": ("train", pictures[5]),
            "top/img0020.png": ("validation", pictures[20]),
            "top/img0030.png": ("train", np.full_like(pictures[30], 200)),  # of another video that is called top, too
            "m01_20260501_top/img40.png": ("train", pictures[40]),
            "m02_20260502_top/img0020.png": ("train", pictures[20]),
            "top/img0099.png": ("train", pictures[5]),
        },
    )
    session, _ = need_session_info(lab.layout, KEY)
    found = training_frames(lab, session, session.recordings[0], version)
    assert [(labeled.frame, labeled.annotator) for labeled in found] == [(5, "Doe"), (40, "Doe")]
    assert found[0].bodyparts == tuple(version.card["bodyparts"])
    np.testing.assert_array_equal(found[0].xy, [[1, 2], [np.nan, np.nan]])


def test_labeled_frames_are_in_the_file_when_the_lab_asks_for_them(lab: Lab) -> None:
    version = add_version(lab)
    analyse(lab, version)
    dataset_of(lab, version, {"top/img0005.png": ("train", read_frames(lab.root / "recordings" / "top.mp4", [5])[5])})
    [path] = nwb_files(lab, export(lab)[0])
    with opened(path) as nwbfile:
        assert "PoseTraining" not in nwbfile.processing["behavior"].data_interfaces
    (lab.root / "lab.yaml").write_text(LAB.replace("nwb: {", "nwb: {training_frames: true, "))
    manifest, written_now = export(lab)
    assert written_now
    assert manifest.details["findings"] == []
    with opened(path) as nwbfile:
        [frame] = nwbfile.processing["behavior"]["PoseTraining"].training_frames.training_frames.values()
        assert (frame.annotator, int(frame.source_video_frame_index)) == ("Doe", 5)
