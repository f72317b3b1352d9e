"""The Dagster UI's own pages in a Chromium without a window: how long until the answers to all that they ask are in."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from dlc_assets.lab.keys import pose_key

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE_S = 120.0
_IDLE_S = 0.5  # playwright calls the network idle after so long a silence
_DRAWN_S = 3.0  # after the last answer, for a picture


@dataclass(frozen=True)
class PageTimes:
    """How one page came: seconds until its answers were in, their bytes and number, and the one that took longest."""

    seconds: float
    bytes: int
    answers: int
    slowest: str
    slowest_seconds: float


def open_pages(
    url: str, model: str, session: str, *, say: Callable[[str], None], pictures: Path | None = None
) -> dict[str, PageTimes]:
    """Open each page anew and time it; nothing where there is no Chromium or no playwright.

    Parameters
    ----------
    url
        Of the server.
    model, session
        Whose pose table is chosen among the partitions.
    pictures
        Folder that gets a PNG of each page.
    """
    if not CHROMIUM.is_file() or importlib.util.find_spec("playwright") is None:
        say(f"no pages are opened: they need {CHROMIUM} and the package playwright")
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        try:
            opened = {}
            for name, place in _places(model, session).items():
                say(f"page: {name}")
                picture = (
                    pictures / f"{name.replace(', ', '-').replace(' ', '-')}.png" if pictures is not None else None
                )
                opened[name] = _opened(browser, url + place, picture)
            return opened
        finally:
            browser.close()


def _places(model: str, session: str) -> dict[str, str]:
    task = quote(pose_key(model, session), safe="")
    return {
        "lineage": "/asset-groups",
        "catalog": "/assets",
        "pose_table": "/assets/pose_table?view=overview",
        "pose_table, partitions": "/assets/pose_table?view=partitions",
        "pose_table, one partition": f"/assets/pose_table?view=partitions&partition={task}",
        "pose_table, events": "/assets/pose_table?view=events",
        "pose_table, checks": "/assets/pose_table?view=checks",
        "session_recordings, partitions": "/assets/session_recordings?view=partitions",
        "session_recordings, checks": "/assets/session_recordings?view=checks",
        "launchpad of analyze": "/locations/dlc_assets/jobs/analyze/playground",
        "runs": "/runs",
        "automation": "/automation",
    }


def _opened(browser: Any, address: str, picture: Path | None) -> PageTimes:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    came: list[tuple[str, float, int]] = []

    def finished(request: Any) -> None:
        if urlsplit(request.url).path == "/graphql" and request.post_data:
            operation = json.loads(request.post_data).get("operationName") or "unnamed"
            came.append((operation, request.timing["responseEnd"] / 1000, request.sizes()["responseBodySize"]))

    try:
        page = context.new_page()
        page.on("requestfinished", finished)
        begun = time.perf_counter()
        page.goto(address)
        page.wait_for_load_state("networkidle", timeout=_PATIENCE_S * 1000)
        seconds = time.perf_counter() - begun - _IDLE_S
        if picture is not None:
            page.wait_for_timeout(_DRAWN_S * 1000)
            picture.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(picture))
        operation, longest, _ = max(came, key=lambda each: each[1])
        return PageTimes(seconds, sum(size for *_, size in came), len(came), operation, longest)
    finally:
        context.close()
