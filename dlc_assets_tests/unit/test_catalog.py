"""The catalog: tables of a small lab, SQL over them and its poses, and models side by side."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from dlc_assets.api import OpenLab
from dlc_assets.catalog.schema import POSES, TABLES, VIEWS, catalog_table
from dlc_assets.catalog.sql import query
from dlc_assets.catalog.tables import catalog_tables, write_catalog
from dlc_assets.inference.pose_tables import pose_inputs
from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.files import atomic_path
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.poses.schema import COLUMNS, PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import need_session_info, read_times
from dlc_assets.recordings.session_recordings import record_session
from dlc_assets.state.lab_state import lab_state
from dlc_assets.training.comparison import compare_models
from dlc_assets.training.evaluation import ERRORS, SUMMARY
from dlc_assets.training.models import ModelVersion, set_current
from dlc_assets.training.scores import errors_of_frames, scoring_set, summarize

FIRST, SECOND, THIRD = "sub-m01_ses-20260501", "sub-m01_ses-20260502", "sub-m02_ses-20260501"
OLD, NEW = "0" * 12, "123456789012"  # all digits: they must stay text
PARTS = ["snout", "tailbase"]

LAB = """
name: Test lab
timezone: Europe/Zurich
experimenters: ["Last, First"]
recordings: [{root: recordings, template: "{subject}/{session}/{camera}.mp4"}]
devices: {top: {description: above, manufacturer: Basler}, spare: {}}
subjects:
  m01: {species: Mus musculus, sex: F, date_of_birth: 2026-02-01, tags: {group: control, cage: 3}}
  m09: {species: Mus musculus, tags: {group: drug}}
body_parts: {snout: {description: tip of the nose}}
release: [{devices: [top], model: walker}]
"""


@pytest.fixture
def lab(tmp_path: Path, real_data: Path) -> Lab:
    """A lab of three sessions, two of them probed, one model of two versions, and poses of one session by each."""
    root = tmp_path / "lab"
    for subject, session in (("m01", "20260501"), ("m01", "20260502"), ("m02", "20260501")):
        folder = root / "recordings" / subject / session
        folder.mkdir(parents=True)
        shutil.copyfile(real_data / "odd-videos" / "stub_h264.mp4", folder / "top.mp4")
    (root / "recordings/m01/20260501/session.yaml").write_text(
        "start: 2026-05-01T00:30:00+02:00\ndescription: first day\ntags: {drug: saline, dose: 1.5, blind: true}\n"
    )
    (root / "lab.yaml").write_text(LAB)
    _project(root / "projects" / "walking")
    (root / "models").mkdir()
    (root / "models" / "walker.yaml").write_text("project: walking\ndescription: walks\n")
    lab = open_lab_folder(root)
    for key in (FIRST, SECOND):
        _record(lab, key)
    for version in (OLD, NEW):
        _train(lab, "walker", version)
    _estimate(lab, "walker", OLD, FIRST)
    _estimate(lab, "walker", NEW, FIRST)
    return lab


def _project(folder: Path) -> None:
    labeled = folder / "labeled-data" / "walk1"
    labeled.mkdir(parents=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(labeled / "img0.png")
    config = {"Task": "walking", "scorer": "Ann", "date": "Jan1", "bodyparts": PARTS, "skeleton": []}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (labeled / "CollectedData_Ann.csv").write_text(
        "scorer,Ann,Ann,Ann,Ann\nbodyparts,snout,snout,tailbase,tailbase\ncoords,x,y,x,y\n"
        "labeled-data/walk1/img0.png,1,2,3,4\nlabeled-data/walk1/img1.png,1,2,3,4\n"
    )


def _record(lab: Lab, key: str) -> None:
    record_session(lab, discover(lab).sessions[key], run_id="", log=lambda _: None)


def _train(lab: Lab, model: str, version: str, **card: Any) -> ModelVersion:
    trained = ModelVersion(model, version, lab.layout.version(model, version))
    trained.folder.mkdir(parents=True)
    specification = lab.specification("walker").model_dump(mode="json")
    Manifest(
        asset="trained_model",
        key=model,
        inputs={},
        data_version=version,
        details={
            "project": "walking",
            "bodyparts": PARTS,
            "skeleton": [PARTS],
            "individuals": [],
            "pcutoff": 0.6,
            "net_type": "resnet_50",
            "scorer": f"{model}_{version}",
            "dataset": "d1",
            "label_hash": "l1",
            "epoch": 75,
            "training": {**specification["training"], "epochs": 100},
            "specification": specification,
            "training_seconds": 12.5,
            **card,
        },
        made=f"2026-06-0{1 if version == OLD else 2}T10:00:00+00:00",
    ).write(trained.folder)
    set_current(lab.layout, trained)
    return trained


def _estimate(lab: Lab, model: str, version: str, session: str) -> Path:
    """Store poses as `estimate_session` does, without a network."""
    info, _ = need_session_info(lab.layout, session)
    times = read_times(lab.layout, session, "top")
    tracks = [Track("", part, *(np.full(len(times), number, np.float32) for number in (1, 2, 0.5))) for part in PARTS]
    path = lab.layout.pose_file(model, version, session, "top")
    metadata = PoseMetadata(
        model=model, version=version, session=session, recording="top", frame_count=len(times), bodyparts=PARTS
    )
    write_pose_table(path, tracks, times, metadata)
    Manifest(
        asset="pose_table",
        key=pose_key(model, session),
        inputs={**pose_inputs(lab, model, info), "model": version},
        data_version="d",
        details={
            "model": model,
            "version": version,
            "session": session,
            "pcutoff": 0.6,
            "recordings": [
                {
                    "recording": "top",
                    "device": "top",
                    "frames": len(times),
                    "rows": len(times) * len(PARTS),
                    "seconds": 1.0,
                    "data_version": "d",
                    "mean_likelihood": {"snout": 0.4, "tailbase": 0.6},
                    "share_below_pcutoff": {"snout": 1.0, "tailbase": 0.0},
                }
            ],
        },
    ).write(path.parent)
    return path


def _evaluate(lab: Lab, version: ModelVersion, error: float, images: tuple[str, ...] = ("a", "b")) -> None:
    frames = [
        {"set": name, "folder": "walk1", "image": f"{name}-{image}", "xy": [[1.0, 2.0], [3.0, 4.0]]}
        for name in ("train", "benchmark")
        for image in images
    ]
    labels = np.array([frame["xy"] for frame in frames])
    estimated = np.concatenate([labels + np.array([error, 0]), np.full((*labels.shape[:2], 1), 0.9)], axis=2)
    errors = errors_of_frames(frames, PARTS, estimated)
    summary = summarize(errors, 0.6)
    place = lab.layout.evaluation(version.model, version.version)
    place.mkdir(parents=True)
    errors.to_parquet(place / ERRORS)
    summary.to_parquet(place / SUMMARY)
    total = summary[(summary["set"] == "benchmark") & (summary["bodypart"] == "(all)")].iloc[0]
    Manifest(
        asset="model_evaluation",
        key=version.model,
        inputs={},
        data_version="e",
        details={
            "version": version.version,
            "pcutoff": 0.6,
            "scoring_set": scoring_set(summary),
            "benchmark": {name: float(total[name]) for name in ("n", "rmse", "median_error", "rmse_pcutoff")},
        },
    ).write(place)


def _rows(lab: Lab, name: str) -> list[dict[str, Any]]:
    return catalog_tables(lab, names=[name])[name].to_pylist()


# --- tables ---------------------------------------------------------------------------------------


def test_every_table_of_element_deeplabcut_has_a_place() -> None:
    placed = {element for table in (*TABLES, POSES) for element in table.element}
    assert placed >= {
        *("Device", "Subject", "Session", "VideoSet", "TrainingParamSet", "TrainingTask", "ModelTraining"),
        *("VideoRecording", "VideoRecording.File", "RecordingInfo", "BodyPart", "Model", "Model.BodyPart"),
        *("ModelEvaluation", "PoseEstimationTask", "PoseEstimation", "PoseEstimation.BodyPartPosition"),
    }


def test_a_fresh_lab_has_every_table_empty(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("name: New lab\n")
    lab = open_lab_folder(tmp_path)
    tables = catalog_tables(lab)
    assert [*tables] == [table.name for table in TABLES]
    assert all(tables[table.name].schema.equals(table.schema()) for table in TABLES)
    assert sum(table.num_rows for table in tables.values()) == 0
    assert query(lab, "select * from poses").columns == [column.name for column in POSES.columns]
    assert compare_models(lab)[0].rows == []


def test_a_session_says_who_when_and_how_old_with_the_labs_own_tags(lab: Lab) -> None:
    first, second, third = _rows(lab, "sessions")
    assert (first["session"], first["subject"], first["state"]) == (FIRST, "m01", "up to date")
    assert first["start"] == datetime(2026, 4, 30, 22, 30, tzinfo=UTC)
    assert first["day"] == date(2026, 5, 1)  # its own zone's day, not UTC's
    assert first["age_days"] == 89
    assert (first["tag_drug"], first["tag_dose"], first["tag_blind"]) == ("saline", 1.5, True)
    assert first["experimenters"] == ["Last, First"]
    assert second["tag_drug"] is None
    assert (third["session"], third["state"], third["recordings"]) == (THIRD, "missing", 1)


def test_subjects_and_devices_are_those_declared_and_those_that_appear(lab: Lab) -> None:
    subjects = {row["subject"]: row for row in _rows(lab, "subjects")}
    assert {name: (row["declared"], row["sessions"]) for name, row in subjects.items()} == {
        "m01": (True, 2),
        "m02": (False, 1),
        "m09": (True, 0),
    }
    assert (subjects["m01"]["tag_group"], subjects["m01"]["tag_cage"]) == ("control", 3.0)
    devices = {row["device"]: (row["manufacturer"], row["recordings"]) for row in _rows(lab, "devices")}
    assert devices == {"spare": ("", 0), "top": ("Basler", 2)}


def test_subjects_are_shown_with_what_all_of_the_lab_have(lab: Lab) -> None:
    text = (
        LAB.replace("m09: {", "m09: {age: P12W, weight: 24.5 g, sex: M, ")
        + "subject_defaults: {species: Rattus norvegicus, sex: F}"
    )
    (lab.root / "lab.yaml").write_text(text)
    subjects = {row["subject"]: row for row in _rows(open_lab_folder(lab.root), "subjects")}
    assert {
        name: (row["declared"], row["species"], row["sex"], row["age"], row["weight"]) for name, row in subjects.items()
    } == {
        "m01": (True, "Mus musculus", "F", None, None),
        "m02": (False, "Rattus norvegicus", "F", None, None),
        "m09": (True, "Mus musculus", "M", "P12W", "24.5 g"),
    }


def test_tags_of_several_kinds_are_one_text_column_however_they_are_spelled() -> None:
    table = catalog_table("sessions").arrow(
        [{"session": "a", "tag_Dose": 2}, {"session": "b", "tag_dose": True}, {"session": "c"}]
    )
    assert table.schema.names[-1] == "tag_Dose"
    assert table["tag_Dose"].to_pylist() == ["2", "true", None]


def test_a_recording_has_what_was_measured_of_it_and_its_files(lab: Lab) -> None:
    info = need_session_info(lab.layout, FIRST)[0].recordings[0]
    row = next(row for row in _rows(lab, "recordings") if row["session"] == FIRST)
    assert (row["recording"], row["device"], row["state"], row["files"]) == ("top", "top", "probed", 1)
    assert (row["width"], row["height"], row["frame_count"]) == (info.width, info.height, info.frame_count)
    assert row["fps"] == pytest.approx(float(info.fraction))
    assert row["start"] == datetime(2026, 4, 30, 22, 30, tzinfo=UTC)
    file = next(row for row in _rows(lab, "recording_files") if row["session"] == FIRST)
    assert (file["path"], file["part"]) == ("recordings/m01/20260501/top.mp4", 0)
    assert file["sha256"] == info.files[0].sha256
    assert file["size"] == (lab.root / file["path"]).stat().st_size


def test_an_unreadable_video_is_a_failed_recording_of_a_session_that_stands(lab: Lab, real_data: Path) -> None:
    bad = lab.root / "recordings/m01/20260502/side.mp4"
    shutil.copyfile(real_data / "odd-videos" / "chunk_out_of_range.mp4", bad)
    _record(lab, SECOND)
    states = {row["recording"]: row for row in _rows(lab, "recordings") if row["session"] == SECOND}
    assert {name: row["state"] for name, row in states.items()} == {"side": "failed", "top": "probed"}
    assert "side.mp4" in states["side"]["why"]
    session = next(row for row in _rows(lab, "sessions") if row["session"] == SECOND)
    assert (session["recordings"], session["failed_recordings"]) == (1, 1)


def test_a_session_whose_videos_vanished_stays_listed_as_gone(lab: Lab) -> None:
    shutil.rmtree(lab.root / "recordings/m01/20260501")
    session = next(row for row in _rows(lab, "sessions") if row["session"] == FIRST)
    assert (session["state"], session["age_days"]) == ("gone", 89)
    assert {row["state"] for row in _rows(lab, "recordings") if row["session"] == FIRST} == {"gone"}
    poses = [row for row in _rows(lab, "pose_estimations") if row["session"] == FIRST]
    assert [(row["version"], row["state"]) for row in poses] == [(OLD, "older version"), (NEW, "gone")]


def test_labels_are_counted_by_folder_and_scorer_with_the_reasons(lab: Lab) -> None:
    (row,) = _rows(lab, "label_sets")
    assert (row["model"], row["folder"], row["scorer"]) == ("walker", "walk1", "Ann")
    assert (row["found"], row["used"], row["dropped"], row["reasons"]) == (2, 1, 1, "1 image missing")


def test_body_parts_carry_their_meaning_and_their_models(lab: Lab) -> None:
    assert [(row["body_part"], row["description"], row["models"]) for row in _rows(lab, "body_parts")] == [
        ("snout", "tip of the nose", ["walker"]),
        ("tailbase", None, ["walker"]),
    ]


def test_synonyms_unite_the_names_of_models(lab: Lab) -> None:
    text = LAB.replace("tip of the nose}", "tip of the nose, synonyms: [nose, Snout]}, tail: {synonyms: tailbase}")
    (lab.root / "lab.yaml").write_text(text)
    lab = open_lab_folder(lab.root)
    assert [
        (row["body_part"], row["canonical"], row["description"], row["declared"], row["models"])
        for row in _rows(lab, "body_parts")
    ] == [
        ("Snout", "snout", "tip of the nose", True, []),
        ("nose", "snout", "tip of the nose", True, []),
        ("snout", "snout", "tip of the nose", True, ["walker"]),
        ("tail", "tail", "", True, []),
        ("tailbase", "tail", "", True, ["walker"]),
    ]
    counted = query(
        lab, "select canonical, count(*) from poses join body_parts on body_part = bodypart group by all order by all"
    ).rows
    assert [name for name, _ in counted] == ["snout", "tail"]
    assert len({count for _, count in counted}) == 1
    asked = OpenLab(lab).poses(model=f"walker@{NEW}", bodyparts=["tail", "Snout"])
    assert set(asked.to_pandas()["bodypart"]) == {"tail", "Snout"}
    assert set(OpenLab(lab).poses(model=f"walker@{NEW}").to_pandas()["bodypart"]) == {"snout", "tailbase"}
    assert set(OpenLab(lab).poses(model=f"walker@{NEW}", canonical=True).to_pandas()["bodypart"]) == {"snout", "tail"}


def test_a_model_that_tells_synonyms_apart_is_told(lab: Lab) -> None:
    (lab.root / "lab.yaml").write_text(LAB.replace("tip of the nose}", "tip of the nose, synonyms: [tailbase]}"))
    problems = lab_state(open_lab_folder(lab.root)).problems
    (said,) = [problem for problem in problems if "body_parts.snout" in problem]
    assert f"the model walker@{NEW} has snout and tailbase, which are one body part here" in said


def test_training_parameters_join_specifications_trainings_and_models(lab: Lab) -> None:
    (task,) = _rows(lab, "training_tasks")
    assert (task["model"], task["config_path"]) == ("walker", "projects/walking/config.yaml")
    assert (task["current_version"], task["videos"]) == (NEW, ["all"])
    sets = {row["param_set"]: row for row in _rows(lab, "training_param_sets")}
    assert sets[task["param_set"]]["epochs"] == 200
    trainings = _rows(lab, "model_trainings")
    assert [row["version"] for row in trainings] == [OLD, NEW]
    used = sets[trainings[0]["param_set"]]  # trained with other epochs than the specification states now
    assert (used["epochs"], used["models"], used["versions"]) == (100, [], [f"walker@{OLD}", f"walker@{NEW}"])
    models = {row["version"]: row for row in _rows(lab, "models")}
    assert (models[NEW]["current"], models[NEW]["released"], models[NEW]["body_parts"]) == (True, True, PARTS)
    assert (models[OLD]["current"], models[OLD]["released"]) == (False, False)


def test_poses_are_listed_by_version_with_the_tasks_still_to_do(lab: Lab) -> None:
    rows = [
        (row["session"], row["version"], row["recording"], row["state"], row["frames"] is not None)
        for row in _rows(lab, "pose_estimations")
    ]
    assert rows == [
        (FIRST, OLD, "top", "older version", True),
        (FIRST, NEW, "top", "up to date", True),
        (SECOND, NEW, "top", "missing", False),
    ]
    made = _rows(lab, "pose_estimations")[1]
    assert made["mean_likelihood"] == pytest.approx(0.5)
    assert (lab.root / made["path"]).is_file()


def test_poses_by_an_earlier_version_are_behind_until_they_are_made_again(lab: Lab) -> None:
    shutil.rmtree(lab.layout.pose_folder("walker", NEW, FIRST))
    (row,) = [row for row in _rows(lab, "pose_estimations") if row["session"] == FIRST]
    assert (row["version"], row["state"]) == (OLD, "behind")
    assert NEW in row["why"]


def test_a_task_whose_model_is_not_trained_waits_with_its_recordings_named(lab: Lab) -> None:
    shutil.rmtree(lab.layout.model("walker"))
    rows = [row for row in _rows(lab, "pose_estimations") if row["session"] == SECOND]
    assert [(row["state"], row["version"], row["recording"]) for row in rows] == [("waiting", None, "top")]
    assert "no trained version" in rows[0]["why"]


def test_a_broken_specification_is_a_row_and_stops_nothing(lab: Lab) -> None:
    lab.layout.specification("broken").write_text("proyect: walking\n")
    lab.layout.specification("lost").write_text("project: elsewhere\n")
    tasks = {row["model"]: row for row in _rows(lab, "training_tasks")}
    assert (tasks["broken"]["state"], tasks["lost"]["dataset_state"]) == ("failed", "failed")
    assert "proyect" in tasks["broken"]["why"]
    problems = {row["model"]: row["problem"] for row in _rows(lab, "label_sets")}
    assert "elsewhere" in problems["lost"]
    assert problems["walker"] is None


def test_the_catalog_is_written_and_its_version_changes_with_its_content_only(lab: Lab) -> None:
    first = write_catalog(lab, run_id="r1")
    assert read_manifest(lab.layout.catalog) == first
    assert first.details["rows"]["sessions"] == pq.read_metadata(lab.layout.catalog_table("sessions")).num_rows == 3
    assert {path.stem for path in lab.layout.catalog.glob("*.parquet")} == {table.name for table in TABLES}
    described = pq.read_schema(lab.layout.catalog_table("recordings")).field("fps").metadata[b"description"]
    assert described == b"Frames per second."
    assert write_catalog(lab, run_id="r2").data_version == first.data_version
    _record(lab, THIRD)
    assert write_catalog(lab, run_id="r3").data_version != first.data_version


def test_a_state_that_is_known_is_used(lab: Lab) -> None:
    state = lab_state(lab)
    shutil.rmtree(lab.root / "recordings")
    assert catalog_tables(lab, state)["sessions"].to_pylist()[0]["state"] == "up to date"


def test_a_session_record_that_cannot_be_read_stops_nothing(lab: Lab) -> None:
    path = lab.layout.session_recordings(FIRST)
    manifest = read_manifest(path)
    assert manifest is not None
    state = lab_state(lab)
    del manifest.details["recordings"]
    manifest.write(path)
    sessions = catalog_tables(lab, state)["sessions"].to_pylist()
    assert [row["state"] for row in sessions] == ["failed", "up to date", "missing"]
    assert "probe the session again" in sessions[0]["why"]


# --- SQL ------------------------------------------------------------------------------------------


def test_sql_joins_poses_with_sessions_as_they_are_now(lab: Lab) -> None:
    result = query(
        lab,
        "select session, version, age_days, tag_drug, count(*) as n from poses join sessions using (session) "
        f"where version = '{NEW}' and bodypart = 'snout' group by all;  -- one row",
    )
    frames = need_session_info(lab.layout, FIRST)[0].recordings[0].frame_count
    assert result.columns == ["session", "version", "age_days", "tag_drug", "n"]
    assert result.rows == [(FIRST, NEW, 89, "saline", frames)]
    assert result.to_pandas()["n"].tolist() == result.to_arrow()["n"].to_pylist() == [frames]


def test_sql_shows_times_in_the_labs_zone(lab: Lab) -> None:
    assert query(lab, f"select start::date from sessions where session = '{FIRST}'").rows == [(date(2026, 5, 1),)]


def test_the_view_of_poses_has_model_version_session_then_the_tables_columns(lab: Lab) -> None:
    described = query(lab, "describe poses").rows
    assert [row[:2] for row in described] == [
        ("model", "VARCHAR"),
        ("version", "VARCHAR"),
        ("session", "VARCHAR"),
        *((column.name, column.sql) for column in COLUMNS),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "show tables",
        "summarize models",
        "with m as (select * from models) select version from m",
        "from sessions",
        "values (1)",
        "explain select * from models",
        "explain analyze select * from poses",
        "EXPLAIN (FORMAT json) SELECT 1",
        "pivot recordings on session using count(*)",
        "select 'é;' as a, 1 as a; -- two columns of one name",
    ],
)
def test_reading_statements_are_answered(lab: Lab, sql: str) -> None:
    result = query(lab, sql)
    assert result.rows
    assert len(result.rows[0]) == len(result.columns)


def test_show_tables_lists_everything(lab: Lab) -> None:
    assert {row[0] for row in query(lab, "show tables").rows} == {table.name for table in (*TABLES, *VIEWS)}


@pytest.mark.parametrize(
    "sql",
    [
        "copy models to '{poses}/x.csv'",
        "with x as (copy models to '{poses}/x.csv') select 1",
        "with x as (copy (select 1) to '{poses}/x.csv') from models",
        "explain analyze copy models to '{poses}/x.csv'",
        "explain /* */ analyze copy models to '{poses}/x.csv'",
        "explain analyze with x as (copy models to '{poses}/x.csv') select 1",
        "select * from query('with x as (copy models to ''{poses}/x.csv'') select 1')",
        "attach '{poses}/x.db'",
        "export database '{poses}/x'",
        "install httpfs",
        "load httpfs",
        "create table x as select 1",
        "set enable_external_access = true",
        "set variable pose_files = ['/etc/passwd']",
        "pragma enable_profiling",
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('{poses}/../../lab.yaml')",
        "select * from 'https://example.org/x.parquet'",
        "select * from glob('/etc/*')",
        "select 1; select 2",
        "select 1) ; copy models to '{poses}/x.csv'; (select 2",
        "selec 1",
        "",
    ],
)
def test_what_would_write_or_leave_the_lab_is_refused(lab: Lab, sql: str) -> None:
    poses = lab.layout.poses
    before = sorted(poses.rglob("*"))
    with pytest.raises((InputError, NotFoundError)):
        query(lab, sql.format(poses=poses))
    assert sorted(poses.rglob("*")) == before


def test_reading_another_file_is_refused_with_what_to_do_instead(lab: Lab) -> None:
    with pytest.raises(InputError, match="tables of this lab only"):
        query(lab, "select * from read_csv('/etc/passwd')")


def test_python_variables_are_no_tables(lab: Lab) -> None:
    secret = catalog_tables(lab)["models"]
    assert secret.num_rows
    with pytest.raises(NotFoundError, match="secret"):
        query(lab, "select * from secret")


def test_an_unknown_table_or_column_is_named_with_the_tables_there_are(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match=r"(?s)sesions.*Tables: subjects, .*poses"):
        query(lab, "select * from sesions")
    with pytest.raises(NotFoundError, match=r"(?s)agee.*Tables: "):
        query(lab, "select agee from sessions")


def test_poses_of_one_model_version_and_session_open_no_other_file(lab: Lab) -> None:
    _estimate(lab, "walker", NEW, SECOND)
    for session in (FIRST, SECOND):  # a file that cannot be opened shows whether it was
        with atomic_path(lab.layout.pose_file("walker", NEW, session, "top")) as partial:
            partial.write_text("no parquet")
    assert query(lab, f"select count(*) from poses where version = '{OLD}' and model = 'walker'").rows[0][0] > 0
    plan = query(lab, f"explain analyze select x from poses where version = '{OLD}' and session = '{FIRST}'").rows[0][1]
    assert "Scanning Files: 1/3" in plan
    with pytest.raises(InputError, match=NEW):
        query(lab, f"select x from poses where version = '{NEW}'")


def test_a_damaged_pose_table_stops_only_the_queries_that_read_it(lab: Lab) -> None:
    with atomic_path(lab.layout.pose_file("walker", OLD, FIRST, "top")) as partial:  # the first of all
        partial.write_text("no parquet")
    assert query(lab, f"select count(*) > 0 from poses where version = '{NEW}'").rows == [(True,)]
    shutil.rmtree(lab.layout.pose_folder("walker", NEW, FIRST))
    with pytest.raises(InputError, match=f"version={OLD}"):
        query(lab, "select * from poses")
    assert len(query(lab, "select * from sessions").rows) == 3


def test_half_written_and_unfinished_pose_tables_are_left_out(lab: Lab) -> None:
    folder = lab.layout.pose_folder("walker", NEW, FIRST)
    (folder / ".top.1234.partial.parquet").write_text("half")
    unfinished = lab.layout.pose_folder("walker", NEW, SECOND)
    shutil.copytree(folder, unfinished)
    (unfinished / "manifest.json").unlink()
    assert {row[0] for row in query(lab, "select distinct session from poses").rows} == {FIRST}


def test_a_lab_in_a_folder_with_an_awkward_name_can_be_asked(lab: Lab, tmp_path: Path) -> None:
    moved = tmp_path / "Ann's [old] lab"
    lab.root.rename(moved)
    assert query(open_lab_folder(moved), "select count(*) > 0 from poses").rows == [(True,)]


# --- evaluations ----------------------------------------------------------------------------------


def test_evaluations_have_a_row_a_set_and_body_part(lab: Lab) -> None:
    version = ModelVersion("walker", NEW, lab.layout.version("walker", NEW))
    _evaluate(lab, version, 2.0)
    rows = {(row["set"], row["body_part"]): row for row in _rows(lab, "evaluations")}
    assert [*rows] == [(name, part) for name in ("train", "benchmark") for part in ("(all)", *PARTS)]
    scored = rows["benchmark", "snout"]
    assert (scored["scoring"], scored["labels"], scored["rmse"], scored["epoch"]) == (True, 2, 2.0, 75)
    assert (scored["pck_5px"], scored["missed"], scored["map"]) == (1.0, 0, None)
    (lab.layout.evaluation("walker", NEW) / SUMMARY).write_text("no parquet")
    (total,) = _rows(lab, "evaluations")
    assert (total["set"], total["body_part"], total["rmse"]) == ("benchmark", "(all)", 2.0)
