"""One of Dagster's services in a process that ends with the one that started it: ``python -m dlc_assets.service MODULE ARGUMENT...``.

MODULE is run as ``python -m MODULE`` would; standard input must be a pipe that the starter (`serving`) holds.
"""

from __future__ import annotations

import runpy
import sys

from dlc_assets.lab.processes import end_with_input

GRACE_SECONDS = 25.0  # runs that are interrupted say so to the instance, and write down what they have


def main() -> None:
    """Run the module that the command line names."""
    del sys.argv[0]
    end_with_input(grace_seconds=GRACE_SECONDS)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
