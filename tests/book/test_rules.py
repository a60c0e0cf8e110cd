"""The rules of judging: at their margins, mirrored, on narrower intervals, and nowhere else."""

import ast
import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from implreg_book.evidence import rules
from implreg_book.evidence.rules import Outcome, in_words
from implreg_book.evidence.statistics import Estimate

from implreg.errors import InputError

YES, NO, OPEN = Outcome.SUPPORTED, Outcome.NOT_SUPPORTED, Outcome.UNDECIDED
HIGH, LOW = 1.1, 1 / 1.1  # the margins of equality, written once more
BOOK = Path(rules.__file__).parents[2]


def above(x: float) -> float:
    """The next number."""
    return math.nextafter(x, math.inf)


def below(x: float) -> float:
    return math.nextafter(x, -math.inf)


def interval(low: float, high: float, n: int = 8) -> Estimate:
    return Estimate((low + high) / 2, low, high, n)


# ---------------------------------------------------------------- margins


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (LOW, HIGH, "the same within 10 %"),
        (LOW, 0.95, "the same within 10 %"),
        (1.02, HIGH, "the same within 10 %"),
        (below(LOW), HIGH, "undecided"),
        (LOW, above(HIGH), "undecided"),
        (0.905, 1.0, "undecided"),
        (below(LOW), below(1.0), "smaller"),
        (below(LOW), 1.0, "undecided"),
        (above(1.0), above(HIGH), "larger"),
        (1.0, above(HIGH), "undecided"),
        (0.3, 0.99, "smaller"),
        (1.01, 4.0, "larger"),
        (0.8, 1.3, "undecided"),
    ],
)
def test_ratios_in_words(low: float, high: float, words: str) -> None:
    assert in_words(interval(low, high)) == words


def test_ratios_without_an_interval_in_words() -> None:
    nan = math.nan
    assert in_words(Estimate(2.0, nan, nan, 1)) == "one run"
    assert in_words(Estimate(nan, nan, nan, 0)) == "no run"
    assert in_words(Estimate(2.0, nan, nan, 8)) == "undecided"
    assert in_words(interval(1.2, 1.3, 2)) == "larger"


@pytest.mark.parametrize(
    ("rule", "low", "high", "outcome"),
    [
        (rules.equal, LOW, HIGH, YES),
        (rules.equal, below(LOW), HIGH, OPEN),
        (rules.equal, LOW, above(HIGH), OPEN),
        (rules.equal, 0.5, LOW, OPEN),
        (rules.equal, 0.5, below(LOW), NO),
        (rules.equal, HIGH, 2.0, OPEN),
        (rules.equal, above(HIGH), 2.0, NO),
        (rules.no_growth, 0.1, HIGH, YES),
        (rules.no_growth, 0.1, above(HIGH), OPEN),
        (rules.no_growth, HIGH, 2.0, OPEN),
        (rules.no_growth, above(HIGH), 2.0, NO),
        (rules.falls, 0.5, below(1.0), YES),
        (rules.falls, 0.5, 1.0, OPEN),
        (rules.falls, LOW, below(1.0), YES),
        (rules.falls, LOW, 1.0, NO),
        (rules.falls, below(LOW), 1.0, OPEN),
        (rules.falls, 1.2, 1.3, NO),
        (partial(rules.inside, low=0.7, high=0.9), 0.7, 0.9, YES),
        (partial(rules.inside, low=0.7, high=0.9), below(0.7), 0.9, OPEN),
        (partial(rules.inside, low=0.7, high=0.9), 0.7, above(0.9), OPEN),
        (partial(rules.inside, low=0.7, high=0.9), 0.1, below(0.7), NO),
        (partial(rules.inside, low=0.7, high=0.9), 0.1, 0.7, OPEN),
        (partial(rules.inside, low=0.7, high=0.9), above(0.9), 2.0, NO),
        (partial(rules.inside, low=1.0), above(1.0), 1.2, YES),
        (partial(rules.inside, low=1.0), 1.0, 1.2, OPEN),
        (partial(rules.inside, low=1.0), 0.5, 1.0, OPEN),
        (partial(rules.inside, low=1.0), 0.5, below(1.0), NO),
        (partial(rules.inside, high=1.0), 0.5, below(1.0), YES),
        (partial(rules.inside, high=1.0), 1.0, 1.0, OPEN),
        (partial(rules.inside, high=1.0), above(1.0), 1.2, NO),
    ],
)
def test_outcomes_at_the_margins(
    rule: Callable[[Estimate], Outcome], low: float, high: float, outcome: Outcome
) -> None:
    assert rule(interval(low, high)) is outcome


@pytest.mark.parametrize("to", [0.5, 1.0, 3.0])
def test_equality_with_a_number_is_within_a_factor(to: float) -> None:
    low, high = to / 1.1, to * 1.1
    assert rules.same(interval(low, high), to)
    assert not rules.same(interval(below(low), high), to)
    assert not rules.same(interval(low, above(high)), to)


def test_larger_smaller_and_apart_leave_out_the_number() -> None:
    assert rules.larger(interval(above(2), 3), 2) and not rules.larger(interval(2, 3), 2)
    assert rules.smaller(interval(1, below(2)), 2) and not rules.smaller(interval(1, 2), 2)
    assert rules.apart(interval(above(0), 1), 0) and rules.apart(interval(-1, below(0)), 0)
    assert not rules.apart(interval(0, 1), 0) and not rules.apart(interval(-1, 0), 0)


RULES = {
    "equal": rules.equal,
    "no growth": rules.no_growth,
    "falls": rules.falls,
    "above": partial(rules.inside, low=1.0),
    "below": partial(rules.inside, high=1.0),
    "range": partial(rules.inside, low=0.8, high=1.3),
}


@pytest.mark.parametrize("n", [0, 1, 8])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_nothing_is_decided_without_an_interval(
    rule: Callable[[Estimate], Outcome], n: int
) -> None:
    none = Estimate(1.0, math.nan, math.nan, n)
    assert rule(none) is OPEN
    assert not any(test(none) for test in (rules.larger, rules.smaller, rules.same, rules.apart))


# ---------------------------------------------------------------- properties


@st.composite
def intervals(draw: st.DrawFn) -> Estimate:
    """A ratio whose interval does not end within rounding of 1 or of a margin."""
    ends = st.floats(-0.5, 0.5).filter(lambda x: min(abs(x), abs(abs(x) - math.log(1.1))) > 1e-9)
    low, high = sorted([draw(ends), draw(ends)])
    return Estimate(math.exp((low + high) / 2), math.exp(low), math.exp(high), 8)


def inverse(x: Estimate) -> Estimate:
    return Estimate(1 / x.value, 1 / x.high, 1 / x.low, x.n)


@given(intervals())
def test_a_ratio_and_its_inverse_are_judged_alike(ratio: Estimate) -> None:
    mirrored = {"larger": "smaller", "smaller": "larger"}
    word = in_words(ratio)
    assert in_words(inverse(ratio)) == mirrored.get(word, word)
    assert rules.equal(inverse(ratio)) is rules.equal(ratio)
    up, down = RULES["above"], RULES["below"]
    assert up(inverse(ratio)) is down(ratio)


@pytest.mark.parametrize("name", RULES)
@given(wide=intervals(), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_narrower_interval_keeps_the_outcome(
    name: str, wide: Estimate, shares: tuple[float, float]
) -> None:
    low, high = (wide.low + share * (wide.high - wide.low) for share in sorted(shares))
    narrow = interval(max(low, wide.low), min(high, wide.high))
    before, after = RULES[name](wide), RULES[name](narrow)
    assert before is not YES or after is YES
    # A fall by less than the margin excludes one by more, and is a fall all the same.
    assert before is not NO or after is NO or name == "falls"


@given(intervals())
def test_words_and_outcomes_agree(ratio: Estimate) -> None:
    word = in_words(ratio)
    assert (rules.equal(ratio) is YES) == (word == "the same within 10 %")
    if word == "larger":
        assert RULES["above"](ratio) is YES and rules.falls(ratio) is NO
    if word == "smaller":
        assert rules.falls(ratio) is YES and rules.no_growth(ratio) is YES
    if rules.equal(ratio) is NO:
        assert word in ("larger", "smaller")


# ---------------------------------------------------------------- several at once


def test_support_comes_first() -> None:
    assert rules.decide(True, False) is rules.decide(True, True) is YES
    assert rules.decide(False, True) is NO
    assert rules.decide(False, False) is OPEN


def test_hypotheses_need_all_their_parts() -> None:
    assert rules.together([YES, YES]) is YES
    assert rules.together([YES, OPEN]) is OPEN
    assert rules.together([YES, OPEN, NO]) is NO
    assert rules.together(iter([YES])) is YES
    assert rules.together([Outcome.CORRECTED]) is OPEN
    with pytest.raises(InputError, match="outcomes must hold at least one outcome"):
        rules.together([])


# ---------------------------------------------------------------- chapters


@pytest.mark.parametrize("path", sorted(BOOK.glob("*.ipynb")), ids=lambda path: path.stem)
def test_chapters_leave_the_judging_to_the_rules(path: Path) -> None:
    """No cell compares the end of an interval, and no prose types the margin."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            assert not re.search(r"within 10 %|\b1\.1\b", source), cell["id"]
            continue
        compared = [
            side.attr
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Compare)
            for side in (node.left, *node.comparators)
            if isinstance(side, ast.Attribute)
        ]
        assert not {"low", "high"} & set(compared), cell["id"]
