"""Hypotheses of a chapter: what is expected of measured quantities, and several judged together."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd

from implreg.checks import check_choice
from implreg.errors import InputError
from implreg_book.evidence.rules import Outcome, equal, inside
from implreg_book.evidence.statistics import LINEAR, LOG, Estimate, simultaneous


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
        return simultaneous(self.estimate, tests, LOG if self.ratio else LINEAR)

    def outcome(self, tests: int = 1) -> Outcome:
        """Whether the widened interval lies in the range, see `rules.inside`.

        >>> rises = Expectation("slope", Estimate(0.5, 0.3, 0.7, 10), low=0.0)
        >>> print(rises.outcome(tests=5))
        supported
        """
        return inside(self.widened(tests), self.low, self.high)


# Where a ratio may be expected.
PLACES: Mapping[str, Callable[[Estimate], Outcome]] = {
    "above": partial(inside, low=1.0),
    "below": partial(inside, high=1.0),
    "near": equal,
}


def judge(ratios: Mapping[str, tuple[str, Estimate]]) -> pd.DataFrame:
    """Hypotheses on ratios, judged together: intervals are widened for their number (Bonferroni).

    Args:
        ratios: by hypothesis, in words: where the ratio should lie, "above" 1, "below" 1 or "near"
            1 (see `rules.equal`), and the ratio.

    Returns:
        One row per hypothesis with the columns `expected`, `ratio` (an `Estimate` with its plain
        interval), `low` and `high` (the widened one) and `outcome`.

    Raises:
        InputError: no ratio, or another place than these three.

    >>> found = judge({"larger": ("above", Estimate(2.0, 1.5, 2.7, 5))})
    >>> print(found.outcome["larger"])
    supported
    """
    if not ratios:
        raise InputError("ratios must hold at least one ratio, got none; compute one.")
    rows = []
    for place, ratio in ratios.values():
        wide = simultaneous(ratio, len(ratios))
        outcome = PLACES[check_choice("ratios", place, PLACES)](wide)
        rows.append((place, ratio, wide.low, wide.high, outcome))
    columns = ["expected", "ratio", "low", "high", "outcome"]
    return pd.DataFrame(rows, index=list(ratios), columns=columns)
