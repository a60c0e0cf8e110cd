"""Words from numbers: what an estimate, with its interval, lets a sentence say.

No trend word of a chapter is typed: each is picked here, so that a page of other parameters does
not say what its own numbers contradict. What an estimate without an interval decides is nothing.
"""

from implreg_book.evidence import rules
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import Estimate

CLASSES = {
    "same": "of the same class",
    "different": "of different classes",
    "random": "of any classes",
    "train-test": "of the same class, one of them a test sample",
}


def by_ratio(ratio: Estimate, *, larger: str, smaller: str, same: str, unclear: str) -> str:
    """The words for a ratio that is the same as 1 within `rules.SAME`, larger or smaller.

    >>> words = {"larger": "rises", "smaller": "falls", "same": "stays", "unclear": "may change"}
    >>> by_ratio(Estimate(0.5, 0.4, 0.6, 9), **words), by_ratio(Estimate(1, 0.5, 2, 9), **words)
    ('falls', 'may change')
    """
    if ratio.n > 1 and rules.same(ratio):
        return same
    return larger if rules.larger(ratio) else smaller if rules.smaller(ratio) else unclear


def by_sign(estimate: Estimate, *, above: str, below: str, unclear: str, of: float = 0.0) -> str:
    """The words for a number above or below another, such as an exponent and 0.

    >>> by_sign(Estimate(-0.5, -0.6, -0.4, 9), above="rises", below="falls", unclear="may change")
    'falls'
    """
    return (
        above if rules.larger(estimate, of) else below if rules.smaller(estimate, of) else unclear
    )


def by_outcome(outcome: Outcome, *, yes: str, no: str, unclear: str) -> str:
    """The words for what a test says; a correction counts as yes.

    >>> by_outcome(Outcome.NOT_SUPPORTED, yes="It does.", no="It does not.", unclear="Open.")
    'It does not.'
    """
    if outcome in (Outcome.SUPPORTED, Outcome.CORRECTED):
        return yes
    return no if outcome is Outcome.NOT_SUPPORTED else unclear


def how_many(count: int, of: int, what: str) -> str:
    """How many of some things, in words: "none of the 8 runs", "all 8 runs", "3 of 8 runs".

    >>> [how_many(n, 8, "runs") for n in (0, 3, 8)], how_many(1, 1, "run")
    (['none of the 8 runs', '3 of 8 runs', 'all 8 runs'], 'the one run')
    """
    if of == 1:
        return f"the one {what}" if count else f"not the one {what}"
    if count in (0, of):
        return f"all {of:,} {what}" if count else f"none of the {of:,} {what}"
    return f"{count:,} of {of:,} {what}"


def some(count: int, what: str) -> str:
    """A number of things, given in the singular.

    >>> some(1, "network"), some(1200, "network")
    ('1 network', '1,200 networks')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"
