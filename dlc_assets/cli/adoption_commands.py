"""Commands about what a lab already has: adopt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import FAILED, JsonOption, LabOption, Output, say_problems, speaking
from dlc_assets.lab.lab import open_lab_folder

_SHOWN = 20


@app.command()
def adopt(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The config.yaml of a DeepLabCut project.")],
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", help="A folder with result files; again for more. Default: the project's folder."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--answers", help="Where questions are asked and answered. Default: adopt-<project>.yaml in the lab."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look, and say what would be done; write nothing.")
    ] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over a DeepLabCut project: its networks become models, results of videos become pose tables, and nothing is guessed."""
    from dlc_assets.adopting import adopt as do_adopt
    from dlc_assets.adopting import look
    from dlc_assets.resources.instance import open_instance

    with speaking(as_json) as output:
        opened = open_lab_folder(lab)
        config = config / "config.yaml" if config.is_dir() else config
        roots = results or [config.parent]
        file = answers or opened.root / f"adopt-{config.resolve().parent.name}.yaml"
        if dry_run:
            done, _ = look(opened, config, roots, file, log=output.log)
        else:
            with open_instance(opened, output.log) as instance:
                done = do_adopt(opened, instance, config, roots, file, log=output.log)
        _say(output, done, dry_run=dry_run)
        output.result(_facts(done, dry_run=dry_run))
        if done.problems:
            raise typer.Exit(FAILED)


def _say(output: Output, done: Any, *, dry_run: bool) -> None:
    found = done.survey
    labels = [
        (
            c.folder,
            c.scorer or "-",
            c.found,
            c.used,
            "; ".join([*(f"{n} {why}" for why, n in c.dropped.items()), *c.warnings]),
        )
        for c in found.label_counts
    ]
    output.table(
        f"Labels of {found.name}", ("folder", "scorer", "labeled", "used", "not used, and other remarks"), labels
    )
    networks = [
        (
            str(n),
            len(n.snapshots),
            n.snapshots[-1].name if n.snapshots else "-",
            "yes" if n.engine == "pytorch" else "no",
        )
        for n in found.networks
    ]
    output.table("Networks", ("network", "snapshots", "last", "runs here"), networks)
    models = [
        (
            m.scorer or "(none)",
            m.name or "?",
            len(m.results),
            *(sum(r.state == s for r in m.results) for s in ("matched", "ambiguous", "unmatched", "skipped")),
            m.why,
        )
        for m in done.models
    ]
    columns = ("scorer", "model", "files", "matched", "ambiguous", "unmatched", "skipped", "why")
    output.table("Results", columns, models)
    open_ones = [
        (r.result.shown, r.state, r.why)
        for m in done.models
        for r in m.results
        if r.state in {"ambiguous", "unmatched"}
    ]
    if open_ones:
        output.table("What nobody can tell yet", ("file", "state", "why"), open_ones[:_SHOWN])
        if len(open_ones) > _SHOWN:
            output.say(f"... and {len(open_ones) - _SHOWN} more")
    reasons = Counter(left.why for left in found.left_out if not left.problem)
    output.table("Files that are no results", ("files", "why"), [(n, why) for why, n in reasons.most_common(_SHOWN)])
    for count in found.label_counts:
        for example in count.examples:
            output.log(f"Labels: {count.folder} ({count.scorer}), row {example}")
    missing = [name for name, path in found.videos.items() if path is None]
    if missing:
        output.say(
            f"{len(missing)} of the {len(found.videos)} videos that config.yaml lists are not where it says, such as {missing[0]}."
        )
    unreadable = [
        f"{left.path}: {left.why}" if str(left.path) not in left.why else left.why
        for left in found.left_out
        if left.problem
    ]
    say_problems(output, [*([found.label_problem] if found.label_problem else []), *unreadable, *done.problems])
    _say_outcome(output, done, dry_run=dry_run)


def _say_outcome(output: Output, done: Any, *, dry_run: bool) -> None:
    counted = ", ".join(f"{number} {state}" for state, number in sorted(done.states.items())) or "none"
    output.say(f"Result files: {counted}.")
    if dry_run:
        output.say("Nothing was written (--dry-run).")
        return
    by_words: dict[str, list[str]] = {}
    for where, words in done.warnings:
        by_words.setdefault(words, []).append(where)
    for words, places in list(by_words.items())[:_SHOWN]:
        output.log(f"Warning: {places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''}: {words}")
    if len(by_words) > _SHOWN:
        output.log(
            f"... and {len(by_words) - _SHOWN} more kinds: --json prints them all, and each pose table has its own"
        )
    output.say(
        f"Models: {len(done.imported)} imported, {len(done.versions) - len(done.imported)} there already. Pose tables: "
        f"{len(done.pose_tables)} imported, {len(done.unchanged)} there already."
    )
    file, number = done.questions
    if number:
        output.say(f"{number} questions are in {file}. Fill it in and give the command again.")


def _facts(done: Any, *, dry_run: bool) -> dict[str, Any]:
    from dlc_assets.adopting import report_rows

    return {
        "ok": not done.problems,
        "written": not dry_run,
        "project": done.survey.name,
        "labels": [
            {
                "folder": c.folder,
                "scorer": c.scorer,
                "found": c.found,
                "used": c.used,
                "dropped": c.dropped,
                "rows": c.examples,
            }
            for c in done.survey.label_counts
        ],
        "networks": [
            {
                "engine": n.engine,
                "iteration": n.iteration,
                "trainset_percent": n.percent,
                "shuffle": n.shuffle,
                "snapshots": [snapshot.name for snapshot in n.snapshots],
            }
            for n in done.survey.networks
        ],
        "videos": {name: None if path is None else str(path) for name, path in done.survey.videos.items()},
        "files": report_rows(done),
        "states": dict(done.states),
        "models": {name: str(version) for name, version in done.versions.items()},
        "imported": done.imported,
        "pose_tables": [{"model": model, "session": session} for model, session in done.pose_tables],
        "unchanged": [{"model": model, "session": session} for model, session in done.unchanged],
        "warnings": [f"{where}: {words}" for where, words in done.warnings],
        "questions": {"file": str(done.questions[0]), "number": done.questions[1]},
        "problems": [
            *([done.survey.label_problem] if done.survey.label_problem else []),
            *(left.why for left in done.survey.left_out if left.problem),
            *done.problems,
        ],
    }
