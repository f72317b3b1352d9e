"""Frames to label: chosen from poses and pictures, written as DeepLabCut's folder, and put into the project only on request."""

from __future__ import annotations

import csv
import errno
import os
import shutil
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from dlc_assets.cli import app
from dlc_assets.commands import choose_frames
from dlc_assets.lab.errors import EnvironmentProblem, InputError, NotFoundError, SettingsError
from dlc_assets.lab.manifest import Manifest
from dlc_assets.labeling import adding, sources
from dlc_assets.labeling.adding import add_to_project
from dlc_assets.labeling.batch import (
    CONTACT_SHEET,
    DECODED_PER_FRAME,
    WHY,
    WHY_COLUMNS,
    Request,
    batch_folder,
    batch_inputs,
    current_batch,
    make_batch,
)
from dlc_assets.labeling.contact_sheet import sheet_for_page
from dlc_assets.labeling.dlc_folder import machine_labels, picture_name
from dlc_assets.recordings.info import read_times
from dlc_assets.state.stored import place_of, stored_keys, stored_manifest
from dlc_assets.training.dataset import label_set_of
from dlc_assets.training.frozen import project_of
from dlc_assets.training.project import read_project
from dlc_assets.training.removal import files_of_model
from dlc_assets.video.frames import each_frame
from dlc_assets_tests.conftest import hash_inputs
from dlc_assets_tests.graph.small_lab import record
from dlc_assets_tests.unit.labeling_lab import (
    FIRST,
    FRAMES,
    PARTS,
    PCUTOFF,
    RATE,
    SECOND,
    LabelingLab,
    correct,
    picture,
    true_poses,
    use,
    write_labeling_lab,
    write_table,
)


@pytest.fixture(scope="module")
def lab_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab, written once: to be copied only."""
    return write_labeling_lab(tmp_path_factory.mktemp("labeling") / "lab").root


@pytest.fixture
def walking(lab_files: Path, tmp_path: Path) -> LabelingLab:
    """A lab with two sessions, in whose poses there are faults."""
    shutil.copytree(lab_files, tmp_path / "lab")
    lab = LabelingLab(tmp_path / "lab")
    lab.analyse(FIRST, unsure)
    lab.analyse(SECOND, jumping)
    return lab


def unsure(poses: dict[str, np.ndarray]) -> None:
    poses["snout"][2, 50:60] = 0.2
    poses["leftear"][2, 52:58] = 0.3


def jumping(poses: dict[str, np.ndarray]) -> None:
    poses["tailbase"][:2, 100] += 60


def chosen(lab: LabelingLab, count: int = 6, *sessions: str, **stated: Any) -> Manifest:
    said: list[str] = []
    manifest, _ = make_batch(
        lab.lab, "walker", Request(count, sessions, **stated), run_id="run", log=lambda line: said.append(line)
    )
    return manifest


def folders_of(lab: LabelingLab, manifest: Manifest) -> list[Path]:
    labeled_data = batch_folder(lab.lab, manifest) / "labeled-data"
    return [labeled_data / row["folder"] for row in manifest.details["folders"]]


def frames_in(manifest: Manifest) -> list[tuple[str, int]]:
    return [(row["session"], row["frame"]) for row in manifest.details["frames"]]


# --- what is chosen and written -------------------------------------------------------------------


def test_a_batch_is_deeplabcuts_folder_with_the_faulty_frames_and_leaves_the_lab_alone(walking: LabelingLab) -> None:
    before = hash_inputs(walking.root)
    manifest = chosen(walking)
    assert hash_inputs(walking.root) == before
    rows = manifest.details["frames"]
    assert len(rows) == len(set(frames_in(manifest))) == 6
    assert manifest.details["candidates"] <= 6 * DECODED_PER_FRAME
    why = {(row["session"], row["frame"]): row["reasons"] for row in rows}
    assert any(session == FIRST and 50 <= frame < 60 for session, frame in why)
    assert why[SECOND, 100].startswith("jump (tailbase)")
    assert any("low confidence (snout 0.20, leftear 0.30)" in reasons for reasons in why.values())
    assert set(Counter(row["session"] for row in rows)) == {FIRST, SECOND}
    folder = batch_folder(walking.lab, manifest)
    assert sorted(path.name for path in folder.iterdir()) == [CONTACT_SHEET, "labeled-data", "manifest.json", WHY]
    with (folder / WHY).open() as stream:
        table = list(csv.DictReader(stream))
    assert list(table[0]) == list(WHY_COLUMNS)
    assert [(row["session"], int(row["frame"])) for row in table] == frames_in(manifest)
    # Both videos are called top.mp4, so that the names of animal and session are needed.
    assert [path.name for path in folders_of(walking, manifest)] == ["m01_day1_top", "m02_day1_top"]
    for path in folders_of(walking, manifest):
        names = sorted(row["image"] for row in rows if row["folder"] == path.name)
        assert sorted(file.name for file in path.iterdir()) == [*names, "machinelabels-iter2.h5", "machinelabels.csv"]


def test_pictures_are_the_videos_frames_and_labels_are_their_poses_without_unsure_points(walking: LabelingLab) -> None:
    manifest = chosen(walking)
    first, _ = folders_of(walking, manifest)
    labels = pd.read_hdf(first / "machinelabels-iter2.h5", key="df_with_missing")
    assert isinstance(labels, pd.DataFrame)
    assert labels.columns.names == ["scorer", "bodyparts", "coords"]
    expected = [("DLC_walker", part, coord) for part in PARTS for coord in ("x", "y", "likelihood")]
    assert labels.columns.tolist() == expected
    assert labels.index.names == [None, None, None]
    poses = true_poses()
    unsure(poses)
    for labeled_data, folder, name in labels.index:
        assert (labeled_data, folder) == ("labeled-data", first.name)
        number = int(name.removeprefix("img").removesuffix(".png"))
        with Image.open(first / name) as image:
            apart = np.abs(np.asarray(image).astype(int) - picture(number))
        assert np.percentile(apart, 95) <= 12  # the codec's
        values = labels.loc[(labeled_data, folder, name)].to_numpy().reshape(len(PARTS), 3)
        for at, part in enumerate(PARTS):
            sure = poses[part][2, number] >= PCUTOFF
            assert np.allclose(values[at, :2], poses[part][:2, number]) if sure else np.isnan(values[at, :2]).all()
            assert values[at, 2] == pytest.approx(poses[part][2, number])
    csv_file = pd.read_csv(first / "machinelabels.csv", header=[0, 1, 2], index_col=[0, 1, 2])
    assert np.allclose(csv_file.to_numpy(), labels.to_numpy(), equal_nan=True)


def test_the_same_question_has_the_same_answer_and_another_seed_another(walking: LabelingLab) -> None:
    first = chosen(walking)
    place = batch_folder(walking.lab, first)
    assert current_batch(walking.lab, "walker") == first
    _, again = make_batch(walking.lab, "walker", Request(6), run_id="", log=lambda _: None)
    assert not again
    shutil.rmtree(place)
    assert frames_in(chosen(walking)) == frames_in(first)
    other = chosen(walking, seed=2)
    assert batch_folder(walking.lab, other) != place
    assert frames_in(other) != frames_in(first)
    assert batch_folder(walking.lab, chosen(walking)) == place
    walking.analyse(SECOND, made="2026-05-02T10:00:00+00:00")
    assert frames_in(chosen(walking)) != frames_in(first)


def test_what_is_labeled_is_not_offered_again(walking: LabelingLab) -> None:
    first = chosen(walking, 4, FIRST)
    labeled = {frame for _, frame in frames_in(first)}
    # By content, under whatever name: here as a person who cut the frames out with another tool has them.
    walking.label("by_hand", sorted(labeled), picture)
    second = chosen(walking, 4, FIRST)
    assert all(abs(frame - other) > 2 for _, frame in frames_in(second) for other in labeled)
    assert min(row["unlike"] for row in second.details["frames"]) > 0


def test_other_models_of_the_same_session_are_asked(walking: LabelingLab) -> None:
    def elsewhere(poses: dict[str, np.ndarray]) -> None:
        poses["rightear"][:2, 170] += 40

    walking.analyse(FIRST, elsewhere, model="runner", version="abcdefabcdef")
    reasons = {row["frame"]: row["reasons"] for row in chosen(walking, 8, FIRST).details["frames"]}
    assert reasons[170] == "disagreement (rightear)"


def test_sessions_of_a_large_lab_are_drawn_by_the_seed(walking: LabelingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_SESSIONS", 1)
    drawn = {seed: {session for session, _ in frames_in(chosen(walking, 3, seed=seed))} for seed in range(1, 4)}
    assert all(len(sessions) == 1 for sessions in drawn.values())
    assert set().union(*drawn.values()) == {FIRST, SECOND}
    manifest = chosen(walking, 3, seed=1)
    assert manifest.details["notes"][0] == "1 of 2 sessions were drawn to choose from (seed 1)."


def test_older_poses_are_taken_where_the_current_version_has_none_and_it_is_said(walking: LabelingLab) -> None:
    shutil.rmtree(walking.lab.layout.poses)
    walking.analyse(FIRST, unsure, version="00000000aaaa")
    walking.analyse(SECOND)
    manifest = chosen(walking)
    assert manifest.details["notes"][0] == (
        f"The poses of {FIRST} are by an older version: the current one has none of them."
    )


def test_the_store_knows_its_batches(walking: LabelingLab) -> None:
    assert stored_keys(walking.lab)["frames_to_label"] == []
    manifest = chosen(walking)
    lab = walking.lab
    assert stored_keys(lab)["frames_to_label"] == ["walker"]
    assert stored_manifest(lab, "frames_to_label", "walker") == manifest
    assert place_of(lab, manifest) == batch_folder(lab, manifest)
    assert lab.layout.to_label("walker") in files_of_model(lab, "walker", with_poses=False)


def test_the_sheet_for_a_page_keeps_to_its_size(walking: LabelingLab) -> None:
    sheet = batch_folder(walking.lab, chosen(walking)) / CONTACT_SHEET
    for most in (60_000, 15_000):
        small = sheet_for_page(sheet, most)
        assert small.startswith(b"\xff\xd8")
        assert 1000 < len(small) <= most


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_video_that_is_gone_or_changed_leaves_the_others(walking: LabelingLab) -> None:
    video = walking.video(FIRST)
    away = video.rename(video.with_name("away"))
    manifest = chosen(walking)
    assert {session for session, _ in frames_in(manifest)} == {SECOND}
    assert len(manifest.problems) == 1
    assert f"{FIRST}, top, top.mp4: the video {walking.video(FIRST)} is gone" in manifest.problems[0]
    away.rename(video)  # once it is back, it counts
    assert {session for session, _ in frames_in(chosen(walking))} == {FIRST, SECOND}
    video.unlink()
    os.utime(walking.video(SECOND))
    with pytest.raises(
        InputError, match=r"no frame can be offered for walker, though 2 .* has changed since .* is gone"
    ):
        chosen(walking)
    assert not list(walking.lab.layout.to_label("walker").glob(".*"))


def test_a_damaged_pose_table_leaves_the_others(walking: LabelingLab) -> None:
    walking.lab.layout.pose_file("walker", "0123456789ab", FIRST, "top").write_bytes(b"no table")
    manifest = chosen(walking)
    assert {session for session, _ in frames_in(manifest)} == {SECOND}
    assert manifest.problems[0].startswith(f"{FIRST}, top is left out: ")


def test_more_frames_than_there_are_is_said(walking: LabelingLab) -> None:
    manifest = chosen(walking, 80, FIRST)
    found = len(manifest.details["frames"])
    assert 5 < found < 80
    assert f"{found} of 80 frames were found: of the other candidates" in manifest.details["notes"][0]


def test_what_cannot_be_asked_is_refused(walking: LabelingLab, lab_files: Path) -> None:
    with pytest.raises(InputError, match="count: expected at least 1"):
        Request(0)
    with pytest.raises(NotFoundError, match=f'Did you mean "{FIRST}"'):
        chosen(walking, 5, "sub-m01_ses-day01")
    with pytest.raises(NotFoundError, match="no session has poses by walker yet"):
        batch_inputs(LabelingLab(lab_files).lab, "walker", Request())


def test_a_session_in_which_nothing_was_found_gives_a_few_frames_to_label_by_hand(walking: LabelingLab) -> None:
    def lost(poses: dict[str, np.ndarray]) -> None:
        for values in poses.values():
            values[:] = np.nan

    walking.analyse(FIRST, lost)
    manifest = chosen(walking, 5, FIRST)
    assert [row["reasons"] for row in manifest.details["frames"]] == ["no body part found"]
    (folder,) = folders_of(walking, manifest)
    labels = pd.read_hdf(folder / "machinelabels-iter2.h5")
    assert np.isnan(labels.to_numpy(dtype=float)).all()


# --- into the project -----------------------------------------------------------------------------


def test_added_frames_are_no_labels_until_they_are_corrected(walking: LabelingLab) -> None:
    labels = label_set_of(walking.lab, "walker")
    before = hash_inputs(walking.root)
    manifest = chosen(walking)
    added = add_to_project(walking.lab, manifest)
    assert sum(added.added.values()) == 6
    assert set(added.added) == {"m01_day1_top", "m02_day1_top"}
    assert (added.already, added.problems, added.notes) == ({}, [], [])
    after = hash_inputs(walking.root)
    assert {path: after.get(path) for path in before} == before  # config.yaml, too
    assert label_set_of(walking.lab, "walker").content_hash == labels.content_hash
    rows = correct(walking.labeled_data / "m01_day1_top")
    corrected = label_set_of(walking.lab, "walker")
    assert corrected.content_hash != labels.content_hash
    assert len(corrected.images) == len(labels.images) + rows
    assert [count.sentence() for count in corrected.counts if count.folder == "m01_day1_top"] == [
        f"m01_day1_top by Ann: {rows} found, {rows} used"
    ]


def test_adding_again_copies_nothing_and_asking_again_gives_the_same_until_labels_come_back(
    walking: LabelingLab,
) -> None:
    first = chosen(walking)
    add_to_project(walking.lab, first)
    before = hash_inputs(walking.root)
    assert chosen(walking) == first
    again = add_to_project(walking.lab, first)
    assert (again.added, sum(again.already.values())) == ({}, 6)
    assert hash_inputs(walking.root) == before
    # Renamed by a person: it is still the same.
    (walking.labeled_data / "m01_day1_top").rename(walking.labeled_data / "renamed")
    assert "renamed" in add_to_project(walking.lab, first).already
    correct(walking.labeled_data / "renamed")
    second = chosen(walking)
    assert second != first
    assert not set(frames_in(second)) & set(frames_in(first))


def test_a_name_that_was_taken_meanwhile_is_not_overwritten(walking: LabelingLab) -> None:
    manifest = chosen(walking)
    walking.label("M01_day1_top", [1], lambda number: picture(number, floor=10))
    before = hash_inputs(walking.root)
    added = add_to_project(walking.lab, manifest)
    assert set(added.added) == {"m01_day1_top_2", "m02_day1_top"}
    assert {path: hash_inputs(walking.root)[path] for path in before} == before
    labels = pd.read_hdf(walking.labeled_data / "m01_day1_top_2" / "machinelabels-iter2.h5")
    assert {row[1] for row in labels.index} == {"m01_day1_top_2"}
    correct(walking.labeled_data / "m01_day1_top_2")
    assert any(image.folder == "m01_day1_top_2" for image in label_set_of(walking.lab, "walker").images)


def frame_of(walking: LabelingLab, number: int) -> np.ndarray:
    ((_, shown),) = each_frame(walking.video(FIRST), [number])
    return shown


def test_frames_of_a_video_that_has_labels_go_beside_them(walking: LabelingLab) -> None:
    walking.label("m01_day1_top", [3, 14], lambda number: frame_of(walking, number))
    before = hash_inputs(walking.root)
    manifest = chosen(walking, 4, FIRST)
    assert manifest.details["folders"][0]["beside_labels"]
    assert not {frame for _, frame in frames_in(manifest)} & {2, 3, 4, 13, 14, 15}
    assert add_to_project(walking.lab, manifest).added == {"m01_day1_top": 4}
    assert {path: hash_inputs(walking.root)[path] for path in before} == before
    assert len(list((walking.labeled_data / "m01_day1_top").glob("img*.png"))) == 6
    assert add_to_project(walking.lab, manifest).already == {"m01_day1_top": 4}


def test_a_picture_of_that_name_that_shows_something_else_is_left_as_it_is(walking: LabelingLab) -> None:
    walking.label("m01_day1_top", [3], lambda number: frame_of(walking, number))
    manifest = chosen(walking, 4)
    wrong = (
        walking.labeled_data
        / "m01_day1_top"
        / next(row["image"] for row in manifest.details["frames"] if row["folder"] == "m01_day1_top")
    )
    Image.new("RGB", (160, 120)).save(wrong)
    before = hash_inputs(walking.root)
    added = add_to_project(walking.lab, manifest)
    assert set(added.added) == {"m02_day1_top"}
    assert f"{wrong} is there already" in added.problems[0]
    after = hash_inputs(walking.root)
    assert {path: after[path] for path in before} == before
    assert not [path for path in after if path not in before and "m02" not in path]


def test_no_frame_of_a_video_that_scores_is_offered(walking: LabelingLab) -> None:
    walking.label("m01_day1_top", [3, 14], lambda number: frame_of(walking, number))
    from dlc_assets.training.frozen import FrozenFrame, freeze

    project = project_of(walking.lab, "walker")
    freeze(walking.lab, project, None, {("m01_day1_top", "img003.png"): FrozenFrame("0" * 64, "video")}, (), {})
    manifest = chosen(walking)
    assert {session for session, _ in frames_in(manifest)} == {SECOND}
    assert manifest.details["notes"][0].startswith(
        f"{FIRST}, top, top.mp4 is left out: the benchmark frames in m01_day1_top are of it"
    )


def test_labels_made_in_the_store_come_along(walking: LabelingLab) -> None:
    manifest = chosen(walking, 4, FIRST)
    (folder,) = folders_of(walking, manifest)
    rows = correct(folder)
    (walking.labeled_data / folder.name).mkdir()
    assert list(add_to_project(walking.lab, manifest).added) == [f"{folder.name}_2"]
    counts = {count.folder: count.used for count in label_set_of(walking.lab, "walker").counts}
    assert counts[f"{folder.name}_2"] == rows


def test_a_model_that_lists_its_videos_is_told_to_list_the_new_ones(walking: LabelingLab) -> None:
    specification = walking.root / "models" / "walker.yaml"
    specification.write_text("project: walking\nlabel_set: {videos: [elsewhere, videos/m01_day1_top.mp4]}\n")
    (note,) = add_to_project(walking.lab, chosen(walking)).notes
    assert note == (
        f"{specification} lists its videos: add m02_day1_top to label_set.videos, or these labels are not used."
    )


def test_a_project_that_cannot_be_written_or_is_gone_is_said(
    walking: LabelingLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = chosen(walking)

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))

    monkeypatch.setattr(adding.shutil, "copyfile", refuse)
    before = hash_inputs(walking.root)
    with pytest.raises(EnvironmentProblem, match=r"Read-only file system\. Ask whoever owns the project to copy"):
        add_to_project(walking.lab, manifest)
    assert hash_inputs(walking.root) == before
    monkeypatch.undo()
    walking.labeled_data.rename(walking.labeled_data.with_name("moved"))
    with pytest.raises(InputError, match="labeled-data does not exist"):
        add_to_project(walking.lab, manifest)


def test_a_batch_that_was_changed_is_not_added(walking: LabelingLab) -> None:
    manifest = chosen(walking, 4, FIRST)
    image = next(folders_of(walking, manifest)[0].glob("*.png"))
    image.write_bytes(b"")
    with pytest.raises(InputError, match=f"{image.name} has changed"):
        add_to_project(walking.lab, manifest)


def test_a_recording_in_two_files_gives_a_folder_of_each_with_the_files_own_numbers(walking: LabelingLab) -> None:
    settings = walking.root / "lab.yaml"
    settings.write_text(settings.read_text().replace("{camera}.mp4", "{camera}-{part}.mp4"))
    folder = walking.video(FIRST).parent
    walking.video(FIRST).rename(folder / "top-1.mp4")
    walking.video(SECOND).rename(folder / "top-2.mp4")
    record(walking.lab, FIRST)
    poses = {part: np.tile(values, 2) for part, values in true_poses().items()}
    poses["snout"][2, [50, 275]] = 0.2
    lab = walking.lab
    path = lab.layout.pose_file("walker", "0123456789ab", FIRST, "top")
    write_table(path, poses, times=read_times(lab.layout, FIRST, "top"))
    manifest = chosen(walking, 12, FIRST)
    names = {row["frame"]: f"{row['folder']}/{row['image']}" for row in manifest.details["frames"]}
    assert (names[50], names[275]) == ("top-1/img050.png", "top-2/img075.png")
    with Image.open(batch_folder(lab, manifest) / "labeled-data" / names[275]) as image:
        apart = np.abs(np.asarray(image).astype(int) - picture(75, floor=90))
    assert np.percentile(apart, 95) <= 12
    labels = pd.read_hdf(batch_folder(lab, manifest) / "labeled-data/top-2/machinelabels-iter2.h5")
    assert isinstance(labels, pd.DataFrame)
    assert labels.loc[("labeled-data", "top-2", "img075.png")].iloc[3] == pytest.approx(poses["leftear"][0, 275])


# --- of several animals ---------------------------------------------------------------------------


def test_labels_of_several_animals_have_deeplabcuts_columns(tmp_path: Path) -> None:
    config = {
        "multianimalproject": True,
        "scorer": "Ann",
        "bodyparts": "MULTI!",
        "multianimalbodyparts": ["nose", "tail base"],
        "uniquebodyparts": ["corner"],
        "individuals": ["a", "b"],
        "iteration": 0,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    project = read_project(tmp_path)
    pose = {
        ("b", "nose"): np.array([1, 2, 0.9]),
        ("a", "tail base"): np.array([3, 4, 0.1]),
        ("single", "corner"): np.array([5, 6, np.nan]),
        ("a", "unknown"): np.array([7, 8, 0.9]),
    }
    labels = machine_labels(project, "v", ["img0.png"], [pose], scorer="net", pcutoff=0.6)
    assert labels.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    tracks = [("a", "nose"), ("a", "tail base"), ("b", "nose"), ("b", "tail base"), ("single", "corner")]
    assert [tuple(column[1:3]) for column in labels.columns[::3]] == tracks
    values = labels.to_numpy().reshape(-1, 3)
    expected = np.full((5, 3), np.nan)
    expected[1, 2], expected[2], expected[4, :2] = 0.1, (1, 2, 0.9), (5, 6)
    assert np.array_equal(values, expected, equal_nan=True)


@pytest.mark.parametrize(("frame", "count", "name"), [(7, 200, "img007.png"), (7, 10, "img7.png"), (0, 1, "img0.png")])
def test_pictures_have_as_many_digits_as_the_video_has_frames(frame: int, count: int, name: str) -> None:
    assert picture_name(frame, count) == name


# --- frames that are sought -----------------------------------------------------------------------


def test_frames_come_one_by_one_and_are_the_same_however_they_are_found(walking: LabelingLab) -> None:
    wanted = [1, 5, 130, 131, 190]
    decoded = dict(each_frame(walking.video(FIRST), wanted))
    for known in ({"rate": Fraction(RATE)}, {"frame_count": FRAMES}, {"frame_count": FRAMES + 1}):
        found = dict(each_frame(walking.video(FIRST), wanted, **known))  # type: ignore[arg-type]
        assert list(found) == wanted
        assert all(np.array_equal(found[index], decoded[index]) for index in wanted)
    with pytest.raises(InputError, match=f"frame {FRAMES} was asked for"):
        list(each_frame(walking.video(FIRST), [0, FRAMES], frame_count=FRAMES))


# --- the command ----------------------------------------------------------------------------------


def test_the_command_refuses_what_cannot_be_before_any_run(
    walking: LabelingLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(walking, monkeypatch)
    result = CliRunner().invoke(app, ["frames-to-label", "walker", "--count", "0"])
    assert result.exit_code == 2
    assert "greater than or equal to 1" in result.output
    instance: Any = None  # nothing is asked of it
    for model, sessions, message in (
        ("walkr", [], 'there is no model specification "walkr"'),
        ("walker@0123", [], "name the model alone"),
        ("walker", ["sub-m09_ses-day1"], "there are no poses of a session"),
    ):
        with pytest.raises((SettingsError, NotFoundError), match=message):
            choose_frames(walking.lab, instance, model, sessions, count=5, seed=1, log=lambda _: None)
