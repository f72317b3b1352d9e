"""The checks of a pose table: what each of them says of a session, from all of its recordings, by the lab's thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from dlc_assets.inference.crops import crop_of
from dlc_assets.inference.pose_tables import pose_files
from dlc_assets.lab.check_settings import Checks
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.poses.table_file import PoseTableFile
from dlc_assets.recordings.info import SessionInfo, need_session_info
from dlc_assets.recordings.setups import setup_of
from dlc_assets.review.camera import CameraShift, camera_shift
from dlc_assets.review.checked_poses import CheckedPoses
from dlc_assets.review.checks.absences import body_parts_found, long_absences
from dlc_assets.review.checks.frames import frames_match
from dlc_assets.review.checks.likelihoods import drift, expected_shares
from dlc_assets.review.checks.motion import jumps, stuck, swaps
from dlc_assets.review.checks.place import limb_lengths, outside
from dlc_assets.review.checks.seen import Seen
from dlc_assets.review.findings import Finding, Moment
from dlc_assets.training.models import find_version

# Names and questions, in the order in which they are shown.
QUESTIONS = {
    "frames_match": "Does the table have every frame of the video, at its time?",
    "body_parts_found": "Is every body part found in enough of the frames?",
    "long_absences": "Is nothing lost for long?",
    "jumps": "Does no body part move faster than an animal can?",
    "swaps": "Do left and right, or two animals, keep their places?",
    "limb_lengths": "Do limbs stay about as long as they are?",
    "outside": "Do all points lie in the picture and the arena?",
    "stuck": "Does no body part stay behind while the animal moves on?",
    "drift": "Is the network as sure as it was on its labeled frames?",
    "camera_moved": "Does the camera stand where it stood?",
}
_MOST_MOMENTS = 20
_NAMED = 2  # body parts beside the worst one


def check_poses(lab: Lab, manifest: Manifest) -> list[Finding]:
    """Return one `Finding` of each check of the pose table of *manifest*, in the order of `QUESTIONS`; those that are off are left out.

    A check that cannot do its work says why, and does not pass; it never raises.
    """
    content = content_hash([manifest.data_version, manifest.inputs, _looked_at(lab, manifest)])
    found: tuple[Finding, ...] = _kept(lab.root, manifest.key, content, partial(_checked, lab, manifest))
    return list(found)


def _looked_at(lab: Lab, manifest: Manifest) -> Any:
    """Return what the findings depend on beside the poses: settings, the session's times and rig, evaluation, references."""
    layout, details = lab.layout, manifest.details
    session = read_manifest(layout.session_recordings(details["session"]))
    evaluation = read_manifest(layout.evaluation(details["model"], details["version"]))
    setups = lab.settings.setups
    references = {period.reference for periods in setups.values() for period in periods if period.reference}
    return [
        lab.settings.model_dump(mode="json", include={"checks", "setups"}),
        [] if session is None else [session.data_version, session.made, session.details],
        [] if evaluation is None else [evaluation.data_version, evaluation.made],
        {reference: _state_of(lab, reference) for reference in references},
    ]


def _state_of(lab: Lab, reference: str) -> Any:
    try:
        status = (lab.root / reference).stat()
        return [status.st_size, status.st_mtime_ns]
    except OSError:  # a session's key, or a picture that is not there
        session = read_manifest(lab.layout.session_recordings(reference))
        return None if session is None else session.data_version


@lru_cache(maxsize=64)
def _remembered(root: Path, key: str, content: str) -> dict[str, tuple[Finding, ...]]:
    return {}


def _kept(root: Path, key: str, content: str, work: Callable[[], tuple[Finding, ...]]) -> tuple[Finding, ...]:
    """Do *work* once for one content: each check of the UI asks for its own finding."""
    place = _remembered(root, key, content)
    if "findings" not in place:
        place["findings"] = work()
    return place["findings"]


def _checked(lab: Lab, manifest: Manifest) -> tuple[Finding, ...]:
    settings = lab.settings.checks
    try:
        session, _ = need_session_info(lab.layout, manifest.details["session"])
        recordings = [_opened(lab, session, manifest, place) for place in range(len(manifest.details["recordings"]))]
    except Exception as error:  # noqa: BLE001  # a table or record that is damaged in whatever way: said, by every check
        return tuple(_not_done(name, error) for name in QUESTIONS if _severity(settings, name) != "off")
    expected = partial(_expected, lab, manifest)
    looks: dict[str, Callable[[CheckedPoses], Seen]] = {
        "frames_match": lambda poses: frames_match(lab, session.session, poses),
        "body_parts_found": lambda poses: body_parts_found(poses, settings.body_parts_found),
        "long_absences": lambda poses: long_absences(poses, settings.long_absences),
        "jumps": lambda poses: jumps(poses, settings.jumps, settings.swaps),
        "swaps": lambda poses: swaps(poses, settings.swaps),
        "limb_lengths": lambda poses: limb_lengths(poses, settings.limb_lengths),
        "outside": lambda poses: outside(poses, settings.outside),
        "stuck": lambda poses: stuck(poses, settings.stuck),
        "drift": lambda poses: drift(poses, settings.drift, expected()),
        "camera_moved": lambda poses: _camera(camera_shift(lab, session, poses.recording)),
    }
    findings = []
    for name, look in looks.items():
        if _severity(settings, name) == "off":
            continue
        try:
            seen = {poses.recording.recording: look(poses) for poses in recordings}
            findings.append(_finding(name, settings, seen))
        except Exception as error:  # noqa: BLE001  # whatever a check stumbles over, the poses are there, and the others speak
            findings.append(_not_done(name, error))
    return tuple(findings)


def _opened(lab: Lab, session: SessionInfo, manifest: Manifest, place: int) -> CheckedPoses:
    file = pose_files(lab, manifest)[place]
    recording = session.recording(file.recording)
    table = PoseTableFile.open(file.path)
    pcutoff = manifest.details.get("pcutoff")
    return CheckedPoses(
        table=table,
        recording=recording,
        setup=setup_of(lab, session, recording),
        crop=crop_of(lab, session, recording),
        pcutoff=None if pcutoff is None else float(pcutoff),
    )


def _expected(lab: Lab, manifest: Manifest) -> Any:
    pcutoff = manifest.details.get("pcutoff")
    try:
        version = find_version(lab.layout, f"{manifest.details['model']}@{manifest.details['version']}")
    except NotFoundError:  # of another lab, or deleted
        return {}
    return {} if pcutoff is None else expected_shares(lab, version, float(pcutoff))


def _camera(shift: CameraShift | None) -> Seen:
    if shift is None:
        return Seen(sentence="no setup names a reference picture, so that nobody can tell")
    if not shift.known:
        return Seen(failed=True, doubtful=True, sentence=shift.sentence)
    details = {"dx": round(shift.dx, 2), "dy": round(shift.dy, 2), "rotation": round(shift.rotation, 3)}
    return Seen(round(shift.shift, 2), "", (), details, failed=shift.moved, sentence=shift.sentence)


def _severity(settings: Checks, name: str) -> Literal["warn", "error", "off"]:
    severity: Literal["warn", "error", "off"] = getattr(settings, name).severity
    return severity


def _limit(settings: Checks, name: str) -> float | None:
    """Return what a value may be at most."""
    own = getattr(settings, name)
    limits = {
        "body_parts_found": "max_share_below",
        "jumps": "max_per_minute",
        "swaps": "max_per_minute",
        "limb_lengths": "max_share",
        "outside": "max_share",
        "stuck": "longest",
        "drift": "max_drop",
        "camera_moved": "max_shift",
    }
    if name in limits:
        return float(getattr(own, limits[name]))
    return 1.0 if name == "long_absences" else 0.0 if name == "frames_match" else None


def _finding(name: str, settings: Checks, seen: dict[str, Seen]) -> Finding:
    limit = _limit(settings, name)
    failed = {recording: _fails(name, one, limit) for recording, one in seen.items()}
    values = {recording: one.value for recording, one in seen.items() if one.value is not None}
    worst = max(values, key=lambda recording: values[recording], default=None)
    passed = not any(failed.values())
    moments = sorted((m for one in seen.values() for m in one.moments), key=lambda m: -m.badness)[:_MOST_MOMENTS]
    bad = [recording for recording, fails in failed.items() if fails]
    shown = (bad or ([worst] if worst is not None else list(seen)))[:3]
    sentence = " ".join(
        f"{_said(name, settings, recording, seen[recording], failed[recording])}." for recording in shown
    )
    if len(bad) > len(shown):
        sentence += f" And {len(bad) - len(shown)} more recordings."
    sure = passed or any(not seen[recording].doubtful for recording in bad)
    return Finding(
        check=name,
        passed=passed,
        severity="error" if _severity(settings, name) == "error" and sure else "warn",
        sentence=sentence,
        value=None if worst is None else values[worst],
        limit=limit,
        moments=tuple(moments) if not passed or name in {"jumps", "swaps", "limb_lengths", "outside"} else (),
        details={recording: one.details for recording, one in seen.items() if one.details},
    )


def _fails(name: str, seen: Seen, limit: float | None) -> bool:
    if seen.failed is not None:
        return seen.failed
    if seen.value is None or limit is None:
        return False
    return seen.value >= limit if name == "stuck" else seen.value > limit


def _said(name: str, settings: Checks, recording: str, seen: Seen, failed: bool) -> str:
    """Say in a sentence without its full stop what one recording has."""
    if seen.sentence:
        return seen.sentence if seen.sentence.startswith(recording) else f"{recording}: {seen.sentence}"
    value, of = seen.value, seen.of
    if value is None:
        return f"{recording}: nothing to look at"
    limit = _limit(settings, name)
    allowed = f" (allowed: {limit:g})" if failed else ""
    words = {
        "frames_match": "every frame is there, at its time",
        "body_parts_found": f"{of} is below the p-cutoff in {value:.0%} of the frames{_others(seen, limit)}",
        "long_absences": of or "no animal and no body part is lost for long",
        "jumps": f"{of} jumps {value:.3g} times a minute{allowed}" if value else "no body part jumps",
        "swaps": f"{of} change places {value:.3g} times a minute{allowed}" if value else "no two change places",
        "limb_lengths": f"{of} is too long in {value:.1%} of the frames" if value else "no limb is too long",
        "outside": f"{of} lies outside in {value:.1%} of the frames" if value else "every point lies inside",
        "stuck": f"{of} stays in one place for {value:.3g} s while the animal moves"
        if value
        else "no body part stays behind",
        "drift": f"{of} reaches the p-cutoff {value:.0%} less often than in the labeled frames, beyond chance"
        if value > 0
        else "the network is as sure as of its labeled frames",
    }
    return f"{recording}: {words[name]}"


def _others(seen: Seen, limit: float | None) -> str:
    """Name the body parts beside the worst one that are beyond the limit, too."""
    beyond = sorted(
        (
            (share, part)
            for part, share in seen.details.items()
            if part != seen.of and limit is not None and share > limit
        ),
        reverse=True,
    )
    said = [f"{part} in {share:.0%}" for share, part in beyond[:_NAMED]]
    more = f", and {len(beyond) - _NAMED} more" if len(beyond) > _NAMED else ""
    return f" (so are {', '.join(said)}{more})" if said else ""


def _not_done(name: str, error: Exception) -> Finding:
    """Return the finding of a check that failed itself: a warning, whatever the check is worth, as nothing is known of the poses."""
    why = str(error) if isinstance(error, DlcAssetsError) else f"{type(error).__name__}: {error}"
    return Finding(name, False, "warn", f"This check could not be done: {why.rstrip('.')}.", None, None)


def check_one(root: Path, manifest: Manifest, name: str) -> Finding | None:
    """Return what the check *name* says of the pose table of *manifest*, None where it is off; *root* is the lab's folder.

    It never raises: a pose table is reported whatever becomes of its checks.
    """
    try:
        found = check_poses(_lab(LabLayout(root)), manifest)
    except Exception as error:  # noqa: BLE001  # lab.yaml may have become unreadable since, and so may what is beside the table
        return _not_done(name, error)
    return next((finding for finding in found if finding.check == name), None)


def _lab(layout: LabLayout) -> Lab:
    status = layout.settings_file.stat()
    return _lab_with(layout, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _lab_with(layout: LabLayout, _size: int, _mtime_ns: int) -> Lab:
    """Return the lab whose lab.yaml is of that size and time: ten checks of fifty sessions read a long one once."""
    return Lab(layout)


def moments_words(moments: Sequence[Moment]) -> list[dict[str, Any]]:
    """Return *moments* as rows of a table."""
    return [
        {
            "recording": moment.recording,
            "time (s)": round(moment.time, 3),
            "frames": f"{moment.first_frame} to {moment.last_frame}",
            "what": moment.what,
        }
        for moment in moments
    ]
