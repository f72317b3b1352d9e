"""How near poses that are made again must come to those of a bundle, and which of two limits holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from dlc_assets.inference.precision import JUMP_PX, MOST_BIAS_PX, MOST_JUMPS_SHARE

TIMES_S = 1e-6
"""What times recomputed from a video may differ from those of a table, in s: more than sums of float64 do, less than any clock's tick."""

_PCUTOFF = 0.6  # DeepLabCut's own, for tables that state none


class Tolerance(BaseModel):
    """What poses made again may differ from those of a bundle.

    Attributes
    ----------
    likelihood_from
        Positions that reach this likelihood on either side are compared.
    position_px, likelihood
        How far apart the two may be, in px and in likelihood.
    least_share
        The share of the compared positions, 0 to 1, for which both must hold.
    bias_px
        The largest mean difference of a body part, in x or y, over the positions for which both hold and that reach the p-cutoff on
        both sides; None: no limit of its own.
    """

    likelihood_from: float
    position_px: float
    likelihood: float
    least_share: float
    bias_px: float | None = None

    def sentence(self) -> str:
        """Return the limits in words."""
        bias = "" if self.bias_px is None else f"; mean of a body part within {self.bias_px:g} px"
        return (
            f"{100 * self.least_share:g} % of the positions with a likelihood of {self.likelihood_from:g} or more within "
            f"{self.position_px:g} px and {self.likelihood:g} of likelihood{bias}"
        )


class Tolerances(BaseModel):
    """The limits of one pose table.

    Attributes
    ----------
    exact
        Where both sides computed in float32 on a CPU.
    gpu
        Where both computed in float32, and one or both on a GPU.
    reduced
        Where one or both computed in a reduced precision.
    """

    exact: Tolerance
    gpu: Tolerance
    reduced: Tolerance

    def between(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> Tolerance:
        """Return the limits between poses that were estimated as *one* and as *other* say (``device``, ``precision``)."""
        if any(inference.get("precision") != "float32" for inference in (one, other)):
            return self.reduced
        if any(inference.get("device") != "cpu" for inference in (one, other)):
            return self.gpu
        return self.exact


def tolerances(pcutoff: float | None) -> Tolerances:
    """Return the limits that this release states for a table with *pcutoff*.

    `exact` is what float32 poses keep to DeepLabCut's own (benchmarks/parity.py): 0.01 px and 1e-4. One position in 10,000 is given to
    ties: where two cells of a heatmap are equal but for the order in which a processor adds, either may be the largest.

    `gpu` allows for PyTorch, which lets NVIDIA's GPUs round the factors of float32 convolutions to 11 bits (TF32). With factors rounded
    like this on a CPU, the demo's network moved its 900 positions by 0.005 px in the median and 0.013 px at most, and their likelihoods
    by 7e-4; ties come more often.

    `reduced` is what a reduced precision may change before it is refused (`inference.precision`).
    """
    sure = _PCUTOFF if pcutoff is None else pcutoff
    return Tolerances(
        exact=Tolerance(likelihood_from=0.1, position_px=0.01, likelihood=1e-4, least_share=0.9999),
        gpu=Tolerance(likelihood_from=sure, position_px=0.05, likelihood=0.01, least_share=0.99, bias_px=MOST_BIAS_PX),
        reduced=Tolerance(
            likelihood_from=sure,
            position_px=JUMP_PX,
            likelihood=0.1,
            least_share=1 - MOST_JUMPS_SHARE,
            bias_px=MOST_BIAS_PX,
        ),
    )
