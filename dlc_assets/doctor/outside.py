"""What lies outside this machine: the model hub and the archive; and the packages that everything is made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from dlc_assets.doctor.findings import Finding
from dlc_assets.lab.errors import DlcAssetsError, SettingsError
from dlc_assets.lab.lab import Lab

_DAGSTER = {"dagster": "1.", "dagster-webserver": "1.", "dagster-postgres": "0."}


def hub() -> Iterator[Finding]:
    """Say whether starting weights can be fetched; trainings from `random`, files or the lab's own models need none."""
    from dlc_assets.engine.weights import why_no_hub

    why = why_no_hub()
    if why:
        yield Finding(
            "model hub",
            "warn",
            why,
            "Trainings from ImageNet or SuperAnimal weights that are not on this machine yet will say which file to put where.",
        )
    else:
        yield Finding("model hub", "ok", "reachable")


def archive(lab: Lab) -> Iterator[Finding]:
    """Say whether the archive takes the key, where publishing is set up."""
    settings = lab.settings.dandi
    if settings is None:
        yield Finding("DANDI", "ok", "not set up (`dandi` in lab.yaml)")
        return
    if not os.environ.get(settings.key_variable):
        found = f"no key in {settings.key_variable}: publishing will be refused"
        yield Finding("DANDI", "warn", found, f"Set {settings.key_variable} where the daemon starts.")
        return
    from dlc_assets.publishing.archive import connected

    try:
        with connected(settings) as dandiset:
            yield Finding("DANDI", "ok", f"{dandiset.url}: the key is accepted")
    except SettingsError:
        raise
    except DlcAssetsError as error:
        yield Finding("DANDI", "warn", str(error))


def packages() -> Iterator[Finding]:
    """Say whether Dagster's packages are of one patch, as they must be."""
    found = {}
    for name in (*_DAGSTER, "deeplabcut", "torch", "pynwb", "dandi"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            yield Finding("packages", "error", f"{name} is not installed", "Install this package again: make setup")
    patches = {found[name].removeprefix(prefix).split(".", 1)[-1] for name, prefix in _DAGSTER.items() if name in found}
    listed = ", ".join(f"{name} {number}" for name, number in found.items())
    if len(patches) > 1:
        yield Finding(
            "packages", "error", listed, "Dagster's packages are of different patches: install requirements.lock again."
        )
    else:
        yield Finding("packages", "ok", listed)
