"""Commands that execute runs: train, analyze, export, publish."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import (
    JsonOption,
    LabOption,
    Output,
    SessionsArgument,
    finish,
    opened_lab,
    say_problems,
    speaking,
    stated,
)
from dlc_assets.lab.files import size_words
from dlc_assets.lab.lab import open_lab_folder


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="The model: the name of its file in models/, without .yaml.")],
    epochs: Annotated[int | None, typer.Option(help="For this run only; the version is then custom.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="For this run only.", min=1)] = None,
    recompute: Annotated[bool, typer.Option(help="Train though the current version is up to date.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the training dataset of MODEL, train it, and evaluate it."""
    with speaking(as_json) as output, opened_lab(lab, output) as (opened, instance):
        from dlc_assets.commands import train_model
        from dlc_assets.training.models import current_version, evaluation_manifest

        settings = {"epochs": epochs, "batch_size": batch_size, "recompute": recompute or None}
        outcome = train_model(opened, instance, model, stated(settings), log=output.log)
        version = current_version(opened.layout, model) if outcome.success else None
        summary: dict[str, Any] = {"model": model, "version": version.version if version else None}
        if version is not None:
            evaluation = evaluation_manifest(version, opened.layout)
            sets = (
                {name: evaluation.details[name] for name in ("train", "validation", "benchmark")} if evaluation else {}
            )
            rows = [
                (name, e["n"], e["rmse"], e["rmse_pcutoff"], e["median_error"])
                for name, e in sets.items()
                if e is not None
            ]
            output.table(
                f"{version}: errors in px", ("frames", "labels", "mean", "mean above p-cutoff", "median"), rows
            )
            output.say(f"In {version.folder}")
            summary |= {"folder": str(version.folder), "evaluation": sets}
        finish(output, [outcome], summary)


@app.command()
def analyze(
    sessions: SessionsArgument = None,
    model: Annotated[str | None, typer.Option(help="The model; default: what the release rules say.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Frames at once, for this run only; the tables are then custom.", show_default=False),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="float32|proven", help="For this run only.", show_default=False)
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(metavar="best|last|EPOCH", help="Snapshot of the model, for this run only.", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="cpu|gpu", help="For this run only.", show_default=False)
    ] = None,
    dynamic_cropping: Annotated[
        bool | None,
        typer.Option(help="Look only around where the animal was, for this run only.", show_default=False),
    ] = None,
    recompute: Annotated[bool, typer.Option(help="Estimate though the tables are up to date.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate the poses of sessions (all of them, unless named), probing their videos first where that is behind."""
    settings = {
        "batch_size": batch_size,
        "precision": precision,
        "snapshot": snapshot,
        "device": device,
        "dynamic_cropping": dynamic_cropping,
    }
    with speaking(as_json) as output, opened_lab(lab, output) as (opened, instance):
        from dlc_assets.commands import analyze_sessions

        done = analyze_sessions(
            opened,
            instance,
            sessions or None,
            model,
            settings=stated(settings),
            recompute=recompute,
            log=output.log,
        )
        output.table(
            "Pose tables",
            ("session", "model", "version", "frames", "folder"),
            [tuple(row.values()) for row in done.pose_tables],
        )
        for note in done.notes:
            output.log(note)
        say_problems(output, done.problems)
        result = {"pose_tables": done.pose_tables, "problems": done.problems, "notes": done.notes}
        finish(output, done.outcomes, result, failed=bool(done.problems))


@app.command("label-video")
def label_video(
    sessions: Annotated[list[str], typer.Argument(metavar="SESSION...", help="Session keys.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(help="The model, or model@version; default: those released to the session.", show_default=False),
    ] = None,
    recording: Annotated[
        list[str] | None, typer.Option(help="A recording; may be repeated. Default: all.", show_default=False)
    ] = None,
    filtered: Annotated[
        bool | None, typer.Option("--filtered/--raw", help="Which poses are drawn.", show_default=False)
    ] = None,
    start: Annotated[
        float | None, typer.Option("--from", metavar="S", help="First second shown, on the session's clock.")
    ] = None,
    end: Annotated[float | None, typer.Option("--to", metavar="S", help="First second left out.")] = None,
    frames: Annotated[bool, typer.Option("--frames", help="--from and --to are numbers of frames.")] = False,
    speed: Annotated[float | None, typer.Option(metavar="X", help="Playback, so many times as fast.")] = None,
    width: Annotated[int | None, typer.Option(metavar="PX", help="Width of the labeled video, even.")] = None,
    trail: Annotated[float | None, typer.Option(metavar="S", help="Seconds whose path is drawn.")] = None,
    pcutoff: Annotated[float | None, typer.Option(help="Likelihood below which a point is not sure.")] = None,
    hollow: Annotated[
        bool | None,
        typer.Option("--hollow/--omit", help="Points below the p-cutoff: hollow, or left out.", show_default=False),
    ] = None,
    skeleton: Annotated[bool | None, typer.Option(help="Draw the model's skeleton.", show_default=False)] = None,
    caption: Annotated[bool | None, typer.Option(help="Write frame and time.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Copy the finished video there; of one recording.", show_default=False),
    ] = None,
    recompute: Annotated[bool, typer.Option(help="Make the videos though they are up to date.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the poses of sessions onto their videos: H.264 that browsers play; what is not stated is as lab.yaml has it."""
    name, _, version = (model or "").partition("@")
    settings = stated(
        {
            "version": version or None,
            "recordings": list(recording) if recording else None,
            "poses": None if filtered is None else "filtered" if filtered else "raw",
            "pcutoff": pcutoff,
            "below_pcutoff": None if hollow is None else "hollow" if hollow else "omitted",
            "skeleton": skeleton,
            "trail": trail,
            "caption": caption,
            "start": start,
            "end": end,
            "span_unit": "frames" if frames else None,
            "speed": speed,
            "width": width,
        }
    )
    with speaking(as_json) as said, opened_lab(lab, said) as (opened, instance):
        from dlc_assets.commands import label_videos
        from dlc_assets.lab.errors import SettingsError
        from dlc_assets.lab.files import copy_to

        if output is not None and output.suffix.lower() != ".mp4":
            raise SettingsError(f"--output {output}: expected a file name that ends in .mp4.")
        outcomes, rows = label_videos(
            opened, instance, sessions, name or None, settings=settings, recompute=recompute, log=said.log
        )
        said.table(
            "Labeled videos",
            ("session", "model", "recording", "frames", "size", "file"),
            [tuple(row.values()) for row in rows],
        )
        if output is not None and len(rows) > 1:
            raise SettingsError(
                f"--output {output}: {len(rows)} videos were made (they are in the store), and one file takes one. Name one session, "
                f"--model and --recording ({', '.join(row['recording'] for row in rows)})."
            )
        if output is not None and rows:
            copy_to(Path(rows[0]["file"]), output)
            said.say(f"Copied to {output}")
        finish(said, outcomes, {"labeled_videos": rows, "copied_to": str(output) if output and rows else None})


@app.command()
def export(
    sessions: SessionsArgument = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model, or model@version, whose poses are written in the place of the released ones; may be repeated.",
            show_default=False,
        ),
    ] = None,
    cohort: Annotated[
        str | None,
        typer.Option(help="A frozen cohort: its sessions, with the poses that it was frozen with.", show_default=False),
    ] = None,
    recompute: Annotated[bool, typer.Option(help="Write the files though they are up to date.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the NWB files of sessions (all that have released poses, unless named), or of a frozen cohort."""
    with speaking(as_json) as output, opened_lab(lab, output) as (opened, instance):
        from dlc_assets.commands import export_cohort, export_sessions
        from dlc_assets.lab.errors import SettingsError

        if cohort is not None:
            if model:
                raise SettingsError("a cohort says itself which models it takes: leave out --model, or --cohort.")
            outcomes, done = export_cohort(
                opened, instance, cohort, sessions or (), recompute=recompute, log=output.log
            )
        else:
            from dlc_assets.reviewing import review_before_export

            before = [] if model else review_before_export(opened, instance, sessions or None, log=output.log)
            outcomes, done = export_sessions(
                opened, instance, sessions or None, recompute=recompute, log=output.log, models=model or ()
            )
            outcomes = [*before, *outcomes]
        output.table("NWB files", ("session", "file", "findings"), [tuple(row.values()) for row in done])
        finish(output, outcomes, {"nwb_files": done})


@app.command()
def publish(
    sessions: SessionsArgument = None,
    cohort: Annotated[
        str | None,
        typer.Option(help="A frozen cohort: its NWB files, which `export --cohort` wrote.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every path, its size and what is wrong; upload nothing.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(help="Take the place of files that this lab did not put there, or put there for a cohort."),
    ] = False,
    recompute: Annotated[
        bool, typer.Option(help="Compare with the archive though everything is known to be published.")
    ] = False,
    init: Annotated[
        bool, typer.Option("--init", help="Write dandiset.yaml beside the NWB files, from lab.yaml; upload nothing.")
    ] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upload the NWB files of sessions (all that have one, unless named) to the dandiset that lab.yaml names."""
    with speaking(as_json) as output:
        if init or dry_run:
            _look_before_publishing(output, lab, sessions or (), cohort, replace=replace, init=init)
            return
        with opened_lab(lab, output) as (opened, instance):
            from dlc_assets.commands import publish_sessions, sessions_to_publish
            from dlc_assets.lab.cohorts import find_cohort

            frozen = None if cohort is None else find_cohort(opened.layout, cohort)
            wanted = sessions_to_publish(opened, sessions or (), frozen, output.log)
            outcomes, rows = publish_sessions(
                opened, instance, wanted, frozen, replace=replace, recompute=recompute, log=output.log
            )
            columns = ("session", "path", "bytes", "asset")
            output.table("Published", columns, [tuple(row[name] for name in columns) for row in rows])
            for dandiset in {row["dandiset"] for row in rows}:
                output.say(f"In the draft of {dandiset}")
            finish(output, outcomes, {"published": rows})


def _look_before_publishing(
    output: Output, lab: Path | None, sessions: Sequence[str], cohort: str | None, *, replace: bool, init: bool
) -> None:
    """Do what writes nothing to the archive, and needs no run: describe the dandiset, or show what would be published."""
    from dlc_assets.commands import sessions_to_publish
    from dlc_assets.lab.cohorts import find_cohort
    from dlc_assets.publishing.dandiset_file import write_dandiset_file
    from dlc_assets.publishing.preview import preview

    opened = open_lab_folder(lab)
    frozen = None if cohort is None else find_cohort(opened.layout, cohort)
    if init:
        written = write_dandiset_file(opened, frozen)
        output.say(f"Written: {written}")
        output.result({"ok": True, "written": str(written)})
        return
    shown = preview(opened, sessions_to_publish(opened, sessions, frozen, output.log), frozen, replace=replace)
    output.table(
        "Would be published", ("session", "path", "bytes", "state"), [tuple(row.values()) for row in shown.rows]
    )
    for note in shown.notes:
        output.log(note)
    say_problems(output, shown.problems)
    output.say(f"{len(shown.rows)} files, {size_words(sum(row['bytes'] for row in shown.rows))}")
    finish(
        output,
        [],
        {"files": shown.rows, "problems": shown.problems, "notes": shown.notes},
        failed=bool(shown.problems),
    )
