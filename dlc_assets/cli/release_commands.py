"""Commands that decide what counts: release a model version, freeze a cohort, list cohorts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import FAILED, JsonOption, LabOption, Output, speaking
from dlc_assets.lab.errors import DlcAssetsError, SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder

if TYPE_CHECKING:
    from dlc_assets.inference.freezing import Frozen
    from dlc_assets.inference.releasing import Release
    from dlc_assets.training.models import ModelVersion

_LISTED = 10


@app.command()
def release(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL[@VERSION]]",
            help="The model (its current version), or one of its versions.",
            show_default=False,
        ),
    ] = None,
    devices: Annotated[
        list[str] | None,
        typer.Option(metavar="DEVICE,...", help="Cameras that it is for; default: all.", show_default=False),
    ] = None,
    first: Annotated[
        str | None,
        typer.Option("--from", metavar="DAY", help="The first day of sessions that it is for.", show_default=False),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="The best of the model's versions, or without MODEL of all models.")
    ] = False,
    on_release: Annotated[
        str | None,
        typer.Option(
            metavar="new_sessions|all", help="Which sessions it is for; default: lab.yaml's.", show_default=False
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the records.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Release it although something speaks against it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a release rule for a model version into lab.yaml, after saying what it changes and what would mix."""
    with speaking(as_json) as output:
        opened = open_lab_folder(lab)
        from dlc_assets.inference.releasing import carry_out, plan_release

        version, chosen_how = _version(opened, model, best=best)
        if chosen_how is not None:
            output.log(chosen_how["words"])
        plan = plan_release(opened, version, devices=_listed_names(devices), first=_day(first), on_release=on_release)
        result = {**_as_json(plan), "best": chosen_how, "reason": reason, "dry_run": dry_run, "released": False}
        if plan.done_already:
            output.say(f"{version} is released like this already: nothing was changed.")
            output.result({"ok": True, **result, "already": True})
            return
        _say_plan(output, plan)
        if dry_run:
            output.say("Nothing was changed.")
            output.result({"ok": True, **result})
            return
        if not (plan.against and not force) and not _agreed(output, "Write this into lab.yaml?", yes=yes):
            output.say("Nothing was changed.")
            raise typer.Exit(FAILED)
        record = carry_out(opened, plan, reason=reason, force=force, best=chosen_how)
        output.say(f"{version} is released: it stands in {opened.layout.settings_file}.")
        _report(open_lab_folder(lab), version, record, output)
        waiting = sum(row.after == str(version) and not row.there for row in plan.effects)
        if waiting and not version.runnable:
            output.say(f"{_count(waiting, 'recording')} without its poses: it does not run here; import its results.")
        elif waiting:
            output.say(f"{_count(waiting, 'recording')} to be analysed by it.")
            output.say("The sensors do it where sessions are due, else `dlc-assets analyze`.")
        output.result({"ok": True, **result, "released": True, "forced": list(plan.against), "at": record["at"]})


def _report(lab: Lab, version: ModelVersion, record: dict[str, Any], output: Output) -> None:
    """Show the release in the UI; where that cannot be, it holds all the same."""
    from dlc_assets.commands import report_release
    from dlc_assets.resources.instance import open_instance

    try:
        with open_instance(lab, output.log) as instance:
            report_release(lab, instance, version, record)
    except DlcAssetsError as error:
        output.log(f"Problem: the release is not shown in the UI: {error}")


def _version(lab: Lab, model: str | None, *, best: bool) -> tuple[ModelVersion, dict[str, Any] | None]:
    from dlc_assets.training.models import find_version

    if best:
        if model is not None and "@" in model:
            raise SettingsError(f"--best chooses a version, and {model} names one: leave out one of the two.")
        from dlc_assets.training.best_version import best_version

        chosen = best_version(lab, model)
        return chosen.version, chosen.as_json()
    if model is None:
        raise SettingsError("expected a model, or --best for the best of all models.")
    return find_version(lab.layout, model), None


def _listed_names(stated: Sequence[str] | None) -> list[str] | None:
    """Return the names of an option that may be given several times, or once with commas."""
    names = [name.strip() for text in stated or () for name in text.split(",") if name.strip()]
    return names or None


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f'--from: expected a day such as 2026-11-24, got "{text}".') from None


def _say_plan(output: Output, plan: Release) -> None:
    figures = plan.figures or {}
    error = figures.get("rmse_pcutoff")
    if error is not None:
        output.say(f"{plan.version}: mean error {error:.4g} px above the p-cutoff on {figures['set']} frames.")
    groups: dict[tuple[str | None, str | None], list[Any]] = {}
    for row in plan.effects:
        groups.setdefault((row.before, row.after), []).append(row)
    rows = [
        (
            before or "none",
            "stays" if before == after else after or "none",
            len({row.session for row in of_group}),
            len(of_group),
            sum(not row.there for row in of_group) if after else "",
            _days(of_group),
        )
        for (before, after), of_group in groups.items()
    ]
    columns = ("released now", "then", "sessions", "recordings", "not analysed by it yet", "days")
    output.table("What becomes of the sessions there are", columns, rows)
    changed = sorted({row.session for row in plan.effects if row.changes})
    if changed:
        output.say(f"Another version, or one for the first time: {_some(changed)}.")
    if plan.first is not None:
        output.say(f"Sessions from {plan.first} on take {plan.version}; those before keep what the rules below say.")
    for note in plan.notes:
        output.log(f"Note: {note}")
    by_kind = Counter(mixing.kind for mixing in plan.mixings)
    if by_kind:
        output.say(
            "Versions would mix (errors of different versions differ: compare with care, or freeze a cohort first):"
        )
    for kind, count in by_kind.items():
        for mixing in [mixing for mixing in plan.mixings if mixing.kind == kind][:_LISTED]:
            output.say(f"  {mixing}")
        if count > _LISTED:
            output.say(f"  ... and {count - _LISTED} more of this kind")
    output.say("To be written into lab.yaml, under release:")
    for new in plan.rules:
        where = "first" if new.before == 0 else f"after rule {new.before}"
        output.say(f"  - {new.text}   ({where})")
    for sentence in plan.against:
        output.log(f"Against it: {sentence}")


def _days(rows: Sequence[Any]) -> str:
    days = sorted({row.day for row in rows if row.day is not None})
    undated = ["without a day"] if any(row.day is None for row in rows) else []
    span = [str(days[0]) if days[0] == days[-1] else f"{days[0]} to {days[-1]}"] if days else []
    return ", ".join([*span, *undated])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _as_json(plan: Release) -> dict[str, Any]:
    return {
        "model": plan.version.model,
        "version": plan.version.version,
        "devices": plan.devices,
        "rules": [{"rule": new.text, "before": new.before} for new in plan.rules],
        "on_release": plan.on_release,
        "from": plan.first,
        "recordings": [{**asdict(row), "changes": row.changes} for row in plan.effects],
        "mixed": [asdict(mixing) for mixing in plan.mixings],
        "against": plan.against,
        "notes": plan.notes,
        "evaluation": plan.figures,
        "already": plan.done_already,
    }


def _agreed(output: Output, question: str, *, yes: bool) -> bool:
    """Ask on standard error where a person is there to answer; a script has said it by giving the command."""
    if yes or output.as_json or not _someone_is_there():
        return True
    return typer.confirm(question, err=True)


def _someone_is_there() -> bool:
    return sys.stdin.isatty()


@app.command()
def freeze(
    name: Annotated[str, typer.Argument(help="The cohort's name; it cannot be used again.")],
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[SESSION]...", help="More sessions.", show_default=False)
    ] = None,
    sessions: Annotated[
        list[str] | None,
        typer.Option(metavar="SESSION...", help="Session keys, or patterns such as sub-m01_*.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Sessions that have this tag, or whose subject has it.", show_default=False
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL@VERSION,...",
            help="Versions for all of them; default: what the release rules say of each.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the records.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be frozen.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Freeze sessions with the model versions and the poses that they have now, under a name."""
    with speaking(as_json) as output:
        opened = open_lab_folder(lab)
        from dlc_assets.inference.freezing import freeze as freeze_sessions
        from dlc_assets.state.choosing import sessions_matching

        patterns = [*(sessions or ()), *(keys or ())]
        if everything and patterns:
            raise SettingsError(f"--all means every session: leave it out, or leave out {', '.join(patterns)}.")
        if not (everything or patterns or tag):
            raise SettingsError("which sessions? Give --sessions with keys or patterns, --tag name=value, or --all.")
        chosen = sessions_matching(opened, patterns or None, tag or ())
        found = freeze_sessions(
            opened, name, chosen, models=_listed_names(models) or (), reason=reason, dry_run=dry_run
        )
        _say_frozen(output, name, found)
        output.result(
            {
                "ok": True,
                "cohort": name,
                "frozen": found.cohort is not None,
                "dry_run": dry_run,
                "sessions": found.sessions,
                "notes": found.notes,
                "reason": reason,
            }
        )


def _say_frozen(output: Output, name: str, found: Frozen) -> None:
    by_version: Counter[str] = Counter()
    for pinned in found.sessions.values():
        by_version.update(f"{model}@{version}" for model, version in pinned.items())
    rows = sorted(by_version.items())
    output.table(f"{name}: {_count(len(found.sessions), 'session')}", ("version", "sessions"), rows)
    for note in found.notes[:_LISTED]:
        output.log(note)
    if len(found.notes) > _LISTED:
        output.log(f"... and {len(found.notes) - _LISTED} more notes")
    if found.cohort is None:
        output.say("Nothing was changed.")
    else:
        output.say(f'Frozen. Read it with open_lab().poses(cohort="{name}"), export it with --cohort {name}.')


@app.command()
def cohorts(
    name: Annotated[
        str | None, typer.Argument(help="One cohort, with its sessions; default: all.", show_default=False)
    ] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the frozen cohorts, or the sessions of one."""
    with speaking(as_json) as output:
        opened = open_lab_folder(lab)
        from dlc_assets.inference.frozen_poses import missing_of
        from dlc_assets.lab.cohorts import cohorts as all_cohorts
        from dlc_assets.lab.cohorts import find_cohort

        found = all_cohorts(opened.layout) if name is None else [find_cohort(opened.layout, name)]
        missing = {cohort.name: missing_of(opened, cohort) for cohort in found}
        if name is None:
            rows = [
                (c.name, len(c.sessions), ", ".join(c.versions), c.made, c.by, c.reason, len(missing[c.name]) or "")
                for c in found
            ]
            columns = ("cohort", "sessions", "versions", "frozen", "by", "reason", "without poses")
            output.table("Cohorts", columns, rows)
        else:
            pinned = [
                (key, f"{model}@{version}") for key, of in found[0].sessions.items() for model, version in of.items()
            ]
            output.table(f"{name}: {found[0].reason or found[0].made}", ("session", "version"), pinned)
        for of_cohort, lines in missing.items():
            for line in lines[:_LISTED]:
                output.log(f"Problem: {of_cohort}: the poses that were frozen are not there: {line}")
        output.result({"ok": True, "cohorts": [{**asdict(c), "missing": missing[c.name]} for c in found]})
