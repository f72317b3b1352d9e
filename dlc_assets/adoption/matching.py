"""Which recording and which model each result file is of: what is certain, what must be asked, and what nothing fits.

Nothing is guessed. A name that several recordings have is settled by the folders of file and video alone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dlc_assets.adoption.answers import SKIP, Answers
from dlc_assets.adoption.network_folders import NetworkFolder, SnapshotFile, chosen_snapshot
from dlc_assets.adoption.result_files import file_name, plain_name
from dlc_assets.adoption.scorer_names import agrees, networks_of, scorer_name
from dlc_assets.adoption.survey import FoundResult, Survey
from dlc_assets.lab.errors import did_you_mean
from dlc_assets.lab.files import sha256_file
from dlc_assets.recordings.found import FoundSession

_TRACKER = re.compile(r"_(el|bx|sk|ctd|full|assemblies|analysis)$|\.analysis$")
_LISTED = 5


@dataclass(frozen=True)
class Place:
    """One recording of the lab, and what is known of it.

    Parameters
    ----------
    frames
        None where it is not probed yet.
    folders
        Names of the folders in which its video lies, below its root.
    """

    session: str
    recording: str
    video: Path
    parts: int
    folders: tuple[str, ...]
    frames: int | None

    @property
    def key(self) -> str:
        return f"{self.session}/{self.recording}"


@dataclass
class ResultMatch:
    """What was found of one result file.

    Attributes
    ----------
    place
        The recording, None while it is not certain.
    candidates
        Recordings among which a person must choose.
    why
        The reason in words, of whichever outcome.
    """

    result: FoundResult
    place: Place | None = None
    candidates: tuple[Place, ...] = ()
    why: str = ""
    skipped: bool = False

    @property
    def state(self) -> str:
        """``matched``, ``ambiguous``, ``unmatched`` or ``skipped``."""
        if self.skipped:
            return "skipped"
        if self.place is not None:
            return "matched"
        return "ambiguous" if self.candidates else "unmatched"


@dataclass
class ModelMatch:
    """The results of one scorer, and the network that made them.

    Attributes
    ----------
    network, snapshot
        Of the project; None where only results are left.
    candidates
        Networks among which a person must choose.
    name
        Of the model; empty where a person must give it.
    """

    scorer: str
    bodyparts: tuple[str, ...]
    individuals: tuple[str, ...]
    network: NetworkFolder | None = None
    snapshot: SnapshotFile | None = None
    candidates: tuple[NetworkFolder, ...] = ()
    name: str = ""
    why: str = ""
    skipped: bool = False
    results: list[ResultMatch] = field(default_factory=list)

    @property
    def certain(self) -> bool:
        return bool(self.name) and not self.candidates and not self.skipped


def places_of(sessions: Mapping[str, FoundSession], frames: Mapping[str, Mapping[str, int]]) -> list[Place]:
    """Return every recording of *sessions*; *frames* are those of the probed ones, by session and recording."""
    return [
        Place(
            session=key,
            recording=name,
            video=recording.files[0].path,
            parts=len(recording.files),
            folders=recording.files[0].path.parent.parts,
            frames=frames.get(key, {}).get(name),
        )
        for key, session in sessions.items()
        for name, recording in session.recordings.items()
    ]


def match(survey: Survey, places: Sequence[Place], answers: Answers) -> list[ModelMatch]:
    """Return the models of which *survey* found results, with what each result is of; *answers* are a person's."""
    by_stem: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        by_stem[place.video.stem].append(place)
    by_key = {place.key: place for place in places}
    shared = _shared_folders(places)
    groups: dict[tuple[str, tuple[str, ...]], ModelMatch] = {}
    for result in survey.results:
        header = result.header
        key = (header.scorer, () if header.scorer else tuple(sorted(header.bodyparts)))
        group = groups.get(key)
        if group is None:
            group = groups[key] = ModelMatch(header.scorer, header.bodyparts, _animals(header.individuals))
        elif len(header.bodyparts) > len(group.bodyparts):
            group.bodyparts = header.bodyparts
        found = _recording_of(result, by_stem, shared)
        _apply(found, answers, by_key)
        group.results.append(found)
    models = list(groups.values())
    for model in models:
        _network_of(model, survey)
        _settle_doubles(model)
    _name(models, survey, answers)
    return models


def _animals(individuals: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in individuals if name)


# --- the recording --------------------------------------------------------------------------------


def _shared_folders(places: Iterable[Place]) -> int:
    """Return how many folders, from the top, all videos have in common: those tell none from another."""
    all_folders = [place.folders for place in places]
    shared = 0
    for level in zip(*all_folders, strict=False):
        if len(set(level)) > 1:
            break
        shared += 1
    return shared


def video_stem(result: FoundResult) -> str:
    """Return the name, without suffix, of the video that the file's name or content says it is of."""
    header = result.header
    if header.video:
        return file_name(Path(header.video)).rsplit(".", 1)[0]
    name = _TRACKER.sub("", plain_name(header.path).removesuffix(".pickle"))
    if header.scorer and header.scorer in name:
        return name[: name.rindex(header.scorer)]
    return name


def _recording_of(result: FoundResult, by_stem: Mapping[str, Sequence[Place]], shared: int) -> ResultMatch:
    stem = video_stem(result)
    named = list(by_stem.get(stem, ()))
    if not named:
        near = did_you_mean(stem, by_stem)
        return ResultMatch(result, why=f'no recording of the lab has a video named "{stem}".{near}')
    whole = [place for place in named if place.parts == 1]
    if not whole:
        return ResultMatch(
            result, why=f"{named[0].key} is recorded in {named[0].parts} files, and these results are of one of them"
        )
    possible = [place for place in whole if not _too_long(result, place)]
    if not possible:
        place = whole[0]
        return ResultMatch(
            result,
            why=f"it spans {result.header.rows} frames, and the video {place.video.name} of {place.key} has {place.frames}",
        )
    if len(named) == 1:
        return ResultMatch(result, place=possible[0], why=f'the only video named "{stem}"')
    beside = [place for place in whole if place.video.parent == result.path.parent]
    if len(beside) == 1:
        chosen, why = beside[0], "it lies beside the video"
    else:
        fitting = [place for place in whole if _folders_fit(result, place, shared)]
        if len(fitting) != 1:
            listed = ", ".join(place.key for place in whole[:_LISTED]) + (", ..." if len(whole) > _LISTED else "")
            return ResultMatch(
                result, candidates=tuple(whole), why=f'{len(whole)} recordings have a video named "{stem}": {listed}'
            )
        chosen, why = (
            fitting[0],
            f"it lies in folders named as those of the video ({'/'.join(fitting[0].folders[shared:])})",
        )
    if chosen not in possible:
        why = f"{why}, but spans {result.header.rows} frames, and the video has {chosen.frames}"
        return ResultMatch(result, why=why)
    return ResultMatch(result, place=chosen, why=why)


def _too_long(result: FoundResult, place: Place) -> bool:
    rows = result.header.rows
    return rows is not None and place.frames is not None and rows > place.frames


def _folders_fit(result: FoundResult, place: Place, shared: int) -> bool:
    """Say whether the folders that tell the video from others occur, in their order, among those of the result file."""
    telling = place.folders[shared:]
    remaining = iter(result.path.parent.parts)
    return bool(telling) and all(name in remaining for name in telling)


def _apply(found: ResultMatch, answers: Answers, by_key: Mapping[str, Place]) -> None:
    answer = answers.of_result(found.result)
    if answer is None or answer.recording is None:
        return
    if answer.recording == SKIP:
        found.skipped, found.why = True, "left out, as the answers say"
        return
    found.place, found.candidates = by_key[answer.recording], ()  # `Answers.check` has seen that it is there
    found.why = "the answers say so"


def _settle_doubles(model: ModelMatch) -> None:
    """Where several files are of one recording: raw results go before filtered ones, and copies count once; else it is asked."""
    of_place: dict[str, list[ResultMatch]] = defaultdict(list)
    for found in model.results:
        if found.place is not None and not found.skipped:
            of_place[found.place.key].append(found)
    for several in of_place.values():
        if len(several) < 2:
            continue
        raw = [found for found in several if not found.result.header.filtered]
        for found in several if raw else ():
            if found.result.header.filtered:
                found.skipped, found.why = True, f"filtered; {raw[0].result.shown}, the results as they came, is taken"
        tracked = [found for found in raw or several if found.result.header.kind != "dlc-assemblies"]
        for found in (raw or several) if tracked else ():
            if found.result.header.kind == "dlc-assemblies":
                found.skipped, found.why = True, f"{tracked[0].result.shown}, in which animals are tracked, is taken"
        _drop_copies([found for found in several if not found.skipped])
        left = [found for found in several if not found.skipped]
        if len(left) > 1 and any(found.why != "the answers say so" for found in left):
            listed = ", ".join(found.result.shown for found in left)
            for found in left:
                assert found.place is not None
                found.candidates, found.place = (found.place,), None
                found.why = f"{len(left)} files are of {found.candidates[0].key} by the same network: {listed}"


def _drop_copies(several: Sequence[ResultMatch]) -> None:
    if len(several) < 2:
        return
    by_hash: dict[str, ResultMatch] = {}
    for found in several:
        first = by_hash.setdefault(sha256_file(found.result.path), found)
        if first is not found:
            found.skipped, found.why = True, f"a copy of {first.result.shown}"


# --- the model ------------------------------------------------------------------------------------


def _network_of(model: ModelMatch, survey: Survey) -> None:
    project = survey.project
    said = scorer_name(model.scorer)
    if said is None:
        model.why = (
            "no name of DeepLabCut's: only its results are known" if model.scorer else "the files name no scorer"
        )
        return
    if not said.is_of(project.task, project.date):
        model.why = f"a network of another project than {project.task} of {project.date}: only its results are known"
        return
    net = said.net_of(project.task, project.date)
    found = networks_of(said, [network for network in survey.networks if agrees(net, network)])
    with_snapshot = [entry for entry in found if entry[1] is not None]
    if not with_snapshot:
        model.why = (
            f"its snapshot {said.snapshot} is no longer in the project"
            if found
            else "its shuffle is no longer in the project"
        ) + ": only its results are known"
        return
    if len(with_snapshot) > 1:
        model.candidates = tuple(network for network, _ in with_snapshot)
        listed = "; ".join(map(str, model.candidates))
        model.why = f"{len(with_snapshot)} networks of the project have this name: {listed}"
        return
    model.network, model.snapshot = with_snapshot[0]
    model.why = f"{model.network}, {model.snapshot.name if model.snapshot is not None else ''}"


def _name(models: Sequence[ModelMatch], survey: Survey, answers: Answers) -> None:
    for model in models:
        answer = answers.of_model(model.scorer)
        if answer is None:
            model.name = _proposed(model, survey)
            continue
        if answer.network is not None and model.candidates:
            chosen = model.candidates[answer.network - 1]
            said = scorer_name(model.scorer)
            assert said is not None
            ((model.network, model.snapshot),) = networks_of(said, [chosen])
            model.candidates, model.why = (), f"{chosen}, as the answers say"
        model.skipped = answer.skip
        model.name = answer.name or _proposed(model, survey)
    times = Counter(model.name for model in models if model.name)
    for model in models:
        if times[model.name] > 1:
            model.why += (
                f'. The name "{model.name}" would be that of {times[model.name]} models: give it one in the answers'
            )
            model.name = ""


def _proposed(model: ModelMatch, survey: Survey) -> str:
    """Return a name that tells the network, the same each time; none where no scorer tells it."""
    if model.network is not None and model.snapshot is not None:
        return network_name(survey, model.network, model.snapshot)
    return _as_name(model.scorer)


def network_name(survey: Survey, network: NetworkFolder, snapshot: SnapshotFile) -> str:
    """Return the name of the model that a network of the project becomes; the snapshot is part of it only if it is not the best."""
    text = f"{survey.project.task}-it{network.iteration}-{network.percent}-shuffle{network.shuffle}"
    if snapshot != chosen_snapshot(network, "best", str(network.folder)):
        text += f"-{snapshot.name}"
    return _as_name(f"{text}-tf" if network.engine == "tensorflow" else text)


def _as_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")
