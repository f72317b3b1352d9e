"""Kinematics: what is in the files, when they are made again, what is withheld, and how a notebook reads many of them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
from movement import kinematics as movement
from movement.utils.vector import compute_signed_angle_2d

from dlc_assets import open_lab
from dlc_assets.assets.kinematics import _metadata
from dlc_assets.catalog.sql import query
from dlc_assets.checks.outcomes import measures_known
from dlc_assets.derived import kinematics_file
from dlc_assets.derived.filtered_poses import filter_session
from dlc_assets.derived.kinematics import measure_session
from dlc_assets.derived.kinematics_file import MeasuredFile, MeasuredRig, measure_file
from dlc_assets.derived.kinematics_schema import RULES, KinematicsMetadata, Plan
from dlc_assets.inference.freezing import freeze
from dlc_assets.inference.frozen_poses import replacing
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, SettingsError
from dlc_assets.lab.kinematics_settings import KinematicsSettings
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.regions import Circle, CircleRegion
from dlc_assets.lab.settings import LabSettings
from dlc_assets.lab.yaml_settings import read_settings
from dlc_assets.poses.formats import tracks_to_movement
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import read_pose_metadata, write_pose_table
from dlc_assets.recordings.info import need_session_info
from dlc_assets.review.camera import CameraShift
from dlc_assets.state.behind import Product, pose_products
from dlc_assets.training.models import ModelVersion
from dlc_assets_tests.unit.released_lab import PARTS, add_poses, add_session, add_version, write_lab

ONE, TWO = KEYS = ("sub-m01_ses-1", "sub-m02_ses-1")
FRAMES, RATE = 400, 25.0
LAB = """\
name: Smith lab
timezone: Europe/Zurich
devices: {top: {}}
subjects:
  m01: {genotype: wt, sex: F, tags: {group: control, drug: none}}
  m02: {genotype: ko, tags: {group: treated, weight: 21.5}}
setups:
  top:
    - {scale: {px_per_cm: 4}, regions: {center: {circle: {center: [32, 24], radius: 8}}, "left side": [[0, 0], [20, 48]]}}
filters: [confidence]
"""


# --- one file -------------------------------------------------------------------------------------


def _track(part: str, x: Any, y: Any, likelihood: Any = 0.9, individual: str = "", frames: int = FRAMES) -> Track:
    return Track(individual, part, *(np.broadcast_to(np.float32(v), frames).copy() for v in (x, y, likelihood)))


def _table(path: Path, tracks: Sequence[Track], **stated: Any) -> Path:
    frames = tracks[0].frame_count
    known: dict[str, Any] = {"rate": "25", "pcutoff": 0.6, "frame_count": frames} | stated
    metadata = PoseMetadata(model="walker", version="v", session="s", recording="top", **known)
    write_pose_table(path, tracks, np.arange(frames) / RATE, metadata)
    return path


def _measured(
    folder: Path,
    tracks: Sequence[Track],
    settings: KinematicsSettings | None = None,
    rig: MeasuredRig | None = None,
    *,
    filtered: bool = True,
    **stated: Any,
) -> tuple[pd.DataFrame, MeasuredFile]:
    source = _table(folder / "poses.parquet", tracks, **stated)
    done = measure_file(
        source, folder / "k.parquet", settings or KinematicsSettings(), rig or MeasuredRig(), filtered=filtered
    )
    frame = pq.read_table(folder / "k.parquet").to_pandas()
    assert list(frame.columns) == done.columns
    return frame, done


def test_a_walk_to_the_right_and_through_a_circle(tmp_path: Path) -> None:
    x = 0.5 * np.arange(FRAMES)  # 12.5 px/s
    tracks = [_track("snout", x + 4, 24), _track("tailbase", x - 4, 24)]
    settings = KinematicsSettings(body_axis=("tailbase", "snout"), distances=(("tailbase", "snout"),))
    rig = MeasuredRig(4.0, {"disc": CircleRegion(circle=Circle(center=(100, 24), radius=20))})
    frame, done = _measured(tmp_path, tracks, settings, rig)
    last = frame.iloc[-1]
    assert (last.centroid_x_px, last.centroid_y_px, last.centroid_x_cm) == (199.5, 24, 199.5 / 4)
    for name, value in {
        "speed_px_s": 12.5,
        "speed_cm_s": 3.125,
        "snout_speed_px_s": 12.5,
        "acceleration_px_s2": 0.0,
        "heading_deg": 0.0,
        "body_axis_deg": 0.0,
        "distance_tailbase_snout_px": 8.0,
        "distance_tailbase_snout_cm": 2.0,
    }.items():
        np.testing.assert_allclose(frame[name], value, atol=1e-3)
    assert last.path_length_px == pytest.approx(199.5)
    assert last.path_length_cm == pytest.approx(199.5 / 4)
    # The centroid is in the circle from 80 to 120 px, both borders among it: 81 frames; the snout is 8 frames ahead.
    assert frame["in_disc"].sum() == 81
    assert last.time_in_disc_s == pytest.approx(81 / RATE)
    np.testing.assert_allclose(frame["centroid_distance_to_disc_px"], np.abs(x - 100) - 20, atol=1e-3)
    np.testing.assert_allclose(frame["snout_distance_to_disc_cm"], (np.abs(x + 4 - 100) - 20) / 4, atol=1e-3)
    assert done.summaries == [
        {
            "individual": "",
            "known": 1.0,
            "seconds_known": 16.0,
            "path_length_px": 199.5,
            "mean_speed_px_s": 12.5,
            "median_speed_px_s": 12.5,
            "path_length_cm": 49.875,
            "mean_speed_cm_s": 3.125,
            "median_speed_cm_s": 3.125,
            "regions": {"disc": {"seconds": 3.24, "share": 0.2025, "entries": 1}},
        }
    ]
    assert done.problems == []
    assert set(done.metadata.known[""].values()) == {1.0}


def test_units_and_what_a_file_says_of_itself(tmp_path: Path) -> None:
    rig = MeasuredRig(4.0, {"left side": ((0.0, 0.0), (20.0, 48.0))}, camera="It stands still.")
    _, done = _measured(tmp_path, [_track("left ear", 5, 5), _track("snout", 6, 6)], rig=rig)
    schema = pq.read_schema(tmp_path / "k.parquet")
    units = {field.name: field.metadata[b"unit"].decode() for field in schema}
    assert units["left_ear_speed_cm_s"] == "cm/s"
    assert units["acceleration_px_s2"] == "px/s2"
    assert units["snout_distance_to_left_side_px"] == "px"
    for name, unit in units.items():  # the unit that the name ends in
        assert not name.endswith("_cm") or unit == "cm"
        assert not name.endswith("_cm_s") or unit == "cm/s"
    said = KinematicsMetadata.from_file(schema, "here")
    assert said == done.metadata
    assert (said.px_per_cm, said.camera, said.source) == (4.0, "It stands still.", "filtered")
    assert said.regions == {"left side": "polygon (0, 0), (20, 0), (20, 48), (0, 48) px"}
    assert said.settings == KinematicsSettings().model_dump(mode="json", by_alias=True)


def test_a_point_that_is_missing_is_unknown_with_its_neighbours(tmp_path: Path) -> None:
    x = np.arange(FRAMES, dtype=float)
    x[[100, 101]] = np.nan
    frame, done = _measured(tmp_path, [_track("snout", x, 5)])
    assert np.flatnonzero(frame["speed_px_s"].isna()).tolist() == [99, 100, 101, 102]
    assert np.flatnonzero(frame["path_length_px"].isna()).tolist() == [100, 101]
    assert frame["path_length_px"].iloc[-1] == pytest.approx(FRAMES - 1), "a straight line over what is missing"
    assert done.metadata.known[""]["speed_px_s"] == 0.99
    assert done.summaries[0]["known"] == 0.995


def test_the_centroid_needs_half_of_its_body_parts(tmp_path: Path) -> None:
    gone = np.where(np.arange(FRAMES) < 50, np.nan, 30.0)
    tracks = [_track("a", 10, 10), _track("b", gone, 10), _track("c", gone, 10)]
    frame, _ = _measured(tmp_path, tracks)
    assert frame["centroid_x_px"].isna().sum() == 50
    assert frame["centroid_x_px"].iloc[60] == pytest.approx(70 / 3)
    frame, _ = _measured(tmp_path, tracks, KinematicsSettings(centroid=("a",), bodyparts=("b",)))
    assert (frame["centroid_x_px"] == 10).all()
    assert [name for name in frame.columns if name.endswith("speed_px_s")] == ["speed_px_s", "b_speed_px_s"]


def test_a_body_part_that_comes_and_goes_is_no_movement(tmp_path: Path) -> None:
    x = 0.5 * np.arange(FRAMES)
    seen = np.where(np.arange(FRAMES) % 7 < 3, np.nan, 1.0)
    tracks = [_track("snout", x + 30, 24), _track("ear", x + 20, 24), _track("tail", (x - 60) * seen, 24)]
    frame, done = _measured(tmp_path, tracks)
    assert frame["centroid_x_px"].diff().max() > 20, "the middle of what is seen does jump"
    np.testing.assert_allclose(frame["speed_px_s"], 12.5, rtol=1e-4)
    np.testing.assert_allclose(frame["acceleration_px_s2"], 0, atol=1e-2)
    assert done.summaries[0]["path_length_px"] == pytest.approx(0.5 * (FRAMES - 1), rel=1e-4)


def test_where_no_body_part_is_known_twice_the_way_is_the_centroids(tmp_path: Path) -> None:
    first = np.arange(FRAMES) < 200
    tracks = [_track("a", np.where(first, 10, np.nan), 5), _track("b", np.where(first, np.nan, 13), 9)]
    _, done = _measured(tmp_path, tracks)
    assert done.summaries[0]["path_length_px"] == pytest.approx(5)


@pytest.mark.filterwarnings("ignore:The result may be unreliable")  # movement's
def test_the_centroid_moves_as_movement_has_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    tracks = [_track(part, *np.cumsum(rng.normal(0, 2, (2, FRAMES)), axis=1)) for part in ("a", "b", "c")]
    settings = KinematicsSettings(distances=(("a", "b"),), body_axis=("a", "c"))
    frame, done = _measured(tmp_path, tracks, settings)
    position = tracks_to_movement(tracks, np.arange(FRAMES) / RATE, _metadata_at(tmp_path)).position
    centroid = position.mean("keypoints").squeeze("individuals")

    def norm(of: xr.DataArray) -> np.ndarray:
        return np.hypot(of.sel(space="x"), of.sel(space="y")).to_numpy()

    np.testing.assert_allclose(frame["speed_px_s"], norm(movement.compute_velocity(centroid)), rtol=1e-4)
    np.testing.assert_allclose(frame["acceleration_px_s2"], norm(movement.compute_acceleration(centroid)), rtol=1e-3)
    assert done.summaries[0]["path_length_px"] == pytest.approx(float(movement.compute_path_length(centroid)), rel=1e-5)
    apart = movement.compute_pairwise_distances(position.squeeze("individuals"), "keypoints", {"a": "b"})
    np.testing.assert_allclose(frame["distance_a_b_px"], apart.to_numpy().ravel(), rtol=1e-4)
    axis = (position.sel(keypoints="c") - position.sel(keypoints="a")).squeeze("individuals")
    angle = np.degrees(compute_signed_angle_2d(xr.ones_like(axis) * xr.DataArray([1.0, 0.0], dims="space"), axis))
    np.testing.assert_allclose(frame["body_axis_deg"], angle, rtol=1e-4, atol=1e-3)


def _metadata_at(folder: Path) -> PoseMetadata:
    """Return what the pose table in *folder* says of itself."""
    return read_pose_metadata(folder / "poses.parquet")


def test_individuals_have_rows_and_the_body_parts_of_none_have_no_centroid(tmp_path: Path) -> None:
    tracks = [
        _track("snout", 10, 10, individual="m1"),
        _track("snout", 40, 10, individual="m2"),
        _track("feeder", 10, 20, individual="single"),
    ]
    settings = KinematicsSettings(distances=(("snout", "feeder"),))
    frame, done = _measured(tmp_path, tracks, settings)
    assert frame["individual"].value_counts().to_dict() == {"m1": FRAMES, "m2": FRAMES, "single": FRAMES}
    of = {name: rows.iloc[5] for name, rows in frame.groupby("individual", observed=True)}
    assert (of["m1"].centroid_x_px, of["m2"].centroid_x_px) == (10, 40)
    assert np.isnan(of["single"].centroid_x_px)
    assert np.isnan(of["single"].snout_speed_px_s)
    assert of["single"].feeder_speed_px_s == 0
    assert of["m1"].distance_snout_feeder_px == 10, "to the one feeder that there is"
    assert of["m2"].distance_snout_feeder_px == pytest.approx(np.hypot(30, 10))
    assert [summary["individual"] for summary in done.summaries] == ["m1", "m2"]
    assert done.problems == []


@pytest.mark.parametrize(("filtered", "pcutoff", "known"), [(False, 0.6, 0.75), (True, 0.6, 1.0), (False, None, 1.0)])
def test_of_raw_poses_points_below_the_p_cutoff_are_missing(
    tmp_path: Path, filtered: bool, pcutoff: float | None, known: float
) -> None:
    likelihood = np.where(np.arange(FRAMES) < 100, 0.3, 0.9)
    _, done = _measured(tmp_path, [_track("snout", 5, 5, likelihood)], filtered=filtered, pcutoff=pcutoff)
    assert done.summaries[0]["known"] == known
    assert ("states no p-cutoff" in " ".join(done.problems)) == (pcutoff is None)


def test_one_frame(tmp_path: Path) -> None:
    rig = MeasuredRig(4.0, {"disc": CircleRegion(circle=Circle(center=(5, 5), radius=3))})
    frame, done = _measured(tmp_path, [_track("snout", 5, 5, frames=1)], rig=rig)
    assert np.isnan(frame["speed_px_s"][0])
    assert frame["in_disc"].tolist() == [True]
    assert done.summaries[0]["regions"]["disc"] == {"seconds": 0.04, "share": 1.0, "entries": 0}
    assert (done.summaries[0]["path_length_px"], done.summaries[0]["mean_speed_px_s"]) == (0.0, None)


def test_nothing_was_detected_or_a_body_part_never(tmp_path: Path) -> None:
    rig = MeasuredRig(4.0, {"disc": CircleRegion(circle=Circle(center=(5, 5), radius=3))})
    nothing = [_track("snout", np.nan, np.nan), _track("tailbase", np.nan, np.nan)]
    frame, done = _measured(tmp_path, nothing, rig=rig)
    assert frame.drop(columns=["recording", "frame", "time", "individual"]).isna().all(axis=None)
    assert done.summaries[0]["regions"]["disc"] == {"seconds": None, "share": None, "entries": 0}
    assert done.summaries[0]["path_length_px"] is None
    assert done.problems == ["no body part has a point in any frame: nothing can be measured."]
    _, done = _measured(tmp_path, [_track("snout", 5, 5), _track("ear", 6, 5), _track("tailbase", np.nan, np.nan)])
    assert done.problems == ["tailbase: no point in any frame."]


def test_nothing_in_cm_and_of_regions_where_the_camera_moved(tmp_path: Path) -> None:
    rig = MeasuredRig(4.0, {"disc": CircleRegion(circle=Circle(center=(5, 5), radius=3))}, withheld="top: it moved.")
    frame, done = _measured(tmp_path, [_track("snout", np.arange(FRAMES), 5)], rig=rig)
    withheld = [name for name in frame.columns if "_cm" in name or "disc" in name]
    assert "snout_distance_to_disc_px" in withheld
    assert "speed_cm_s" in withheld
    assert frame[withheld].isna().all(axis=None)
    assert frame["speed_px_s"].notna().all()
    assert (done.metadata.withheld, done.problems) == ("top: it moved.", ["top: it moved."])
    assert (done.summaries[0]["path_length_cm"], done.summaries[0]["regions"]) == (None, {})


def test_the_same_poses_give_the_same_bytes_in_row_groups_of_any_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    tracks = [_track(part, *rng.normal(20, 5, (2, FRAMES))) for part in PARTS]
    whole, done = _measured(tmp_path, tracks, rig=MeasuredRig(3.0))
    golden = hashlib.sha256((tmp_path / "k.parquet").read_bytes()).hexdigest()
    again, same = _measured(tmp_path, tracks, rig=MeasuredRig(3.0))
    assert hashlib.sha256((tmp_path / "k.parquet").read_bytes()).hexdigest() == golden
    monkeypatch.setattr(kinematics_file, "ROW_GROUP_FRAMES", 70)
    pieces, cut = _measured(tmp_path, tracks, rig=MeasuredRig(3.0))
    pd.testing.assert_frame_equal(pieces, whole)
    pd.testing.assert_frame_equal(again, whole)
    assert done.metadata.data_version == same.metadata.data_version == cut.metadata.data_version
    _, other = _measured(tmp_path, tracks, rig=MeasuredRig(3.5))
    assert other.metadata.data_version != done.metadata.data_version


def test_measures_that_would_have_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match=r'two measures would be called "Ear_speed_px_s".*, ear and .*, Ear'):
        Plan(("ear", "Ear")).measures()
    with pytest.raises(SettingsError, match='would be called "centroid_distance_to_box_px"'):
        Plan(("centroid",), regions=("box",)).measures()
    names = [measure.name for measure in Plan(("a",), ("a", "b"), (("a", "b"),), ("r",), in_cm=True).measures()]
    assert len(names) == len(RULES) + sum(rule.lengths for rule in RULES)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("{from: smoothed}", "'filtered' or 'raw'"),
        ("{body_axis: snout}", "two body parts, such as"),
        ("{body_axis: [snout, snout]}", "two different body parts"),
        ("{distances: [snout, tailbase]}", "two body parts, such as"),
        ("{distances: [[a, b], [b, a]]}", "the distance between b and a stands twice"),
        ("{centroid: []}", "at least 1"),
        ("{centroid: [a, a]}", "a stands twice"),
        ("{bodypart: [a]}", 'Did you mean "bodyparts"'),
    ],
)
def test_settings_that_are_none_are_refused(tmp_path: Path, stated: str, said: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(f"name: lab\nkinematics: {stated}\n")
    with pytest.raises(SettingsError, match=said):
        read_settings(file, LabSettings)


def test_settings_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("name: lab\nkinematics: {from: raw, centroid: body, body_axis: none, distances: [[a, b]]}\n")
    stated = read_settings(file, LabSettings).kinematics
    assert (stated.source, stated.centroid, stated.body_axis, stated.distances) == (
        "raw",
        ("body",),
        None,
        (("a", "b"),),
    )
    assert read_settings(file, LabSettings).kinematics.hash != KinematicsSettings().hash


@pytest.mark.parametrize("names", ['{"open arm": R, open_arm: R}', "{Center: R, center: R}"])
def test_regions_whose_columns_would_have_one_name_are_refused(tmp_path: Path, names: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(f"name: lab\nsetups: {{top: [{{regions: {names.replace('R', '[[0, 0], [5, 5]]')}}}]}}\n")
    with pytest.raises(SettingsError, match="cannot be told apart in the names of columns"):
        read_settings(file, LabSettings)


# --- the product ----------------------------------------------------------------------------------


def _write(lab: Lab, version: ModelVersion, key: str, seed: int) -> None:
    """Put poses of `FRAMES` frames in the place of those that `add_poses` stores."""
    folder = lab.layout.pose_folder(version.model, version.version, key)
    manifest = read_manifest(folder)
    assert manifest is not None
    rng = np.random.default_rng(seed)
    angle = np.arange(FRAMES) / 40 + seed
    tracks = []
    for place, part in enumerate(PARTS):
        likelihood = np.where(rng.random(FRAMES) < 0.05, 0.2, 0.9)
        tracks.append(_track(part, 32 + 15 * np.cos(angle) + 3 * place, 24 + 15 * np.sin(angle), likelihood))
    metadata = PoseMetadata(
        model=version.model,
        version=version.version,
        session=key,
        recording="top",
        frame_count=FRAMES,
        bodyparts=PARTS,
        pcutoff=0.6,
        rate="25",
    )
    summary = write_pose_table(folder / "top.parquet", tracks, np.arange(FRAMES) / RATE, metadata)
    manifest.data_version = summary.data_version
    manifest.write(folder)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Two analysed sessions of the released version of walker, with a rig; nothing is filtered or measured yet."""
    lab = write_lab(tmp_path / "lab", LAB)
    for number, key in enumerate(KEYS, start=1):
        add_session(lab, key, date(2026, 11, number), tags={"drug": "saline"} if key == ONE else {})
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


_QUIET: dict[str, Any] = {"overrides": {}, "recompute": False, "run_id": "", "log": lambda _: None}


def _measure(lab: Lab, *keys: str, filtered: bool = True, **how: Any) -> list[tuple[Manifest, bool]]:
    for key in keys or KEYS:
        if filtered:
            filter_session(lab, "walker", key, **_QUIET)
    return [measure_session(lab, "walker", key, **_QUIET | how) for key in keys or KEYS]


def _changed(lab: Lab, *changes: tuple[str, str]) -> Lab:
    """Return the lab with text of lab.yaml replaced."""
    text = lab.layout.settings_file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    lab.layout.settings_file.write_text(text)
    return open_lab_folder(lab.root)


def _with(lab: Lab, text: str) -> Lab:
    return _changed(lab, ("name: Smith lab\n", f"name: Smith lab\n{text}"))


def test_it_is_made_from_the_filtered_poses_and_again_when_they_or_the_rig_change(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match=r"its filtered_pose_table by walker@.* is not made yet"):
        _measure(lab, ONE, filtered=False)
    (manifest, made), _ = _measure(lab)
    assert made
    assert manifest.details["source"] == "filtered"
    assert manifest.problems == []
    assert measures_known(manifest, lab.root).passed
    assert [made for _, made in _measure(lab)] == [False, False]
    lab = _changed(lab, ("radius: 8", "radius: 9"))
    assert [made for _, made in _measure(lab, filtered=False)] == [True, True]
    lab = _with(lab, "kinematics: {body_axis: [tailbase, snout]}\n")
    assert [made for _, made in _measure(lab, filtered=False)] == [True, True]
    lab = _changed(lab, ("filters: [confidence]", "filters: [confidence, median]"))
    with pytest.raises(NotFoundError, match=r"filtered with other steps than lab\.yaml states now"):
        _measure(lab, ONE, filtered=False)
    assert [made for _, made in _measure(lab)] == [True, True]


def test_raw_poses_where_the_lab_or_a_run_says_so(lab: Lab) -> None:
    ((manifest, _),) = _measure(lab, ONE, filtered=False, overrides={"source": "raw"})
    assert (manifest.details["source"], manifest.custom) == ("raw", True)
    share = manifest.details["recordings"][0]["individuals"][0]["known"]
    assert share > 0.95, "a point of two is enough"
    assert manifest.details["recordings"][0]["known"][""]["snout_distance_to_center_px"] < 1
    with pytest.raises(SettingsError, match='expected filtered or raw, got "smooth"'):
        _measure(lab, ONE, filtered=False, overrides={"source": "smooth"})
    lab = _changed(lab, ("filters: [confidence]", "filters: none"))
    ((manifest, _),) = _measure(lab, ONE, filtered=False)
    assert (manifest.details["source"], manifest.custom, manifest.inputs["source"]) == ("raw", False, "raw")


def test_a_name_that_no_model_has_is_an_error_and_one_of_another_model_is_left_out(lab: Lab) -> None:
    bad = _with(lab, "kinematics: {body_axis: [tailbase, snoot]}\n")
    with pytest.raises(SettingsError, match=r'kinematics.body_axis: .* no body part "snoot". Did you mean "snout"'):
        _measure(bad, ONE)
    paw = add_version(lab, "paws", b"other")
    paw.manifest.details["bodyparts"] = ["snoot"]
    paw.manifest.write(paw.folder)
    ((manifest, _),) = _measure(bad, ONE)
    assert manifest.problems[0].startswith(
        'kinematics.body_axis: the model walker has no body part "snoot", as another'
    )
    assert "body_axis_deg" not in manifest.details["columns"]
    assert not measures_known(manifest, lab.root).passed


@pytest.mark.parametrize(
    ("region", "said"),
    [("[[100, 60], [140, 90]]", "lies outside of"), ("[[60, 40], [100, 90]]", "with only 2% of its area in")],
)
def test_a_region_outside_of_the_picture_is_an_error(lab: Lab, region: str, said: str) -> None:
    lab = _changed(lab, ("[[0, 0], [20, 48]]", region))
    with pytest.raises(
        SettingsError, match=rf'"left side" \(setups.top.regions in lab.yaml.*{said} the picture of top'
    ):
        _measure(lab, ONE)


def test_a_camera_that_moved_withholds_and_says_so(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    shifts = {
        ONE: CameraShift(9, 0, 0, True, "top: the camera moved by 9 px"),
        TWO: CameraShift(0, 0, 0, False, "fine"),
    }
    monkeypatch.setattr(
        "dlc_assets.derived.kinematics.camera_shift", lambda _lab, session, _recording: shifts[session.session]
    )
    (moved, _), (stood, _) = _measure(lab)
    assert moved.problems == ["top: the camera moved by 9 px; nothing is said in cm and of regions."]
    assert not measures_known(moved, lab.root).passed
    assert stood.problems == []
    frame = open_lab(lab.root).kinematics(columns=["speed_cm_s", "in_center", "speed_px_s"])
    known = frame.groupby("session", observed=True)[["speed_cm_s", "in_center", "speed_px_s"]].count()
    assert known.loc[ONE].tolist()[:2] == [0, 0]
    assert (known.loc[TWO] > 300).all()
    assert known.loc[ONE, "speed_px_s"] > 300
    shown = _metadata(lab, moved, True)
    assert shown["camera"].records[0].data["says"] == "the camera moved by 9 px"
    assert shown["picture"].value.startswith("![")


def test_what_the_ui_shows_is_small_and_draws(lab: Lab) -> None:
    (manifest, _), _ = _measure(lab)
    metadata = _metadata(lab, manifest, True)
    assert sum(len(str(getattr(value, "value", value))) for value in metadata.values()) < 300_000
    assert metadata["picture"].value.startswith("![")
    assert metadata["summary"].records[0].data["path length (cm)"] > 0
    assert {row.data["region"] for row in metadata["regions"].records} == {"center", "left side"}
    assert metadata["dagster/partition_row_count"] == FRAMES


def test_the_state_follows_filtered_poses_and_settings(lab: Lab, version: ModelVersion) -> None:
    def state(of: Lab) -> tuple[str, bool]:
        info, _ = need_session_info(of.layout, ONE)
        products = pose_products(of, info, Product("session_recordings", ONE, "up to date"))
        (found,) = [product for product in products if product.asset == "kinematics"]
        return found.state, found.wanted

    assert state(lab) == ("missing", True)
    _measure(lab, ONE)
    assert state(lab) == ("up to date", True)
    assert state(_with(lab, "kinematics: {centroid: [snout]}\n")) == ("behind", True)
    _write(lab, version, ONE, 7)
    assert state(lab) == ("behind", True)
    assert state(_with(lab, "review: {auto: false}\n"))[1] is False


# --- reading --------------------------------------------------------------------------------------


def test_one_table_of_all_sessions_with_what_is_known_of_them(lab: Lab) -> None:
    _measure(lab)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = open_lab(lab.root).kinematics(columns=["snout_speed_cm_s", "in_left_side"])
    assert list(frame.columns) == [
        *("session", "subject", "day", "sex", "strain", "genotype", "tag_drug", "tag_group", "tag_weight"),
        *("model", "recording", "frame", "time", "individual", "snout_speed_cm_s", "in_left_side"),
    ]
    assert len(frame) == 2 * FRAMES
    first, second = (frame[frame["session"] == key].iloc[0] for key in KEYS)
    assert (first.subject, first.genotype, first.sex, first.tag_group, first.tag_drug) == (
        *("m01", "wt", "F", "control"),
        "saline",  # the session's, in the place of its subject's
    )
    assert (second.subject, second.genotype, second.tag_weight) == ("m02", "ko", 21.5)
    assert pd.isna(first.tag_weight)
    assert first.day == pd.Timestamp("2026-11-01")
    means = frame.groupby("genotype", observed=True)["snout_speed_cm_s"].mean()
    assert means.index.tolist() == ["wt", "ko"]
    assert means["wt"] == pytest.approx(15 / 40 * RATE / 4, rel=0.01), "15 px of radius, 1/40 rad a frame, 4 px/cm"


def test_columns_rows_and_recordings_are_chosen(lab: Lab) -> None:
    _measure(lab)
    opened = open_lab(lab.root)
    every = opened.kinematics(ONE)
    near = opened.kinematics(ONE, columns="snout_speed_px_s", where="snout_distance_to_center_px < 7 and in_left_side")
    expected = every[(every["snout_distance_to_center_px"] < 7) & every["in_left_side"].fillna(False).astype(bool)]
    assert 0 < len(near) < FRAMES
    assert near["frame"].tolist() == expected["frame"].tolist()
    np.testing.assert_array_equal(near["snout_speed_px_s"], expected["snout_speed_px_s"])
    with pytest.raises(NotFoundError, match=r"where='snoot < 3'.*snoot"):
        opened.kinematics(ONE, where="snoot < 3")
    with pytest.raises(DlcAssetsError, match="expected a condition in SQL"):
        opened.kinematics(ONE, where="snout_speed_px_s <")
    with pytest.raises(NotFoundError, match=r'measure "snoot_speed_px_s". Did you mean "snout_speed_px_s"'):
        opened.kinematics(columns=["snoot_speed_px_s"])
    with pytest.raises(NotFoundError, match="no kinematics of the recordings side"):
        opened.kinematics(recording="side")
    with pytest.raises(NotFoundError, match='no individual "m7"'):
        opened.kinematics(individuals="m7")
    with pytest.raises(NotFoundError, match="there is no session"):
        opened.kinematics("sub-m09_ses-1")


def test_sessions_that_are_missing_or_behind_are_named(lab: Lab, version: ModelVersion) -> None:
    with pytest.raises(NotFoundError, match=rf"no kinematics of .*{ONE} by {version} \(never made\)"):
        open_lab(lab.root).kinematics()
    _measure(lab, ONE)
    with pytest.warns(UserWarning, match=rf"1 of 2 sessions are not in this table: {TWO} by {version} .never made"):
        frame = open_lab(lab.root).kinematics(columns="speed_px_s")
    assert set(frame["session"]) == {ONE}
    _measure(lab, TWO)
    _write(lab, version, TWO, 9)
    with pytest.warns(UserWarning, match=rf"{TWO} by {version} .made from other poses than are there now"):
        open_lab(lab.root).kinematics(columns="speed_px_s")
    _measure(lab)
    lab = _changed(lab, ("px_per_cm: 4", "px_per_cm: 5"))
    with pytest.warns(
        UserWarning, match=f"the kinematics of {ONE}, {TWO} were made with other settings, filters, scal"
    ):
        open_lab(lab.root).kinematics(columns="speed_px_s")
    _measure(lab, ONE)
    lab = _with(lab, "kinematics: {centroid: [snout]}\n")
    _measure(lab, TWO)
    with (
        pytest.raises(DlcAssetsError, match=r"made in different ways: sub-m01_ses-1 from filtered poses \(no settings"),
        pytest.warns(UserWarning, match=f"the kinematics of {ONE} were made"),
    ):
        open_lab(lab.root).kinematics()


def test_a_measure_that_some_lack_is_nan_there_and_said(lab: Lab) -> None:
    lab = _changed(lab, ("    - {scale: {px_per_cm: 4}, reg", "    - {from: 2026-11-02, scale: {px_per_cm: 4}, reg"))
    _measure(lab)
    with pytest.warns(UserWarning, match=f"speed_cm_s is not measured in {ONE}: it is NaN there"):
        frame = open_lab(lab.root).kinematics(columns=["speed_cm_s", "speed_px_s"])
    assert frame[frame["session"] == ONE]["speed_cm_s"].isna().all()
    assert frame[frame["session"] == TWO]["speed_cm_s"].notna().any()
    near = open_lab(lab.root).kinematics(columns=["speed_px_s"], where="centroid_distance_to_center_px < 100")
    assert set(near["session"]) == {TWO}
    with pytest.raises(NotFoundError, match="Measures in cm need the scale of the recording's setup"):
        open_lab(lab.root).kinematics(ONE, columns=["speed_cm_s"])
    ((rows, known),) = query(lab, "select count(*), count(speed_cm_s) from kinematics").rows
    assert rows == 2 * FRAMES
    assert 0 < known <= FRAMES


def test_the_view_holds_every_table(lab: Lab) -> None:
    assert query(lab, "select count(*) from kinematics").rows == [(0,)]
    _measure(lab)
    found = query(lab, "select session, recording, max(path_length_cm) > 0 from kinematics group by all order by all")
    assert found.rows == [(ONE, "top", True), (TWO, "top", True)]
    assert query(lab, "select * from kinematics limit 1").columns[:8] == [
        *("model", "version", "session", "recording", "frame", "time", "individual", "centroid_x_px"),
    ]


def test_of_a_cohort_only_what_was_made_from_its_poses_counts(lab: Lab, version: ModelVersion) -> None:
    freeze(lab, "paper", KEYS)
    with pytest.raises(
        NotFoundError, match=rf'2 of the pose tables of the cohort "paper" .*{ONE} by {version}: never made'
    ):
        open_lab(lab.root).kinematics(cohort="paper")
    _measure(lab)
    frame = open_lab(lab.root).kinematics(cohort="paper", columns="speed_px_s")
    pd.testing.assert_frame_equal(frame, open_lab(lab.root).kinematics(columns="speed_px_s"))
    existing = read_manifest(lab.layout.pose_folder("walker", version.version, ONE))
    with replacing(lab, existing, "another hash"):
        _write(lab, version, ONE, 9)
    _measure(lab)
    with pytest.raises(NotFoundError, match=rf"1 of .*{ONE} by {version}: made from other poses than the frozen ones"):
        open_lab(lab.root).kinematics(cohort="paper")
    assert set(open_lab(lab.root).kinematics(TWO, cohort="paper", columns="speed_px_s")["session"]) == {TWO}
    lab = _changed(lab, ("filters: [confidence]", "filters: [confidence, median]"))
    _measure(lab)
    with pytest.raises(NotFoundError, match=f"{TWO} by {version}: made from poses that were filtered otherwise"):
        open_lab(lab.root).kinematics(TWO, cohort="paper")


def test_versions_do_not_mix(lab: Lab, version: ModelVersion) -> None:
    newer = add_version(lab, weights=b"second")
    lab = _changed(lab, (f"{{model: {version}}}", f"{{model: {version}, until: 2026-11-01}}\n  - {{model: {newer}}}"))
    add_poses(lab, newer, TWO)
    _measure(lab)
    with pytest.raises(DlcAssetsError, match='mixes versions of the model "walker"'):
        open_lab(lab.root).kinematics()
    frame = open_lab(lab.root).kinematics(columns="speed_px_s", allow_mixed_versions=True)
    assert frame.groupby("session", observed=True)["version"].unique().explode().to_dict() == {
        ONE: version.version,
        TWO: newer.version,
    }
