"""What only a person can tell of old results: asked in a YAML file that says why, and read back strictly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field

from dlc_assets.adoption.survey import FoundResult, Survey
from dlc_assets.lab.errors import SettingsError, did_you_mean
from dlc_assets.lab.files import write_text
from dlc_assets.lab.keys import MODEL_KEY
from dlc_assets.lab.yaml_settings import StrictSettings, parse_settings, read_yaml

if TYPE_CHECKING:
    from dlc_assets.adoption.matching import ModelMatch

SKIP = "skip"
NO_SCORER = "(none)"
_CANDIDATES = 20  # that the file lists of one result

CropAnswer = Literal["none"] | tuple[int, int, int, int]


class ModelAnswer(StrictSettings):
    """What is said of all results of one scorer."""

    name: str | None = Field(None, description="of the model")
    network: int | None = Field(None, ge=1, description="which of the networks that the file lists, counted from 1")
    crop: CropAnswer | None = Field(
        None, description="none, or the part of the frame that the network saw: [x from, x to, y from, y to] px"
    )
    skip: bool = Field(False, description="import none of its results")


class ResultAnswer(StrictSettings):
    """What is said of one result file."""

    recording: str | None = Field(None, description="session/recording, or skip")
    crop: CropAnswer | None = Field(None, description="of this file alone")


class Answers(StrictSettings):
    """The file of answers: by scorer, and by path below the folder that was looked through."""

    models: dict[str, ModelAnswer] = Field(default_factory=dict)
    results: dict[str, ResultAnswer] = Field(default_factory=dict)

    def of_model(self, scorer: str) -> ModelAnswer | None:
        """Return what is said of the results of *scorer*."""
        return self.models.get(scorer or NO_SCORER)

    def of_result(self, result: FoundResult) -> ResultAnswer | None:
        """Return what is said of one file."""
        return self.results.get(result.shown)

    def crop_of(self, scorer: str, result: FoundResult) -> CropAnswer | None:
        """Return the crop that is stated of a file, or of all files of its scorer."""
        own, of_model = self.of_result(result), self.of_model(scorer)
        if own is not None and own.crop is not None:
            return own.crop
        return of_model.crop if of_model is not None else None

    def check(self, where: Path, survey: Survey, recordings: Collection[str]) -> None:
        """Raise a SettingsError that names everything in the answers that there is not."""
        scorers = {result.header.scorer or NO_SCORER for result in survey.results}
        files = {result.shown for result in survey.results}
        wrong = [
            f'models: no result file is by the scorer "{name}".{did_you_mean(name, scorers)}'
            for name in self.models
            if name not in scorers
        ]
        wrong += [
            f'models, {scorer}: "{answer.name}" cannot be a model\'s name: lower-case letters, digits and "-"'
            for scorer, answer in self.models.items()
            if answer.name is not None and not MODEL_KEY.fullmatch(answer.name)
        ]
        for name, answer in self.results.items():
            if name not in files:
                wrong.append(f'results: there is no result file "{name}".{did_you_mean(name, files)}')
            elif answer.recording is not None and answer.recording not in {SKIP, *recordings}:
                near = did_you_mean(answer.recording, recordings)
                wrong.append(
                    f'results, {name}: there is no recording "{answer.recording}": expected session/recording, or skip.{near}'
                )
        if wrong:
            raise SettingsError("\n".join(f"{where}: {sentence}" for sentence in wrong))


def read_answers(file: Path) -> Answers:
    """Return the answers in *file*; none where there is no such file yet.

    Raises
    ------
    SettingsError
        It is no file of answers; says line or key, what was expected, and what came.
    """
    if not file.exists():
        return Answers()
    return parse_settings(read_yaml(file) or {}, Answers, where=str(file))


@dataclass
class _Entry:
    """One key of the file: why it is asked, what is stated, and (with None) what is to be filled in."""

    comments: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    asked: int = 0

    def ask(self, comments: Sequence[str], name: str) -> None:
        self.comments += comments
        self.values.setdefault(name, None)
        self.asked += 1


def write_questions(
    file: Path, answers: Answers, models: Sequence[ModelMatch], crop_unknown: Mapping[str, int] = MappingProxyType({})
) -> int:
    """Write *file* anew with all *answers* in it and the questions that are left, each with its reason; return their number.

    A file that has no question left is not touched.

    Parameters
    ----------
    crop_unknown
        By scorer, the number of its results of which nobody says whether the video was cropped.
    """
    of_models = {key: _Entry(values=_stated(answer)) for key, answer in answers.models.items()}
    of_results = {key: _Entry(values=_stated(answer)) for key, answer in answers.results.items()}
    _ask_about_models(of_models, models)
    for scorer, number in crop_unknown.items():
        comment = f"  # {number} result file(s): whether the videos were cropped is not known. none, or [x from, x to, y from, y to] px."
        of_models.setdefault(scorer or NO_SCORER, _Entry()).ask([comment], "crop")
    _ask_about_results(of_results, models)
    asked = sum(entry.asked for entry in (*of_models.values(), *of_results.values()))
    if not asked:
        return 0
    text = (
        "# What only a person can tell of these results. Fill in what is empty, and give the command again with --answers and this\n"
        f"# file. A recording is session/recording, or {SKIP}. What stays empty stays out.\n"
    )
    for name, entries in (("models", of_models), ("results", of_results)):
        kept = {key: entry for key, entry in entries.items() if entry.values}
        lines = [
            line
            for key, entry in kept.items()
            for line in (*entry.comments, f"  {_quoted(key)}: {_flow(entry.values)}")
        ]
        text += "\n".join(["", f"{name}:" if lines else f"{name}: {{}}", *lines, ""])
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)
    return asked


def _stated(answer: StrictSettings) -> dict[str, Any]:
    return {name: value for name, value in answer.model_dump().items() if value is not None and value is not False}


def _ask_about_models(entries: dict[str, _Entry], models: Sequence[ModelMatch]) -> None:
    for model in models:
        if model.skipped or model.certain:
            continue
        comments = [f"  # {len(model.results)} result file(s), such as {model.results[0].result.shown}: {model.why}."]
        comments += [f"  #   network {number}: {network}" for number, network in enumerate(model.candidates, start=1)]
        question = "network" if model.candidates else "name"
        entries.setdefault(model.scorer or NO_SCORER, _Entry()).ask(comments, question)


def _ask_about_results(entries: dict[str, _Entry], models: Sequence[ModelMatch]) -> None:
    for model in models:
        for found in [] if model.skipped else model.results:
            if found.state not in {"ambiguous", "unmatched"}:
                continue
            comments = [f"  # {found.why}."]
            comments += [f"  #   {place.key}: {place.video}" for place in found.candidates[:_CANDIDATES]]
            entries.setdefault(found.result.shown, _Entry()).ask(comments, "recording")


def _quoted(text: str) -> str:
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).strip()


def _flow(values: Mapping[str, Any]) -> str:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    return str(text).strip().replace(": null", ": ")
