"""Taking over what a lab already has: looked at first, then models, sessions and poses, each as the platform would have made them."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from dlc_assets.adoption.answers import Answers, read_answers, write_questions
from dlc_assets.adoption.matching import ModelMatch, ResultMatch, match, network_name, places_of
from dlc_assets.adoption.network_folders import NetworkFolder, SnapshotFile, chosen_snapshot
from dlc_assets.adoption.pose_import import CROP_UNKNOWN, ImportedResult, import_poses
from dlc_assets.adoption.survey import Survey, survey
from dlc_assets.commands import register_models, scan_recordings
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.files import atomic_path, write_text
from dlc_assets.lab.imported_network import ImportedNetwork
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.lab.projects_block import add_project, name_of_project
from dlc_assets.lab.records import append_record
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.lab.yaml_settings import parse_settings
from dlc_assets.partitions import SESSION, add_keys
from dlc_assets.recordings.discovery import Discovery, discover
from dlc_assets.recordings.info import read_session_info
from dlc_assets.resources.known_outputs import report_known_outputs
from dlc_assets.training.dataset import make_dataset
from dlc_assets.training.imported import import_model
from dlc_assets.training.models import ModelVersion

Log = Callable[[str], None]


@dataclass
class Adoption:
    """What was found, and what became of it.

    Attributes
    ----------
    questions
        The file with what must be asked, and how much that is.
    specifications
        Models whose specification was written now.
    versions
        Models that there are in the store now; `imported` those that were made now.
    pose_tables
        (model, session) of pose tables that were written now; `unchanged` of those that were there already.
    warnings
        What the imported files deserve to be warned of: (where, what).
    crop_unknown
        By scorer, how many of the results that were imported do not tell the crop.
    problems
        What could not be done, in sentences.
    """

    survey: Survey
    models: list[ModelMatch]
    questions: tuple[Path, int]
    specifications: list[str] = field(default_factory=list)
    versions: dict[str, ModelVersion] = field(default_factory=dict)
    imported: list[str] = field(default_factory=list)
    pose_tables: list[tuple[str, str]] = field(default_factory=list)
    unchanged: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    crop_unknown: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def states(self) -> Counter[str]:
        """How many result files are matched, ambiguous, unmatched, skipped; those of models that are not certain are ``waiting``."""
        return Counter(
            "waiting" if found.state == "matched" and not model.certain else found.state
            for model in self.models
            for found in model.results
        )


def look(lab: Lab, config: Path, roots: Sequence[Path], answers_file: Path, *, log: Log) -> tuple[Adoption, Answers]:
    """Survey the project of *config* and the results below *roots*, and match them; nothing is written.

    Raises
    ------
    InputError, NotFoundError
        The project or a folder is not there, or cannot be read.
    SettingsError
        The answers name what there is not.
    """
    found = survey(config, roots, log=log)
    answers = read_answers(answers_file)
    places = places_of(discover(lab).sessions, _frames(lab))
    answers.check(answers_file, found, {place.key for place in places})
    return Adoption(found, match(found, places, answers), (answers_file, 0)), answers


def _frames(lab: Lab) -> dict[str, dict[str, int]]:
    known = {}
    for path in lab.layout.recordings.glob("session=*/manifest.json"):
        info = read_session_info(lab.layout, path.parent.name.removeprefix("session="))
        if info is not None:
            known[info[0].session] = {recording.recording: recording.frame_count for recording in info[0].recordings}
    return known


def adopt(
    lab: Lab,
    instance: dg.DagsterInstance,
    config: Path,
    roots: Sequence[Path],
    answers_file: Path,
    *,
    log: Log,
) -> Adoption:
    """Take over the networks of the project of *config* and the results below *roots*; what is there already stays as it is.

    What is certain is imported; what is not is asked for in *answers_file*. One file that cannot be imported stops no other. Errors as
    `look`.
    """
    done, answers = look(lab, config, roots, answers_file, log=log)
    project = name_of_project(lab, done.survey.project.config_path)
    if project is None:
        project = done.survey.name
        add_project(lab, project, done.survey.project.root.resolve())
        log(f'{lab.layout.settings_file}: the project "{project}" is named under `projects`')
        lab = open_lab_folder(lab.root)
    names = _write_specifications(lab, project, done)
    register_models(lab, instance, log)
    _make_versions(lab, done, names, log)
    _probe(lab, instance, done, log)
    # Frames are known now, so that more can be told.
    done.models = match(done.survey, places_of(discover(lab).sessions, _frames(lab)), answers)
    _import_all(lab, instance, done, answers, log)
    done.questions = (answers_file, write_questions(answers_file, answers, done.models, +done.crop_unknown))
    _keep_report(lab, done, config, roots)
    return done


# --- models ---------------------------------------------------------------------------------------


def _write_specifications(lab: Lab, project: str, done: Adoption) -> list[str]:
    """Write a specification for each certain model, and for each network that can run, unless one says the same already.

    Return the names of those that mean what was found.
    """
    wanted = {
        model.name: _specification(model, project) for model in done.models if model.certain and _has_results(model)
    }
    for network in done.survey.networks:
        if network.engine == "pytorch" and network.snapshots and network.configuration.is_file():
            best = chosen_snapshot(network, "best", str(network.folder))
            text = _network_specification(project, network, best)
            wanted.setdefault(network_name(done.survey, network, best), text)
    usable = []
    for name, text in wanted.items():
        path = lab.layout.specification(name)
        if path.exists():
            if not _means_the_same(
                lab, name, parse_settings(yaml.safe_load(text), ModelSpecification, where=str(path)), done
            ):
                continue
        else:
            write_text(path, text)
            done.specifications.append(name)
        usable.append(name)
    return usable


def _has_results(model: ModelMatch) -> bool:
    return any(found.state == "matched" for found in model.results)


def _specification(model: ModelMatch, project: str) -> str:
    if model.network is not None and model.snapshot is not None:
        return _network_specification(project, model.network, model.snapshot)
    block: dict[str, Any] = {
        "results_only": True,
        "scorer": model.scorer or model.name,
        "bodyparts": list(model.bodyparts),
    }
    if model.individuals:
        block["individuals"] = list(model.individuals)
    return _text({"description": "known by its results", "import": block})


def _network_specification(project: str, network: NetworkFolder, snapshot: SnapshotFile) -> str:
    block = {
        "engine": network.engine,
        "iteration": network.iteration,
        "trainset_fraction": network.percent / 100,
        "shuffle": network.shuffle,
        "snapshot": snapshot.name,
    }
    return _text({"project": project, "import": block})


def _text(content: Mapping[str, Any]) -> str:
    return "# Written by `dlc-assets adopt`; it is yours to change.\n" + yaml.safe_dump(
        dict(content), sort_keys=False, allow_unicode=True
    )


def _means_the_same(lab: Lab, name: str, wanted: ModelSpecification, done: Adoption) -> bool:
    """Say whether the specification that is there means the network that is *wanted*; where not, that is a problem."""
    try:
        there = lab.specification(name)
    except DlcAssetsError as error:
        done.problems.append(str(error))
        return False
    if _network(there.imported) == _network(wanted.imported):
        return True
    done.problems.append(
        f"{lab.layout.specification(name)} is there and means another network than the results of this name: nothing was imported as "
        f"{name}. Give the model another name in the answers (`models`, `name`)."
    )
    return False


def _network(imported: ImportedNetwork | None) -> dict[str, Any] | None:
    """Return what tells one network from another: not what a person may have added, nor of how many body parts there are results."""
    if imported is None:
        return None
    return imported.model_dump(include={"scorer"} if imported.results_only else None, exclude={"trained_on"})


def _make_versions(lab: Lab, done: Adoption, names: Sequence[str], log: Log) -> None:
    for name in names:
        try:
            make_dataset(lab, name, run_id="", log=log)
            done.versions[name], now = import_model(lab, name, run_id="", log=log)
        except DlcAssetsError as error:
            done.problems.append(f"{name}: {error}")
            continue
        if now:
            done.imported.append(name)
        if done.versions[name].card.get("training_frames_unknown") and done.versions[name].runnable:
            done.warnings.append((name, done.versions[name].card["training_frames_unknown"]))


# --- poses ----------------------------------------------------------------------------------------


def _matched(done: Adoption) -> Iterator[tuple[ModelMatch, ResultMatch]]:
    for model in done.models:
        if model.name in done.versions and model.certain:
            yield from ((model, found) for found in model.results if found.state == "matched")


def _probe(lab: Lab, instance: dg.DagsterInstance, done: Adoption, log: Log) -> None:
    """Probe the sessions of matched results that are not known yet."""
    sessions = {found.place.session for _, found in _matched(done) if found.place is not None}
    new = sorted(key for key in sessions if read_session_info(lab.layout, key) is None)
    if not new:
        return
    log(f"{len(new)} sessions are probed first: results need their frames and times")
    discovery: Discovery = discover(lab)
    for outcome in scan_recordings(lab, instance, discovery, new, log=log):
        done.problems += [f"probing: {message}" for message in outcome.failures]


def _import_all(lab: Lab, instance: dg.DagsterInstance, done: Adoption, answers: Answers, log: Log) -> None:
    tasks: dict[tuple[str, str], dict[str, ResultMatch]] = defaultdict(dict)
    for model, found in _matched(done):
        assert found.place is not None
        tasks[model.name, found.place.session][found.place.recording] = found
    scorers = {model.name: model.scorer for model in done.models}
    progress = LoggedProgress(log, "importing results", "pose tables")
    for number, ((name, session), results) in enumerate(sorted(tasks.items()), start=1):
        if read_session_info(lab.layout, session) is None:
            done.problems.append(f"{session}: its recordings could not be probed, so its results are not imported")
            continue
        for recording, found in list(results.items()):
            if why := _cannot(lab, session, recording):
                done.problems.append(f"{found.result.shown}: {why}")
                del results[recording]
        _import_one(lab, done, answers, name, scorers[name], session, results)
        progress(number, len(tasks))
    add_keys(instance, SESSION, sorted({session for _, session in tasks}))
    anew = {
        "pose_table": [pose_key(name, session) for name, session in done.pose_tables],
        "trained_model": done.imported,
        "training_dataset": done.imported,
    }
    report_known_outputs(instance, lab, log, anew=anew)


def _cannot(lab: Lab, session: str, recording: str) -> str:
    known = read_session_info(lab.layout, session)
    assert known is not None
    if recording in known[0].failed:
        return f"the video of {session}/{recording} cannot be read: {known[0].failed[recording]}"
    return ""


def _import_one(
    lab: Lab,
    done: Adoption,
    answers: Answers,
    name: str,
    scorer: str,
    session: str,
    results: Mapping[str, ResultMatch],
) -> None:
    """Import the results of one session; where one file is refused, the others of the session are imported without it."""
    remaining = dict(results)
    while remaining:
        files = {
            recording: ImportedResult(found.result.path, crop=answers.crop_of(scorer, found.result))
            for recording, found in remaining.items()
        }
        try:
            manifest, now = import_poses(lab, session, done.versions[name], files, run_id="", log=lambda _: None)
        except DlcAssetsError as error:
            refused = [r for r, found in remaining.items() if str(found.result.path) in str(error)]
            done.problems.append(f"{session}: {error}")
            for recording in refused or list(remaining):
                del remaining[recording]
            continue
        (done.pose_tables if now else done.unchanged).append((name, session))
        for recording, found in remaining.items():
            ahead = f"{recording}, {found.result.path.name}: "
            said = [problem.removeprefix(ahead) for problem in manifest.problems if problem.startswith(ahead)]
            done.warnings += [(found.result.shown, problem) for problem in said]
            done.crop_unknown[scorer] += any(problem.startswith(CROP_UNKNOWN) for problem in said)
        rest = [problem for problem in manifest.problems if problem.startswith("no results were imported of ")]
        done.warnings += [(session, problem) for problem in rest]
        return


# --- the report -----------------------------------------------------------------------------------

_COLUMNS = ("file", "state", "model", "recording", "scorer", "kind", "filtered", "rows", "why")


def report_rows(done: Adoption) -> list[dict[str, Any]]:
    """Return a row for every file that is named like a result: what it is of, or why it is left out."""
    rows = [
        {
            "file": found.result.shown,
            "state": "waiting" if found.state == "matched" and not model.certain else found.state,
            "model": model.name,
            "recording": found.place.key if found.place is not None else "",
            "scorer": model.scorer,
            "kind": found.result.header.kind,
            "filtered": found.result.header.filtered,
            "rows": found.result.header.rows,
            "why": found.why if model.certain or found.state != "matched" else model.why,
        }
        for model in done.models
        for found in model.results
    ]
    rows += [
        {"file": str(left.path), "state": "unreadable" if left.problem else "no result", "why": left.why}
        for left in done.survey.left_out
    ]
    return sorted(rows, key=lambda row: str(row["file"]))


def _keep_report(lab: Lab, done: Adoption, config: Path, roots: Sequence[Path]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(report_rows(done))
    path = lab.layout.adoption_report(done.survey.name)
    with atomic_path(path) as partial:
        partial.write_text(text.getvalue(), encoding="utf-8", newline="")
    if done.imported or done.pose_tables:
        append_record(
            lab.layout,
            "adoptions",
            {
                "project": os.fspath(config),
                "results": [os.fspath(root) for root in roots],
                "models": [str(done.versions[name]) for name in done.imported],
                "pose_tables": len(done.pose_tables),
                "files": dict(done.states),
            },
        )
