"""Releasing a model version: working out the rules and what they would do, then writing them into lab.yaml, with the decision recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from dlc_assets.inference.release_effects import (
    Effect,
    Mixing,
    conflicts,
    effects,
    mixings,
    same_meaning,
    unreached,
)
from dlc_assets.inference.releases import rule_for
from dlc_assets.lab.errors import BusyError, InputError, SettingsError, did_you_mean
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.records import append_record
from dlc_assets.lab.release_rules import PlacedRule, rule_text, with_rules, writing_rules
from dlc_assets.lab.settings import LabSettings, ReleaseRule
from dlc_assets.lab.yaml_settings import read_settings
from dlc_assets.recordings.info import SessionInfo, read_session_info
from dlc_assets.state.behind import recorded_sessions
from dlc_assets.training.models import ModelVersion
from dlc_assets.training.requirements import evaluation_figures, unmet_requirements

Which = Literal["new_sessions", "all"]


@dataclass(frozen=True)
class Release:
    """A release, worked out and not yet done.

    Parameters
    ----------
    rules
        What is to be written; none when the version is released already.
    on_release, first
        Which sessions it is for: all, or new ones, from this day on (None: from any day).
    effects
        What becomes of every probed recording of the devices.
    mixings
        Groups that would have poses by several versions.
    against
        Sentences for what speaks against it.
    notes
        Sentences for what else a person should know.
    figures
        The errors that the version is judged by, None when it is not evaluated.
    settings_file
        The bytes of lab.yaml that all this was worked out from.
    """

    version: ModelVersion
    devices: tuple[str, ...] | None
    rules: tuple[PlacedRule, ...]
    on_release: Which
    first: date | None
    effects: tuple[Effect, ...]
    mixings: tuple[Mixing, ...]
    against: tuple[str, ...]
    notes: tuple[str, ...]
    figures: dict[str, Any] | None
    settings_file: bytes

    @property
    def done_already(self) -> bool:
        return not self.rules


def plan_release(
    lab: Lab,
    version: ModelVersion,
    *,
    devices: Sequence[str] | None = None,
    first: date | None = None,
    on_release: str | None = None,
    today: date | None = None,
) -> Release:
    """Work out the rules that release *version* and what they would do; nothing is written.

    Parameters
    ----------
    devices
        Cameras that it is for; None for all.
    first
        The first day of sessions that it is for; without it, *on_release* says.
    on_release
        ``new_sessions`` or ``all``; None takes lab.yaml's.
    today
        The day of the release; None for today in the lab's time zone.

    Raises
    ------
    SettingsError
        A device or a value that there is not, or a day together with ``all``.
    """
    before = lab.layout.settings_file.read_bytes()
    settings = read_settings(lab.layout.settings_file, LabSettings)
    if settings != lab.settings:
        raise BusyError(f"{lab.layout.settings_file} has just been changed. Give the command again.")
    sessions = [known[0] for key in recorded_sessions(lab) if (known := read_session_info(lab.layout, key)) is not None]
    cameras = sorted({*settings.devices, *(r.device for session in sessions for r in session.recordings)})
    chosen = _known_devices(devices, settings.devices or cameras)
    mode = _mode(on_release, first, settings)
    rule = ReleaseRule(model=str(version), devices=chosen)
    if first is not None:
        placed = [_in_front(settings.release, rule.model_copy(update={"first": first}))]
    elif mode == "all":
        placed = [_in_front(settings.release, rule)]
    else:
        first = _first_new_day(lab, sessions, rule, today or datetime.now(settings.zone).date())
        placed = _for_new_sessions(lab, sessions, rule, first)
        if all(new.rule.first is None for new in placed):
            first = None
    after = with_rules(settings.release, placed)
    rows = effects(lab, sessions, settings.release, after)
    rows = [row for row in rows if chosen is None or row.device in chosen]
    of_release = cameras if chosen is None else chosen
    return Release(
        version=version,
        devices=chosen,
        rules=() if same_meaning(lab, settings.release, after) else tuple(placed),
        on_release=mode,
        first=first,
        effects=tuple(rows),
        mixings=tuple(mixings(lab, sessions, rows, of_release, str(version))),
        against=(*unmet_requirements(lab, version), *conflicts(lab, sessions, settings.release, after)),
        notes=(*_following(lab, sessions, after, chosen), *_left_over(settings.release, after)),
        figures=evaluation_figures(lab, version),
        settings_file=before,
    )


def carry_out(
    lab: Lab, release: Release, *, reason: str, force: bool, best: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Write the rules of *release* into lab.yaml and the decision into the records; return the record.

    Parameters
    ----------
    force
        Release it although something speaks against it, which is recorded.
    best
        How the version was chosen among others, for the record.

    Raises
    ------
    InputError
        Something speaks against it.
    BusyError
        lab.yaml has changed since *release* was worked out.
    """
    if release.against and not force:
        raise InputError(
            f"{release.version} is not released:\n  "
            + "\n  ".join(release.against)
            + "\n--force releases it all the same, and "
            "that is recorded."
        )
    with writing_rules(lab.layout, release.settings_file, release.rules) as written:
        # The decision is kept before the file takes its place: a release without a record is worse than a record too many.
        return append_record(
            lab.layout,
            "releases",
            {
                "model": release.version.model,
                "version": release.version.version,
                "rules": [{"rule": new.text, "before": new.before} for new in release.rules],
                "on_release": release.on_release,
                "from": release.first.isoformat() if release.first is not None else None,
                "devices": None if release.devices is None else list(release.devices),
                "reason": reason,
                "evaluation": release.figures,
                "forced": list(release.against),
                "mixed": [asdict(mixing) for mixing in release.mixings],
                "best": best,
                "lab_yaml": hashlib.sha256(written).hexdigest(),
            },
        )


def _following(
    lab: Lab, sessions: Iterable[SessionInfo], after: Sequence[ReleaseRule], devices: Sequence[str] | None
) -> list[str]:
    """Return a sentence for each model whose newest version past sessions go on following: no release keeps them as they are."""
    found: dict[str, set[str]] = {}
    for session in sessions:
        for recording in session.recordings:
            rule = rule_for(lab, session, recording, after)
            if rule is not None and rule.version is None and (devices is None or recording.device in devices):
                found.setdefault(rule.model_name, set()).add(session.session)
    return [
        f"{len(keys)} of the sessions there are stay under a rule that names {model} without a version: they are analysed again "
        f"whenever {model} is trained again. Write the version into that rule, or release with --on-release all."
        for model, keys in sorted(found.items())
    ]


def _left_over(before: Sequence[ReleaseRule], after: Sequence[ReleaseRule]) -> list[str]:
    """Return a sentence for each rule that the new ones take everything from."""
    dead = [after[place] for place in unreached(after)]
    dead_before = [before[place] for place in unreached(before)]
    return [
        f"the rule {rule_text(rule)} will match nothing any more: delete it from lab.yaml if nobody needs it."
        for rule in dict.fromkeys(dead)
        if rule not in dead_before
    ]


def _known_devices(devices: Sequence[str] | None, known: Iterable[str]) -> tuple[str, ...] | None:
    if devices is None:
        return None
    known = list(known)
    for device in devices:
        if device not in known:
            raise SettingsError(
                f'there is no device "{device}" in lab.yaml.{did_you_mean(device, known)} Devices: {", ".join(known) or "none"}.'
            )
    return tuple(dict.fromkeys(devices))


def _mode(stated: str | None, first: date | None, settings: LabSettings) -> Which:
    if stated not in {None, "new_sessions", "all"}:
        raise SettingsError(
            f'on-release: expected new_sessions or all, got "{stated}".{did_you_mean(str(stated), ["new_sessions", "all"])}'
        )
    if first is not None and stated == "all":
        raise SettingsError(
            f"a release for all sessions has no first day: leave out --from {first}, or --on-release all."
        )
    if stated == "all" or (stated is None and first is None and settings.on_release == "all"):
        return "all"
    return "new_sessions"


def _first_new_day(lab: Lab, sessions: Iterable[SessionInfo], rule: ReleaseRule, today: date) -> date:
    """Return *today*, or tomorrow where a session of today is analysed already by another version."""
    of_today = [session for session in sessions if session.day == today]
    as_it_is = effects(lab, of_today, (), lab.settings.release)
    by_another = any(row.there and row.after != rule.model and rule.matches(row.device, today) for row in as_it_is)
    return today + timedelta(days=1) if by_another else today


def _for_new_sessions(lab: Lab, sessions: Iterable[SessionInfo], rule: ReleaseRule, first: date) -> list[PlacedRule]:
    """Return the rules under which no session that has a version now gets another, and every other one gets *rule*'s.

    In front of the rules there, one from *first* on; behind them, one without a day for what they leave out: a single rule where
    one of the two is all that is needed.
    """
    rules = lab.settings.release
    dated = rule.model_copy(update={"first": first})
    front = [_in_front(rules, dated)] if any(_overlap(dated, other) for other in rules) else []
    left_out = any(
        rule.matches(recording.device, session.day)
        and rule_for(lab, session, recording) is None
        and not (front and dated.matches(recording.device, session.day))
        for session in sessions
        for recording in session.recordings
    )
    if front and not left_out:
        return front
    return [*front, PlacedRule(rule, len(rules))]


def _in_front(rules: Sequence[ReleaseRule], rule: ReleaseRule) -> PlacedRule:
    """Place *rule* in front of the first of *rules* that it takes something from."""
    return PlacedRule(rule, next((number for number, other in enumerate(rules) if _overlap(rule, other)), len(rules)))


def _overlap(one: ReleaseRule, other: ReleaseRule) -> bool:
    if one.devices is not None and other.devices is not None and not set(one.devices) & set(other.devices):
        return False
    return (one.first or date.min) <= (other.until or date.max) and (other.first or date.min) <= (one.until or date.max)
