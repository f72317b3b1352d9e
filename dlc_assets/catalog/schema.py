"""The one definition of the catalog's tables, for writer, SQL, UI and the mapping to DataJoint's Element DeepLabCut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from dlc_assets.derived.kinematics_schema import Plan, base_columns
from dlc_assets.lab.errors import NotFoundError, did_you_mean
from dlc_assets.poses.schema import COLUMNS as POSE_COLUMNS
from dlc_assets.training.scores import SUMMARY_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

TAG_PREFIX = "tag_"


@dataclass(frozen=True)
class CatalogColumn:
    """One column; *type* is ``date``, ``timestamp`` (UTC), ``list<string>`` or pyarrow's name of a type."""

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class CatalogTable:
    """One table of the catalog.

    Parameters
    ----------
    element
        The tables of DataJoint's Element DeepLabCut that it stands in place of; empty where there is none.
    tagged
        Whether the lab's free tags are columns too, each as ``tag_<name>``.
    """

    name: str
    description: str
    element: tuple[str, ...]
    columns: tuple[CatalogColumn, ...]
    tagged: bool = False

    def schema(self, tags: Iterable[CatalogColumn] = ()) -> pa.Schema:
        """Return the Arrow schema, columns and table described in its metadata; *tags* are the lab's own columns."""
        import pyarrow as pa

        fields = [
            pa.field(column.name, _arrow_type(column.type), metadata={"description": column.description})
            for column in (*self.columns, *tags)
        ]
        return pa.schema(fields, metadata={"description": self.description})

    def arrow(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """Return *rows* as an Arrow table; what a row lacks is null, and so is a NaN.

        A date or a time may come as ISO 8601 text.
        """
        import pyarrow as pa

        unknown = {name for row in rows for name in row} - {column.name for column in self.columns}
        tags = tag_columns(rows) if self.tagged else ()
        unknown -= {name for name in unknown if self.tagged and name.startswith(TAG_PREFIX)}
        if unknown:
            raise ValueError(f"{self.name} has no column {', '.join(sorted(unknown))}")
        columns = [(column, [row.get(column.name) for row in rows]) for column in self.columns]
        columns += [(tag, [_tag_value(row, tag) for row in rows]) for tag in tags]
        arrays = [
            pa.array([_plain(value, column.type) for value in values], type=_arrow_type(column.type))
            for column, values in columns
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema(tags))


def tag_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[CatalogColumn, ...]:
    """Return one column a tag, sorted: bool or float64 where every value is one, else string.

    SQL does not tell ``Drug`` from ``drug``: tags that differ in case only are one column.
    """
    values: dict[str, list[Any]] = {}
    spelling: dict[str, str] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(TAG_PREFIX) and value is not None:
                folded = name.casefold()
                spelling[folded] = min(spelling.get(folded, name), name)
                values.setdefault(folded, []).append(value)
    return tuple(
        CatalogColumn(
            spelling[folded], _tag_type(values[folded]), f'The lab\'s own tag "{spelling[folded][len(TAG_PREFIX) :]}".'
        )
        for folded in sorted(values)
    )


def _tag_type(values: Iterable[Any]) -> str:
    kinds = {"bool" if isinstance(v, bool) else "float64" if isinstance(v, int | float) else "string" for v in values}
    return kinds.pop() if len(kinds) == 1 else "string"


def _tag_value(row: Mapping[str, Any], tag: CatalogColumn) -> Any:
    folded = tag.name.casefold()
    value = next((value for name, value in sorted(row.items()) if name.casefold() == folded), None)
    if tag.type != "string" or value is None:
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _arrow_type(name: str) -> pa.DataType:
    import pyarrow as pa

    if name == "timestamp":
        return pa.timestamp("us", tz="UTC")
    if name == "list<string>":
        return pa.list_(pa.string())
    return pa.type_for_alias("date32" if name == "date" else name)


def _plain(value: Any, type_name: str) -> Any:
    if value is None or value != value:
        return None
    if type_name == "timestamp":
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        return time.astimezone(UTC)
    if type_name == "date" and isinstance(value, str):
        return date.fromisoformat(value)
    if type_name == "int64":
        return int(value)
    return float(value) if type_name == "float64" else value


def catalog_table(name: str) -> CatalogTable:
    """Return the definition of the table called *name* (`poses` too)."""
    for table in (*TABLES, *VIEWS):
        if table.name == name:
            return table
    known = [table.name for table in (*TABLES, *VIEWS)]
    raise NotFoundError(f'the catalog has no table "{name}".{did_you_mean(name, known)} Tables: {", ".join(known)}.')


def _columns(*columns: tuple[str, str, str]) -> tuple[CatalogColumn, ...]:
    return tuple(CatalogColumn(*column) for column in columns)


_SESSION = ("session", "string", "Session key, sub-<subject>_ses-<session>.")
_RECORDING = ("recording", "string", "Video recording, a key within its session.")
_MODEL = ("model", "string", "Model's name: its specification's file name.")
_VERSION = (
    "version",
    "string",
    "Model version: the first 12 hexadecimal digits of the hash of weights and configuration.",
)
_WHY = ("why", "string", "The reason for the state, in words.")
_PARAM_SET = ("param_set", "string", "Key of training_param_sets.")
_DATASET = ("dataset", "string", "Training dataset in the store: hash of labels, split and network.")
_LABEL_HASH = (
    "label_hash",
    "string",
    "Hash of the labels that it learns from or is checked on: coordinates and images.",
)
# What the columns of an evaluation's summary are called in the catalog, where that differs.
EVALUATION_COLUMN = {"n": "labels", "n_pcutoff": "labels_pcutoff", "n_missed": "missed"}

TABLES: tuple[CatalogTable, ...] = (
    CatalogTable(
        "subjects",
        "Animals: those lab.yaml declares and those that sessions name.",
        ("Subject",),
        _columns(
            ("subject", "string", "Subject key, as archives' file names can carry it."),
            ("source_name", "string", "Name as the lab writes it."),
            ("declared", "bool", "Whether lab.yaml describes it."),
            ("species", "string", "Species in Latin."),
            ("sex", "string", "M, F, U (unknown) or O (other)."),
            ("date_of_birth", "date", "Day of birth."),
            (
                "age",
                "string",
                "Age as an ISO 8601 duration, where lab.yaml states it in the place of the day of birth.",
            ),
            ("weight", "string", "Weight with its unit."),
            ("strain", "string", "Strain."),
            ("genotype", "string", "Genotype."),
            ("description", "string", "Description."),
            ("sessions", "int64", "Number of sessions."),
        ),
        tagged=True,
    ),
    CatalogTable(
        "devices",
        "Cameras: those lab.yaml declares and those that recordings name.",
        ("Device",),
        _columns(
            ("device", "string", "Camera's name."),
            ("declared", "bool", "Whether lab.yaml describes it."),
            ("description", "string", "Description."),
            ("manufacturer", "string", "Manufacturer."),
            ("model", "string", "The manufacturer's name of the camera."),
            ("recordings", "int64", "Number of recordings that were probed."),
        ),
    ),
    CatalogTable(
        "sessions",
        "Experimental sessions, those whose videos are gone included.",
        ("Session",),
        _columns(
            _SESSION,
            ("subject", "string", "Subject key; null without a subject."),
            ("session_label", "string", "The session's part of its key."),
            ("source_name", "string", "Session's name as the recording's path writes it."),
            (
                "start",
                "timestamp",
                "When the session began; null where neither session.yaml nor the videos' names or contents say.",
            ),
            ("start_source", "string", "Where the start comes from."),
            ("day", "date", "Day of the session, in its own time zone."),
            ("age_days", "int64", "The subject's age in days on the session's day."),
            ("description", "string", "What was done."),
            ("experimenters", "list<string>", "Who did it."),
            ("recordings", "int64", "Number of recordings that were probed (found, where none was probed yet)."),
            ("failed_recordings", "int64", "Number of recordings that could not be read."),
            (
                "state",
                "string",
                "up to date, behind, missing (not probed yet), failed, or gone (its videos are no longer there).",
            ),
            _WHY,
            ("problems", "list<string>", "What a person should look at."),
            ("probed", "timestamp", "When its recordings were probed."),
        ),
        tagged=True,
    ),
    CatalogTable(
        "recordings",
        "Video recordings: one continuous video of one camera, with what was measured of it.",
        ("VideoRecording", "RecordingInfo"),
        _columns(
            _SESSION,
            _RECORDING,
            ("camera", "string", "Camera as the recording's path names it."),
            ("device", "string", "Camera (key of devices)."),
            ("state", "string", "probed, failed, missing (found, not probed yet) or gone."),
            _WHY,
            ("start", "timestamp", "When the first frame was taken; null where the session's start is not known."),
            ("time_start", "float64", "Time of the first frame on the session's clock, s."),
            ("duration", "float64", "Duration, s."),
            ("frame_count", "int64", "Frames, counted by decoding every one."),
            ("header_frame_count", "int64", "Frames that the file's header claims."),
            ("fps", "float64", "Frames per second."),
            ("rate", "string", "Frames per second as an exact fraction, such as 30000/1001."),
            ("regular", "bool", "Whether frames lie at equal intervals."),
            ("width", "int64", "Width of the upright frame, px."),
            ("height", "int64", "Height of the upright frame, px."),
            ("rotation", "int64", "Rotation that the file's metadata asks for, degrees."),
            ("codec", "string", "Video codec."),
            ("pixel_format", "string", "Pixel format."),
            ("clock", "string", "Where the frames' times come from."),
            ("times_repaired", "list<string>", "What was done where time stamps and frames differed in number."),
            ("files", "int64", "Number of files."),
            ("content_hash", "string", "Hash of the files, the times and the device."),
            ("problems", "list<string>", "What a person should look at."),
        ),
    ),
    CatalogTable(
        "recording_files",
        "The video files of each recording, in order.",
        ("VideoRecording.File",),
        _columns(
            _SESSION,
            _RECORDING,
            ("part", "int64", "Place of the file in the recording, from 0."),
            ("path", "string", "Path, relative to the lab folder where it lies in it."),
            ("size", "int64", "Size, bytes."),
            ("sha256", "string", "Hash of the file; null until it was probed."),
            ("first_frame", "int64", "Number of its first frame in the recording."),
            ("frame_count", "int64", "Frames in the file."),
        ),
    ),
    CatalogTable(
        "body_parts",
        "Body parts of the lab's projects and models, and what their names mean.",
        ("BodyPart",),
        _columns(
            ("body_part", "string", "Body part's name, as a model or lab.yaml has it."),
            (
                "canonical",
                "string",
                "The lab's name of the same body part: where lab.yaml calls body_part a synonym, of what.",
            ),
            ("description", "string", "What lab.yaml says of it."),
            ("declared", "bool", "Whether lab.yaml describes it, under this name or as a synonym."),
            ("models", "list<string>", "Models that estimate it, or will once they are trained."),
        ),
    ),
    CatalogTable(
        "label_sets",
        "Labeled frames that each model learns from, by folder of the project and scorer, as they are now.",
        ("VideoSet", "VideoSet.File"),
        _columns(
            _MODEL,
            ("project", "string", "DeepLabCut project's name in the lab."),
            ("folder", "string", "Folder under labeled-data: the name of the video that was labeled."),
            ("scorer", "string", "Who labeled."),
            ("found", "int64", "Labeled frames found."),
            ("used", "int64", "Labeled frames used."),
            ("dropped", "int64", "Labeled frames not used."),
            ("reasons", "string", "Why frames were not used, with numbers."),
            ("notes", "string", "What else a person should know."),
            _LABEL_HASH,
            ("problem", "string", "Why the label set cannot be read."),
        ),
    ),
    CatalogTable(
        "training_param_sets",
        "Sets of training parameters: those that specifications state and those that versions were trained with.",
        ("TrainingParamSet",),
        _columns(
            ("param_set", "string", "Hash of the parameters."),
            ("net_type", "string", "DeepLabCut's name of the network."),
            ("weights", "string", "Starting weights."),
            ("epochs", "int64", "How often each training frame is seen."),
            ("batch_size", "int64", "Frames a step."),
            ("save_epochs", "int64", "A snapshot every so many epochs."),
            ("seed", "int64", "Seed of training."),
            ("split_by", "string", "Whether whole videos or single frames are put in the sets."),
            ("train", "float64", "Share of frames that train."),
            ("validation", "float64", "Share of frames that choose the best snapshot."),
            ("benchmark", "float64", "Share of frames that only score."),
            ("split_seed", "int64", "Seed of the split."),
            ("pytorch_config", "string", "Entries of DeepLabCut's pytorch_config that the lab sets, JSON."),
            ("models", "list<string>", "Model specifications that state these parameters now."),
            ("versions", "list<string>", "Versions that were trained with them, as model@version."),
        ),
    ),
    CatalogTable(
        "training_tasks",
        "Models to train: each specification with the state of its dataset, training and evaluation.",
        ("TrainingTask",),
        _columns(
            _MODEL,
            ("description", "string", "Description."),
            ("project", "string", "DeepLabCut project's name in the lab."),
            ("config_path", "string", "The project's config.yaml, relative to the lab folder where it lies in it."),
            ("videos", "list<string>", 'Labeled videos used; "all" for every one.'),
            ("scorers", "list<string>", "Scorers in order of preference; null for the project's and then others."),
            _PARAM_SET,
            ("dataset_state", "string", "State of the training dataset."),
            ("state", "string", "State of the trained model: up to date, custom, missing, behind, failed or gone."),
            ("evaluation_state", "string", "State of the evaluation."),
            _WHY,
            ("current_version", "string", "Version that the model means now; null when it was never trained."),
        ),
    ),
    CatalogTable(
        "model_trainings",
        "Trainings that ended in a model version.",
        ("ModelTraining",),
        _columns(
            _MODEL,
            _VERSION,
            _PARAM_SET,
            _DATASET,
            _LABEL_HASH,
            ("trained", "timestamp", "When training ended."),
            ("training_seconds", "float64", "How long it took, s."),
            ("epochs", "int64", "Epochs that were asked for."),
            ("epoch", "int64", "Epoch of the snapshot that was kept: the best on the validation frames."),
            ("custom", "bool", "Whether the run had settings of its own."),
            ("weights_report", "string", "Which starting weights were found and loaded, JSON."),
            ("software", "string", "Versions of the programs, JSON."),
            ("run_id", "string", "Dagster run."),
        ),
    ),
    CatalogTable(
        "models",
        "Trained model versions; a version stands for DeepLabCut's iteration, shuffle, training set and snapshot index.",
        ("Model", "Model.BodyPart"),
        _columns(
            _MODEL,
            _VERSION,
            ("current", "bool", "Whether the model's name means this version."),
            ("released", "bool", "Whether a release rule of lab.yaml means this version."),
            ("specified", "bool", "Whether the model's specification is still there."),
            ("imported", "bool", "Whether it was trained elsewhere."),
            ("runnable", "bool", "Whether the network can be run here; of others there are imported results alone."),
            ("description", "string", "Description."),
            ("task", "string", "Task of the DeepLabCut project."),
            ("scorer", "string", "Name of the network in DeepLabCut's own tables."),
            ("net_type", "string", "DeepLabCut's name of the network."),
            ("body_parts", "list<string>", "Body parts in order."),
            ("individuals", "list<string>", "Individuals; empty for single-animal models."),
            ("skeleton", "string", "Pairs of body parts that a line joins, JSON."),
            ("pcutoff", "float64", "Likelihood above which a detection is trusted."),
            _PARAM_SET,
            ("trained", "timestamp", "When it was trained."),
            ("path", "string", "Folder of weights and configuration, relative to the lab folder."),
        ),
    ),
    CatalogTable(
        "evaluations",
        "Errors of model versions on labeled frames, by set and body part; body_part (all) is over all of them.",
        ("ModelEvaluation",),
        _columns(
            _MODEL,
            _VERSION,
            ("set", "string", "train, validation or benchmark."),
            ("scoring", "bool", "Whether the model is judged by this set: frames it did not learn from."),
            ("body_part", "string", "Body part, or (all)."),
            *(
                (EVALUATION_COLUMN.get(name, name), kind, f"{said[0].upper()}{said[1:]}.")
                for name, kind, said in SUMMARY_COLUMNS
            ),
            ("pcutoff", "float64", "Likelihood above which a detection is trusted."),
            ("epoch", "int64", "Epoch of the snapshot."),
            _DATASET,
            ("evaluated", "timestamp", "When."),
        ),
    ),
    CatalogTable(
        "pose_estimations",
        "Pose tables that exist, of every version, and those that should: one row a recording, with its state.",
        ("PoseEstimationTask", "PoseEstimation"),
        _columns(
            _MODEL,
            _SESSION,
            ("version", "string", "Model version; null while none can be said."),
            ("recording", "string", "Video recording; null while none can be said."),
            ("device", "string", "Camera."),
            (
                "state",
                "string",
                "up to date, custom, missing, behind, failed, waiting, gone, or older version (kept beside the current).",
            ),
            _WHY,
            ("wanted", "bool", "Whether a release rule asks for it."),
            ("frames", "int64", "Frames estimated; null where there are no poses."),
            ("rows", "int64", "Rows of the pose table."),
            ("mean_likelihood", "float64", "Mean likelihood over frames and body parts."),
            ("share_below_pcutoff", "float64", "Share of estimates below the model's pcutoff."),
            ("pcutoff", "float64", "Likelihood above which a detection is trusted."),
            ("seconds", "float64", "How long the estimation took, s."),
            ("estimated", "timestamp", "When."),
            ("overrides", "string", "The run's own settings, JSON; null where there were none."),
            ("data_version", "string", "Hash of the poses."),
            ("path", "string", "The pose table, relative to the lab folder."),
            ("run_id", "string", "Dagster run."),
        ),
    ),
    CatalogTable(
        "cohorts",
        "Frozen cohorts: one row a session and model, with the version that was frozen.",
        (),
        _columns(
            ("cohort", "string", "Name of the cohort."),
            _SESSION,
            _MODEL,
            _VERSION,
            ("recordings", "list<string>", "Recordings that are this model's."),
            ("frozen", "timestamp", "When."),
            ("by", "string", "Who froze it."),
            ("reason", "string", "Why."),
            ("data_version", "string", "Hash of the poses that were frozen."),
            ("there", "bool", "Whether these very poses are still there."),
            (
                "kept_elsewhere",
                "bool",
                "Whether they were analysed anew, so that `poses` has others of this session, model and version.",
            ),
            ("filters", "string", "Steps of the filters as they were then, JSON; null where there were none."),
        ),
    ),
    CatalogTable(
        "findings",
        "What each check says of each pose table that has a quality report, of every version.",
        (),
        _columns(
            _SESSION,
            _MODEL,
            _VERSION,
            ("check_name", "string", "The check."),
            ("passed", "bool", "Whether it passes."),
            ("severity", "string", "What it means where it does not pass: warn (look at it) or error (do not use)."),
            ("value", "float64", "What it measured; null where it measured nothing."),
            ("limit_value", "float64", "What it compares that with; null where it compares with nothing."),
            ("sentence", "string", "What it says, in words."),
            ("verdict", "string", "Of the whole pose table: good, look or unusable."),
            ("newest", "bool", "Whether no report of this session and model is newer."),
            ("judged", "timestamp", "When the report was made."),
        ),
    ),
)

POSES = CatalogTable(
    "poses",
    "Every pose of the store: a view over the pose tables, of which only those that a query needs are read.",
    ("PoseEstimation.BodyPartPosition",),
    _columns(_MODEL, _VERSION, _SESSION, *((c.name, c.arrow, c.description) for c in POSE_COLUMNS)),
)

FILTERED_POSES = CatalogTable(
    "filtered_poses",
    "The poses after the lab's filters: a view over the filtered pose tables, with the columns of `poses`.",
    (),
    POSES.columns,
)

KINEMATICS = CatalogTable(
    "kinematics",
    "What was measured of the poses: a view over the kinematics tables, by name of column; those named here are always there.",
    (),
    _columns(
        _MODEL,
        _VERSION,
        _SESSION,
        *((name, arrow, description) for name, arrow, _, _, description in base_columns()),
        *((measure.name, measure.arrow, measure.description) for measure in Plan(()).measures()),
    ),
)

VIEWS = (POSES, FILTERED_POSES, KINEMATICS)

COMPARISON = CatalogTable(
    "model_comparison",
    "Every version of every model side by side, ranked on benchmark frames that none of those it is ranked with has seen.",
    (),
    _columns(
        (
            "comparable",
            "string",
            "Hash of the labels scored on: rows with the same one are ranked against each other; null where not ranked.",
        ),
        ("rank", "int64", "Place among the comparable, 1 the best (smallest rmse)."),
        _MODEL,
        _VERSION,
        ("current", "bool", "Whether the model's name means this version."),
        ("project", "string", "Project that the model was trained from."),
        (
            "verdict",
            "string",
            "best, not distinguishable from the best, worse than the best, or cannot be told (too few frames); empty where not ranked.",
        ),
        ("frames", "int64", "Labeled frames scored on, unseen by all comparable versions."),
        ("videos", "int64", "Videos that these frames come from."),
        ("labels", "int64", "Labels compared: those for which every comparable version gave a position."),
        ("body_parts", "list<string>", "Body parts compared."),
        ("rmse", "float64", "Mean Euclidean distance in px: what DeepLabCut's evaluation calls RMSE."),
        (
            "rmse_low",
            "float64",
            "Lower end of its 95 % interval, by bootstrap over videos (over blocks of frames in one video).",
        ),
        ("rmse_high", "float64", "Upper end of its 95 % interval."),
        ("rmse_pcutoff", "float64", "The same as rmse over estimates whose likelihood reaches pcutoff."),
        ("median_error", "float64", "Median distance in px."),
        ("pck_5px", "float64", "Share of labels with an estimate within 5 px."),
        ("missed", "int64", "Labels for which this version gave no position."),
        ("difference", "float64", "Mean error above that of the best, in px; null for the best."),
        ("difference_low", "float64", "Lower end of its 95 % interval, from paired differences."),
        ("difference_high", "float64", "Upper end of its 95 % interval."),
        (
            "human_error",
            "float64",
            "Mean distance in px between two people who labeled the same frames; null where no two did.",
        ),
        ("pcutoff", "float64", "Likelihood above which a detection is trusted."),
        ("parameters", "int64", "Numbers that the network learned."),
        (
            "frames_per_second",
            "float64",
            "Speed where it was evaluated, at the commonest size of the labeled pictures.",
        ),
        ("device", "string", "Where that was measured: the GPU's name, or cpu."),
        ("net_type", "string", "DeepLabCut's name of the network."),
        ("epochs", "int64", "Epochs that were asked for."),
        ("custom", "bool", "Whether the training run had settings of its own."),
        _DATASET,
        _LABEL_HASH,
        ("trained", "timestamp", "When it was trained."),
        ("note", "string", "How it stands to the best, in words, or why it is not ranked."),
    ),
)
