"""A dandiset in an archive, through dandi's own client; whatever goes wrong there is said in words of the lab.

Not `dandi.upload.upload`: it tells the id of no asset and only the first of several errors, leaves out a changed file where the
archive's is dated later, and asks at the keyboard for a key that is missing. The steps below it (`LocalAsset.upload`) do none of this.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dlc_assets.lab.errors import DlcAssetsError, EnvironmentProblem, InputError, NotFoundError, SettingsError
from dlc_assets.lab.settings import Dandi
from dlc_assets.notices.secrets import from_environment, without_secrets

_CONNECT_SECONDS = 30.0
_DETAIL = 300  # signs of an archive's own words that a message shows
_WHERE = "lab.yaml: dandi"
_DIGEST = "dandi:dandi-etag"


class RefusedError(DlcAssetsError):
    """The archive does not take the key, or its owner may not do this."""


@dataclass(frozen=True)
class PublishedAsset:
    """A file as the archive has it: `uploaded` says whether its bytes went there now."""

    path: str
    asset_id: str
    digest: str
    bytes: int
    uploaded: bool


@dataclass(frozen=True)
class Existing:
    """dandi's asset at a path of the dandiset, and the digest that the archive states of it."""

    asset: Any
    digest: str | None


@dataclass(frozen=True)
class Archive:
    """The draft of the dandiset that lab.yaml names, opened with the lab's key."""

    settings: Dandi
    url: str
    _dandiset: Any
    _key: str

    def link(self, folder: str) -> str:
        """Return the address at which people see *folder* of the dandiset."""
        return f"{self.url}/draft/files?location={quote(folder)}" if "/dandiset/" in self.url else self.url

    def asset_at(self, path: str) -> Existing | None:
        """Return what the dandiset has at *path*, None where it has nothing."""
        from dandi.exceptions import NotFoundError as NoAsset

        with self._explained(path):
            try:
                asset = self._dandiset.get_asset_by_path(path)
            except NoAsset:
                return None
            digest = asset.get_raw_metadata().get("digest", {}).get(_DIGEST)
        return Existing(asset, None if digest is None else str(digest))

    def upload(self, file: Any, metadata: dict[str, Any], existing: Existing | None) -> PublishedAsset:
        """Upload dandi's local *file*, in the place of the *existing* asset if there is one.

        A file of the same digest as *existing* is not uploaded again; bytes that the archive has elsewhere are only referred to.

        Raises
        ------
        RefusedError, NotFoundError, EnvironmentProblem
            The archive refuses, has no such dandiset, or cannot do it now.
        """
        digest = digest_in(metadata)
        if existing is not None and existing.digest == digest:
            return PublishedAsset(file.path, existing.asset.identifier, digest, existing.asset.size, uploaded=False)
        with self._explained(file.path):
            asset = file.upload(self._dandiset, metadata, replacing=None if existing is None else existing.asset)
        return PublishedAsset(file.path, asset.identifier, digest, asset.size, uploaded=True)

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        with _explained(self.settings, self._key, path):
            yield


@contextmanager
def connected(settings: Dandi) -> Iterator[Archive]:
    """Give the dandiset of *settings*; nothing is written to the archive.

    Raises
    ------
    SettingsError
        The key is not in the environment.
    RefusedError, NotFoundError, EnvironmentProblem
        The archive refuses the key, has no such dandiset, cannot be reached, or wants another release of dandi.
    """
    key = from_environment(settings.key_variable, _WHERE)
    os.environ.setdefault("DANDI_NO_ET", "1")  # dandi would ask another server about its own releases
    from dandi.consts import DRAFT, known_instances
    from dandi.dandiapi import DandiAPIClient
    from dandi.exceptions import NotFoundError as NoDandiset

    with _silent(), _explained(settings, key, None):
        known = known_instances.get(settings.instance)
        _need_answer(settings, known.api if known is not None else settings.instance)
        with DandiAPIClient.for_dandi_instance(settings.instance) as client:
            client.check_schema_version()
            client.authenticate(key)
            try:
                dandiset = client.get_dandiset(settings.dandiset, DRAFT, lazy=False)
            except NoDandiset:
                raise _no_dandiset(settings) from None
            gui = client.dandi_instance.gui
            url = f"{gui.rstrip('/')}/dandiset/{settings.dandiset}" if gui else dandiset.api_url
            yield Archive(settings, url, dandiset, key)


def _need_answer(settings: Dandi, url: str) -> None:
    """Ask once whether anybody is there: dandi's client tries for a minute, and without an end where nobody answers."""
    import requests

    try:
        requests.get(url, timeout=_CONNECT_SECONDS)
    except requests.RequestException:
        raise _unreachable(settings) from None


def _unreachable(settings: Dandi) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"The archive {settings.instance} cannot be reached. Check the network and `instance` under dandi in lab.yaml, and publish "
        "again: what is there already is not uploaded twice."
    )


def _no_dandiset(settings: Dandi) -> NotFoundError:
    return NotFoundError(
        f"{_WHERE}: the archive {settings.instance} has no dandiset {settings.dandiset}, or none that the key in "
        f"{settings.key_variable} may see. Correct `dandiset` (or `instance`: the sandbox has numbers of its own), or create it on the "
        "archive's site first."
    )


@contextmanager
def _explained(settings: Dandi, key: str, path: str | None) -> Iterator[None]:
    """Turn the errors of dandi's client into the lab's, without the key and without addresses that carry a signature."""
    import requests
    from dandi.exceptions import CliVersionError, SchemaVersionError

    about = f"{path}: " if path is not None else ""
    try:
        yield
    except DlcAssetsError:
        raise
    except requests.HTTPError as error:
        raise _answered(settings, key, about, error) from None
    except requests.RequestException:
        raise _unreachable(settings) from None
    except (CliVersionError, SchemaVersionError) as error:
        raise EnvironmentProblem(
            f"The archive {settings.instance} wants another release of dandi: {without_secrets(str(error), [key])}"
        ) from None
    except RuntimeError as error:
        raise _went_wrong(settings, key, about, error) from None


def _went_wrong(settings: Dandi, key: str, about: str, error: RuntimeError) -> DlcAssetsError:
    text = without_secrets(str(error), [key])
    if "Could not retrieve server info" in text:
        return SettingsError(
            f"{_WHERE}: there is no DANDI archive at {settings.instance}. Correct `instance`: expected dandi, dandi-sandbox, or the "
            "address of an archive."
        )
    if "disagree on" in text:
        return EnvironmentProblem(
            f"{about}it did not arrive as it was sent ({text}). Publish again; nothing was put in its place."
        )
    if "changed" in text or "unexpectedly early" in text:
        return InputError(f"{about}the file changed while it was uploaded. Publish again when nothing writes it.")
    return EnvironmentProblem(f"{about}the upload failed: {text}. Publish again; what has arrived is not sent twice.")


def _answered(settings: Dandi, key: str, about: str, error: Any) -> DlcAssetsError:
    """Return what an archive's refusal means, by its HTTP status."""
    status = error.response.status_code if error.response is not None else 0
    detail = without_secrets(error.response.text[:_DETAIL], [key]) if error.response is not None else ""
    if about and error.response is not None and "Authorization" not in error.response.request.headers:
        return EnvironmentProblem(
            f"{about}The storage of the archive {settings.instance} refused the bytes (HTTP {status}; its permission for an upload ends "
            "after some hours). Publish again; what has arrived is not sent twice."
        )
    if status == 401:
        return RefusedError(
            f"{about}The archive {settings.instance} refuses the key in {settings.key_variable}. Copy it anew from your page there "
            "(each archive has keys of its own, the sandbox too), set the variable, and publish again."
        )
    if status == 403:
        return RefusedError(
            f"{about}The owner of the key in {settings.key_variable} may not write into the dandiset {settings.dandiset} of "
            f"{settings.instance}. Have one of its owners add you, or correct `dandiset` under dandi in lab.yaml."
        )
    if status == 404:
        return _no_dandiset(settings)
    if status in {400, 409, 422}:
        return InputError(f"{about}The archive {settings.instance} does not take it (HTTP {status}): {detail}")
    return EnvironmentProblem(
        f"{about}The archive {settings.instance} failed again and again (HTTP {status}). Publish again later: what has arrived is not "
        "sent twice."
    )


@contextmanager
def _silent() -> Iterator[None]:
    """Keep dandi's own lines out of logs: they hold addresses with signatures, and the errors say what matters."""
    logger = logging.getLogger("dandi")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def local_asset(path: Path, root: Path) -> Any:
    """Return dandi's view of the file at *path* (a link counts as what it leads to) in the dandiset that lies at *root*."""
    from dandi.files import dandi_file

    return dandi_file(path, root)


def asset_metadata(file: Any) -> dict[str, Any]:
    """Return what the archive is to know of dandi's local *file*, its digest included.

    Raises
    ------
    InputError
        It cannot be told from the file.
    """
    with _silent():
        try:
            metadata: dict[str, Any] = file.get_metadata(digest=file.get_digest(), ignore_errors=False).model_dump(
                mode="json", exclude_none=True
            )
        except Exception as error:  # dandi reads the file with several libraries, each with errors of its own
            raise InputError(f"{file.path}: its metadata for the archive cannot be read ({error}).") from error
    return metadata


def digest_in(metadata: dict[str, Any]) -> str:
    """Return the digest of a file from what `asset_metadata` gives."""
    return str(metadata["digest"][_DIGEST])


def validation_errors(file: Any) -> list[str]:
    """Return what dandi's validation finds in its local *file* that keeps it from being uploaded."""
    with _silent():
        from dandi.validate import Severity

        found = file.get_validation_errors()
    return [
        f"{file.path}: {result.message or result.id}"
        for result in found
        if result.severity is not None and result.severity >= Severity.ERROR
    ]


def check_access(settings: Dandi) -> None:
    """Make sure that the archive takes the key and has the dandiset, before any work; see `connected` for what it raises."""
    with connected(settings):
        return
