"""`kinematics`: what is measured of the poses of one session by one model: speed, direction, distances, regions."""

from dataclasses import replace
from typing import Any

import dagster as dg

from dlc_assets.assets import filtering, previews
from dlc_assets.assets.derived import ReviewConfig, derived_stage
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.reporting import Made, Stage
from dlc_assets.checks import outcomes
from dlc_assets.derived.kinematics import KIND, measure_session
from dlc_assets.derived.kinematics_figures import Shown
from dlc_assets.derived.kinematics_reading import kinematics_files
from dlc_assets.derived.kinematics_schema import RULES, base_columns
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.recordings.info import need_session_info
from dlc_assets.recordings.setups import setup_of

_DRAWN = ("time", "individual", "centroid_x_px", "centroid_y_px", "speed_px_s")

SPEC = dg.AssetSpec(
    KIND.asset,
    deps=[pose_table, filtering.SPEC],
    description=(
        "What is measured of the poses of one session: a row for each frame and individual, one Parquet file a recording.\n\n"
        "Speed, acceleration, heading and path length of the centroid; speed and acceleration of body parts; distances between body "
        "parts and to regions; time in regions. In px, and in cm where the setup has a scale. From the filtered poses, unless lab.yaml "
        "says otherwise. In a notebook: `dlc_assets.open_lab().kinematics()`. What each column means: "
        "docs/reference/kinematics-table.md; how to use it: docs/how-to/kinematics.md."
    ),
    group_name="inference",
    owners=["team:lab"],
    kinds={"parquet"},
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


def kinematics_stage(context: dg.AssetExecutionContext, lab: Lab, config: ReviewConfig) -> Stage:
    """Return how a run makes kinematics; a source that it states makes them "custom"."""
    stated = {} if config.kinematics_from is None else {"source": config.kinematics_from}

    def make(model: str, session: str) -> Made:
        manifest, made_now = measure_session(
            lab,
            model,
            session,
            overrides={**config.overrides(), **stated},
            recompute=config.recompute,
            run_id=context.run.run_id,
            log=context.log.info,
        )
        filtered = manifest.details["filtered_poses"]
        made_from = {"pose_table": manifest.inputs["poses"]}
        if filtered is not None:
            made_from[filtering.KIND.asset] = filtered
        checks = outcomes.evaluations(manifest, lab.root)
        return Made(manifest.data_version, _metadata(lab, manifest, made_now), made_from, checks)

    stage = derived_stage(lab, KIND, make)
    return stage if config.kinematics_from != "raw" else replace(stage, needs=())


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
