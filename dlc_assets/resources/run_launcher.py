"""How the daemon starts runs, and how the UI stops them: dagster.yaml names this class.

See https://docs.dagster.io/deployment/execution/run-launchers.
"""

from __future__ import annotations

import dagster as dg

ASKED_BY_TAG, COMMAND = "dlc_assets/asked_by", "command"


class LabRunLauncher(dg.DefaultRunLauncher):
    """Dagster's own launcher, which can also stop the runs of commands.

    No server of Dagster's holds such a run: the command itself watches whether it is to be cancelled (`launching`). The default
    launcher would ask for that, too, but tell the UI that the run cannot be terminated.
    """

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or run.tags.get(ASKED_BY_TAG) != COMMAND:
            return bool(super().terminate(run_id))
        self._instance.report_run_canceling(run)
        return True
