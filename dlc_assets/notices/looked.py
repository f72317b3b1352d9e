"""What the last look of the sensor saw of stopped progress: kept for `dlc-assets status`, which needs no Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.progress import duration_words
from dlc_assets.notices.sending import DAY
from dlc_assets.notices.stopped import Stopped, Waiting
from dlc_assets.notices.told import Told
from dlc_assets.notices.voice import Voice
from dlc_assets.notices.words import counted

_FRESH = 300.0  # s; the sensor looks every minute
_GIVEN_UP_SHOWN = 7 * DAY


@dataclass
class Looked:
    """A look: when (unix time), what had stopped, and what waits.

    Besides, for the next look: when what waits was last worked out, since when lab.yaml is unreadable, and up to when failed runs are
    known.
    """

    at: float = 0.0
    stopped: Sequence[Stopped] = ()
    waiting: Waiting | None = None
    waiting_at: float = 0.0
    unreadable_since: float | None = None
    runs_until: float | None = None

    def write(self, layout: LabLayout) -> None:
        write_json(layout.looked_file, asdict(self))

    @classmethod
    def read(cls, layout: LabLayout) -> Looked | None:
        """Return the last look, None where there was none (or its file is not one of these)."""
        try:
            kept = read_json(layout.looked_file)
            kept["stopped"] = tuple(Stopped(**each) for each in kept["stopped"])
            kept["waiting"] = Waiting(**kept["waiting"]) if kept["waiting"] is not None else None
            return cls(**kept)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None


def stopped_sentences(voice: Voice, *, now: float, behind: bool) -> list[str]:
    """Return what has stopped as the sensor last saw it; *behind*: whether there is anything that it would have to see to.

    A sensor that has not looked for `notify: stopped_after` is itself progress that has stopped.
    """
    looked = Looked.read(voice.layout)
    if looked is None:
        return []
    age = now - looked.at
    seen = "" if age < _FRESH else f" (as seen {duration_words(age)} ago)"
    sentences = [f"{each.sentence}{seen}" for each in looked.stopped]
    if behind and age >= voice.notify.stopped_after:
        sentences.append(
            f"The sensors last looked on {voice.when(looked.at)}, so nothing is made by itself. Start `dlc-assets dev`, and look under "
            "Automation in the Dagster UI whether the sensor notices is on."
        )
    return sentences


def unsent_sentences(voice: Voice, *, now: float) -> list[str]:
    """Return a sentence for each channel that could not send messages, and one for those that were given up in the last week."""
    told = Told.read(voice.layout)
    sentences = []
    for channel, trouble in told.trouble.items():
        number = sum(unsent.channel == channel for unsent in told.unsent)
        if number:
            sentences.append(
                f"{counted(number, 'message')} could not be sent by {channel}: {trouble.why} It is tried again on "
                f"{voice.when(trouble.next_try)}; to try the settings now: dlc-assets notify --test"
            )
    lost = [each for each in told.given_up if now - each.at < _GIVEN_UP_SHOWN]
    if lost:
        last = lost[-1]
        sentences.append(
            f"{counted(len(lost), 'message')} could not be sent for a day and will not be; the last one, by {last.channel}: "
            f'"{last.subject}": {last.why}'
        )
    return sentences
