"""The state of every product of a lab: up to date, behind, missing, failed, waiting, custom or gone, each with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Literal

from dlc_assets.inference.crops import setup_problems
from dlc_assets.inference.pose_tables import latest_pose_manifest, pose_inputs, pose_manifest
from dlc_assets.inference.releases import Releases, releases_of, rule_problems
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.keys import label_for_archive, pose_key, split_pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.nwb.export import nwb_inputs, nwb_manifest
from dlc_assets.recordings.discovery import Discovery, FoundSession, discover
from dlc_assets.recordings.info import SessionInfo, read_session_info
from dlc_assets.recordings.session_recordings import session_inputs
from dlc_assets.state.failures import last_failure
from dlc_assets.training.dataset import current_dataset, dataset_inputs
from dlc_assets.training.evaluation import evaluation_inputs
from dlc_assets.training.models import current_version, evaluation_manifest, trained_models
from dlc_assets.training.train import training_inputs

State = Literal["up to date", "custom", "missing", "behind", "failed", "waiting", "gone"]
# What a person or a sensor should do something about.
BEHIND: frozenset[State] = frozenset({"missing", "behind", "failed"})
MODEL_ASSETS = ("training_dataset", "trained_model", "model_evaluation")


@dataclass(frozen=True)
class Product:
    """One product: an asset's partition.

    `inputs` are the hashes that it should be made from now (empty where they cannot be known yet); `wanted` says whether the
    platform makes it by itself.
    """

    asset: str
    key: str
    state: State
    why: str = ""
    made: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    wanted: bool = True


@dataclass
class LabState:
    """Everything a lab should have, as it is now, and what is wrong with the lab's files."""

    products: list[Product]
    problems: list[str]
    discovery: Discovery

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


def lab_state(lab: Lab, discovery: Discovery | None = None) -> LabState:
    """Work out the state of every product of *lab* (reads labels, manifests and the recording roots; writes nothing)."""
    discovery = discovery if discovery is not None else discover(lab)
    specifications, broken = lab.specifications()
    products: list[Product] = []
    old_models: dict[str, Product] = {}
    for model in sorted({*specifications, *broken, *trained_models(lab.layout)}):
        stages = list(
            model_products(lab, model, broken.get(model), gone=model not in specifications and model not in broken)
        )
        products += stages
        if (changed := _changed_since_training(stages)) is not None:
            old_models[model] = changed
    for key in sorted({*discovery.sessions, *recorded_sessions(lab)}):
        products += session_products(lab, key, discovery.sessions.get(key), old_models)
    problems = [*_subject_problems(lab), *broken.values(), *rule_problems(lab), *setup_problems(lab)]
    problems += discovery.all_problems
    problems += [problem for problem in _unreadable(lab, discovery) if problem not in problems]
    return LabState(products, problems, discovery)


def _changed_since_training(stages: list[Product]) -> Product | None:
    """Return the trained model among a model's *stages* if what it is to be made from has changed since it was trained.

    A training dataset that is merely not there says nothing against the model: only a changed one does.
    """
    of = {product.asset: product for product in stages}
    trained, dataset = of.get("trained_model"), of.get("training_dataset")
    if trained is None or trained.made is None or trained.state not in {"behind", "failed"}:
        return None
    return trained if dataset is not None and dataset.state != "missing" else None


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


def _unreadable(lab: Lab, discovery: Discovery) -> Iterator[str]:
    """Yield a sentence for each recording that could not be read in a session whose other recordings could."""
    for key in discovery.sessions:
        known = read_session_info(lab.layout, key)
        for name, why in known[0].failed.items() if known is not None else ():
            yield why if why.startswith(key) else f"{key}, {name}: {why}"


def recorded_sessions(lab: Lab) -> list[str]:
    """Return the keys of all sessions that were probed, sorted."""
    found = lab.layout.recordings.glob("session=*/manifest.json")
    return sorted(path.parent.name.removeprefix("session=") for path in found)


def model_products(lab: Lab, model: str, broken: str | None, *, gone: bool = False) -> Iterator[Product]:
    """Yield the state of one model's training dataset, trained version and evaluation."""
    if broken is not None:
        yield Product("training_dataset", model, "failed", broken)
        return
    version = current_version(lab.layout, model)
    if gone:
        why = f"its specification {lab.layout.specification(model)} is gone; the trained versions stay usable"
        yield Product("trained_model", model, "gone", why, version.manifest.made if version else None, wanted=False)
        return
    dataset = _compare(lab, "training_dataset", model, current_dataset(lab, model), lambda: dataset_inputs(lab, model))
    yield dataset
    trained = version.manifest if version is not None else None
    if dataset.state == "up to date":
        training = _compare(lab, "trained_model", model, trained, lambda: training_inputs(lab, model))
    else:
        training = _after(dataset, "trained_model", model, trained)
    yield training
    if version is None:
        yield Product("model_evaluation", model, "missing", "the model is not trained yet")
        return
    evaluated = evaluation_manifest(version, lab.layout)
    if training.state in {"up to date", "custom"}:
        yield _compare(lab, "model_evaluation", model, evaluated, lambda: evaluation_inputs(lab, version))
    else:
        yield _after(training, "model_evaluation", model, evaluated)


def evaluations_behind(lab: Lab) -> Iterator[Product]:
    """Yield the evaluations of current versions that are behind the labels as they are now, whether or not the model is behind, too.

    Those that failed on the same labels, and those whose labels cannot be read, are left out.
    """
    for model in lab.model_names():
        version = current_version(lab.layout, model)
        evaluated = evaluation_manifest(version, lab.layout) if version is not None else None
        if version is not None and evaluated is not None:
            product = _compare(lab, "model_evaluation", model, evaluated, partial(evaluation_inputs, lab, version))
            if product.state == "behind":
                yield product


def session_products(
    lab: Lab, key: str, found: FoundSession | None, old_models: Mapping[str, Product] = MappingProxyType({})
) -> Iterator[Product]:
    """Yield the state of one session's recordings, pose tables and NWB file.

    *old_models* are the trained models that are behind themselves, by name: what their current versions made is behind too, though
    nothing can be made again before they are trained.
    """
    known = read_session_info(lab.layout, key)
    if found is None:
        yield Product(
            "session_recordings",
            key,
            "gone",
            "its videos are no longer there",
            known[1].made if known else None,
            wanted=False,
        )
        return
    recordings = recordings_product(lab, key, found, known)
    yield recordings
    if known is None:
        return
    yield from pose_products(lab, known[0], recordings, old_models)


def recordings_product(lab: Lab, key: str, found: FoundSession, known: tuple[SessionInfo, Manifest] | None) -> Product:
    """Return the state of one session's recordings alone; *known* is what was stored when they were probed."""
    return _compare(lab, "session_recordings", key, known[1] if known else None, lambda: session_inputs(lab, found))


def pose_products(
    lab: Lab, session: SessionInfo, recordings: Product, old_models: Mapping[str, Product] = MappingProxyType({})
) -> Iterator[Product]:
    """Yield the state of the pose tables and the NWB file of a session that was probed (*old_models*: `session_products`)."""
    releases = releases_of(lab, session)
    tables: list[Product] = []
    for model in sorted({*releases.versions, *analysed_by(lab, session.session)} - set(releases.waiting)):
        tables.append(_pose_product(lab, session, model, recordings, releases))
    for model, why in sorted(releases.waiting.items()):
        tables.append(Product("pose_table", pose_key(model, session.session), "waiting", why))
    outdated = {
        table.key: _outdated(table, old_models[model])
        for table in tables
        if table.wanted and table.state == "up to date"
        for model in [split_pose_key(table.key)[0]]
        if model in old_models and model not in releases.pinned
    }
    yield from (outdated.get(table.key, table) for table in tables)
    if any(table.wanted for table in tables):
        file = _nwb_product(lab, session, recordings, tables, releases)
        yield _outdated(file, next(iter(outdated.values()))) if outdated and file.state == "up to date" else file


def _outdated(product: Product, above: Product) -> Product:
    """Return *product*, which agrees with its own inputs, as behind because *above* is; what it will be made from is not known yet."""
    return replace(product, state="behind", why=f"{above.asset} {above.key} is {above.state}: {above.why}", inputs={})


def _nwb_product(
    lab: Lab, session: SessionInfo, recordings: Product, tables: list[Product], releases: Releases
) -> Product:
    manifest = nwb_manifest(lab, session.session)
    above = (recordings, *(table for table in tables if table.wanted))
    first = next((product for product in above if product.state not in {"up to date", "custom"}), None)
    if first is None:
        return _compare(lab, "nwb_file", session.session, manifest, lambda: nwb_inputs(lab, session.session, releases))
    if manifest is not None:
        return _after(first, "nwb_file", session.session, manifest)
    return Product("nwb_file", session.session, "waiting", f"{first.asset} {first.key} is {first.state}")


def analysed_by(lab: Lab, session: str) -> list[str]:
    """Return the models of which *session* has a pose table, of whichever version."""
    found = lab.layout.poses.glob(f"model=*/version=*/session={session}/manifest.json")
    return sorted({path.parents[2].name.removeprefix("model=") for path in found})


def _pose_product(lab: Lab, session: SessionInfo, model: str, recordings: Product, releases: Releases) -> Product:
    key = pose_key(model, session.session)
    try:
        manifest = pose_manifest(lab, model, session, releases) or latest_pose_manifest(lab, model, session.session)
        if recordings.state not in {"up to date", "custom"}:
            product = _after(recordings, "pose_table", key, manifest)
        else:
            product = _compare(lab, "pose_table", key, manifest, lambda: pose_inputs(lab, model, session, releases))
    except DlcAssetsError as error:
        product = Product("pose_table", key, "failed", str(error))
    return replace(product, wanted=model in releases.versions)


def _compare(
    lab: Lab, asset: str, key: str, manifest: Manifest | None, expected: Callable[[], dict[str, str]]
) -> Product:
    """Compare what a product was made from with what it should be made from now."""
    made = manifest.made if manifest is not None else None
    try:
        inputs = expected()
    except (DlcAssetsError, OSError) as error:  # an OSError: a file that vanished meanwhile, or may not be read
        return Product(asset, key, "failed", str(error), made)
    if manifest is not None and manifest.inputs == inputs:
        return Product(asset, key, "custom" if manifest.custom else "up to date", "", made, inputs)
    failure = last_failure(lab.layout, asset, key)
    if failure is not None and failure.inputs == inputs:
        return Product(asset, key, "failed", failure.message, made, inputs)
    if manifest is None:
        return Product(asset, key, "missing", "never made", made, inputs)
    return Product(asset, key, "behind", _differences(manifest.inputs, inputs), made, inputs)


def _differences(was: dict[str, str], now: dict[str, str]) -> str:
    changed = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]
    return ", ".join(
        f"{name} changed ({was[name]} -> {now[name]})"
        if name in was and name in now and max(len(was[name]), len(now[name])) <= 24
        else f"{name} changed"
        for name in changed
    )


def _after(above: Product, asset: str, key: str, manifest: Manifest | None) -> Product:
    """Return the state of a product whose own input must be made first."""
    why = f"{above.asset} {above.key} is {above.state}" + (f": {above.why}" if above.why else "")
    state: State = "missing" if manifest is None else "behind"
    return Product(asset, key, state, why, manifest.made if manifest is not None else None)


def models_of(products: list[Product]) -> dict[str, list[str]]:
    """Return the session keys of pose-table products by model, in the order given."""
    grouped: dict[str, list[str]] = {}
    for product in products:
        model, session = split_pose_key(product.key)
        grouped.setdefault(model, []).append(session)
    return grouped
