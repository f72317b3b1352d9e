"""How the daemon starts runs, and how the UI stops them: dagster.yaml names this class.

See https://docs.dagster.io/deployment/execution/run-launchers.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import dagster as dg

from dlc_assets.executors import HOST_TAG

if TYPE_CHECKING:
    from dagster._core.launcher.base import LaunchRunContext

ASKED_BY_TAG, COMMAND = "dlc_assets/asked_by", "command"


_HERE = {"localhost", "127.0.0.1"}


class LabRunLauncher(dg.DefaultRunLauncher):
    """Dagster's own launcher, which can also stop the runs of commands, and writes down on which host a run begins.

    By the host, the janitor knows a run whose process dies before it can say anything.

    No server of Dagster's holds such a run: the command itself watches whether it is to be cancelled (`launching`). The default
    launcher would ask for that, too, but tell the UI that the run cannot be terminated.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        if context.workspace is not None and run.remote_job_origin is not None:
            origin = context.workspace.get_code_location(run.remote_job_origin.location_name).origin
            # One that listens on a socket is here, too, and names no other host.
            if getattr(origin, "host", None) in _HERE:
                self._instance.add_run_tags(run.run_id, {HOST_TAG: socket.gethostname()})
        super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or run.tags.get(ASKED_BY_TAG) != COMMAND:
            return bool(super().terminate(run_id))
        self._instance.report_run_canceling(run)
        return True
