"""The page of the documentation that each asset's description leads to, in the UI.

One list, so that an asset without a page is noticed (a test reads it). A page is named by its place in the repository; where a lab serves
the built pages (`make docs`), `DLC_ASSETS_DOCS_URL` says where, and the UI links to them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg

DOCS_URL = "DLC_ASSETS_DOCS_URL"
DOCS = Path(__file__).resolve().parent.parent.parent / "docs"

# Asset: page below docs/.
PAGES = {
    "label_set": "how-to/relabel-and-retrain.md",
    "training_dataset": "how-to/model-specification.md",
    "trained_model": "how-to/model-specification.md",
    "model_evaluation": "how-to/compare-models.md",
    "model_comparison": "how-to/compare-models.md",
    "session_recordings": "how-to/add-recordings.md",
    "pose_table": "reference/pose-table.md",
    "filtered_pose_table": "how-to/filter-poses.md",
    "kinematics": "how-to/kinematics.md",
    "quality_report": "how-to/judge-results.md",
    "quality_overview": "how-to/judge-results.md",
    "labeled_video": "how-to/labeled-videos.md",
    "frames_to_label": "how-to/label-next-frames.md",
    "nwb_file": "how-to/nwb-files.md",
    "dandi_asset": "how-to/publish-to-dandi.md",
    "catalog": "reference/catalog.md",
}


def with_pages(assets: Iterable[dg.AssetsDefinition | dg.AssetSpec]) -> list[Any]:
    """Return *assets* with the page of each at the end of its description, and in its metadata as ``docs``."""
    return list(dg.map_asset_specs(_with_page, assets))


def _with_page(spec: dg.AssetSpec) -> dg.AssetSpec:
    page = PAGES.get(spec.key.to_user_string())
    if page is None:
        return spec
    url = _address(page)
    more = f"More: [docs/{page}]({url})" if url else f"More: `docs/{page}`"
    place = dg.MetadataValue.url(url) if url else dg.MetadataValue.path(str(DOCS / page))
    return spec.replace_attributes(
        description=f"{spec.description}\n\n{more}", metadata={**spec.metadata, "docs": place}
    )


def _address(page: str) -> str | None:
    """Return where *page* is served, None where nobody says."""
    served = os.environ.get(DOCS_URL, "").rstrip("/")
    return f"{served}/{page.removesuffix('.md').replace('README', 'index')}.html" if served else None
