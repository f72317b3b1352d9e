"""`kinematics`: what is measured of the poses of one session by one model: speed, direction, distances, regions."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from dlc_assets.assets import previews
from dlc_assets.assets.filtering import filtered_pose_table
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.reporting import Made, Stage, make_chains
from dlc_assets.checks import outcomes
from dlc_assets.derived.kinematics import ASSET, kinematics_inputs, measure_session
from dlc_assets.derived.kinematics_figures import Shown
from dlc_assets.derived.kinematics_reading import kinematics_files
from dlc_assets.derived.kinematics_schema import RULES, base_columns
from dlc_assets.inference.pose_tables import pose_manifest
from dlc_assets.lab.errors import NotFoundError
from dlc_assets.lab.keys import split_pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.partitions import session_models
from dlc_assets.recordings.info import need_session_info
from dlc_assets.recordings.setups import setup_of
from dlc_assets.resources.lab import LabResource

# Differs from its neighbours' so that a backfill never fuses them.
SESSIONS_PER_RUN = 120
_DRAWN = ("time", "individual", "centroid_x_px", "centroid_y_px", "speed_px_s")


class KinematicsConfig(dg.Config):
    """Settings of one run; empty means the lab's files. A stated source makes the result "custom"."""

    version: str | None = Field(
        None, description="version of the model; default: the released one, else the current one"
    )
    source: str | None = Field(
        None, description="filtered or raw: the poses that are measured; default: lab.yaml's kinematics.from"
    )
    recompute: bool = Field(False, description="measure even though what is stored is up to date")

    def overrides(self) -> dict[str, Any]:
        """Return what was stated."""
        return {name: value for name, value in self.model_dump(exclude={"recompute"}).items() if value is not None}


@dg.asset(
    deps=[pose_table, filtered_pose_table],
    group_name="inference",
    owners=["team:lab"],
    kinds={"parquet"},
    partitions_def=session_models,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=SESSIONS_PER_RUN),
    output_required=False,
    code_version="1",
    metadata={
        "dagster/column_schema": previews.column_schema(
            [
                *(
                    (name, arrow, f"{said}{f' ({unit})' if unit else ''}")
                    for name, arrow, unit, _, said in base_columns()
                ),
                *(
                    (rule.template, rule.arrow, f"{rule.description} ({rule.unit or 'yes or no'})")
                    for of in RULES
                    for rule in ((of, of.in_cm) if of.lengths else (of,))
                ),
            ]
        )
    },
)
def kinematics(
    context: dg.AssetExecutionContext, config: KinematicsConfig, lab: LabResource
) -> Iterator[dg.MaterializeResult]:
    """What is measured of the poses of one session: a row for each frame and individual, one Parquet file a recording.

    Speed, acceleration, heading, path length of the centroid; speed and acceleration of body parts; distances between body parts and to
    regions; time in regions. In px, and in cm where the setup has a scale. From the filtered poses, unless lab.yaml says otherwise.
    In a notebook: `dlc_assets.open_lab().kinematics()`. What each column means: docs/reference/kinematics-table.md.
    """
    opened = lab.open()
    yield from make_chains(context, opened, [kinematics_stage(context, opened, config)])


def kinematics_stage(context: dg.AssetExecutionContext, opened: Lab, config: KinematicsConfig) -> Stage:
    """Return how a run makes kinematics, by itself or after the filtered poses."""

    def make(key: str) -> Made:
        model, session = split_pose_key(key)
        manifest, made_now = measure_session(
            opened,
            model,
            session,
            overrides=config.overrides(),
            recompute=config.recompute,
            run_id=context.run.run_id,
            log=context.log.info,
        )
        filtered = manifest.details["filtered_poses"]
        return Made(
            manifest.data_version,
            _metadata(opened, manifest, made_now),
            {
                "pose_table": manifest.inputs["poses"],
                **({} if filtered is None else {"filtered_pose_table": filtered}),
            },
            outcomes.evaluations(manifest, opened.root),
        )

    def inputs(key: str) -> dict[str, str]:
        model, session = split_pose_key(key)
        info, _ = need_session_info(opened.layout, session)
        poses = pose_manifest(opened, model, info)
        if poses is None:
            raise NotFoundError(f"{session} has no poses by {model}.")
        return kinematics_inputs(opened, info, poses)

    return Stage(ASSET, make, inputs, retried=True)


def _metadata(lab: Lab, manifest: Manifest, made_now: bool) -> dict[str, Any]:
    details = manifest.details
    rows = details["recordings"]
    animals = [(row, of) for row in rows for of in row["individuals"]]
    known = [of["known"] for _, of in animals]
    return {
        "model version": details["version"],
        "from": f"{details['source']} poses",
        "dagster/partition_row_count": details["rows"],
        "frames": details["frames"],
        "made now": made_now,
        "custom": manifest.custom,
        "share of frames known": round(sum(known) / len(known), 4) if known else 0.0,
        "summary": previews.table([_summary(row, of) for row, of in animals]),
        "regions": previews.table(
            [
                {"recording": row["recording"], "individual": of["individual"], "region": region, **spent}
                for row, of in animals
                for region, spent in of["regions"].items()
            ]
        ),
        "camera": previews.table(
            [{"recording": row["recording"], "says": row["camera"]} for row in rows if row["camera"] is not None]
        ),
        "problems": previews.table([{"problem": problem} for problem in manifest.problems]),
        **_picture(lab, manifest),
        "columns": ", ".join(details["columns"]),
        "dagster/uri": dg.MetadataValue.path(str(kinematics_files(lab, manifest)[0].path.parent)),
    }


def _summary(row: dict[str, Any], of: dict[str, Any]) -> dict[str, Any]:
    """Return one individual's numbers for the UI, in cm where they are known so."""
    unit = "px" if of["path_length_cm"] is None else "cm"
    shown = {
        f"path length ({unit})": of[f"path_length_{unit}"],
        f"mean speed ({unit}/s)": of[f"mean_speed_{unit}_s"],
        f"median speed ({unit}/s)": of[f"median_speed_{unit}_s"],
    }
    return {"recording": row["recording"], "individual": of["individual"], "share known": of["known"], **shown}


def _picture(lab: Lab, manifest: Manifest) -> dict[str, Any]:
    """Return a picture of the first recording; none where the session has it no more."""
    import pyarrow.parquet as pq

    file = kinematics_files(lab, manifest)[0]
    info, _ = need_session_info(lab.layout, file.session)
    recording = next((of for of in info.recordings if of.recording == file.recording), None)
    if recording is None:
        return {}
    row = manifest.details["recordings"][0]
    rows = pq.read_table(file.path, columns=list(_DRAWN))
    names = rows["individual"].combine_chunks().to_numpy(zero_copy_only=False)
    values = {name: rows[name].to_numpy() for name in _DRAWN if name != "individual"}
    shown = [
        Shown(name, *(values[column][names == name] for column in _DRAWN if column != "individual"))
        for name in (of["individual"] for of in row["individuals"])
    ]
    return {
        "picture": previews.kinematics_picture(
            shown,
            {} if row["withheld"] else setup_of(lab, info, recording).regions,
            recording.width,
            recording.height,
            px_per_cm=None if row["withheld"] else row["px_per_cm"],
            title=f"{file.recording}: speed of the centroid",
        )
    }
