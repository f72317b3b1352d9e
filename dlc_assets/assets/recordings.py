"""`session_recordings`: the videos of one session, probed, hashed, and with exact times."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from dlc_assets.assets import previews
from dlc_assets.assets.reporting import Made, make_partitions
from dlc_assets.checks import outcomes
from dlc_assets.lab.errors import NotFoundError, did_you_mean
from dlc_assets.lab.locks import hold
from dlc_assets.partitions import sessions
from dlc_assets.recordings.discovery import find_sessions
from dlc_assets.recordings.info import SessionInfo, read_session_info, read_times
from dlc_assets.recordings.session_recordings import record_session, session_inputs
from dlc_assets.resources.lab import LabResource

# Differs from its neighbours' (pose_table, nwb_file) so that a backfill never fuses them into one run.
SESSIONS_PER_RUN = 100


class RecordingsConfig(dg.Config):
    """Settings of one probing."""

    recompute: bool = Field(False, description="probe again even though no file of the session has changed")


@dg.asset(
    group_name="recordings",
    owners=["team:lab"],
    kinds={"ffmpeg", "parquet"},
    partitions_def=sessions,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=SESSIONS_PER_RUN),
    output_required=False,
    code_version="1",
    metadata={
        "dagster/column_schema": previews.column_schema(
            [
                ("frame", "int32", "frame of the recording, from 0 over all its files"),
                ("part", "int16", "which of the recording's files, from 0"),
                ("time", "float64", "s on the session's clock"),
            ]
        )
    },
)
def session_recordings(
    context: dg.AssetExecutionContext, config: RecordingsConfig, lab: LabResource
) -> Iterator[dg.MaterializeResult]:
    """The videos of one session: every frame decoded and counted, exact rate, time of each frame, size, codec, hash, start.

    Times are the video's own, or those of a file beside it. A recording that cannot be read is named by the check
    `recordings_readable`; the session's others are used.
    """
    opened = lab.open()
    found = find_sessions(opened, context.partition_keys)

    def make(key: str) -> Made:
        session = found.get(key)
        if session is None:
            raise NotFoundError(
                f"{key}: no video of this session is there.{did_you_mean(key, found)} If it was moved, correct the templates "
                "in lab.yaml."
            )
        with hold(opened.layout.lock("session_recordings", key), f"probing {key}", log=context.log.info):
            known = read_session_info(opened.layout, key)
            manifest = known[1] if known is not None else None
            if manifest is None or config.recompute or manifest.inputs != session_inputs(opened, session):
                manifest = record_session(opened, session, run_id=context.run.run_id, log=context.log.info)
        info = SessionInfo.model_validate(manifest.details)
        times = {r.recording: read_times(opened.layout, key, r.recording) for r in info.recordings}
        return Made(
            manifest.data_version,
            {
                "recordings": previews.table(
                    [
                        {
                            "recording": r.recording,
                            "device": r.device,
                            "files": len(r.files),
                            "frames": r.frame_count,
                            "frames by header": r.header_frame_count,
                            "rate": r.rate,
                            "regular": r.regular,
                            "size": f"{r.width}x{r.height}",
                            "turned upright": f"by {r.rotation}°" if r.rotation else "no",
                            "duration (s)": r.duration,
                            "codec": r.codec,
                            "times": r.clock,
                        }
                        for r in info.recordings
                    ]
                ),
                "start": info.start.isoformat() if info.start else f"not known ({info.start_source})",
                "start stated by": info.start_source,
                "dagster/partition_row_count": sum(r.frame_count for r in info.recordings),
                "duration (s)": round(sum(r.duration for r in info.recordings), 3),
                "frames": previews.strips(
                    {r.recording: (r.files[0].resolve(opened.root), r.files[0].frame_count) for r in info.recordings}
                ),
                "frame intervals": previews.interval_histogram(times),
                "dagster/uri": dg.MetadataValue.path(str(opened.layout.session_recordings(key))),
            },
            {},
            outcomes.evaluations(manifest, opened.root),
        )

    yield from make_partitions(
        context,
        opened,
        make,
        lambda key: session_inputs(opened, found[key]) if key in found else {},
        retried=True,
        failing_check="recordings_readable",
    )
