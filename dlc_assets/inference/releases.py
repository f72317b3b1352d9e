"""Which model version analyses which recordings: the release rules of lab.yaml, applied to recorded sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dlc_assets.lab.errors import DlcAssetsError, did_you_mean
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.release_rules import rule_text
from dlc_assets.lab.settings import ReleaseRule
from dlc_assets.recordings.info import RecordingInfo, SessionInfo
from dlc_assets.training.models import ModelVersion, find_version, trained_models


@dataclass
class Releases:
    """What the rules say of one session: recordings by model version, and recordings that no rule covers.

    `pinned` are the models of which a rule names a version: another version is not waited for.
    """

    recordings: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, ModelVersion] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    waiting: dict[str, str] = field(default_factory=dict)
    uncovered: list[str] = field(default_factory=list)


def rule_for(
    lab: Lab, session: SessionInfo, recording: RecordingInfo, rules: Sequence[ReleaseRule] | None = None
) -> ReleaseRule | None:
    """Return the first of *rules* (None: lab.yaml's) that matches *recording*, None when none does."""
    stated = lab.settings.release if rules is None else rules
    return next((rule for rule in stated if rule.matches(recording.device, session.day)), None)


def releases_of(lab: Lab, session: SessionInfo, rules: Sequence[ReleaseRule] | None = None) -> Releases:
    """Apply the release rules to *session*; `waiting` says of a model why it cannot analyse yet.

    *rules* stand in the place of lab.yaml's, to learn what they would do.
    """
    releases = Releases()
    of_model: dict[str, ReleaseRule] = {}
    for recording in session.recordings:
        rule = rule_for(lab, session, recording, rules)
        if rule is None:
            releases.uncovered.append(recording.recording)
            continue
        first = of_model.setdefault(rule.model_name, rule)
        if not _same_version(lab, first, rule):
            releases.waiting[rule.model_name] = (
                f"the release rules ask for {first.model} and {rule.model} in the same session {session.session}: "
                "one session takes one version of a model. Change the rules in lab.yaml."
            )
            continue
        releases.recordings.setdefault(rule.model_name, []).append(recording.recording)
    releases.pinned = {model for model, rule in of_model.items() if rule.version is not None}
    for model, rule in of_model.items():
        if model in releases.waiting:
            continue  # neither version analyses before the rules agree
        try:
            releases.versions[model] = find_version(lab.layout, rule.model)
        except DlcAssetsError as error:
            releases.waiting[model] = str(error)
    return releases


def _same_version(lab: Lab, one: ReleaseRule, other: ReleaseRule) -> bool:
    """Say whether both rules mean the same version: written out, with its first digits, or as the current one."""
    if one.model == other.model:
        return True
    try:
        return find_version(lab.layout, one.model) == find_version(lab.layout, other.model)
    except DlcAssetsError:
        return False


def released_by(lab: Lab, version: ModelVersion) -> list[str]:
    """Return the release rules that mean *version* now, as lab.yaml writes them, each with its number."""
    found = []
    for number, rule in enumerate(lab.settings.release, start=1):
        try:
            meant = find_version(lab.layout, rule.model)
        except DlcAssetsError:
            continue  # `rule_problems` says so
        if meant == version:
            found.append(f"rule {number}: {rule_text(rule)}")
    return found


def rule_problems(lab: Lab) -> list[str]:
    """Return a sentence for each release rule whose model or version does not exist."""
    problems = []
    known = sorted({*lab.model_names(), *trained_models(lab.layout)})
    for number, rule in enumerate(lab.settings.release, start=1):
        for device in rule.devices or ():
            if lab.settings.devices and device not in lab.settings.devices:
                problems.append(
                    f'lab.yaml: release rule {number} names the device "{device}", which is not among lab.yaml\'s devices.'
                    f"{did_you_mean(device, lab.settings.devices)} Devices: {', '.join(lab.settings.devices)}."
                )
        if rule.model_name not in known:
            problems.append(
                f'lab.yaml: release rule {number} names the model "{rule.model_name}", which does not exist.'
                f"{did_you_mean(rule.model_name, known)} Models: {', '.join(known) or 'none'}. Its recordings are not "
                "analysed until the rule or the model is there."
            )
            continue
        if rule.version is not None:
            try:
                find_version(lab.layout, rule.model)
            except DlcAssetsError as error:
                problems.append(f"lab.yaml: release rule {number}: {error}")
    return problems
