"""What a person sees first: the lineage, drawn by a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc_assets.lab.lab import open_lab_folder
from dlc_assets_tests.live.conftest import BusyLab
from docs_tools.screenshots import take

pytestmark = pytest.mark.slow

_CHROMIUM = Path("/usr/bin/chromium")
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def test_the_lineage_is_drawn_with_every_group_and_asset(busy_lab: BusyLab) -> None:
    if not _CHROMIUM.is_file():
        pytest.skip(f"no browser at {_CHROMIUM}")
    api = pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(_CHROMIUM), args=_QUIET)
        try:
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.goto(f"{busy_lab.server.url}/asset-groups")
            for group in ("training", "recordings", "inference", "export", "catalog"):
                page.get_by_text(group, exact=True).last.wait_for(timeout=60_000)
            page.goto(f"{busy_lab.server.url}/locations/dlc_assets/asset-groups/training")
            for asset in ("label_set", "training_dataset", "trained_model", "model_evaluation", "model_comparison"):
                page.get_by_text(asset, exact=True).last.wait_for(timeout=60_000)
        finally:
            browser.close()


def test_the_command_takes_its_pictures_of_a_finished_lab(lab_copy: Path, tmp_path: Path) -> None:
    if not _CHROMIUM.is_file():
        pytest.skip(f"no browser at {_CHROMIUM}")
    pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with")
    take(open_lab_folder(lab_copy), tmp_path / "pictures", pause_ms=300)
    taken = {path.stem for path in (tmp_path / "pictures").iterdir()}
    of_every_lab = {"lineage", "pose-table", "partitions", "trajectories", "model-evaluation", "model-comparison"}
    assert {name for name in taken if not name.startswith("quality-")} == of_every_lab
