"""The lab as a Dagster resource: opened anew in each step and tick, so that edits to its files count at once."""

import dagster as dg

from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.processes import end_with_parent


class LabResource(dg.ConfigurableResource):
    """The lab folder that assets and sensors work on.

    `path` is the folder; empty means `$DLC_ASSETS_LAB`, else ./lab.
    """

    path: str = ""

    def open(self) -> Lab:
        """Open the lab and read its lab.yaml. A step, whose first act this is, ends with its run's process from here on."""
        end_with_parent()
        return open_lab_folder(self.path or None)
