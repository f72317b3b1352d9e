"""The names that models give to the same body part, as lab.yaml unites them: the lab's own name, and its synonyms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dlc_assets.lab.errors import DlcAssetsError


@dataclass(frozen=True)
class BodyPartNames:
    """What lab.yaml says of body parts' names; `lab_names` has the lab's own by synonym.

    Synonyms unite the names of different models. One model that has several names of a part tells them apart, and so do we.
    """

    lab_names: Mapping[str, str] = field(default_factory=dict)

    def lab_name(self, name: str) -> str:
        """Return the lab's name of the body part *name*: itself where it is no synonym."""
        return self.lab_names.get(name, name)

    def several(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return, by the lab's name, those of *names* (one model's) that lab.yaml says are one body part though they are several."""
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(self.lab_name(name), []).append(name)
        return {part: together for part, together in found.items() if len(together) > 1}

    def given(
        self, there: Sequence[str], wanted: Sequence[str] | None, *, canonical: bool, where: str = ""
    ) -> dict[str, str]:
        """Return how those of the body parts *there* (one model's) are to be called that are *wanted*, by their own names.

        Parameters
        ----------
        wanted
            Names to look for, the lab's or any synonym; None takes all.
        canonical
            Whether parts are called as the lab calls them; else as they were asked for, or by their own names where all are taken.
        where
            What has these body parts, for an error.

        Raises
        ------
        DlcAssetsError
            A name that is not there itself could be one of several that are.
        """
        counts = Counter(map(self.lab_name, there))
        found: dict[str, str] = {name: name for name in there if wanted is None or name in wanted}
        for name in wanted or ():
            same = [other for other in there if self.lab_name(other) == self.lab_name(name)]
            if name in there or not same:
                continue
            if len(same) > 1:
                raise DlcAssetsError(
                    f'{where}: "{name}" can be {" or ".join(same)}, which this model tells apart though lab.yaml says that they are '
                    "one body part. Ask for one of them."
                )
            found.setdefault(same[0], name)
        if canonical:
            found = {name: self.lab_name(name) if counts[self.lab_name(name)] == 1 else name for name in found}
        return found


NO_SYNONYMS = BodyPartNames()
