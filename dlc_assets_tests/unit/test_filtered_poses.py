"""Filtered pose tables: what is in the files, when they are made again, and that nobody reads another's for them."""

from __future__ import annotations

import hashlib
import json
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dlc_assets import open_lab
from dlc_assets.assets.filtering import _metadata
from dlc_assets.catalog.sql import query
from dlc_assets.checks.outcomes import filters_applied
from dlc_assets.derived import filtered_files
from dlc_assets.derived.filtered_files import filter_file
from dlc_assets.derived.filtered_poses import filter_session
from dlc_assets.inference.freezing import freeze
from dlc_assets.inference.frozen_poses import replacing
from dlc_assets.lab import filter_settings
from dlc_assets.lab.cohorts import keep_cohort
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, SettingsError
from dlc_assets.lab.filter_settings import DEFAULT_FILTERS, FilterStep
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.settings import LabSettings
from dlc_assets.lab.yaml_settings import read_settings
from dlc_assets.poses import table_file
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import PoseTableFile, read_pose_metadata, read_tracks, write_pose_table
from dlc_assets.recordings.filter_rigs import FilterRig
from dlc_assets.recordings.info import need_session_info
from dlc_assets.state.behind import Product, pose_products
from dlc_assets.training.models import ModelVersion
from dlc_assets_tests.unit.released_lab import LAB, PARTS, add_poses, add_session, add_version, write_lab

ONE, TWO = KEYS = ("sub-m01_ses-1", "sub-m02_ses-1")
FRAMES = 300


def _tracks(seed: int) -> list[Track]:
    rng = np.random.default_rng(seed)
    tracks = []
    for part in PARTS:
        xy = (np.cumsum(rng.normal(size=(FRAMES, 2)), axis=0) + 30).astype(np.float32)
        likelihood = rng.uniform(0.7, 1, FRAMES).astype(np.float32)
        likelihood[rng.random(FRAMES) < 0.05] = 0.2
        tracks.append(Track("", part, xy[:, 0], xy[:, 1], likelihood))
    return tracks


def _times() -> np.ndarray:
    times = np.arange(FRAMES) / 25
    times[200:] += 3.0
    return times


def _write(lab: Lab, version: ModelVersion, key: str, seed: int) -> None:
    """Put poses of `FRAMES` frames in the place of those that `add_poses` stores."""
    folder = lab.layout.pose_folder(version.model, version.version, key)
    manifest = read_manifest(folder)
    assert manifest is not None
    metadata = PoseMetadata(
        model=version.model,
        version=version.version,
        session=key,
        recording="top",
        frame_count=FRAMES,
        bodyparts=PARTS,
        pcutoff=0.6,
        created="2026-11-24T10:00:00+00:00",
    )
    summary = write_pose_table(folder / "top.parquet", _tracks(seed), _times(), metadata)
    manifest.data_version = summary.data_version
    manifest.details["recordings"][0] |= {"frames": FRAMES, "rows": summary.rows}
    manifest.write(folder)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Two analysed sessions of the released version of walker; nothing is filtered yet."""
    lab = write_lab(tmp_path / "lab")
    for number, key in enumerate(KEYS, start=1):
        add_session(lab, key, date(2026, 11, number))
    version = add_version(lab)
    lab = write_lab(lab.root, LAB + f"release:\n  - {{model: {version}}}\n")
    add_poses(lab, version, *KEYS)
    for number, key in enumerate(KEYS, start=1):
        _write(lab, version, key, number)
    return lab


@pytest.fixture
def version(lab: Lab) -> ModelVersion:
    """The released version."""
    (only,) = {path.name for path in lab.layout.model("walker").iterdir() if path.is_dir()}
    return ModelVersion("walker", only, lab.layout.version("walker", only))


def _filter(lab: Lab, *keys: str, **how: Any) -> list[tuple[Manifest, bool]]:
    stated: dict[str, Any] = {"overrides": {}, "recompute": False, "run_id": "", "log": lambda _: None} | how
    return [filter_session(lab, "walker", key, **stated) for key in keys or KEYS]


def _with(lab: Lab, text: str) -> Lab:
    """Return the lab with *text* added to lab.yaml."""
    file = lab.layout.settings_file
    file.write_text(file.read_text() + text)
    return open_lab_folder(lab.root)


# --- settings -------------------------------------------------------------------------------------


def _settings(tmp_path: Path, text: str) -> LabSettings:
    file = tmp_path / "lab.yaml"
    file.write_text(f"name: lab\n{text}\n")
    return read_settings(file, LabSettings)


def test_filters_are_read_in_order_with_their_defaults(tmp_path: Path) -> None:
    assert _settings(tmp_path, "").filters == DEFAULT_FILTERS
    assert [step.parameters for step in DEFAULT_FILTERS] == [
        {"step": "confidence", "below": "pcutoff"},
        {"step": "interpolate", "max_gap": 0.1},
        {"step": "median", "window": 0.1},
    ]
    assert _settings(tmp_path, "filters: none").filters is None
    stated = _settings(
        tmp_path,
        "filters: [median, {step: jumps, max_speed: 1.5e3px/s, bodyparts: snout}, {step: savgol, order: 3}, {step: arena}]",
    ).filters
    assert stated is not None
    assert [step.parameters for step in stated] == [
        {"step": "median", "window": 0.1},
        {"step": "jumps", "max_speed": "1500 px/s", "bodyparts": ["snout"]},
        {"step": "savgol", "window": 0.2, "order": 3},
        {"step": "arena", "margin": 0.0},
    ]
    assert filter_settings.steps_from([step.parameters for step in stated]) == stated


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ("[]", "expected a list of steps, such as"),
        ("", "expected a list of steps, such as"),
        ("median", "expected a list of steps, such as"),
        ("[{window: 1}]", "the key step is missing"),
        ("[{step: medain}]", 'there is no step "medain". Did you mean "median"'),
        ("[{step: median, max_gap: 1}]", "the step median has no parameter max_gap; it has window, bodyparts"),
        ("[{step: median, windw: 1}]", 'unknown key "filters.0.windw". Did you mean "window"'),
        ("[{step: jumps}]", "the step jumps needs max_speed"),
        ("[{step: jumps, max_speed: 200}]", 'with its unit, such as "2000 px/s"'),
        ("[{step: jumps, max_speed: 0 px/s}]", "a speed above 0"),
        ("[{step: median, window: 0}]", "greater than 0"),
        ("[{step: median, window: .inf}]", "finite"),
        ("[{step: confidence, below: 2}]", "less than or equal to 1"),
        ("[{step: savgol, order: 9}]", "less than or equal to 5"),
        ("[{step: arena, margin: -1}]", "greater than or equal to 0"),
        ("[{step: median, bodyparts: []}]", "at least 1"),
    ],
)
def test_filters_that_are_none_are_refused(tmp_path: Path, filters: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        _settings(tmp_path, f"filters: {filters}")
    assert said in str(refused.value)


# --- the files ------------------------------------------------------------------------------------


def test_the_filtered_table_has_the_same_rows_and_likelihoods_and_says_what_was_done(
    lab: Lab, version: ModelVersion
) -> None:
    (manifest, made), _ = _filter(lab)
    assert made
    raw = lab.layout.pose_file("walker", version.version, ONE, "top")
    path = lab.layout.derived_folder("filtered_pose_table", "walker", version.version, ONE) / "top.parquet"
    before, after = PoseTableFile.open(raw), PoseTableFile.open(path)
    assert (
        after.footer.schema.to_arrow_schema().remove_metadata()
        == before.footer.schema.to_arrow_schema().remove_metadata()
    )
    old, new = before.read(before.choose()).to_pandas(), after.read(after.choose()).to_pandas()
    untouched = ["recording", "frame", "time", "individual", "bodypart", "likelihood"]
    pd.testing.assert_frame_equal(new[untouched], old[untouched])
    assert not new[["x", "y"]].equals(old[["x", "y"]])
    stated = read_pose_metadata(path)
    assert stated.origin == "estimated here; filtered"
    assert stated.filters == manifest.details["recordings"][0]["steps"]
    assert [step["step"] for step in stated.filters or []] == ["confidence", "interpolate", "median"]
    removed = stated.filters[0]["tracks"]["snout"]["removed"] if stated.filters else 0
    assert removed == pytest.approx((_tracks(1)[0].likelihood < 0.6).mean(), abs=1e-6)
    assert read_pose_metadata(raw).filters is None
    assert filters_applied(manifest, lab.root).passed


def test_the_same_input_gives_the_same_bytes_whatever_the_blocks(
    lab: Lab, version: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = lab.layout.pose_file("walker", version.version, ONE, "top")
    steps = (*DEFAULT_FILTERS, FilterStep(step="savgol"), FilterStep(step="jumps", max_speed="200 px/s"))

    def made(name: str) -> str:
        done = filter_file(raw, tmp_path / name, steps, FilterRig())
        _, tracks = read_tracks(tmp_path / name)
        assert done.data_version == table_file.pose_content_hash(tracks, _times())
        return hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()

    golden = made("one.parquet")
    assert made("two.parquet") == golden
    monkeypatch.setattr(table_file, "BLOCK_BYTES", 240)  # 10 frames
    monkeypatch.setattr(filtered_files, "IN_MEMORY_BYTES", 0)  # by way of a file
    monkeypatch.setattr(table_file, "IN_MEMORY_BYTES", 0)
    assert made("three.parquet") == golden
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["one.parquet", "three.parquet", "two.parquet"]


def test_it_is_made_again_when_poses_steps_or_the_rig_change(lab: Lab, version: ModelVersion) -> None:
    first = [manifest.data_version for manifest, _ in _filter(lab)]
    assert [made for _, made in _filter(lab)] == [False, False]
    assert [made for _, made in _filter(lab, recompute=True)] == [True, True]
    assert [manifest.data_version for manifest, _ in _filter(lab)] == first
    _write(lab, version, ONE, 7)
    assert [made for _, made in _filter(lab)] == [True, False]
    lab = _with(lab, "filters: [confidence, {step: jumps, max_speed: 20 cm/s}]\n")
    ((manifest, made),) = _filter(lab, ONE)
    assert made
    assert manifest.problems == [
        "top: step 2 (jumps faster than 20 cm/s) is left out: the recording's setup has no scale. State scale under setups in "
        "lab.yaml, or the speed in px/s"
    ]
    assert not filters_applied(manifest, lab.root).passed
    lab = _with(lab, "setups: {top: [{scale: {px_per_cm: 8}}]}\n")
    ((manifest, made),) = _filter(lab, ONE)
    assert (made, manifest.problems) == (True, [])
    assert manifest.details["recordings"][0]["steps"][1]["tracks"]["snout"]["removed"] >= 0


def test_no_filters_and_no_poses_are_said(lab: Lab) -> None:
    add_session(lab, "sub-m01_ses-9", date(2026, 11, 9))
    with pytest.raises(NotFoundError, match="has no poses by walker"):
        _filter(lab, "sub-m01_ses-9")
    with pytest.raises(SettingsError, match="filters: none, so that no poses are filtered"):
        _filter(_with(lab, "filters: none\n"), ONE)


def test_what_the_ui_shows_is_small_and_draws(lab: Lab) -> None:
    lab = _with(lab, "filters: [confidence, interpolate, {step: median, window: 100}]\n")
    (manifest, _), _ = _filter(lab)
    metadata = _metadata(lab, manifest, True)
    assert sum(len(str(getattr(value, "value", value))) for value in metadata.values()) < 300_000
    for name in ("before and after", "trajectories"):
        assert metadata[name].value.startswith("![")
    said = "step 3 (median over 100.0 s): 4 stretches with 596 points of snout, tailbase are shorter than the window"
    assert said in metadata["problems"].records[0].data["problem"]


# --- reading --------------------------------------------------------------------------------------


def test_filtered_poses_are_read_or_refused_with_the_reason(lab: Lab, version: ModelVersion) -> None:
    opened = open_lab(lab.root)
    with pytest.raises(NotFoundError, match=r"2 of 2 pose tables have no filtered poses: .*never filtered"):
        opened.poses(filtered=True)
    _filter(lab)
    filtered, raw = open_lab(lab.root).poses(filtered=True), open_lab(lab.root).poses()
    assert len(filtered) == 2
    assert filtered.to_pandas().shape == raw.to_pandas().shape
    assert filtered.to_pandas()["x"].isna().sum() != raw.to_pandas()["x"].isna().sum()
    assert open_lab(lab.root).poses(session=ONE, bodyparts="snout", filtered=True).to_xarray().sizes["time"] == FRAMES
    _write(lab, version, TWO, 7)
    with pytest.raises(NotFoundError, match=f"{TWO} by {version} .filtered from other poses"):
        open_lab(lab.root).poses(filtered=True)
    assert len(open_lab(lab.root).poses(session=ONE, filtered=True)) == 1


def test_poses_that_were_filtered_in_different_ways_do_not_mix(lab: Lab) -> None:
    _filter(lab)
    lab = _with(lab, "filters: [{step: median, window: 0.4}]\n")
    with pytest.warns(UserWarning, match="filtered with other steps than lab.yaml states now"):
        open_lab(lab.root).poses(filtered=True)
    _filter(lab, ONE)
    with pytest.raises(
        DlcAssetsError,
        match=rf"different ways: {ONE} with median over 0.4 s; {TWO} with confidence below pcutoff, inter",
    ):
        open_lab(lab.root).poses(filtered=True)
    _filter(lab)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_lab(lab.root).poses(filtered=True)


def test_the_view_has_the_filtered_poses_beside_the_others(lab: Lab) -> None:
    assert query(lab, "select count(*) from filtered_poses").rows == [(0,)]
    _filter(lab, ONE)
    both = "select count(*) as n, count(x) as seen from {}"
    assert query(lab, both.format("poses")).rows == [(1200, 1200)]
    ((rows, seen),) = query(lab, both.format("filtered_poses")).rows
    assert rows == 600
    assert 0 < seen < 600
    joined = (
        "select count(*) from poses p join filtered_poses f using (model, version, session, recording, individual, bodypart, frame) "
        "where p.likelihood = f.likelihood"
    )
    assert query(lab, joined).rows == [(600,)]


# --- cohorts --------------------------------------------------------------------------------------


def test_a_cohort_keeps_the_filters_that_it_was_frozen_with(
    lab: Lab, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = _with(
        lab,
        "setups: {top: [{scale: {px_per_cm: 10}, arena: {circle: {center: [30, 30], radius: 25}}}]}\n"
        "filters: [confidence, {step: jumps, max_speed: 20 cm/s}, {step: arena, margin: 3}, interpolate]\n",
    )
    _filter(lab)
    frozen = freeze(lab, "paper", KEYS)
    assert frozen.cohort is not None
    assert [step["step"] for step in frozen.cohort.filters["steps"]] == ["confidence", "jumps", "arena", "interpolate"]
    opened = open_lab(lab.root)
    of_store = opened.poses(cohort="paper", filtered=True)
    assert all(lab.root in file.located().parents for file in of_store.files)
    before = of_store.to_pandas()
    pd.testing.assert_frame_equal(before, opened.poses(filtered=True).to_pandas())
    # Other filters, another rig, other poses, and filtered tables of them: the cohort is what it was.
    text = lab.layout.settings_file.read_text()
    lab.layout.settings_file.write_text(text.replace("px_per_cm: 10", "px_per_cm: 2").replace(", interpolate]", "]"))
    lab = open_lab_folder(lab.root)
    existing = read_manifest(lab.layout.pose_folder("walker", version.version, ONE))
    with replacing(lab, existing, "another hash"):
        _write(lab, version, ONE, 9)
    _filter(lab)
    again = open_lab(lab.root).poses(cohort="paper", filtered=True)
    places = [file.located() for file in again.files]
    assert not any(lab.root in place.parents for place in places)
    pd.testing.assert_frame_equal(again.to_pandas(), before)
    assert [stated.filters is not None for stated in again.metadata()] == [True, True]
    assert not open_lab(lab.root).poses(filtered=True).to_pandas().equals(before)
    steps = json.loads(query(lab, "select distinct filters from cohorts").rows[0][0])
    assert steps == frozen.cohort.filters["steps"]
    del again
    assert not any(place.exists() for place in places), "what was filtered for a selection goes with it"
    monkeypatch.setattr("dlc_assets.derived.filtered_poses.ALGORITHM", 99)
    with pytest.raises(DlcAssetsError, match="a release whose filters give other numbers"):
        open_lab(lab.root).poses(cohort="paper", filtered=True)


def test_cohorts_without_filters_say_so(lab: Lab, version: ModelVersion) -> None:
    pinned = {ONE: {"walker": version.version}}
    keep_cohort(lab.layout, "old", sessions=pinned, recordings={}, poses={}, filters={}, reason="")
    with pytest.raises(NotFoundError, match=r'"old" was frozen .* by a release that did not record filters'):
        open_lab(lab.root).poses(cohort="old", filtered=True)
    lab = _with(lab, "filters: none\n")
    freeze(lab, "raw", KEYS)
    with pytest.raises(NotFoundError, match=r'"raw" was frozen while lab\.yaml said filters: none'):
        open_lab(lab.root).poses(cohort="raw", filtered=True)
    assert len(open_lab(lab.root).poses(cohort="raw")) == 2


def test_a_session_that_nobody_recorded_a_day_of_can_be_filtered(lab: Lab, version: ModelVersion) -> None:
    """Setups by day are asked for only by steps that need them."""
    add_session(lab, "sub-m01_ses-x", None)
    lab = write_lab(lab.root, LAB + "setups: {top: [{from: 2026-01-01, arena: [[0, 0], [9, 9]]}]}\n")
    folder = lab.layout.pose_folder("walker", version.version, "sub-m01_ses-x")
    folder.mkdir(parents=True)
    source = read_manifest(lab.layout.pose_folder("walker", version.version, ONE))
    assert source is not None
    raw = lab.layout.pose_file("walker", version.version, ONE, "top")
    (folder / "top.parquet").write_bytes(raw.read_bytes())
    details = {**source.details, "session": "sub-m01_ses-x"}
    source.model_copy(update={"key": pose_key("walker", "sub-m01_ses-x"), "details": details}).write(folder)
    assert _filter(lab, "sub-m01_ses-x")[0][1]
    lab = _with(lab, "filters: [arena]\n")
    with pytest.raises(SettingsError, match="depends on the day"):
        _filter(lab, "sub-m01_ses-x")
    freeze(lab, "paper", ["sub-m01_ses-x"], models=[str(version)])
    assert len(open_lab(lab.root).poses(cohort="paper")) == 1
    with pytest.raises(NotFoundError, match=r"not known when the cohort was frozen .*depends on the day"):
        open_lab(lab.root).poses(cohort="paper", filtered=True)


def test_the_state_follows_poses_and_filters(lab: Lab, version: ModelVersion) -> None:
    def state(of: Lab) -> tuple[str, bool]:
        info, _ = need_session_info(of.layout, ONE)
        recordings = Product("session_recordings", ONE, "up to date")
        found = {product.asset: product for product in pose_products(of, info, recordings)}
        return found["filtered_pose_table"].state, found["filtered_pose_table"].wanted

    assert state(lab) == ("missing", True)
    _filter(lab, ONE)
    assert state(lab) == ("up to date", True)
    _write(lab, version, ONE, 7)
    assert state(lab) == ("behind", True)
    _filter(lab, ONE)
    lab = _with(lab, "filters: [{step: median, window: 0.4}]\n")
    assert state(lab) == ("behind", True)
    text = lab.layout.settings_file.read_text().replace("[{step: median, window: 0.4}]", "none")
    lab.layout.settings_file.write_text(text)
    assert not state(open_lab_folder(lab.root))[1], "nobody wants it any more"
