"""Benchmark frames belong to the project and stay what they are, whatever is labeled, renamed or corrected later."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.files import sha256_file, write_json
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.records import read_records
from dlc_assets.training.assignments import PlannedSplit, keep_split, planned_split
from dlc_assets.training.benchmark import benchmark_frames, benchmark_hash, human_errors, seen_frames
from dlc_assets.training.dataset import current_dataset, dataset_inputs, label_set_of
from dlc_assets.training.frozen import frozen_frames, project_of
from dlc_assets.training.labels import natural_key
from dlc_assets.training.models import ModelVersion
from dlc_assets.training.split import LEARNED_FROM

BODYPARTS = ["snout", "tail"]
Names = Mapping[str, Iterable[str]]
Key = tuple[str, str]


@functools.cache
def picture(folder: str, name: str, renamed: int = 0) -> bytes:
    """Return a small image that no other frame has, whatever was renamed before."""
    digest = hashlib.sha256(f"{folder}/{name}/{renamed}".encode()).digest()
    pixels = np.frombuffer(digest[:12], np.uint8).reshape(2, 2, 3).repeat(8, 0).repeat(8, 1)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@dataclass
class Labeling:
    """A lab with one project, and the person who labels it."""

    root: Path
    labels: dict[str, dict[str, tuple[float, ...]]] = field(default_factory=dict)
    renamed: int = 0

    @property
    def project(self) -> Path:
        return self.root / "projects" / "walking"

    @property
    def lab(self) -> Lab:
        """The lab, opened anew."""
        return open_lab_folder(self.root)

    def start(self, **models: str) -> Labeling:
        self.project.mkdir(parents=True)
        (self.root / "models").mkdir()
        (self.root / "lab.yaml").write_text("name: Test lab\n")
        config = {"Task": "walking", "scorer": "Ann", "date": "Jan1", "bodyparts": BODYPARTS, "skeleton": []}
        (self.project / "config.yaml").write_text(yaml.safe_dump(config))
        for model, specification in models.items():
            self.specify(model, specification)
        return self

    def specify(self, model: str, specification: str) -> None:
        (self.root / "models" / f"{model}.yaml").write_text(f"project: walking\n{specification}\n")

    def label(self, frames: Names) -> None:
        """Label frames as a tool does: images and one table a folder."""
        for folder, names in frames.items():
            known = self.labels.setdefault(folder, {})
            place = self.project / "labeled-data" / folder
            place.mkdir(parents=True, exist_ok=True)
            for name in names:
                if name not in known:
                    (place / name).write_bytes(picture(folder, name, self.renamed))
                known[name] = (3, 4, 10, 12)
            self.save(folder)

    def save(self, folder: str, scorer: str = "Ann", by: float = 0.0) -> None:
        rows = [
            f"labeled-data/{folder}/{name},{','.join(str(value + by) for value in xy)}"
            for name, xy in self.labels[folder].items()
        ]
        head = f"scorer{f',{scorer}' * 4}\nbodyparts,snout,snout,tail,tail\ncoords,x,y,x,y\n"
        place = self.project / "labeled-data" / folder / f"CollectedData_{scorer}.csv"
        place.write_text(head + "\n".join(rows) + "\n")

    def correct(self, folder: str, name: str, by: float = 1.0) -> None:
        x, *others = self.labels[folder][name]
        self.labels[folder][name] = (x + by, *others)
        self.save(folder)

    def rename(self, folder: str, old: str, new: str) -> None:
        self.renamed += 1
        place = self.project / "labeled-data" / folder
        (place / old).rename(place / new)
        self.labels[folder] = {new if name == old else name: xy for name, xy in self.labels[folder].items()}
        self.save(folder)

    def rename_folder(self, old: str, new: str) -> None:
        self.renamed += 1
        (self.project / "labeled-data" / old).rename(self.project / "labeled-data" / new)
        self.labels[new] = self.labels.pop(old)
        self.save(new)

    def plan(self, model: str = "walker", *, divided_before: bool = False) -> PlannedSplit:
        lab = self.lab
        return planned_split(lab, model, label_set_of(lab, model), divided_before=divided_before)

    def make(self, model: str = "walker", *, divided_before: bool = False) -> dict[Key, str]:
        """Divide as a dataset of *model* does, and return each frame's set."""
        plan = self.plan(model, divided_before=divided_before)
        keep_split(self.lab, plan)
        return sets(plan)

    def frozen(self) -> set[Key]:
        found = frozen_frames(self.lab, project_of(self.lab, "walker"))
        return set() if found is None else set(found.frames)

    def scored(self, model: str = "walker") -> dict[Key, Any]:
        return {(frame.folder, frame.image): frame for frame in benchmark_frames(self.lab, model, BODYPARTS)}


def sets(plan: PlannedSplit) -> dict[Key, str]:
    return {plan.labels.images[at].key: name for name, members in plan.split.sets.items() for at in members}


def of(divided: Mapping[Key, str], *names: str) -> set[Key]:
    return {key for key, name in divided.items() if name in names}


def images(*numbers: int) -> list[str]:
    return [f"img{number}.png" for number in numbers]


def videos(count: int, frames: int = 10) -> dict[str, list[str]]:
    return {f"day{at}": images(*range(frames)) for at in range(1, count + 1)}


@pytest.fixture
def labeling(tmp_path: Path) -> Labeling:
    return Labeling(tmp_path / "lab").start(walker="")


# --- whatever is labeled later --------------------------------------------------------------------

MODELS = {
    "walker": "",
    "small": "split: {by: video, train: 0.5, validation: 0.25, benchmark: 0.25}",
    "other": "split: {by: video, train: 0.6, validation: 0.2, benchmark: 0.2, seed: 7}",
    "frames": "split: {by: frame, train: 0.6, validation: 0.2, benchmark: 0.2}",
    "all-in": "split: {by: video, train: 0.8, validation: 0.2, benchmark: 0}",
    "day1": "label_set: {videos: [day1]}",
    "half": "label_set: {frames: {every: 2}}\nsplit: {by: frame, train: 0.5, validation: 0.25, benchmark: 0.25}",
}
_step = st.one_of(
    st.tuples(st.just("label"), st.integers(1, 6), st.sets(st.integers(0, 60), min_size=1, max_size=25)),
    st.tuples(st.just("make"), st.sampled_from(sorted(MODELS)), st.none()),
    st.tuples(st.just("delete"), st.integers(1, 6), st.integers(0, 10)),
    st.tuples(st.just("rename"), st.integers(1, 6), st.integers(0, 10)),
    st.tuples(st.just("rename folder"), st.integers(1, 6), st.integers(0, 10)),
)


def _content(labeling: Labeling, keys: Iterable[Key]) -> set[str]:
    return {sha256_file(labeling.project / "labeled-data" / folder / name) for folder, name in keys}


def _step_of(labeling: Labeling, what: str, number: int, which: Any) -> None:
    folder = f"day{number}"
    if what == "label":
        labeling.label({folder: images(*sorted(which))})
        return
    names = sorted(labeling.labels.get(folder, ()), key=natural_key)
    if not names:
        return
    name = names[which % len(names)]
    if what == "delete":
        (labeling.project / "labeled-data" / folder / name).unlink()
        del labeling.labels[folder][name]
        labeling.save(folder)
    elif what == "rename":
        labeling.rename(folder, name, f"again{which}-{name}")
    elif f"night{number}" not in labeling.labels:
        labeling.rename_folder(folder, f"night{number}")


@settings(  # a failing example is not made smaller: that takes minutes
    deadline=None,
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(_step, min_size=4, max_size=14))
def test_no_labeling_moves_a_frame_or_lets_a_benchmark_frame_into_training(
    steps: list[tuple[str, Any, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    labeling = Labeling(tmp_path_factory.mktemp("labeling") / "lab").start(**MODELS)
    labeling.label({"day1": images(*range(0, 60, 3))})
    was: dict[str, dict[str, str]] = {}  # model -> content of an image -> set
    learned: set[str] = set()  # by any model
    scoring: set[str] = set()
    free: dict[str, set[str]] = defaultdict(set)  # model -> what it had before the project had benchmark frames
    for what, number, which in [*steps, ("make", "walker", None), ("make", "other", None), ("make", "frames", None)]:
        if what != "make":
            _step_of(labeling, what, number, which)
            continue
        try:
            divided = labeling.make(number, divided_before=number in was)
        except (InputError, NotFoundError):  # too little to divide, or day1 was renamed
            continue
        again = labeling.plan(number, divided_before=True)
        assert sets(again) == divided, "what was recorded gives the same plan"
        now = {next(iter(_content(labeling, [key]))): name for key, name in divided.items()}
        first_benchmark = not scoring
        for content, name in was.get(number, {}).items():
            if content in now and now[content] != name:  # a model without benchmark frames was there first
                assert content in free[number], f"{name} became {now[content]}"
                assert now[content] not in LEARNED_FROM
        was[number] = {**was.get(number, {}), **now}
        frozen = {
            frame["sha256"] for row in read_records(labeling.lab.layout, "benchmark_frames") for frame in row["frames"]
        }
        assert scoring <= frozen
        if not first_benchmark:
            assert not (frozen - scoring) & learned, "what a model has learned from is not used for scoring later"
        scoring = frozen
        mine = {content for content, name in now.items() if name in LEARNED_FROM}
        assert not mine & scoring
        assert {content for content, name in now.items() if name == "benchmark"} <= scoring
        whole = {
            frame["folder"]
            for row in read_records(labeling.lab.layout, "benchmark_frames")
            for frame in row["frames"]
            if frame["by"] == "video"
        }
        assert not {folder for folder, _ in of(divided, *LEARNED_FROM)} & whole
        learned |= mine
        if not scoring:
            free[number] |= set(now)
    shutil.rmtree(labeling.root)


def test_videos_labeled_one_after_the_other_bring_each_set_near_to_its_share(labeling: Labeling) -> None:
    labeling.label(videos(10))
    labeling.make()
    for number in range(11, 41):
        labeling.label({f"day{number}": images(*range(10))})
        divided = labeling.make(divided_before=True)
    assert len({folder for folder, _ in divided}) == 40
    assert {name: len(of(divided, name)) for name in ("train", "validation", "benchmark")} == {
        "train": 320,
        "validation": 40,
        "benchmark": 40,
    }
    by_video = {
        folder: {name for (of_folder, _), name in divided.items() if of_folder == folder} for folder, _ in divided
    }
    assert {len(names) for names in by_video.values()} == {1}, "videos stay whole"


def test_a_video_added_to_one_that_was_cut_in_blocks_is_kept_whole_where_the_shares_allow_it(
    labeling: Labeling,
) -> None:
    labeling.label({"day1": images(*range(100))})
    assert labeling.plan().split.how == "blocks"
    first = labeling.make()
    for number in range(2, 12):
        labeling.label({f"day{number}": images(*range(20))})
        divided = labeling.make(divided_before=True)
    assert {key: divided[key] for key in first} == first
    later = {folder: {name for (of_folder, _), name in divided.items() if of_folder == folder} for folder, _ in divided}
    assert {frozenset(names) for folder, names in later.items() if folder != "day1"} == {
        frozenset({name}) for name in ("train", "validation", "benchmark")
    }


def test_a_frame_labeled_later_falls_into_the_block_around_it_or_the_gap_and_no_model_trains_on_the_block(
    labeling: Labeling,
) -> None:
    labeling.specify("other", "split: {by: frame, seed: 3}")
    labeling.label({"day1": images(*range(0, 400, 4))})
    divided = labeling.make()
    was = {int(name[3:-4]): to for (_, name), to in divided.items()}
    labeling.label({"day1": images(*range(2, 400, 4))})
    now = {int(name[3:-4]): to for (_, name), to in labeling.make(divided_before=True).items()}
    for number in range(2, 398, 4):
        around = {was[number - 2], was[number + 2]}
        assert now[number] == (around.pop() if len(around) == 1 else "gap")
    block = [number for number, to in now.items() if to == "benchmark"]
    assert len(block) > 15
    other = {int(name[3:-4]): to for (_, name), to in labeling.make("other").items()}
    for number, to in other.items():
        if min(block) - 3 <= number <= max(block) + 3:
            assert to == ("benchmark" if number in block else "gap")
        else:
            assert to in LEARNED_FROM or to == "gap"


# --- two models of one project --------------------------------------------------------------------


def test_benchmark_frames_are_those_of_the_first_split_for_every_model_of_the_project(labeling: Labeling) -> None:
    labeling.specify("other", "split: {by: frame, train: 0.6, validation: 0.2, benchmark: 0.2}")
    labeling.specify("all-in", "split: {train: 0.8, validation: 0.2, benchmark: 0}")
    labeling.label(videos(10))
    walker, frozen = labeling.make(), labeling.frozen()
    assert frozen == of(walker, "benchmark")
    assert len({folder for folder, _ in frozen}) == 1
    all_in = labeling.plan("all-in")
    assert of(sets(all_in), *LEARNED_FROM) == set(walker) - frozen
    assert "asks for no benchmark frames; those of its project stay out" in all_in.split.note
    other = labeling.make("other")
    assert frozen <= of(other, "benchmark")
    assert labeling.frozen() == of(other, "benchmark") == frozen, "the others are in walker's training"
    assert labeling.scored("other").keys() == labeling.scored("all-in").keys() == frozen


def test_a_model_that_uses_only_videos_that_others_check_on_divides_them_for_itself(labeling: Labeling) -> None:
    labeling.label(videos(10))
    walker = labeling.make()
    (checked,) = {folder for folder, _ in of(walker, "validation")}
    labeling.specify("one", f"label_set: {{videos: [{checked}]}}")
    one = labeling.make("one")
    assert set(one.values()) == {"train", "validation", "gap"}
    assert labeling.make("one", divided_before=True) == one
    assert labeling.make(divided_before=True) == walker


def test_a_model_with_nothing_but_benchmark_frames_says_so(labeling: Labeling) -> None:
    labeling.label(videos(10))
    labeling.make()
    (video,) = {folder for folder, _ in labeling.frozen()}
    labeling.specify("one", f"label_set: {{videos: [{video}]}}")
    with pytest.raises(
        InputError, match=r"Nothing is left to learn from: of 10 labeled frames, 10 are benchmark frames"
    ):
        labeling.plan("one")


def test_labels_that_were_there_before_any_benchmark_are_set_aside_by_the_first_model_that_asks_for_it(
    labeling: Labeling,
) -> None:
    labeling.specify("all-in", "split: {train: 0.8, validation: 0.2, benchmark: 0}")
    labeling.label(videos(10))
    labeling.make("all-in")
    assert labeling.frozen() == set()
    assert labeling.scored("all-in") == {}
    labeling.make()
    assert len(labeling.frozen()) == 10
    assert not of(labeling.make("all-in", divided_before=True), *LEARNED_FROM) & labeling.frozen()


def test_labels_that_cannot_be_divided_yet_are_no_error_of_looking_but_of_making(labeling: Labeling) -> None:
    labeling.label({"day1": images(1, 2)})
    few = dataset_inputs(labeling.lab, "walker")
    labeling.correct("day1", "img1.png")
    assert dataset_inputs(labeling.lab, "walker") != few
    with pytest.raises(InputError, match="2 labeled frames are too few to divide into train, validation and benchmark"):
        labeling.make()
    assert not (labeling.root / "store").exists()


def test_a_set_whose_labels_were_all_deleted_is_not_filled_by_moving_frames(labeling: Labeling) -> None:
    labeling.label(videos(10))
    divided = labeling.make()
    (checked,) = {folder for folder, _ in of(divided, "validation")}
    shutil.rmtree(labeling.project / "labeled-data" / checked)
    with pytest.raises(InputError, match=r"No frame is left for validation .* frames never move .* split.seed"):
        labeling.plan(divided_before=True)
    labeling.label({"day11": images(*range(10))})
    assert of(labeling.make(divided_before=True), "validation") == {("day11", name) for name in images(*range(10))}


# --- what people do to labels and images ----------------------------------------------------------


def benchmark_video(labeling: Labeling) -> str:
    labeling.label(videos(10))
    labeling.make()
    (video,) = {folder for folder, _ in labeling.frozen()}
    return video


def test_a_frame_labeled_later_of_a_benchmark_video_scores_and_is_not_learned_from(labeling: Labeling) -> None:
    video = benchmark_video(labeling)
    inputs, scores = dataset_inputs(labeling.lab, "walker"), benchmark_hash(labeling.lab, "walker", BODYPARTS)
    labeling.label({video: images(3, 77)})
    assert dataset_inputs(labeling.lab, "walker") == inputs
    assert benchmark_hash(labeling.lab, "walker", BODYPARTS) != scores
    assert labeling.scored().keys() == {(video, name) for name in images(*range(10), 77)}
    labeling.make(divided_before=True)
    assert (video, "img77.png") in labeling.frozen()


def test_a_corrected_benchmark_label_changes_scores_and_no_dataset(labeling: Labeling) -> None:
    video = benchmark_video(labeling)
    inputs, scores = dataset_inputs(labeling.lab, "walker"), benchmark_hash(labeling.lab, "walker", BODYPARTS)
    labeling.correct(video, "img4.png", by=2.5)
    assert dataset_inputs(labeling.lab, "walker") == inputs
    assert benchmark_hash(labeling.lab, "walker", BODYPARTS) != scores
    assert benchmark_hash(labeling.lab, "walker", ["tail"]) == benchmark_hash(labeling.lab, "walker", ["tail"])
    assert labeling.scored()[video, "img4.png"].xy.tolist() == [[5.5, 4], [10, 12]]
    labeling.correct(video, "img4.png", by=-2.5)
    assert benchmark_hash(labeling.lab, "walker", BODYPARTS) == scores
    other = next(folder for folder in labeling.labels if folder != video)
    labeling.correct(other, "img4.png")
    assert dataset_inputs(labeling.lab, "walker") != inputs
    assert benchmark_hash(labeling.lab, "walker", BODYPARTS) == scores


def test_body_parts_come_in_the_order_asked_for_and_unknown_ones_are_not_labeled(labeling: Labeling) -> None:
    benchmark_video(labeling)
    frame = benchmark_frames(labeling.lab, "walker", ["tail", "paw", "snout"])[0]
    np.testing.assert_array_equal(frame.xy, [[10, 12], [np.nan, np.nan], [3, 4]])
    assert benchmark_frames(labeling.lab, "walker", ["paw"]) == []


def test_the_store_keeps_benchmark_images_that_a_person_deletes(labeling: Labeling) -> None:
    video = benchmark_video(labeling)
    (labeling.project / "labeled-data" / video / "img2.png").unlink()
    kept = labeling.scored()[video, "img2.png"].path
    assert kept == labeling.root / "store" / "benchmarks" / "walking" / video / "img2.png"
    assert kept.read_bytes() == picture(video, "img2.png")
    assert any("1 benchmark frame" in said and "no longer in" in said for said in labeling.plan().problems)


def test_a_benchmark_image_that_was_replaced_neither_scores_nor_trains(labeling: Labeling) -> None:
    video = benchmark_video(labeling)
    (labeling.project / "labeled-data" / video / "img2.png").write_bytes(picture("another", "image"))
    assert (video, "img2.png") not in labeling.scored()
    assert (video, "img2.png") not in of(labeling.make(divided_before=True), *LEARNED_FROM)
    assert any("other images than when they were set aside" in said for said in labeling.plan().problems)


def test_renamed_benchmark_frames_and_videos_stay_what_they_are(labeling: Labeling) -> None:
    video = benchmark_video(labeling)
    labeling.rename(video, "img2.png", "frame-2.png")
    assert (video, "frame-2.png") in labeling.scored()
    labeling.rename_folder(video, "night")
    labeling.label({"night": images(55)})
    expected = {("night", name) for name in (*images(0, 1, *range(3, 10), 55), "frame-2.png")}
    assert labeling.scored().keys() == expected
    divided = labeling.make(divided_before=True)
    assert of(divided, "benchmark") == expected
    assert any("11 benchmark frames" in said and "under new names" in said for said in labeling.plan().problems)


def test_a_copy_of_a_benchmark_image_is_not_learned_from(labeling: Labeling) -> None:
    video = benchmark_video(labeling)
    other = next(folder for folder in labeling.labels if folder != video)
    labeling.label({other: images(99)})
    (labeling.project / "labeled-data" / other / "img99.png").write_bytes(picture(video, "img5.png"))
    assert labeling.make(divided_before=True)[other, "img99.png"] == "gap"


def test_a_lost_copy_is_made_again(labeling: Labeling) -> None:
    benchmark_video(labeling)
    copies = labeling.root / "store" / "benchmarks"
    shutil.rmtree(copies)
    assert len(labeling.scored()) == 10, "the project has the images too"
    labeling.make(divided_before=True)
    assert len(list(copies.rglob("*.png"))) == 10


def test_benchmark_frames_that_were_set_aside_before_a_crash_are_those_of_the_next_dataset(labeling: Labeling) -> None:
    labeling.label(videos(10))
    labeling.make()
    (labeling.root / "store" / "records" / "splits.jsonl").unlink()
    frozen = labeling.frozen()
    assert of(labeling.make(), "benchmark") == labeling.frozen() == frozen


def test_a_project_under_another_name_or_moved_has_the_same_benchmark_frames(labeling: Labeling) -> None:
    benchmark_video(labeling)
    frozen = labeling.frozen()
    (labeling.root / "lab.yaml").write_text("name: Test lab\nprojects: {gait: projects/walking}\n")
    (labeling.root / "models" / "walker.yaml").write_text("project: gait\n")
    assert labeling.frozen() == frozen
    labeling.project.rename(labeling.root / "elsewhere")
    (labeling.root / "lab.yaml").write_text("name: Test lab\nprojects: {walking: elsewhere}\n")
    (labeling.root / "models" / "walker.yaml").write_text("project: walking\n")
    assert labeling.frozen() == frozen


# --- people who label the same frames -------------------------------------------------------------


def test_the_distance_between_people_is_told_for_each_frame_and_body_part_that_both_placed(labeling: Labeling) -> None:
    labeling.label({"day1": images(1, 2, 3), "day2": images(1)})
    everything = labeling.labels["day1"]
    labeling.labels["day1"] = {"img1.png": (3, 4, 10, 12), "img2.png": (6, 8, float("nan"), float("nan"))}
    labeling.save("day1", "Bob", by=0.0)
    labeling.labels["day1"] = everything
    table = human_errors(labeling.lab, "walker", BODYPARTS)
    rows = table.drop(columns="folder").to_dict("records")
    common = {"scorer_a": "Ann", "scorer_b": "Bob"}
    assert rows == [
        {"image": "img1.png", "bodypart": "snout", **common, "distance": 0.0},
        {"image": "img1.png", "bodypart": "tail", **common, "distance": 0.0},
        {"image": "img2.png", "bodypart": "snout", **common, "distance": 5.0},
    ]
    assert set(table["folder"]) == {"day1"}
    assert human_errors(labeling.lab, "walker", ["tail"])["bodypart"].tolist() == ["tail"]
    (labeling.project / "labeled-data" / "day1" / "CollectedData_Bob.csv").write_text("torn")
    broken = human_errors(labeling.lab, "walker", BODYPARTS)
    assert broken.empty
    assert broken["distance"].dtype == float
    assert "CollectedData_Bob.csv" in broken.attrs["problems"][0]


def test_benchmark_labels_are_those_of_the_scorer_that_the_model_prefers(labeling: Labeling) -> None:
    video = benchmark_video(labeling)
    labeling.save(video, "Bob", by=1.0)
    labeling.specify("bobs", "label_set: {scorers: [Bob]}")
    assert labeling.scored()[video, "img1.png"].xy.tolist() == [[3, 4], [10, 12]]
    assert labeling.scored("bobs")[video, "img1.png"].xy.tolist() == [[4, 5], [11, 13]]


# --- what a version has seen ----------------------------------------------------------------------


def as_if_trained(
    labeling: Labeling, model: str, frames: Mapping[Key, str], *, start: str = "random", project: str = "walking"
) -> ModelVersion:
    """Store a version of *model* with the dataset that it was trained from, as an earlier release left both."""
    layout = labeling.lab.layout
    dataset = layout.datasets(model) / "d1"
    dataset.mkdir(parents=True)
    rows = [
        {"folder": folder, "image": image, "set": name, "scorer": "Ann", "xy": [[3.0, 4.0], [10.0, 12.0]]}
        for (folder, image), name in sorted(frames.items(), key=lambda entry: (entry[0][0], natural_key(entry[0][1])))
    ]
    write_json(dataset / "frames.json", rows)
    for row in rows:
        above = dataset / "held-out" if row["set"] == "benchmark" else dataset / "project" / "labeled-data"
        copy = above / row["folder"] / row["image"]
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(picture(row["folder"], row["image"]))
    (layout.datasets(model) / "current").write_text("d1\n")
    details = {
        "config_path": f"/lab/of/before/projects/{project}/config.yaml",
        "folder": "d1",
        "bodyparts": BODYPARTS,
        "split": {"how": "video", "note": ""},
    }
    Manifest(
        asset="training_dataset", key=model, inputs=old_inputs(labeling, model), data_version="", details=details
    ).write(dataset)
    version = ModelVersion(model, "0123456789ab", layout.version(model, "0123456789ab"))
    version.folder.mkdir(parents=True)
    Manifest(
        asset="trained_model",
        key=model,
        inputs={"weights": start},
        data_version="0123456789ab",
        details={"dataset": "d1"},
    ).write(version.folder)
    return version


def old_inputs(labeling: Labeling, model: str) -> dict[str, str]:
    """Return what an earlier release would say that a dataset is made from: all labels, no assignment."""
    lab = labeling.lab
    now = dataset_inputs(lab, model)
    return {name: value for name, value in now.items() if name != "sets"} | {
        "labels": label_set_of(lab, model).content_hash
    }


def test_what_a_version_has_seen_includes_what_the_models_it_started_from_have_seen(labeling: Labeling) -> None:
    labeling.label(videos(3))
    for model in ("second", "third", "stranger"):
        labeling.specify(model, "")
    frames = {("day1", "img1.png"): "train", ("day1", "img2.png"): "validation", ("day2", "img1.png"): "benchmark"}
    as_if_trained(labeling, "stranger", {("day9", "img1.png"): "train"}, project="another")
    as_if_trained(labeling, "walker", frames, start="model:stranger@0123456789ab")
    second = as_if_trained(labeling, "second", {("day3", "img1.png"): "train"}, start="model:walker@0123456789ab")
    third = as_if_trained(
        labeling, "third", {("day3", "img2.png"): "gap"}, start="model:second@0123456789ab, backbone only"
    )
    walkers = {("day1", "img1.png"), ("day1", "img2.png")}
    assert seen_frames(labeling.lab, second) == walkers | {("day3", "img1.png")}
    assert seen_frames(labeling.lab, third) == walkers | {("day3", "img1.png")}
    shutil.rmtree(labeling.lab.layout.datasets("walker"))
    with pytest.raises(NotFoundError, match=r"training dataset .*d1 of walker@0123456789ab is no longer there"):
        seen_frames(labeling.lab, second)


# --- labs of an earlier release -------------------------------------------------------------------


def test_a_lab_of_an_earlier_release_keeps_its_datasets_and_its_benchmark_frames(labeling: Labeling) -> None:
    labeling.label(videos(10))
    every = {(folder, name): "train" for folder, names in videos(10).items() for name in names}
    old = (
        every
        | {key: "benchmark" for key in every if key[0] == "day3"}
        | {key: "validation" for key in every if key[0] == "day7"}
    )
    as_if_trained(labeling, "walker", old)

    def up_to_date() -> bool:
        manifest = current_dataset(labeling.lab, "walker")
        assert manifest is not None
        return manifest.inputs == dataset_inputs(labeling.lab, "walker")

    assert up_to_date()
    assert labeling.scored().keys() == {("day3", name) for name in images(*range(10))}
    assert not (labeling.root / "store" / "records").exists(), "looking writes nothing"
    labeling.correct("day3", "img1.png")
    assert up_to_date(), "a corrected benchmark label"
    labeling.label({"day3": images(50)})
    assert up_to_date(), "a new frame of a benchmark video"
    labeling.correct("day4", "img1.png")
    assert not up_to_date()
    labeling.specify("other", "split: {by: frame, seed: 5}")
    assert not of(labeling.make("other"), *LEARNED_FROM) & {key for key in every if key[0] == "day3"}
    labeling.label({"day11": images(*range(10))})
    divided = labeling.make(divided_before=True)
    assert {key: divided[key] for key in every} == old
    rows = [
        json.loads(line) for line in (labeling.root / "store/records/benchmark_frames.jsonl").read_text().splitlines()
    ]
    assert len(rows[0]["frames"]) == 11
    assert {frame["by"] for row in rows for frame in row["frames"]} == {"video"}


def test_two_old_datasets_with_other_benchmark_frames_both_stay_up_to_date(labeling: Labeling) -> None:
    labeling.label(videos(4))
    labeling.specify("second", "")
    every = {(folder, name): "train" for folder, names in videos(4).items() for name in names}

    def scoring(video: str) -> dict[Key, str]:
        return {
            key: "benchmark" if key[0] == video else "validation" if key[0] == "day4" else name
            for key, name in every.items()
        }

    as_if_trained(labeling, "walker", scoring("day1"))
    as_if_trained(labeling, "second", scoring("day2"))
    for model in ("walker", "second"):
        manifest = current_dataset(labeling.lab, model)
        assert manifest is not None
        assert manifest.inputs == dataset_inputs(labeling.lab, model)
    frozen = {folder for folder, _ in labeling.frozen()}
    assert len(frozen) == 1, "the other has been learned from"
    for model in ("walker", "second"):
        assert {folder for folder, _ in of(labeling.make(model), *LEARNED_FROM)} & {"day1", "day2"} <= {
            "day1",
            "day2",
        } - frozen
