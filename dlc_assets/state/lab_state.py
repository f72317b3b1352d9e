"""Everything a lab should have, as it is now: models and sessions together, and what is wrong with the lab's files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dlc_assets.inference.crops import setup_problems
from dlc_assets.inference.releases import rule_problems
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.keys import label_for_archive
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.sessions_table import read_sessions_table
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.state.agenda import Agenda
from dlc_assets.state.behind import BEHIND, Product, model_products, outdated_by, recorded_sessions, session_products
from dlc_assets.training.models import current_version, trained_models

_UNMATCHED_LISTED = 1_000


@dataclass
class LabState:
    """Everything a lab should have, as it is now; what is wrong with its files; and videos that fit no template."""

    products: list[Product]
    problems: list[str]
    unmatched: list[Path]

    def of(self, asset: str) -> list[Product]:
        """Return the products of *asset*."""
        return [product for product in self.products if product.asset == asset]

    def behind(self) -> list[Product]:
        """Return what is missing, behind or failed though it should be there."""
        return [product for product in self.products if product.wanted and product.state in BEHIND]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of products by asset and state."""
        counted: dict[str, Counter[str]] = {}
        for product in self.products:
            counted.setdefault(product.asset, Counter())[product.state] += 1
        return {asset: dict(states) for asset, states in counted.items()}


def lab_state(lab: Lab) -> LabState:
    """Work out the state of every product of *lab*: reads labels, manifests and the recording roots, and makes nothing.

    Where the sensors keep an index of the recordings, it is used and brought up to date: a look at a large lab is then short.
    """
    stages, old_models, broken = model_stages(lab)
    products = list(stages)
    with RecordingIndex.opened(lab, kept=lab.layout.index_file.exists()) as index:
        look = index.look()
        agenda = Agenda(lab, index)
        agenda.refresh(thorough=True)
        gone = set(recorded_sessions(lab))
        for of_session in agenda.products():
            products += outdated_by(of_session, old_models)
            gone.discard(of_session[0].key)
        found = [*look.warnings, *index.problems()]
        unreadable = list(agenda.problems())
        unmatched = index.unmatched(_UNMATCHED_LISTED)
    for key in sorted(gone):
        products += session_products(lab, key, None)
    problems = [
        *_subject_problems(lab),
        *_table_problems(lab),
        *_name_problems(lab),
        *broken.values(),
        *rule_problems(lab),
        *setup_problems(lab),
        *found,
    ]
    problems += [problem for problem in unreadable if problem not in problems]
    return LabState(products, problems, unmatched)


def model_stages(lab: Lab) -> tuple[list[Product], dict[str, Product], dict[str, str]]:
    """Return the products of every model; the trained models that are behind, by name; and what is wrong with which specification."""
    specifications, broken = lab.specifications()
    products: list[Product] = []
    old_models: dict[str, Product] = {}
    for model in sorted({*specifications, *broken, *trained_models(lab.layout)}):
        gone = model not in specifications and model not in broken
        stages = list(model_products(lab, model, broken.get(model), gone=gone))
        products += stages
        if (changed := _changed_since_training(stages)) is not None:
            old_models[model] = changed
    return products, old_models, broken


def _changed_since_training(stages: list[Product]) -> Product | None:
    """Return the trained model among a model's *stages* if what it is to be made from has changed since it was trained.

    A training dataset that is merely not there says nothing against the model: only a changed one does.
    """
    of = {product.asset: product for product in stages}
    trained, dataset = of.get("trained_model"), of.get("training_dataset")
    if trained is None or trained.made is None or trained.state not in {"behind", "failed"}:
        return None
    return trained if dataset is not None and dataset.state != "missing" else None


def _name_problems(lab: Lab) -> Iterator[str]:
    """Yield a sentence for each model that tells apart what lab.yaml says is one body part."""
    names = lab.settings.body_part_names
    for model in trained_models(lab.layout) if names.lab_names else ():
        version = current_version(lab.layout, model)
        for part, several in names.several(version.card.get("bodyparts", ()) if version is not None else ()).items():
            yield (
                f"{lab.layout.settings_file}: body_parts.{part}: the model {version} has {' and '.join(several)}, which are one body "
                "part here. In its poses they stay apart. If they are different parts, take one out of the synonyms."
            )


def _table_problems(lab: Lab) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong in sessions.csv."""
    table = read_sessions_table(lab.layout.sessions_table)
    if table is not None:
        yield from (table.broken,) if table.broken else (f"{table.where}: {problem}" for problem in table.problems)


def _subject_problems(lab: Lab) -> Iterator[str]:
    """Yield a sentence for each subject of lab.yaml that no session can have: its name cannot be one, or is another's."""
    labels: dict[str, str] = {}
    for name in lab.settings.subjects:
        try:
            label = label_for_archive(name, "subject")
        except DlcAssetsError as error:
            yield f"{lab.layout.settings_file}: subjects: {error}"
            continue
        other = labels.setdefault(label, name)
        if other != name:
            yield f'{lab.layout.settings_file}: subjects: "{other}" and "{name}" both become {label}. Rename one of them.'
