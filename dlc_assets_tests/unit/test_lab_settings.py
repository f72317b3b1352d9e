"""What a person writes by hand is read strictly: each mistake is named with its file, its key and what was expected."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from dlc_assets.lab import machine_zone
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.session_metadata import read_session_metadata
from dlc_assets.lab.settings import (
    CropSettings,
    DynamicCropping,
    Inference,
    LabSettings,
    RecordingTemplate,
    ReleaseRule,
)
from dlc_assets.lab.specification import TrainingSettings
from dlc_assets.lab.template import write_new_lab
from dlc_assets.lab.yaml_settings import read_settings

LAB = """\
name: Smith lab
timezone: Europe/Zurich
recordings:
  - {root: recordings, template: "{subject}/{session}/{camera}.mp4"}
devices:
  top: {description: above, manufacturer: Basler}
subjects:
  m01: {species: Mus musculus, sex: F, date_of_birth: 2026-02-01, tags: {group: control}}
release:
  - {devices: [top], model: openfield}
analyze: {since: 2026-05-01}
"""


def read_lab(folder: Path, text: str) -> LabSettings:
    (folder / "lab.yaml").write_text(text, encoding="utf-8")
    return open_lab_folder(folder).settings


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read_lab(folder, text)
    assert str(folder / "lab.yaml") in str(caught.value)
    return str(caught.value)


# --- lab.yaml -------------------------------------------------------------------------------------


def test_a_lab_is_read_with_its_defaults(tmp_path: Path) -> None:
    settings = read_lab(tmp_path, LAB)
    assert settings.name == "Smith lab"
    assert settings.subjects["m01"].date_of_birth == date(2026, 2, 1)
    assert settings.subjects["m01"].tags == {"group": "control"}
    assert settings.devices["top"].manufacturer == "Basler"
    assert settings.analyze.auto is True
    assert settings.analyze.since == date(2026, 5, 1)
    assert settings.inference.batch_size == "auto"
    assert settings.nwb.videos == "link"


def test_an_empty_lab_yaml_asks_for_the_labs_name(tmp_path: Path) -> None:
    assert 'the key "name" is missing' in refusal(tmp_path, "")


def test_a_lab_yaml_that_is_a_list_is_refused_with_what_came(tmp_path: Path) -> None:
    assert "expected keys and values (a YAML mapping), got ['name'" in refusal(tmp_path, "[name, timezone]")


def test_a_misspelled_key_is_named_with_the_nearest(tmp_path: Path) -> None:
    said = refusal(tmp_path, LAB + "experimentors: [Doe]\n")
    assert 'unknown key "experimentors". Did you mean "experimenters"?' in said
    assert "Known keys here: name, institution" in said


@pytest.mark.parametrize(
    ("right", "wrong", "key", "nearest"),
    [
        ("manufacturer: Basler", "manufacterer: Basler", "devices.top.manufacterer", "manufacturer"),
        ("date_of_birth:", "birth_date:", "subjects.m01.birth_date", None),
        ("species:", "specie:", "subjects.m01.specie", "species"),
        ("{devices: [top]", "{device: [top]", "release.0.device", "devices"),
        ("{root: recordings", "{rot: recordings", "recordings.0.rot", "root"),
        ("since:", "sinse:", "analyze.sinse", "since"),
    ],
)
def test_a_misspelled_key_deep_inside_is_named_with_its_place(
    tmp_path: Path, right: str, wrong: str, key: str, nearest: str | None
) -> None:
    assert right in LAB
    said = refusal(tmp_path, LAB.replace(right, wrong))
    assert f'unknown key "{key}".' in said
    assert "Known keys here: " in said
    if nearest is not None:
        assert f'Did you mean "{nearest}"?' in said


def test_a_rule_says_from_as_lab_yaml_writes_it_and_names_it_so_in_errors(tmp_path: Path) -> None:
    rule = read_lab(tmp_path, LAB.replace("model: openfield", "model: openfield, from: 2026-05-01")).release[0]
    assert rule.first == date(2026, 5, 1)
    said = refusal(tmp_path, LAB.replace("model: openfield", "model: openfield, form: 2026-05-01"))
    assert 'Did you mean "from"?' in said


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (
            "sex: F",
            "sex: female",
            'subjects.m01.sex: expected M (male), F (female), O (other) or U (unknown). Did you mean "F"?',
        ),
        (
            "Mus musculus",
            "mouse",
            'subjects.m01.species: expected a Latin name such as "Mus musculus", or an NCBITaxon URL. Did you ',
        ),
        ("Mus musculus", "mouse", """Did you mean "Mus musculus"?, got 'mouse'."""),
        (
            "date_of_birth: 2026-02-01",
            "age: 90 days",
            "subjects.m01.age: expected an ISO 8601 duration such as P90D (90 days)",
        ),
        ("date_of_birth: 2026-02-01", "age: 90 days", """Did you mean "P90D"?, got '90 days'."""),
        (
            "date_of_birth: 2026-02-01",
            "age: 90",
            "subjects.m01.age: expected an ISO 8601 duration such as P90D (90 days), P12W, P3M ",
        ),
        ("date_of_birth: 2026-02-01", "age: 90", "a number alone has no unit. For 90 days write P90D, got 90."),
        (
            "date_of_birth: 2026-02-01",
            "weight: 24.5",
            'subjects.m01.weight: expected a number and a unit such as "24.5 g": a number',
        ),
        ("sex: F", "age: P90D", "subjects.m01: expected date_of_birth or age, not both"),
        ("subjects:", "subject_defaults: {species: rat}\nsubjects:", "subject_defaults.species: expected a Latin name"),
        ("subjects:", "subject_defaults: {age: P90D}\nsubjects:", 'unknown key "subject_defaults.age"'),
        ("date_of_birth: 2026-02-01", "date_of_birth: spring", "subjects.m01.date_of_birth: expected"),
        ("since: 2026-05-01", "settle_seconds: -1", "analyze.settle_seconds: expected greater than or equal to 0"),
        ("Europe/Zurich", "Europe/Zürich", "timezone: expected a time zone name such as Europe/Zurich. Did you mean"),
        ("name: Smith lab", "name: [Smith]", "name: expected a valid string, got ['Smith']."),
        ("devices:\n  top: {description: above, manufacturer: Basler}", "devices: [top]", "devices: expected"),
        ("model: openfield", "model: Open Field", "expected a model's name, or name@version"),
        ("model: openfield", "model: openfield@latest", "expected a model's name, or name@version"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_what_was_expected(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    assert right in LAB
    assert said in refusal(tmp_path, LAB.replace(right, wrong))


def test_a_batch_size_is_a_number_or_auto_and_the_key_is_named_plainly(tmp_path: Path) -> None:
    assert read_lab(tmp_path, LAB + "inference: {batch_size: 8}\n").inference.batch_size == 8
    said = refusal(tmp_path, LAB + "inference: {batch_size: many}\n")
    assert "inference.batch_size: expected 'auto', got 'many'" in said
    assert "constrained" not in said


def test_inference_is_exact_and_sees_everything_unless_stated(tmp_path: Path) -> None:
    inference = read_lab(tmp_path, LAB).inference
    assert (inference.precision, inference.batch_size, inference.dynamic_cropping) == ("float32", "auto", None)
    stated = read_lab(tmp_path, LAB + "inference: {precision: proven, dynamic_cropping: {margin: 25}}\n").inference
    assert stated.precision == "proven"
    assert stated.dynamic_cropping == DynamicCropping(threshold=0.5, margin=25)
    assert read_lab(tmp_path, LAB + "inference: {dynamic_cropping: none}\n").inference.dynamic_cropping is None


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("{snout: {synonyms: nose}, tip: {synonyms: [nose]}}", '"nose" is a synonym of both snout and tip'),
        ("{snout: {synonyms: [nose]}, nose: {}}", 'snout.synonyms: "nose" is a body part of its own here'),
        ("{snout: {synonyms: [snout]}}", 'snout.synonyms: "snout" is a body part of its own here'),
        ("{snout: {synonym: nose}}", 'unknown key "body_parts.snout.synonym". Did you mean "synonyms"?'),
    ],
)
def test_a_name_belongs_to_one_body_part(tmp_path: Path, parts: str, said: str) -> None:
    assert said in refusal(tmp_path, f"name: lab\nbody_parts: {parts}\n")


@pytest.mark.parametrize(
    ("inference", "said"),
    [
        ("{precision: bf16}", "inference.precision: expected 'float32' or 'proven', got 'bf16'."),
        (
            "{dynamic_cropping: {threshold: 1.5}}",
            "inference.dynamic_cropping.threshold: expected less than or equal to 1",
        ),
        ("{dynamic_cropping: {margin: -1}}", "inference.dynamic_cropping.margin: expected greater than or equal to 0"),
        (
            "{dynamic_cropping: {margins: 1}}",
            'unknown key "inference.dynamic_cropping.margins". Did you mean "margin"?',
        ),
        ("{batch_size: 8, dynamic_cropping: {}}", "expected a batch size of 1 or auto, not 8"),
    ],
)
def test_inference_that_cannot_be_meant_is_refused(tmp_path: Path, inference: str, said: str) -> None:
    assert said in refusal(tmp_path, LAB + f"inference: {inference}\n")


def test_a_run_s_own_settings_come_before_the_lab_s_and_must_fit_them() -> None:
    lab = Inference(batch_size=8)
    assert lab.overridden() == lab
    assert lab.overridden(precision="proven", batch_size=2) == Inference(precision="proven", batch_size=2)
    with pytest.raises(SettingsError, match="expected a batch size of 1 or auto, not 8"):
        lab.overridden(dynamic_cropping=True)
    assert lab.overridden(dynamic_cropping=True, batch_size=1).dynamic_cropping == DynamicCropping()
    of_lab = Inference(dynamic_cropping=DynamicCropping(margin=40))
    assert of_lab.overridden(dynamic_cropping=True) == of_lab
    assert of_lab.overridden(dynamic_cropping=False, batch_size=16).dynamic_cropping is None
    with pytest.raises(SettingsError, match='expected float32 or proven, got "fp16"'):
        lab.overridden(precision="fp16")


# --- setups ---------------------------------------------------------------------------------------


def setups(text: str) -> str:
    return LAB + f"setups: {{top: [{text}]}}\n"


def test_a_setup_holds_over_its_period_both_days_among_it(tmp_path: Path) -> None:
    text = setups("{until: 2026-05-31, crop: {x: [0, 64]}}, {from: 2026-06-01, crop: {x: [8, 72], y: [0, 48]}}")
    first, second = read_lab(tmp_path, text).setups["top"]
    assert (first.crop, second.crop) == (CropSettings(x=(0, 64)), CropSettings(x=(8, 72), y=(0, 48)))
    assert [period.covers(date(2026, 5, 31)) for period in (first, second)] == [True, False]
    assert [period.covers(date(2026, 6, 1)) for period in (first, second)] == [False, True]
    assert not first.covers(None)


def test_the_whole_frame_is_a_crop_too(tmp_path: Path) -> None:
    (setup,) = read_lab(tmp_path, setups("{crop: none}")).setups["top"]
    assert setup.crop == CropSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{from: 2026-01-01}, {from: 2026-03-01, until: 2026-04-01}",
            "the periods 1 (from 2026-01-01) and 2 (from 2026-03-01 until 2026-04-01) of top overlap",
        ),
        ("{until: 2026-03-01}, {from: 2026-03-01}", "the periods 1 (until 2026-03-01) and 2 (from 2026-03-01) of top"),
        ("{from: 2026-05-01}, {crop: {x: [0, 9]}}", "the periods 1 (from 2026-05-01) and 2 (always) of top overlap"),
        ("{from: 2026-05-02, until: 2026-05-01}", "until (2026-05-01) is before from (2026-05-02)"),
        ("{crop: {x: [64, 0]}}", "setups.top.0.crop.x: expected [from, to] in px with from before to, got [64, 0]"),
        ("{crop: {y: [5, 5]}}", "setups.top.0.crop.y: expected [from, to] in px with from before to"),
        ("{crop: {x: [-1, 64]}}", "setups.top.0.crop.x.0: expected greater than or equal to 0, got -1"),
        ("{crop: {x: [0, 63.5]}}", "setups.top.0.crop.x.1: expected a valid integer"),
        ("{crop: {x: [0]}}", "setups.top.0.crop.x"),
        ("{crop: [0, 64, 0, 48]}", "setups.top.0.crop: expected {x: [from, to], y: [from, to]} in px, or none"),
        ("{crop: {width: [0, 64]}}", 'unknown key "setups.top.0.crop.width". Known keys here: x, y.'),
        ("{form: 2026-01-01}", 'unknown key "setups.top.0.form". Did you mean "from"?'),
        ("{scale: 8.1}", "setups.top.0.scale"),
    ],
)
def test_a_setup_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, setups(text))


def test_all_mistakes_of_a_file_are_said_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, LAB.replace("sex: F", "sex: female").replace("since:", "sinse:"))
    assert "subjects.m01.sex" in said
    assert "analyze.sinse" in said


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    said = refusal(tmp_path, LAB + "name: Other lab\n")
    assert 'line 12: not valid YAML: the key "name" stands twice (first on line 1)' in said


def test_a_subject_that_stands_twice_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, LAB.replace("release:", "  m01: {sex: M}\nrelease:"))
    assert 'the key "m01" stands twice' in said


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    assert "line 2: not valid YAML" in refusal(tmp_path, "name: Smith\n  lab: [1\n")


def test_a_tab_as_indentation_is_named_with_its_line(tmp_path: Path) -> None:
    assert "line 2: not valid YAML" in refusal(tmp_path, "devices:\n\ttop: {}\n")


def test_a_file_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_bytes("name: Zürich\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"lab\.yaml is not UTF-8 text .*: save it as UTF-8"):
        open_lab_folder(tmp_path)


def test_a_file_with_the_mark_that_windows_editors_write_is_read(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_bytes(b"\xef\xbb\xbf" + LAB.encode())
    assert open_lab_folder(tmp_path).settings.name == "Smith lab"


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml does not exist"):
        read_settings(tmp_path / "nowhere.yaml", LabSettings)


@pytest.mark.parametrize("name", ["17", "001", "010", "20260501_1"])
def test_numbers_as_names_are_names_digit_for_digit(tmp_path: Path, name: str) -> None:
    settings = read_lab(tmp_path, LAB.replace("m01: {species", f"{name}: {{species"))
    assert list(settings.subjects) == [name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name: x\nsubjects: {m01: {date_of_birth: 2026-13-40}}\n",
            "line 2: not valid YAML: 2026-13-40: month must be",
        ),
        ("? [a]\n: b\n", "line 1: not valid YAML: expected a name as a key, got ['a']"),
        ("name: x\0\n", "not valid YAML: unacceptable character #x0000"),
    ],
)
def test_what_no_yaml_means_is_an_error_of_the_file_not_of_the_program(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


# --- opening a lab --------------------------------------------------------------------------------


def test_a_folder_that_is_not_a_lab_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"is not a lab folder: it has no lab\.yaml.*dlc-assets init"):
        open_lab_folder(tmp_path)


def test_a_lab_folder_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere is not a lab folder: it does not exist"):
        open_lab_folder(tmp_path / "nowhere")


def test_the_lab_is_found_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_new_lab(tmp_path / "mine")
    monkeypatch.setenv("DLC_ASSETS_LAB", str(tmp_path / "mine"))
    assert open_lab_folder().root == (tmp_path / "mine").resolve()


# --- recording templates --------------------------------------------------------------------------


def test_a_template_gives_subject_session_and_camera() -> None:
    template = RecordingTemplate(template="{subject}/{session}/{camera}.mp4")
    assert template.match("m01/20260501/top.mp4") == {"subject": "m01", "session": "20260501", "camera": "top"}
    assert template.match("m01/20260501/extra/top.mp4") is None
    assert template.match("m01/20260501/top.avi") is None


def test_a_template_without_subject_and_with_a_part() -> None:
    template = RecordingTemplate(template="{session}_{camera}_{part}.avi")
    assert template.match("day1_top_02.avi") == {"session": "day1", "camera": "top", "part": "02"}


def test_a_fixed_camera_stands_for_the_field() -> None:
    template = RecordingTemplate(template="{subject}_{session}.mp4", camera="side")
    assert template.match("m01_day1.mp4") == {"camera": "side", "subject": "m01", "session": "day1"}


def test_a_field_that_stands_twice_must_agree() -> None:
    template = RecordingTemplate(template="{subject}/{session}/{subject}_{camera}.mp4")
    assert template.match("m01/day1/m01_top.mp4") == {"subject": "m01", "session": "day1", "camera": "top"}
    assert template.match("m01/day1/m02_top.mp4") is None


def test_fields_are_as_short_as_they_can_be_and_never_empty() -> None:
    template = RecordingTemplate(template="{session}_{camera}_{part}.avi")
    assert template.match("day_1_top_2.avi") == {"session": "day", "camera": "1", "part": "top_2"}
    assert template.match("_top_2.avi") is None
    assert template.match("day__2.avi") is None
    assert template.match("a\nb_top_2.avi") == {"session": "a\nb", "camera": "top", "part": "2"}
    assert template.match("x/day_top_2.avi") is None


def test_dots_and_brackets_of_a_template_are_meant_literally() -> None:
    template = RecordingTemplate(template="{session} (raw)/{camera}.mp4")
    assert template.match("day1 (raw)/top.mp4") == {"session": "day1", "camera": "top"}
    assert template.match("day1 (raw)/topXmp4") is None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('{template: "{animal}/{session}/{camera}.mp4"}', "unknown field {animal}"),
        ('{template: "{subjet}/{session}/{camera}.mp4"}', 'unknown field {subjet}. Did you mean "subject"?'),
        ('{template: "{subject}/{camera}.mp4"}', "the field {session} is missing"),
        ('{template: "{session}.mp4"}', "expected either {camera} in the template or a fixed `camera:`"),
        ('{template: "{session}/{camera}.mp4", camera: top}', "not both or none"),
        ('{template: "/data/{session}/{camera}.mp4"}', "expected a path relative to root"),
        ("{root: recordings}", 'the key "recordings.0.template" is missing'),
        ('{template: "{session}/{camera}.mp4", finished: done}', "done_file"),
        ('{template: "{session}/{camera}.mp4", finished: []}', "finished"),
    ],
)
def test_a_template_that_cannot_work_is_refused(tmp_path: Path, entry: str, said: str) -> None:
    assert said in refusal(tmp_path, f"name: Smith lab\nrecordings: [{entry}]\n")


def test_what_deeplabcut_writes_beside_videos_is_ignored_and_so_is_what_the_lab_says() -> None:
    template = RecordingTemplate(template="{session}/{camera}.mp4", ignore=("*_test*",))
    assert template.ignores("day1/top_labeled.mp4")
    assert template.ignores("day1/topDLC_resnet50_openfieldOct30shuffle1_500000_labeled.mp4")
    assert template.ignores("day1/topDLC_HrnetW32_openfieldOct30shuffle1_snapshot_best-20.mp4")
    for suffix in ("_id_labeled", "_bp_labeled", "filtered_p60_labeled", "_full", "_DLC_3D"):
        assert template.ignores(f"day1/topDLC_HrnetW32_openfieldOct30shuffle1_snapshot_best-20{suffix}.mp4")
    for suffix in ("_labeled", "_labeled_before_adapt", "_labeled_after_adapt"):
        assert template.ignores(f"day1/top_superanimal_quadruped_hrnet_w32_fasterrcnn_resnet50_fpn_v2_{suffix}.mp4")
    assert template.ignores("day1/topDeepCut_resnet50_openfieldOct30shuffle1_500000_full.avi")
    assert template.ignores("day1/top_test2.mp4")
    assert not template.ignores("day1/top.mp4")


# --- release rules --------------------------------------------------------------------------------


def test_a_rule_matches_by_device_and_day() -> None:
    rule = ReleaseRule.model_validate(
        {"model": "openfield@1a2b", "devices": "top", "from": "2026-05-01", "until": "2026-05-31"}
    )
    assert (rule.model_name, rule.version) == ("openfield", "1a2b")
    assert rule.matches("top", date(2026, 5, 1))
    assert rule.matches("top", date(2026, 5, 31))
    assert not rule.matches("side", date(2026, 5, 1))
    assert not rule.matches("top", date(2026, 4, 30))
    assert not rule.matches("top", date(2026, 6, 1))
    assert not rule.matches("top", None)


def test_a_rule_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    text = LAB.replace("model: openfield", "model: openfield, from: 2026-05-02, until: 2026-05-01")
    assert "until (2026-05-01) is before from (2026-05-02)" in refusal(tmp_path, text)


def test_a_rule_without_dates_matches_a_session_whose_day_is_not_known() -> None:
    assert ReleaseRule(model="openfield").matches("top", None)


# --- model specifications -------------------------------------------------------------------------


def lab_with_model(folder: Path, text: str, name: str = "openfield") -> Lab:
    layout = LabLayout(folder)
    layout.specifications.mkdir(parents=True)
    layout.settings_file.write_text("name: Smith lab\n")
    (layout.specifications / f"{name}.yaml").write_text(text)
    return open_lab_folder(folder)


def test_a_specification_needs_a_project_only(tmp_path: Path) -> None:
    specification = lab_with_model(tmp_path, "project: openfield\n").specification("openfield")
    assert specification.net_type == "resnet_50"
    assert specification.weights == "imagenet"
    assert specification.training.epochs == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("net_type: resnet_50\n", 'the key "project" is missing'),
        ("project: a\ntraining: {epoch: 5}\n", 'unknown key "training.epoch". Did you mean "epochs"?'),
        ("project: a\ntraining: {max_snapshots: 0}\n", "training.max_snapshots: expected greater than or equal to 1"),
        ("project: a\ntraining: {epochs: 0}\n", "training.epochs: expected greater than or equal to 1, got 0"),
        ("project: a\nsplit: {train: 0.5, validation: 0.1, benchmark: 0.1}\n", "must sum to 1, they sum to 0.7"),
        (
            "project: a\nweights: resnet50.pt\n",
            "expected imagenet, random, superanimal_<dataset>, model:<name>[@version] or file:<path>",
        ),
    ],
)
def test_a_specification_that_is_wrong_names_its_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    lab = lab_with_model(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        lab.specification("openfield")
    assert said in str(caught.value)
    assert str(lab.layout.specification("openfield")) in str(caught.value)
    good, bad = lab.specifications()
    assert (list(good), list(bad)) == ([], ["openfield"])


SHARED = """\
name: Smith lab
parameters:
  small-and-slow:
    description: for the workstation without a GPU
    net_type: resnet_101
    training: {epochs: 300, batch_size: 4}
    pytorch_config: {model.backbone.model_name: resnet18, runner.eval_interval: 5}
"""


def test_a_parameter_set_completes_a_specification_and_what_that_states_itself_wins(tmp_path: Path) -> None:
    text = "project: a\nparameters: small-and-slow\ntraining: {batch_size: 16}\npytorch_config: {runner.eval_interval: 1}\n"
    lab = lab_with_model(tmp_path, text)
    lab.layout.settings_file.write_text(SHARED)
    specification = open_lab_folder(tmp_path).specification("openfield")
    assert specification.net_type == "resnet_101"
    assert (specification.training.epochs, specification.training.batch_size) == (300, 16)
    assert specification.pytorch_config == {"model.backbone.model_name": "resnet18", "runner.eval_interval": 1}
    assert specification.description == ""


@pytest.mark.parametrize(
    ("shared", "text", "said"),
    [
        (SHARED, "parameters: small-and-slo", r'no set "small-and-slo" .* Did you mean "small-and-slow"\?'),
        ("name: Smith lab\n", "parameters: any", r'no set "any" .* Sets there: none'),
        (
            SHARED.replace("epochs: 300", "epoch: 300"),
            "parameters: small-and-slow",
            r'openfield.yaml: unknown key "training.epoch"',
        ),
    ],
    ids=["misspelt", "none there", "a wrong key in the set"],
)
def test_a_parameter_set_that_is_wrong_is_said(tmp_path: Path, shared: str, text: str, said: str) -> None:
    lab_with_model(tmp_path, f"project: a\n{text}\n")
    (tmp_path / "lab.yaml").write_text(shared)
    with pytest.raises(SettingsError, match=said):
        open_lab_folder(tmp_path).specification("openfield")


def test_what_a_later_release_added_and_nobody_states_puts_no_model_behind() -> None:
    settings = TrainingSettings(epochs=5)
    assert settings.decisive() == {"epochs": 5, "batch_size": 8, "save_epochs": 25, "seed": 42}
    assert settings.model_copy(update={"patience": 3}).decisive()["patience"] == 3


def test_a_specification_whose_file_cannot_be_a_models_name_is_named(tmp_path: Path) -> None:
    lab = lab_with_model(tmp_path, "project: a\n", name="Open_Field")
    with pytest.raises(SettingsError, match=r'"Open_Field" cannot be a model\'s name.*Rename the file'):
        lab.specification("Open_Field")


def test_an_unknown_model_is_answered_with_the_nearest(tmp_path: Path) -> None:
    lab = lab_with_model(tmp_path, "project: a\n")
    with pytest.raises(NotFoundError, match=r'no model specification "openfeld".*Did you mean "openfield"'):
        lab.specification("openfeld")


def test_a_project_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    lab = lab_with_model(tmp_path, "project: openfeld\n")
    (lab.layout.projects / "openfield").mkdir(parents=True)
    (lab.layout.projects / "openfield" / "config.yaml").write_text("Task: openfield\n")
    with pytest.raises(SettingsError, match=r'no DeepLabCut project "openfeld".*Did you mean "openfield"'):
        lab.project_config("openfield")


def test_a_project_that_lies_elsewhere_is_found_by_its_name_in_lab_yaml(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "openfield-Pranav"
    elsewhere.mkdir(parents=True)
    (elsewhere / "config.yaml").write_text("Task: openfield\n")
    lab = lab_with_model(tmp_path / "lab", "project: openfield\n")
    lab.layout.settings_file.write_text(f"name: Smith lab\nprojects: {{openfield: {elsewhere}}}\n")
    assert open_lab_folder(lab.root).project_config("openfield") == elsewhere / "config.yaml"


# --- session.yaml ---------------------------------------------------------------------------------


def test_a_session_says_start_tags_and_offsets(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    path.write_text(
        "start: 2026-05-01T10:12:00+02:00\ntags: {drug: saline, dose: 1.5}\nrecordings: {top: {offset: 0.25}}\n"
    )
    metadata = read_session_metadata(path)
    assert metadata.start == datetime(2026, 5, 1, 8, 12, tzinfo=UTC)
    assert metadata.tags == {"drug": "saline", "dose": 1.5}
    assert metadata.recordings["top"].offset == 0.25


def test_a_day_alone_is_no_start(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    path.write_text("start: 2026-05-01\n")
    with pytest.raises(SettingsError, match=r"session\.yaml: start: expected a day and a time, such as 2026-05-01T"):
        read_session_metadata(path)


def test_a_misspelled_key_of_a_recording_is_named(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    path.write_text("recordings: {top: {ofset: 1}}\n")
    with pytest.raises(SettingsError, match=r'unknown key "recordings\.top\.ofset"\. Did you mean "offset"'):
        read_session_metadata(path)


def test_a_time_without_zone_is_the_labs(tmp_path: Path) -> None:
    settings = read_lab(tmp_path, LAB)
    completed = settings.complete(datetime(2026, 5, 1, 10, 12))
    assert completed.utcoffset() == timedelta(hours=2)
    stated = datetime(2026, 5, 1, 10, 12, tzinfo=UTC)
    assert settings.complete(stated) is stated


# --- subjects -------------------------------------------------------------------------------------


def test_age_and_weight_of_a_subject_are_read(tmp_path: Path) -> None:
    text = LAB.replace("date_of_birth: 2026-02-01", "age: P12W, weight: 24.5 g")
    subject = read_lab(tmp_path, text).subject("m01")
    assert (subject.age, subject.weight, subject.date_of_birth) == ("P12W", "24.5 g", None)


def test_a_subject_has_the_defaults_that_it_does_not_state_itself_and_nothing_else(tmp_path: Path) -> None:
    defaults = "subject_defaults: {species: Mus musculus, sex: M, strain: C57BL/6J, genotype: wt, description: adult}\n"
    subjects = "subjects:\n  m01: {sex: F, genotype: ko, tags: {group: control}}\n  r1: {species: Rattus norvegicus, strain: null}\n"
    settings = read_lab(tmp_path, f"name: lab\n{defaults}{subjects}")
    first, rat, other = (settings.subject(name) for name in ("m01", "r1", "m77"))
    assert (first.species, first.sex, first.strain, first.genotype) == ("Mus musculus", "F", "C57BL/6J", "ko")
    assert (first.description, first.tags) == ("adult", {"group": "control"})
    assert (rat.species, rat.strain, rat.genotype) == ("Rattus norvegicus", None, "wt"), "null is a statement, too"
    assert (other.species, other.sex, other.date_of_birth, other.tags) == ("Mus musculus", "M", None, {})
    assert settings.subject(None) == other


def test_without_defaults_a_subject_is_as_it_is_written_and_one_that_is_not_listed_is_unknown(tmp_path: Path) -> None:
    settings = read_lab(tmp_path, LAB)
    assert settings.subject("m01") == settings.subjects["m01"]
    assert (settings.subject("m02").species, settings.subject("m02").sex) == (None, "U")


# --- a new lab ------------------------------------------------------------------------------------


def test_a_new_lab_can_be_opened_and_leaves_old_recordings_alone(tmp_path: Path) -> None:
    written = write_new_lab(tmp_path / "new lab", name='The "Smith" lab', today=date(2026, 11, 22))
    lab = open_lab_folder(tmp_path / "new lab")
    assert lab.settings.name == 'The "Smith" lab'
    assert lab.settings.analyze.since == date(2026, 11, 22)
    assert lab.settings.recordings[0].match("m01/day1/top.mp4") is not None
    assert lab.model_names() == []
    assert all(path.is_file() for path in written)


def test_the_example_files_of_a_new_lab_can_be_used_as_they_are(tmp_path: Path) -> None:
    write_new_lab(tmp_path / "lab")
    layout = LabLayout(tmp_path / "lab")
    example = layout.specifications / "openfield.yaml.example"
    example.rename(layout.specification("openfield"))
    assert open_lab_folder(layout.root).specification("openfield").project == "my-project"
    assert read_session_metadata(layout.root / "session.yaml.example").description == "open field, first day"


def test_what_a_new_lab_has_in_comments_can_be_used_when_it_is_uncommented(tmp_path: Path) -> None:
    write_new_lab(tmp_path / "lab")
    layout = LabLayout(tmp_path / "lab")
    for file, keys in (
        (layout.settings_file, "setups|inference|subject_defaults|subjects|release|nwb|projects"),
        (layout.root / "session.yaml.example", "recordings|consent|identity|nwb"),
    ):
        blocks = re.findall(rf"^# (?:{keys}):.*(?:\n# {{3}}.*)*", file.read_text(), re.MULTILINE)
        assert len(blocks) == len(keys.split("|"))
        uncommented = "\n".join(re.sub(r"^# ", "", block, flags=re.MULTILINE) for block in blocks)
        file.write_text(file.read_text() + uncommented)
    settings = open_lab_folder(layout.root).settings
    assert [period.days for period in settings.setups["top"]] == ["until 2026-08-31", "from 2026-09-01"]
    assert settings.inference == Inference(dynamic_cropping=DynamicCropping())
    session = read_session_metadata(layout.root / "session.yaml.example")
    assert session.recordings["side"].crop == CropSettings(x=(0, 640), y=(0, 480))
    assert [settings.subject(name).species for name in ("m01", "m02")] == ["Mus musculus", "Rattus norvegicus"]
    assert session.consent is not None
    assert session.consent.videos


def test_a_new_lab_states_the_zone_of_its_machine(tmp_path: Path) -> None:
    write_new_lab(tmp_path / "here", timezone="America/New_York")
    settings = open_lab_folder(tmp_path / "here").settings
    assert (settings.timezone, settings.states_timezone) == ("America/New_York", True)


@pytest.mark.parametrize(
    ("variable", "timezone", "localtime", "zone"),
    [
        ("Asia/Tokyo", "Europe/Zurich", "Europe/Berlin", "Asia/Tokyo"),
        (":Asia/Tokyo", None, None, "Asia/Tokyo"),
        ("", "Europe/Zurich\n", None, "Europe/Zurich"),
        ("", None, "America/Argentina/Salta", "America/Argentina/Salta"),
        ("CET-1CEST", "nonsense", "Europe/Berlin", "Europe/Berlin"),
        ("", "Etc/UTC", "Etc/UTC", None),  # as machines come: no place where a lab is
        ("", None, None, None),
    ],
)
def test_the_zone_of_a_machine_is_known_by_name_or_not_at_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    timezone: str | None,
    localtime: str | None,
    zone: str | None,
) -> None:
    monkeypatch.setenv("TZ", variable)
    for name, content in (("_TIMEZONE", timezone), ("_LOCALTIME", None)):
        monkeypatch.setattr(machine_zone, name, tmp_path / name)
        if content is not None:
            (tmp_path / name).write_text(content)
    if localtime is not None:
        target = tmp_path / "zoneinfo" / localtime
        target.parent.mkdir(parents=True)
        target.write_bytes(b"")
        (tmp_path / "_LOCALTIME").symlink_to(target)
    assert machine_zone.machine_zone() == zone
    write_new_lab(tmp_path / "lab")
    settings = open_lab_folder(tmp_path / "lab").settings
    assert (settings.states_timezone, settings.timezone) == (zone is not None, zone or "UTC")


def test_a_lab_is_never_made_over_another(tmp_path: Path) -> None:
    write_new_lab(tmp_path / "lab", name="First")
    before = (tmp_path / "lab" / "lab.yaml").read_bytes()
    with pytest.raises(SettingsError, match="is a lab already"):
        write_new_lab(tmp_path / "lab", name="Second")
    assert (tmp_path / "lab" / "lab.yaml").read_bytes() == before


def test_a_lab_is_never_made_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("notes")
    with pytest.raises(DlcAssetsError, match="is a file"):
        write_new_lab(tmp_path / "lab")
    assert (tmp_path / "lab").read_text() == "notes"


# --- notify ---------------------------------------------------------------------------------------

MAIL = "mail: {to: ann@example.org, from: lab@example.org, host: smtp.example.org"


def test_who_is_told_is_read_with_its_defaults(tmp_path: Path) -> None:
    notify = read_lab(tmp_path, f"{LAB}notify: {{{MAIL}}}, webhook: {{format: slack}}, digest_at: 7:30}}").notify
    assert notify.mail is not None
    assert notify.mail.to == ("ann@example.org",)
    assert (notify.mail.tls, notify.mail.server_port) == ("starttls", 587)
    assert notify.about == ("failures", "stopped", "digest")
    assert notify.digest_at == time(7, 30)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("{webhok: {}}", 'unknown key "notify.webhok". Did you mean "webhook"?'),
        ("{webhook: {url: https://hooks.example.org/x}}", 'unknown key "notify.webhook.url". Did you mean "url_env"?'),
        (f"{{{MAIL}, password: hunter2}}}}", 'Did you mean "password_env"?'),
        ("{on: [failures]}", "notify: the key is `about`, not `on` (which YAML reads as true)"),
        ("{about: [failure]}", "notify.about.0: expected 'failures', 'stopped' or 'digest'"),
        ("{digest_at: 25:00}", 'notify.digest_at: expected a time of day such as "08:00"'),
        (f"{{{MAIL}, tls: yes}}}}", "notify.mail.tls: expected 'starttls', 'ssl' or 'none'"),
        (
            '{mail: {to: "a@b.org\\nBcc: c@d.org", from: l@b.org, host: h}}',
            "notify.mail.to.0: expected one e-mail address",
        ),
        ("{mail: {to: Ann, from: l@b.org, host: h}}", "notify.mail.to.0: expected one e-mail address"),
    ],
)
def test_a_mistake_in_who_is_told_is_said(block: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(tmp_path, f"{LAB}notify: {block}")


def test_a_secret_that_stands_where_its_variable_should_be_named_is_not_shown(tmp_path: Path) -> None:
    said = refusal(tmp_path, f"{LAB}notify: {{webhook: {{url_env: https://hooks.example.org/T0SECRET}}}}")
    assert "notify.webhook.url_env: expected the name of an environment variable" in said
    assert "T0SECRET" not in said
