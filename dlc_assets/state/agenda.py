"""The state of every session's products, kept beside the index of recordings and worked out again only where something has changed.

What a session's products should be, and are, takes milliseconds to work out (`state.behind`). A lab has a hundred thousand sessions, and
its sensors look every half minute. So each session's answer is kept, with what it depends on: the stamp of its files (the index), the
settings and model versions of the lab (one hash), and the size, time and inode of each manifest and failure record of its own. A look at
these takes microseconds. Nothing here is a source of truth: a lost or damaged file is made anew from the lab and the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from dlc_assets import __version__
from dlc_assets.derived.kinds import KINDS
from dlc_assets.lab.files import content_hash, sha256_file
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.nwb.export import nwb_files, nwb_manifest
from dlc_assets.publishing.publish import published_manifest
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.recordings.index_file import transaction
from dlc_assets.recordings.info import read_session_info
from dlc_assets.state.behind import Product, session_products
from dlc_assets.training.models import read_current

_LAYOUT = "3"  # of the rows; another one is worked out again
_CHUNK = 200  # sessions between two looks at the clock, and in one transaction
_SWEPT = 5_000  # sessions whose evidence is read at once
_SWEEP_SECONDS = 0.3
# What of a session's row in the index its products depend on.
_STAMP = "s.stamp || ' ' || s.settled || ' ' || s.waiting"
_FIELDS = [field.name for field in fields(Product)]
_DEFAULTS = {field.name: field.default for field in fields(Product) if field.default is not MISSING}

_TABLES = """
create table if not exists agenda (
    session text primary key, stamp text not null, lab text not null, evidence text not null, products text not null,
    problems text not null, watched text not null
);
create table if not exists todo (
    asset text not null, key text not null, session text not null, identity text not null, state text not null, retry_at real,
    primary key (asset, key)
);
create index if not exists todo_of_session on todo (session);
create table if not exists agenda_place (name text primary key, value text not null);
"""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did: sessions worked out again, and whether every session's state is now as the lab is."""

    sessions: int
    done: bool


class Agenda:
    """The states of a lab's session products, in the database of its index.

    Parameters
    ----------
    lab
        The lab as it is now.
    index
        Its index of recordings, opened; it says which sessions there are.
    """

    def __init__(self, lab: Lab, index: RecordingIndex) -> None:
        self._lab, self._index, self._database = lab, index, index.connection
        self._database.executescript(_TABLES)
        self._token = _lab_token(lab)
        self._versions = [
            (model.name.removeprefix("model="), version.name.removeprefix("version="))
            for model in sorted(lab.layout.poses.glob("model=*"))
            for version in sorted(model.glob("version=*"))
        ]
        self._models = sorted({*(model for model, _ in self._versions), *lab.model_names()})

    def refresh(
        self, *, seconds: float | None = None, first: Collection[str] = (), thorough: bool = False
    ) -> Refreshed:
        """Work out what has changed.

        Parameters
        ----------
        seconds
            Stop after so long, newest sessions first; the next call goes on. None: until all is done.
        first
            Sessions to look at whatever the index says: something was just being made of them.
        thorough
            Look at the evidence of every session, not only of the next few thousand: a person waits for the whole answer.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        worked_out = 0
        self._forget_sessions_without_files()
        stale = self._stale(first)
        done = True
        while stale or (stale := self._changed()):
            self._work_out_all(stale)
            worked_out += len(stale)
            stale = []
            if deadline is not None and time.monotonic() >= deadline:
                done = False
                break
        for swept in self._sweep(None if thorough else _SWEEP_SECONDS):
            self._work_out_all(swept)
            worked_out += len(swept)
            if deadline is not None and time.monotonic() >= deadline:
                break
        return Refreshed(worked_out, done)

    def todo(self, *assets: str, now: float, most: int) -> list[Product]:
        """Return up to *most* products of *assets* that are to be made now, newest sessions first.

        Several assets are made by one run: a key is given once, with the identity of all that is to be made of it.

        These are wanted, missing or behind (or failed, and due to be tried again), and all that they are made from is there.
        Sessions before `analyze.since` are left out, unless their videos were probed on command and have changed since.
        """
        analyze = self._lab.settings.analyze
        if not analyze.auto:
            due, since = "0", ""
        else:
            due, since = "s.day >= :since", "" if analyze.since is None else analyze.since.isoformat()
        if "session_recordings" in assets:  # what was probed once is kept up to date
            due = f"({due} or t.state = 'behind') and s.settled"
        rows = self._database.execute(
            "select t.asset, t.key, t.state, t.identity, t.retry_at from todo t join session s on s.key = t.session "
            f"where t.asset in ({_marks(assets)}) and not s.gone and {due} and (t.retry_at is null or t.retry_at <= :now) "
            "order by s.number desc, t.key, t.asset limit :most",
            {"since": since, "now": now, "most": most * len(assets), **_named(assets)},
        )
        found: dict[str, Product] = {}
        for asset, key, state, identity, retry_at in rows:
            product = Product(asset, key, state, hash=identity, retry_at=retry_at)
            if (other := found.get(key)) is not None:
                retries = [at for at in (other.retry_at, retry_at) if at is not None]
                product = replace(other, hash=f"{other.hash} {identity}", retry_at=max(retries, default=None))
            elif len(found) == most:
                break
            found[key] = product
        return list(found.values())

    def wanted(self, assets: Sequence[str], keys: Iterable[str]) -> list[str]:
        """Return those of *keys* of which a product of *assets* is still to be made, now or once it is due to be tried again."""
        ask = f"select 1 from todo where asset in ({_marks(assets)}) and key = :key"
        names = _named(assets)
        return [key for key in keys if self._database.execute(ask, {**names, "key": key}).fetchone() is not None]

    def find(self, session: str, assets: Sequence[str], key: str) -> Product | None:
        """Return the first product of *assets* of *session* that is to be made, with its inputs; None where there is none."""
        row = self._database.execute("select products from agenda where session = ?", (session,)).fetchone()
        for values in json.loads(row[0]) if row is not None else ():
            product = Product(**values)
            meant = product.asset in assets and product.key == key
            if meant and product.wanted and product.inputs and _is_to_be_made(product):
                return product
        return None

    def products(self) -> Iterator[list[Product]]:
        """Yield the products of each session that was worked out, its recordings first, in order of the sessions' keys."""
        for (text,) in self._database.execute("select products from agenda order by session"):
            yield [Product(**values) for values in json.loads(text)]

    def problems(self) -> Iterator[str]:
        """Yield a sentence for each recording that could not be read in a session whose other recordings could."""
        for (text,) in self._database.execute("select problems from agenda where problems <> '[]' order by session"):
            yield from json.loads(text)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many wanted products are to be made, by asset and state."""
        rows = self._database.execute("select asset, state, count(*) from todo group by asset, state")
        return {(asset, state): count for asset, state, count in rows}

    def fingerprint(self) -> str:
        """Return a hash of all that the rows are worked out from: it changes when any product does."""
        (sessions,) = self._database.execute(
            "select group_concat(evidence || stamp, '') from (select evidence, stamp from agenda order by session)"
        ).fetchone()
        return content_hash([self._token, sessions or ""])[:24]

    def _stale(self, sessions: Iterable[str]) -> list[str]:
        """Return those of *sessions* whose evidence is not what their row was worked out from."""
        found = []
        for session in dict.fromkeys(sessions):
            row = self._database.execute(
                "select evidence, watched from agenda where session = ?", (session,)
            ).fetchone()
            if row is not None and row[0] != self._evidence(session, json.loads(row[1])):
                found.append(session)
        return found

    def _changed(self) -> list[str]:
        """Return the next sessions that are new, or whose files or lab have changed, newest first."""
        rows = self._database.execute(
            "select s.key from session s left join agenda a on a.session = s.key "
            f"where not s.gone and (a.session is null or a.stamp <> {_STAMP} or a.lab <> ?) order by s.number desc limit ?",
            (self._token, _CHUNK),
        )
        return [key for (key,) in rows]

    def _sweep(self, seconds: float | None) -> Iterator[list[str]]:
        """Yield sessions whose manifests or failure records have changed, going round all sessions a part at a time."""
        deadline = None if seconds is None else time.monotonic() + seconds
        place = "" if seconds is None else self._place()
        while True:
            rows = self._database.execute(
                "select session, evidence, watched from agenda where session > ? order by session limit ?",
                (place, _SWEPT if seconds is None else _CHUNK),
            ).fetchall()
            changed = [key for key, evidence, watched in rows if evidence != self._evidence(key, json.loads(watched))]
            place = rows[-1][0] if rows else ""
            if seconds is not None:
                self._database.execute("insert or replace into agenda_place values ('sweep', ?)", (place,))
            yield changed
            if not rows or (deadline is not None and time.monotonic() >= deadline):
                return

    def _place(self) -> str:
        row = self._database.execute("select value from agenda_place where name = 'sweep'").fetchone()
        return row[0] if row is not None else ""

    def _forget_sessions_without_files(self) -> None:
        for table in ("agenda", "todo"):
            self._database.execute(f"delete from {table} where session in (select key from session where gone)")

    def _evidence(self, session: str, watched: Iterable[str]) -> str:
        """Return what tells that nothing was made, failed or removed of *session*, without reading a file."""
        layout = self._lab.layout
        paths = [
            layout.session_manifest(session),
            layout.nwb_manifest(session),
            layout.failure("session_recordings", session),
            layout.failure("nwb_file", session),
            *self._of_publishing(session),
            *(layout.failure("pose_table", pose_key(model, session)) for model in self._models),
            *(layout.pose_manifest(model, version, session) for model, version in self._versions),
            *(layout.failure(kind.asset, pose_key(model, session)) for kind in KINDS for model in dict(self._versions)),
            *(
                layout.derived_manifest(kind.asset, model, version, session)
                for kind in KINDS
                for model, version in self._versions
            ),
            *watched,
        ]
        digest = hashlib.blake2b(digest_size=8)
        for path in map(str, paths):
            try:
                status = os.stat(path)  # noqa: PTH116  (a Path's stat costs twice as much, a million times)
            except OSError:
                continue
            digest.update(f"{path}|{status.st_mtime_ns}|{status.st_ino}|{status.st_size}\n".encode())
        return digest.hexdigest()

    def _of_publishing(self, session: str) -> list[Path]:
        dandi, layout = self._lab.settings.dandi, self._lab.layout
        if dandi is None:
            return []
        record = layout.published_manifest(dandi.instance, dandi.dandiset, session)
        return [record, layout.failure("dandi_asset", session)]

    def _work_out_all(self, sessions: Sequence[str]) -> None:
        """Store what the products of *sessions* are now, in one transaction; the work itself is done before it begins."""
        rows = [row for session in sessions if (row := self._work_out(session)) is not None]
        if not rows:
            return
        with transaction(self._database):
            self._database.executemany(
                "insert or replace into agenda values (?, ?, ?, ?, ?, ?, ?)", [kept for kept, _ in rows]
            )
            self._database.executemany("delete from todo where session = ?", [(kept[0],) for kept, _ in rows])
            self._database.executemany(
                "insert or replace into todo values (?, ?, ?, ?, ?, ?)", [todo for _, todos in rows for todo in todos]
            )

    def _work_out(self, session: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]] | None:
        """Return the row of *session* in the agenda, and those of what is to be made of it; None where its videos are gone."""
        row = self._database.execute(
            f"select {_STAMP}, s.settled, s.waiting from session s where key = ? and not gone", (session,)
        ).fetchone()
        found = self._index.session(session) if row is not None else None
        if row is None or found is None:
            return None
        stamp, settled, waiting = row
        watched = self._watched(session)
        evidence = self._evidence(
            session, watched
        )  # before the files are read: what changes meanwhile is seen the next time
        products = list(session_products(self._lab, session, found))
        if not settled and products[0].state == "missing":
            products[0] = replace(products[0], why=waiting)
        kept = (
            session,
            stamp,
            self._token,
            evidence,
            json.dumps([_stored(product) for product in products], separators=(",", ":")),
            json.dumps(list(_unreadable(self._lab, session)), ensure_ascii=False),
            json.dumps(watched),
        )
        todo = [
            (product.asset, product.key, session, product.identity, product.state, product.retry_at)
            for product in products
            if product.wanted and product.identity and _is_to_be_made(product)
        ]
        return kept, todo

    def _watched(self, session: str) -> list[str]:
        """Return files beyond manifests whose absence puts a product of *session* behind."""
        manifest = nwb_manifest(self._lab, session)
        watched = [] if manifest is None else [str(file) for file in nwb_files(self._lab, manifest)]
        published = published_manifest(self._lab, session)
        if published is not None and published.details["cohort"] is not None:
            watched.append(str(self._lab.layout.cohort_nwb_manifest(published.details["cohort"], session)))
        return watched


def _marks(assets: Sequence[str]) -> str:
    return ", ".join(f":asset{number}" for number in range(len(assets)))


def _named(assets: Sequence[str]) -> dict[str, str]:
    return {f"asset{number}": asset for number, asset in enumerate(assets)}


def _is_to_be_made(product: Product) -> bool:
    return product.state in {"missing", "behind"} or (product.state == "failed" and product.retry_at is not None)


def _unreadable(lab: Lab, session: str) -> Iterator[str]:
    known = read_session_info(lab.layout, session)
    for name, why in known[0].failed.items() if known is not None else ():
        yield why if why.startswith(session) else f"{session}, {name}: {why}"


def _stored(product: Product) -> dict[str, Any]:
    """Return what is not usual of a product; what it is made from only where it is to be made."""
    values = {name: getattr(product, name) for name in _FIELDS}
    if product.state in {"up to date", "custom"}:
        values["inputs"] = {}
        values["hash"] = product.identity
    return {name: value for name, value in values.items() if value != {} and value != _DEFAULTS.get(name, MISSING)}


def _lab_token(lab: Lab) -> str:
    """Return the hash of what the states of all sessions depend on: lab.yaml, the models' versions, and this program."""
    layout = lab.layout
    versions = {
        model.name: [
            read_current(layout.current_version_file(model.name)),
            sorted((path.parent.name, path.stat().st_mtime_ns) for path in model.glob("[!.]*/manifest.json")),
        ]
        for model in sorted(layout.models.glob("[!.]*"))
        if model.is_dir()
    }
    return content_hash([_LAYOUT, __version__, sha256_file(layout.settings_file), versions])[:16]
