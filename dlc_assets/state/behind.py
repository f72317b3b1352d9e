"""The state of every product of a lab: up to date, behind, missing, failed, waiting, custom or gone, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from dlc_assets.derived.filtered_poses import ASSET as FILTERED
from dlc_assets.derived.kinds import KINDS
from dlc_assets.derived.product import derived_manifest
from dlc_assets.inference.pose_tables import inputs_like, latest_pose_manifest, pose_inputs, pose_manifest
from dlc_assets.inference.releases import Releases, releases_of
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import pose_key, split_pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.nwb.export import nwb_inputs, nwb_manifest
from dlc_assets.publishing.publish import published_manifest, publishing_inputs
from dlc_assets.recordings.discovery import FoundSession
from dlc_assets.recordings.info import SessionInfo, read_session_info
from dlc_assets.recordings.session_recordings import session_inputs
from dlc_assets.state.failures import last_failure
from dlc_assets.training.dataset import current_dataset, dataset_inputs
from dlc_assets.training.evaluation import evaluation_inputs
from dlc_assets.training.imported import is_what_is_imported
from dlc_assets.training.models import ModelVersion, current_version, evaluation_manifest
from dlc_assets.training.train import training_inputs

State = Literal["up to date", "custom", "missing", "behind", "failed", "waiting", "gone"]
# What a person or a sensor should do something about.
BEHIND: frozenset[State] = frozenset({"missing", "behind", "failed"})
_STAYS = "it stays as it is; what it was imported from cannot be read now: "
MODEL_ASSETS = ("training_dataset", "trained_model", "model_evaluation")


@dataclass(frozen=True)
class Product:
    """One product: an asset's partition.

    `inputs` are the hashes that it should be made from now (empty where they cannot be known yet); `wanted` says whether the
    platform makes it by itself; `retry_at` is the unix time from which a failed one is tried again by itself (None: it is not);
    `pinned` says of a pose table that a release rule names its very version; `hash` is that of the inputs, where they are not kept.
    """

    asset: str
    key: str
    state: State
    why: str = ""
    made: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    wanted: bool = True
    retry_at: float | None = None
    pinned: bool = False
    hash: str = ""

    @property
    def identity(self) -> str:
        """A short hash of the inputs, empty where they cannot be known yet."""
        return self.hash or (content_hash(self.inputs)[:12] if self.inputs else "")


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
    if version is not None and dataset.state == "failed" and is_what_is_imported(lab, version):
        yield from _as_imported(lab, version, dataset)
        return
    yield dataset
    trained = version.manifest if version is not None else None
    if dataset.state == "up to date":
        training = _compare(lab, "trained_model", model, trained, lambda: training_inputs(lab, model))
        if version is not None and training.state == "failed" and is_what_is_imported(lab, version):
            training = replace(training, state="up to date", why=f"{_STAYS}{training.why}")
    else:
        training = _after(dataset, "trained_model", model, trained)
    yield training
    if version is None:
        yield Product("model_evaluation", model, "missing", "the model is not trained yet")
        return
    if not version.can_be_scored:
        return
    evaluated = evaluation_manifest(version, lab.layout)
    if training.state in {"up to date", "custom"}:
        yield _compare(lab, "model_evaluation", model, evaluated, lambda: evaluation_inputs(lab, version))
    else:
        yield _after(training, "model_evaluation", model, evaluated)


def _as_imported(lab: Lab, version: ModelVersion, dataset: Product) -> Iterator[Product]:
    """Yield the stages of an imported network whose project cannot be read: what was taken from it stays what it is."""
    why = f"{_STAYS}{dataset.why}"
    stored = {
        "training_dataset": current_dataset(lab, version.model),
        "trained_model": version.manifest,
        "model_evaluation": evaluation_manifest(version, lab.layout),
    }
    for asset, manifest in stored.items():
        if manifest is not None:
            yield Product(asset, version.model, "up to date", why, manifest.made, manifest.inputs)


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


def session_products(lab: Lab, key: str, found: FoundSession | None) -> Iterator[Product]:
    """Yield the state of one session's recordings, pose tables, NWB file and publication, taking its models as they are."""
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
    yield from pose_products(lab, known[0], recordings)
    yield from _published_product(lab, key)


def _published_product(lab: Lab, session: str) -> Iterator[Product]:
    """Yield the state of what was published of a session, or could not be: never wanted, as publishing is a person's decision."""
    manifest = published_manifest(lab, session)
    if lab.settings.dandi is None or (manifest is None and last_failure(lab.layout, "dandi_asset", session) is None):
        return
    cohort = manifest.details["cohort"] if manifest is not None else None
    product = _compare(lab, "dandi_asset", session, manifest, lambda: publishing_inputs(lab, session, cohort))
    yield replace(product, wanted=False)


def recordings_product(lab: Lab, key: str, found: FoundSession, known: tuple[SessionInfo, Manifest] | None) -> Product:
    """Return the state of one session's recordings alone; *known* is what was stored when they were probed."""
    return _compare(lab, "session_recordings", key, known[1] if known else None, lambda: session_inputs(lab, found))


def pose_products(lab: Lab, session: SessionInfo, recordings: Product) -> Iterator[Product]:
    """Yield the state of the pose tables and the NWB file of a session that was probed."""
    releases = releases_of(lab, session)
    tables: list[Product] = []
    for model in sorted({*releases.versions, *analysed_by(lab, session.session)} - set(releases.waiting)):
        tables.append(_pose_product(lab, session, model, recordings, releases))
    for model, why in sorted(releases.waiting.items()):
        tables.append(Product("pose_table", pose_key(model, session.session), "waiting", why))
    before_export: list[Product] = []
    for table in tables:
        derived = list(_derived_products(lab, session, table, releases))
        yield from (table, *derived)
        before_export += [table, *(product for product in derived if product.asset in into_nwb(lab))]
    if any(table.wanted for table in tables):
        yield _nwb_product(lab, session, recordings, before_export, releases)


def into_nwb(lab: Lab) -> tuple[str, ...]:
    """Return the assets made from pose tables that NWB files hold, and so wait for."""
    return (FILTERED,) if lab.settings.nwb.filtered else ()


def _derived_products(lab: Lab, session: SessionInfo, table: Product, releases: Releases) -> Iterator[Product]:
    """Yield the state of what is made from one pose table: what is wanted by itself, and what was made or tried on request."""
    model = split_pose_key(table.key)[0]
    if model in releases.waiting:
        return
    try:
        poses = pose_manifest(lab, model, session, releases)
    except DlcAssetsError:  # which the table's own state tells
        return
    of = {"pose_table": table}
    for kind in KINDS:
        auto = table.wanted and kind.auto(lab)
        manifest = (
            None
            if poses is None
            else derived_manifest(lab, kind.asset, model, poses.details["version"], session.session)
        )
        if not auto and manifest is None and last_failure(lab.layout, kind.asset, table.key) is None:
            continue
        above = [
            of.get(name, Product(name, table.key, "missing", "never made")) for name in ("pose_table", *kind.above(lab))
        ]
        first = next((product for product in above if product.state not in {"up to date", "custom"}), None)
        if first is not None or poses is None:
            product = _after(first or table, kind.asset, table.key, manifest)
        else:
            product = _compare(lab, kind.asset, table.key, manifest, partial(kind.inputs, lab, session, poses))
        of[kind.asset] = replace(product, wanted=auto)
        yield of[kind.asset]


def outdated_by(products: Sequence[Product], old_models: Mapping[str, Product]) -> list[Product]:
    """Return one session's *products*, those of *old_models* as behind.

    *old_models* are the trained models that are behind themselves, by name: what their current versions made is behind too, though
    nothing can be made again before they are trained.
    """
    outdated = {
        table.key: _outdated(table, old_models[model])
        for table in products
        if table.asset == "pose_table" and table.wanted and table.state == "up to date" and not table.pinned
        for model in [split_pose_key(table.key)[0]]
        if model in old_models
    }
    if not outdated:
        return list(products)
    first = next(iter(outdated.values()))
    made_from = {
        "nwb_file": lambda _: first,
        **{kind.asset: lambda product: outdated.get(product.key) for kind in KINDS},
    }
    changed = []
    for product in products:
        if product.asset == "pose_table":
            changed.append(outdated.get(product.key, product))
            continue
        above = (
            made_from[product.asset](product) if product.asset in made_from and product.state == "up to date" else None
        )
        changed.append(product if above is None else _outdated(product, above))
    return changed


def _outdated(product: Product, above: Product) -> Product:
    """Return *product*, which agrees with its own inputs, as behind because *above* is; what it will be made from is not known yet."""
    why = f"{above.asset} {above.key} is {above.state}: {above.why}"
    return replace(product, state="behind", why=why, inputs={}, hash="")


def _nwb_product(
    lab: Lab, session: SessionInfo, recordings: Product, before: list[Product], releases: Releases
) -> Product:
    manifest = nwb_manifest(lab, session.session)
    above = (recordings, *(product for product in before if product.wanted))
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
            product = _compare(
                lab,
                "pose_table",
                key,
                manifest,
                lambda: inputs_like(manifest, pose_inputs(lab, model, session, releases)),
            )
    except DlcAssetsError as error:
        product = Product("pose_table", key, "failed", str(error))
    version = releases.versions.get(model)
    probed = recordings.state in {"up to date", "custom"}
    # A failure that says from which inputs is that of an attempt to run it.
    lacking = product.state in {"missing", "behind"} or (product.state == "failed" and product.inputs)
    if version is not None and not version.runnable and probed and lacking:
        why = "never imported" if product.state == "failed" else product.why
        why = f"{why}; {version} does not run here: import its results (`dlc-assets adopt`), or release another model"
        product = replace(product, state="waiting", why=why, retry_at=None)
    return replace(product, wanted=model in releases.versions, pinned=model in releases.pinned)


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
        retries = lab.settings.analyze.retries
        why, retry_at = failure.sentence(retries), failure.retry_at(retries)
        return Product(asset, key, "failed", why, made, inputs, retry_at=retry_at)
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
