"""Hypotheses of a chapter: what is expected of measured quantities, and several judged together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from implreg.checks import check_choice
from implreg.claims import MARGIN, Outcome
from implreg.comparisons import simultaneous
from implreg.errors import InputError
from implreg.statistics import Estimate


@dataclass(frozen=True)
class Expectation:
    """A measured quantity and the range in which a hypothesis wants it.

    Attributes:
        quantity: what is measured, in words.
        estimate: of it.
        low: start of the range.
        high: its end.
        ratio: whether the estimate is a geometric mean of positive numbers.
    """

    quantity: str
    estimate: Estimate
    low: float = -math.inf
    high: float = math.inf
    ratio: bool = False

    def widened(self, tests: int) -> Estimate:
        """The estimate with an interval such that `tests` of them hold together (Bonferroni)."""
        if self.ratio:
            return simultaneous(self.estimate, tests)
        return simultaneous(self.estimate.map(math.exp), tests).map(math.log)

    def outcome(self, tests: int = 1) -> Outcome:
        """Supported if the widened interval lies in the range, not supported if all outside it.

        Undecided otherwise, as always without an interval.

        >>> rises = Expectation("slope", Estimate(0.5, 0.3, 0.7, 10), low=0.0)
        >>> print(rises.outcome(tests=5))
        supported
        """
        found = self.widened(tests)
        if self.low <= found.low and found.high <= self.high:
            return Outcome.SUPPORTED
        outside = found.high < self.low or found.low > self.high
        return Outcome.NOT_SUPPORTED if outside else Outcome.UNDECIDED


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """A hypothesis of several expectations: supported if all are, not supported if one is not.

    Raises:
        InputError: there is no outcome.

    >>> print(together([Outcome.SUPPORTED, Outcome.UNDECIDED]))
    undecided
    """
    if not outcomes:
        raise InputError("outcomes must hold at least one outcome, got none; test something.")
    if Outcome.NOT_SUPPORTED in outcomes:
        return Outcome.NOT_SUPPORTED
    return Outcome.SUPPORTED if set(outcomes) == {Outcome.SUPPORTED} else Outcome.UNDECIDED


# Where a ratio may be expected.
PLACES = {
    "above": (1.0, math.inf),
    "below": (-math.inf, 1.0),
    "near": (1 - MARGIN, 1 + MARGIN),
}


def judge(ratios: Mapping[str, tuple[str, Estimate]]) -> pd.DataFrame:
    """Hypotheses on ratios, judged together: intervals are widened for their number (Bonferroni).

    Args:
        ratios: by hypothesis, in words: where the ratio should lie, "above" 1, "below" 1 or "near"
            1 (within 10 %), and the ratio.

    Returns:
        One row per hypothesis with the columns `expected`, `ratio` (an `Estimate` with its plain
        interval), `low` and `high` (the widened one) and `outcome`, see `Expectation.outcome`.

    Raises:
        InputError: no ratio, or another place than these three.

    >>> found = judge({"larger": ("above", Estimate(2.0, 1.5, 2.7, 5))})
    >>> print(found.outcome["larger"])
    supported
    """
    if not ratios:
        raise InputError("ratios must hold at least one ratio, got none; compute one.")
    rows = []
    for name, (place, ratio) in ratios.items():
        expected = Expectation(name, ratio, *PLACES[check_choice("ratios", place, PLACES)], True)
        wide = expected.widened(len(ratios))
        rows.append((place, ratio, wide.low, wide.high, expected.outcome(len(ratios))))
    columns = ["expected", "ratio", "low", "high", "outcome"]
    return pd.DataFrame(rows, index=list(ratios), columns=columns)
