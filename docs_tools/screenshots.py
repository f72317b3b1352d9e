"""Pictures of the running UI for the documentation: `python -m docs_tools.screenshots demo-lab` writes docs/images/*.png.

A web server is started for the lab on a free port of 127.0.0.1, with neither daemon nor sensors, so that nothing is made meanwhile; a
Chromium without a window opens the pages. The lab is a finished demo's (`make demo`). What it lacks (a second model to compare, a quality
report) is left out and named. Look at each picture before you commit it.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

from benchmarks.ui import WebServer
from benchmarks.ui_pages import CHROMIUM, QUIET
from dlc_assets.definitions import defs
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.resources.instance import open_instance
from dlc_assets.resources.known_outputs import report_known_outputs

Scheme = Literal["light", "dark"]

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
MOST_BYTES = 200_000
_PATIENCE_MS = 120_000
_DRAWN_MS = 2_500  # after the last answer
# Where the UI keeps which groups of the lineage are open, and how.
_OPEN_GROUPS = "asset-graph-open-graph-nodes-global-__GLOBAL__"


@dataclass(frozen=True)
class Shot:
    """One picture: its file's name, the page, what to do there, and which part of the page is kept (CSS; else all that is seen)."""

    name: str
    address: str
    act: Callable[[Any], None] = lambda page: None
    part: str | None = None
    size: tuple[int, int] = (1280, 800)


def shots(lab: Lab, url: str) -> Iterator[Shot]:
    """Yield the pictures that can be taken of *lab*, served at *url*."""
    model, session = _first_pose_table(lab)
    task = quote(pose_key(model, session), safe="")
    yield Shot("lineage", f"{url}/asset-groups", part='[class*="svgContainer"]', size=(1600, 1900), act=_fold_sidebar)
    yield Shot("pose-table", f"{url}/assets/pose_table?view=overview")
    yield Shot("partitions", f"{url}/assets/pose_table?view=partitions&partition={task}")
    yield Shot(
        "trajectories",
        f"{url}/assets/pose_table?view=partitions&partition={task}",
        act=lambda page: _show(page, "trajectories"),
    )
    yield Shot(
        "model-evaluation",
        f"{url}/assets/model_evaluation?view=partitions&partition={model}",
        act=lambda page: _show(page, "error by body part"),
    )
    yield Shot(
        "model-comparison",
        f"{url}/assets/model_comparison?view=overview",
        act=lambda page: _show(page, "errors with their intervals"),
    )
    reports = [page for page in lab.layout.quality_files("report.html") if page.is_file()]
    if reports:
        yield Shot(
            "quality-summary",
            f"{url}/assets/quality_report?view=partitions&partition={task}",
            act=lambda page: _show(page, "summary"),
        )
        yield Shot("quality-report", reports[0].as_uri(), size=(1100, 1200))
    else:
        say("no quality report in this lab: no picture of one")
    overview = lab.layout.quality_overview
    if overview.is_file():
        yield Shot("quality-overview", overview.as_uri(), size=(1100, 700))
    else:
        say("no overview of the quality in this lab: no picture of it")


def _first_pose_table(lab: Lab) -> tuple[str, str]:
    from dlc_assets.api import OpenLab

    first = OpenLab(lab).poses().metadata()[0]
    return first.model, first.session


def _fold_sidebar(page: Any) -> None:
    page.get_by_text("Hide navigation").click()


def _show(page: Any, label: str) -> None:
    """Open the picture behind the metadata entry *label*."""
    row = page.locator("tr", has=page.get_by_text(label, exact=True))
    row.get_by_text("[Show Markdown]").last.click()
    page.locator('img[src^="data:image"]').first.wait_for()


def take(lab: Lab, to: Path, scheme: Scheme = "light", *, pause_ms: float = _DRAWN_MS) -> None:
    """Take all pictures of *lab*, in the UI's *scheme*, into the folder *to*.

    Each page gets *pause_ms* to draw itself after its answers are in, and again after what is done there.
    """
    from playwright.sync_api import sync_playwright

    to.mkdir(parents=True, exist_ok=True)
    groups = sorted({spec.group_name or "" for spec in defs.resolve_all_asset_specs()})
    opened = ",".join(f"global@global:{group}" for group in groups)
    remember = f"localStorage.setItem({_OPEN_GROUPS!r}, JSON.stringify({{expanded: {opened!r}}}))"
    with open_instance(lab, say) as instance:
        report_known_outputs(instance, lab, say)  # of a lab that was copied
    with (
        tempfile.TemporaryDirectory() as place,
        WebServer(Path(place) / "server.log") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        try:
            for shot in shots(lab, server.url):
                width, height = shot.size
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = context.new_page()
                if not shot.address.startswith("file:"):
                    page.add_init_script(remember)
                page.goto(shot.address)
                page.wait_for_load_state("networkidle", timeout=_PATIENCE_MS)
                page.wait_for_timeout(pause_ms)
                shot.act(page)
                page.wait_for_timeout(pause_ms)
                png = page.locator(shot.part).screenshot() if shot.part else page.screenshot()
                context.close()
                _keep(png, to / f"{shot.name}.png")
        finally:
            browser.close()


def _keep(png: bytes, path: Path) -> None:
    """Write a picture in full color; in few colors where it is too large otherwise."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        full = image.convert("RGB")
    for picture in (full, full.quantize(256, dither=Image.Dither.NONE)):
        stream = io.BytesIO()
        picture.save(stream, format="png", optimize=True)
        if stream.tell() <= MOST_BYTES:
            path.write_bytes(stream.getvalue())
            say(f"{path} ({stream.tell() // 1000} kB)")
            return
    raise RuntimeError(f"{path.name} would have {stream.tell()} bytes, more than {MOST_BYTES}: show less of the page")


def say(line: str) -> None:
    """Tell the person who waits, on standard error."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Take the pictures of the lab that the command names."""
    parser = argparse.ArgumentParser(prog="python -m docs_tools.screenshots", description=__doc__)
    parser.add_argument("lab", type=Path, help="a finished demo's lab folder")
    parser.add_argument("--to", type=Path, default=IMAGES, help="where the pictures go (default: docs/images)")
    parser.add_argument("--scheme", choices=get_args(Scheme), default="light", help="the UI's colors (default: light)")
    stated = parser.parse_args()
    if not CHROMIUM.is_file():
        parser.error(f"there is no browser at {CHROMIUM}: install the package chromium")
    take(open_lab_folder(stated.lab), stated.to, stated.scheme)


if __name__ == "__main__":
    main()
