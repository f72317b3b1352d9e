"""Regions as people write them, where points lie relative to them, and the rig of a recording."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from dlc_assets.derived.region_geometry import contains, signed_distance
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.settings import LabSettings
from dlc_assets.lab.yaml_settings import read_settings
from dlc_assets.recordings.info import need_session_info
from dlc_assets.recordings.setups import setup_of
from dlc_assets_tests.unit.released_lab import add_session, write_lab

SESSION = "sub-m01_ses-1"


def _setup(tmp_path: Path, text: str) -> LabSettings:
    file = tmp_path / "lab.yaml"
    file.write_text(f"name: lab\nsetups:\n  top:\n    - {text}\n")
    return read_settings(file, LabSettings)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("[[1, 1]]", "two corners of a rectangle"),
        ("5", "two corners of a rectangle"),
        ("[[1, 1], [2, x]]", "two corners of a rectangle"),
        ("[[1, 1], [1, 9]]", "no area"),
        ("[[0, 0], [9, 9], [9, 0], [0, 9]]", "cross each other"),
        ("{circle: {center: [1, 1], radius: 0}}", "greater than 0"),
        ("{square: 1}", "two corners of a rectangle"),
    ],
)
def test_a_region_that_is_none_is_refused(tmp_path: Path, region: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        _setup(tmp_path, f"{{regions: {{center: {region}}}}}")


@pytest.mark.parametrize("scale", ["0", "-3", ".nan", ".inf"])
def test_a_scale_that_is_none_is_refused(tmp_path: Path, scale: str) -> None:
    with pytest.raises(SettingsError, match="px_per_cm"):
        _setup(tmp_path, f"{{scale: {{px_per_cm: {scale}}}}}")


def test_distances_are_negative_inside_and_unknown_where_the_point_is(tmp_path: Path) -> None:
    text = "{regions: {box: [[10, 10], [30, 20]], tri: [[0, 0], [10, 0], [0, 10]], disc: {circle: {center: [5, 5], radius: 2}}}}"
    regions = _setup(tmp_path, text).setups["top"][0].regions
    x, y = np.array([20.0, 10, 40, 20, np.nan, 33]), np.array([15.0, 15, 15, 25, 1, 24])
    np.testing.assert_allclose(signed_distance(regions["box"], x, y), [-5, 0, 10, 5, np.nan, 5])
    assert contains(regions["box"], x, y).tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(signed_distance(regions["tri"], np.array([10.0, 1]), np.array([10.0, 1])), [50**0.5, -1])
    np.testing.assert_allclose(signed_distance(regions["disc"], np.array([5.0, 9]), np.array([5.0, 5])), [-2, 2])


def test_a_recording_has_the_setup_of_its_day_and_what_its_session_states(tmp_path: Path) -> None:
    setups = (
        "setups: {top: [{until: 2026-05-31, scale: {px_per_cm: 8}, reference: top.png}, {from: 2026-06-01, regions: "
        "{center: [[1, 1], [9, 9]]}}]}\n"
    )
    lab = write_lab(tmp_path, "name: lab\ntimezone: UTC\ndevices: {top: {}}\n" + setups)
    add_session(lab, SESSION, date(2026, 5, 2))
    add_session(lab, "sub-m01_ses-2", date(2026, 6, 2))
    early, late = (need_session_info(lab.layout, key)[0] for key in (SESSION, "sub-m01_ses-2"))
    assert setup_of(lab, early, early.recordings[0]).px_per_cm == 8
    assert setup_of(lab, early, early.recordings[0]).reference == "top.png"
    rig = setup_of(lab, late, late.recordings[0])
    assert (rig.px_per_cm, list(rig.regions)) == (None, ["center"])
    own = late.recordings[0].model_copy(update={"regions": {}, "scale": lab.settings.setups["top"][0].scale})
    assert (setup_of(lab, late, own).px_per_cm, dict(setup_of(lab, late, own).regions)) == (8, {})
