"""What an interval says of a number: every judgement of the book is made of these rules.

An estimate without an interval (NaN) is neither larger nor smaller nor the same, so that it decides
nothing.
"""

import math
from collections.abc import Iterable
from enum import StrEnum

from implreg.errors import InputError
from implreg_book.evidence.statistics import Estimate

# Numbers whose ratio lies between 1 / SAME and SAME count as equal. Asked to contain 1 exactly, 5 %
# of the intervals of true equalities would fail, and with enough seeds nearly all others. The
# margin is a factor, so that a ratio and its inverse are judged alike.
SAME = 1.1
WITHIN = f"within {100 * (SAME - 1):.0f} %"  # the larger of two exceeds the smaller by no more
UNTRAINED = 0.25  # mean share of training samples that are wrong above which nothing was learned
WEAK = 0.1  # rank correlations below it are next to none, or opposite


class Outcome(StrEnum):
    """What a test can say of a claim."""

    SUPPORTED = "supported"
    CORRECTED = "supported with a correction"
    NOT_SUPPORTED = "not supported"
    UNDECIDED = "undecided"
    NOT_TESTED = "not tested"


def larger(estimate: Estimate, than: float = 1.0) -> bool:
    """Whether all of the interval lies above a number."""
    return estimate.low > than


def smaller(estimate: Estimate, than: float = 1.0) -> bool:
    """Whether all of the interval lies below a number."""
    return estimate.high < than


def apart(estimate: Estimate, of: float = 1.0) -> bool:
    """Whether all of the interval lies on one side of a number."""
    return larger(estimate, of) or smaller(estimate, of)


def within(estimate: Estimate, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether all of the interval lies in a range, its ends included."""
    return low <= estimate.low and estimate.high <= high


def same(estimate: Estimate, to: float = 1.0) -> bool:
    """Whether all of the interval lies within a factor of `SAME` of a positive number.

    >>> same(Estimate(1.05, 1.02, 1.1, 8)), same(Estimate(1.02, 0.9, 1.1, 8))
    (True, False)
    """
    return within(estimate, to / SAME, to * SAME)


def trained(errors: Iterable[float]) -> bool:
    """Whether networks have learned enough for what is said of trained ones.

    Args:
        errors: share of training samples that each gets wrong at the end.

    >>> trained([0.1, 0.2]), trained([0.92]), trained([math.nan]), trained([])
    (True, False, False, False)
    """
    found = list(errors)
    return bool(found) and sum(found) / len(found) <= UNTRAINED


def decide(support: bool, against: bool) -> Outcome:
    """Supported if there is support, else not supported if something is against, else undecided.

    >>> print(decide(support=False, against=False))
    undecided
    """
    if support:
        return Outcome.SUPPORTED
    return Outcome.NOT_SUPPORTED if against else Outcome.UNDECIDED


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """A hypothesis of several parts: supported if all are, not supported if one is not.

    Raises:
        InputError: there is no outcome.

    >>> print(together([Outcome.SUPPORTED, Outcome.UNDECIDED]))
    undecided
    """
    found = set(outcomes)
    if not found:
        raise InputError("outcomes must hold at least one outcome, got none; test something.")
    return decide(found == {Outcome.SUPPORTED}, Outcome.NOT_SUPPORTED in found)


def inside(estimate: Estimate, low: float = -math.inf, high: float = math.inf) -> Outcome:
    """Supported if the interval lies in a range, not supported if all of it lies outside.

    Two ends are margins and belong to the range. A single end is a direction, such as "above 1":
    an interval that touches it decides nothing.

    >>> print(inside(Estimate(0.5, 0.3, 0.7, 10), low=0.0))
    supported
    """
    sided = math.isinf(low) or math.isinf(high)
    support = larger(estimate, low) and smaller(estimate, high)
    outside = smaller(estimate, low) or larger(estimate, high)
    return decide(support if sided else within(estimate, low, high), outside)


def equal(ratio: Estimate) -> Outcome:
    """Is a ratio 1 within `SAME`? Not supported if all of it lies beyond that."""
    return inside(ratio, 1 / SAME, SAME)


def no_growth(ratio: Estimate) -> Outcome:
    """Is a ratio not above `SAME`? Not supported if all of it is."""
    return decide(within(ratio, high=SAME), larger(ratio, SAME))


def falls(ratio: Estimate) -> Outcome:
    """Is a ratio below 1? Not supported if it is not, but above 1 / `SAME`.

    >>> print(falls(Estimate(1.0, 0.95, 1.2, 8)))
    not supported
    """
    return decide(smaller(ratio), within(ratio, low=1 / SAME))


def in_words(ratio: Estimate) -> str:
    """What the interval of a ratio says: "larger", "smaller", "the same within 10 %", "undecided".

    The same, if all of it lies between 1 / `SAME` and `SAME`, whatever side of 1 it is on; "no run"
    and "one run" if there is no interval.

    >>> in_words(Estimate(1.3, 1.2, 1.4, 8)), in_words(Estimate(1.02, 1.01, 1.03, 8))
    ('larger', 'the same within 10 %')
    """
    if ratio.n < 2:
        return "one run" if ratio.n else "no run"
    if same(ratio):
        return f"the same {WITHIN}"
    return "larger" if larger(ratio) else "smaller" if smaller(ratio) else "undecided"
