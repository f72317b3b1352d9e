"""Commands for whoever gets poses from a lab, and for giving them: bundle, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import FAILED, JsonOption, LabOption, Output, speaking
from dlc_assets.lab.files import size_words
from dlc_assets.lab.lab import open_lab_folder

if TYPE_CHECKING:
    from dlc_assets.bundles.verifying import Verification, Verified


@app.command()
def bundle(
    session: Annotated[str, typer.Argument(help="The session's key.")],
    cohort: Annotated[
        str | None,
        typer.Option(help="The poses that this frozen cohort has; default: the released ones.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL[@VERSION]", help="The poses by this model, whatever is released.", show_default=False
        ),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", help="The file; default: store/bundles/SESSION.zip.", show_default=False),
    ] = None,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one file with the poses of SESSION and what is needed to make them again, but for the videos."""
    with speaking(as_json) as output:
        opened = open_lab_folder(lab)
        from dlc_assets.bundles.writing import write_bundle

        written = write_bundle(opened, session, cohort=cohort, model=model, output=output_file)
        rows = [
            (poses.recording, f"{poses.model}@{poses.version}", poses.frames, ", ".join(v.name for v in poses.videos))
            for poses in written.bundle.poses
        ]
        output.table(f"Poses of {session}", ("recording", "version", "frames", "videos, not in the bundle"), rows)
        output.say(f"Chosen by {written.bundle.chosen_by}.")
        for note in written.bundle.notes:
            output.log(f"Note: {note}")
        output.say(f"Written: {written.path} ({size_words(written.bytes)}). `dlc-assets verify` checks it.")
        output.result(
            {
                "ok": True,
                "bundle": str(written.path),
                "bytes": written.bytes,
                **written.bundle.model_dump(mode="json", include={"session", "chosen_by", "poses", "members", "notes"}),
            }
        )


@app.command()
def verify(
    bundle_file: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A file that `dlc-assets bundle` wrote.")],
    video: Annotated[
        list[Path] | None,
        typer.Option(help="A video that its poses were made from; may be repeated.", show_default=False),
    ] = None,
    recording: Annotated[
        str | None, typer.Option(help="Only this recording of the bundle.", show_default=False)
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Only so many frames, the first ones, for a quick look.", show_default=False),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="cpu|gpu", help="Default: what made the poses, where there is one.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate the poses of BUNDLE again from their videos and say how far they lie from those in it; needs no lab."""
    with speaking(as_json) as output:
        from dlc_assets.bundles.verifying import verify_bundle

        found = verify_bundle(
            bundle_file, video or (), recording=recording, frames=frames, device=device, log=output.log
        )
        _say_verification(output, found)
        output.result(
            {
                "ok": found.reproduced,
                "bundle": str(bundle_file),
                "session": found.bundle.session,
                "frames": found.frames,
                "software": found.software,
                "not_verified": found.not_verified,
                "recordings": [_as_json(one) for one in found.verified],
            }
        )
        if not found.reproduced:
            raise typer.Exit(FAILED)


def _say_verification(output: Output, found: Verification) -> None:
    columns = (
        "recording",
        "version",
        "frames",
        "compared",
        "within tolerance",
        "median",
        "99 %",
        "largest",
        "likelihood",
        "detections that differ",
    )
    output.table(f"Poses of {found.bundle.session}, made again (px)", columns, [_row(one) for one in found.verified])
    for said in found.software:
        output.log(f"Other version: {said}")
    for one in found.verified:
        for note in one.notes:
            output.log(f"Note: {one.poses.recording}: {note}")
        if one.agreement.identical == one.agreement.positions:
            output.say(f"{one.poses}: every position is the same, to the last bit.")
        for worst in one.agreement.worst:
            if worst.excess > 1:
                output.say(f"  beyond the tolerance: {worst.sentence()}")
        output.say(f"Tolerance: {one.tolerance.sentence()}.")
        for differs in one.differs:
            output.log(f"NOT REPRODUCED: {one.poses}: {differs}.")
    for name in found.not_verified:
        output.say(f"Not verified, as no video of it was given: {name}.")
    first = f" in the first {found.frames} frames" if found.frames is not None else ""
    output.say(
        f"Reproduced{first}: the poses are those of the bundle, within the tolerance."
        if found.reproduced
        else f"NOT reproduced{first}."
    )


def _row(one: Verified) -> tuple[Any, ...]:
    agreement = one.agreement
    return (
        one.poses.recording,
        f"{one.poses.model}@{one.poses.version}",
        agreement.frames,
        f"{agreement.seen} of {agreement.positions}",
        f"{100 * agreement.share:.6g} %" if agreement.seen else "none is seen",
        f"{agreement.distances.quantile(0.5):.2g}",
        f"{agreement.distances.quantile(0.99):.2g}",
        f"{agreement.largest_px:.2g}",
        f"{agreement.largest_likelihood:.2g}",
        agreement.gained + agreement.lost,
    )


def _as_json(one: Verified) -> dict[str, Any]:
    agreement, poses = one.agreement, one.poses
    return {
        "recording": poses.recording,
        "model": poses.model,
        "version": poses.version,
        "reproduced": not one.differs,
        "differs": one.differs,
        "notes": one.notes,
        "videos": [str(path) for path in one.videos],
        "tolerance": one.tolerance.model_dump(),
        "frames": {"table": poses.frames, "video": one.frames_found, "compared": agreement.frames},
        "times_largest_s": one.largest_time,
        "positions": agreement.positions,
        "identical": agreement.identical,
        "seen": agreement.seen,
        "elsewhere": agreement.elsewhere,
        "share_within": agreement.share,
        "median_px": agreement.distances.quantile(0.5),
        "p99_px": agreement.distances.quantile(0.99),
        "largest_px": agreement.largest_px,
        "largest_likelihood": agreement.largest_likelihood,
        "bias_px": agreement.bias_px,
        "gained": agreement.gained,
        "lost": agreement.lost,
        "worst": [vars(worst) for worst in agreement.worst],
        "made_with": {**poses.inference, **poses.software},
        "verified_with": one.inference,
    }
