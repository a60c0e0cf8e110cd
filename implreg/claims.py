"""The claims ledger: what is claimed, how it is tested, and the verdict that a run computes."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from implreg.comparisons import simultaneous
from implreg.errors import InputError
from implreg.statistics import CONFIDENCE, Estimate

MIME = "application/vnd.implreg.verdict+json"
# Ratios count as equal within 10 %. Asked to contain 1 exactly, 5 % of the intervals of true
# equalities would fail, and with enough seeds nearly all others.
MARGIN = 0.1


class Outcome(StrEnum):
    """What a test can say of a claim."""

    SUPPORTED = "supported"
    CORRECTED = "supported with a correction"
    NOT_SUPPORTED = "not supported"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Claim:
    """A statement and, in words, the test on measured numbers that decides it."""

    id: str
    statement: str
    test: str


CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "C1",
            "Over-parameterised networks generalise without explicit regularisation.",
            "From the narrowest width that fits the training samples to the widest, the test error "
            "does not grow: the intervals of its ratios, with and without noise in the labels, lie "
            "below 1.1. Contradicted if one lies above.",
        ),
        Claim(
            "C2",
            "At initialisation the gradient gap deviation falls as width to the power −1/2.",
            "The interval of the exponent contains −1/2 and lies below 0.",
        ),
        Claim(
            "C3",
            "After SGD the gradient gap deviation still falls with width.",
            "The interval of the exponent, over trained networks, lies below 0; if it does not "
            "contain −1/2 the exponent is a correction.",
        ),
        Claim(
            "C4",
            "The gradient deflection does not grow with width.",
            "The interval of its ratio, widest to narrowest network, lies below 1.1.",
        ),
        Claim(
            "C5",
            "Gradient gaps act like a random-walk bridge.",
            "The interval of bridge estimate over gradient gap deviation lies between 0.9 and 1.1; "
            "a correction if it lies within 10 % of another ratio that theory predicts; else "
            "contradicted if it lies outside.",
        ),
        Claim(
            "C6",
            "SGD keeps the path almost straight.",
            "After training the interval of fluctuation over edge margin lies below 1.",
        ),
        Claim(
            "C7",
            "The usual random initialisation is what keeps the path straight and the error low.",
            "From every other start, at the same training loss, deflection (raw and normalised) "
            "and test error are higher: all intervals of the ratios to the random start lie above "
            "1. Contradicted if one lies below 1, widened for their number (Bonferroni).",
        ),
        Claim(
            "C8",
            "Measures of curvature track generalisation.",
            "Across all runs, the interval of the rank correlation of each measure with the test "
            "error, given the training loss, lies above 0. Contradicted if one, widened for their "
            "number (Bonferroni), lies below 0.1: next to no relation, or the opposite one.",
        ),
    )
}


@dataclass(frozen=True)
class Verdict:
    """The outcome of a claim's test, with the numbers that it rests on.

    Attributes:
        claim: id of the claim, such as "C2".
        outcome: what the test says.
        effect: the tested quantity with its 95 % interval and number of seeds.
        quantity: what `effect` is, in words.
        scope: data, networks and training that were tested, in words.
        details: further numbers that the reader of the verdict should see, in words.
        figure: of the paper, whose panels show the same, such as "4 a-c".
        independent: what the n of `effect` counts, in words.
    """

    claim: str
    outcome: Outcome
    effect: Estimate
    quantity: str
    scope: str
    details: str = ""
    figure: str = ""
    independent: str = "seeds"

    def of_figure(self, figure: str) -> "Verdict":
        """The same verdict, as one on a figure of the paper."""
        return replace(self, figure=figure)

    def to_dict(self) -> dict[str, Any]:
        """As one flat row: the claim's id and statement, the outcome and the effect.

        `seeds` is the number of what is independent, which `independent` names.

        Numbers that do not exist, such as the interval of one seed, are None: JSON has no NaN.
        """
        value, low, high = (
            None if math.isnan(x) else x
            for x in (self.effect.value, self.effect.low, self.effect.high)
        )
        return {
            "id": self.claim,
            "statement": CLAIMS[self.claim].statement,
            "verdict": str(self.outcome),
            "quantity": self.quantity,
            "effect": value,
            "low": low,
            "high": high,
            "seeds": self.effect.n,
            "independent": self.independent,
            "scope": self.scope,
            "details": self.details,
            "figure": self.figure,
        }

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        claim = CLAIMS[self.claim]
        lines = {
            "Test": claim.test,
            "Found": f"{self.quantity}: {self.effect} (95 % interval, {self.effect.n} "
            f"{self.independent}); {self.scope}.",
        }
        if self.details:
            lines["In full"] = self.details
        body = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in lines.items())
        kind = self.outcome.name.lower().replace("_", "-")
        title = f"{claim.id}. {claim.statement}"
        return {
            "text/plain": f"{title} {self.outcome}: {lines['Found']}",
            "text/markdown": f"**{title}** *{self.outcome}*\n\n"
            + "\n\n".join(f"{name}: {text}" for name, text in lines.items()),
            "text/html": f'<div class="claim claim-{kind}"><p class="claim-title">{escape(title)} '
            f'<strong class="claim-verdict">{self.outcome}</strong></p><dl>{body}</dl></div>',
            MIME: self.to_dict(),
        }


def generalises(ratios: Mapping[str, Estimate], *, scope: str) -> Verdict:
    """C1: is the test error of the widest networks no larger than where fitting begins?

    Args:
        ratios: by noise in the labels, in words, the test error of the widest networks over that of
            the narrowest ones that fit the training samples; at least one.
        scope: what was tested.

    The effect shown is the ratio that decides, the one whose interval reaches highest.
    """
    if not ratios:
        raise InputError("ratios must hold at least one ratio, got none; compute one.")
    name, ratio = max(ratios.items(), key=lambda item: (math.isnan(item[1].high), item[1].high))
    if all(x.high <= 1 + MARGIN for x in ratios.values()):
        outcome = Outcome.SUPPORTED
    else:
        above = any(x.low > 1 + MARGIN for x in ratios.values())
        outcome = Outcome.NOT_SUPPORTED if above else Outcome.UNDECIDED
    quantity = f"test error, widest over narrowest network that fits, {name}"
    return Verdict("C1", outcome, ratio, quantity, scope, f"Ratios: {_listed(ratios)}.")


def width_exponent(claim: str, exponent: Estimate, *, scope: str) -> Verdict:
    """C2 and C3: does the gradient gap deviation fall with width, and with exponent −1/2?"""
    if exponent.high < 0:
        outcome = Outcome.SUPPORTED if -0.5 in exponent else Outcome.CORRECTED
    else:
        outcome = Outcome.NOT_SUPPORTED if exponent.low > 0 else Outcome.UNDECIDED
    return Verdict(claim, outcome, exponent, "exponent of width", scope)


def no_growth(ratio: Estimate, *, scope: str) -> Verdict:
    """C4: is the deflection of the widest network no larger than that of the narrowest?"""
    if ratio.high <= 1 + MARGIN:
        outcome = Outcome.SUPPORTED
    else:
        outcome = Outcome.NOT_SUPPORTED if ratio.low > 1 + MARGIN else Outcome.UNDECIDED
    return Verdict("C4", outcome, ratio, "deflection, widest over narrowest network", scope)


def random_walk_bridge(ratio: Estimate, *, scope: str, predicted: float = 1.0) -> Verdict:
    """C5: is the bridge estimate equal to the gradient gap deviation, within `MARGIN`?

    Args:
        ratio: bridge estimate over gradient gap deviation.
        scope: what was tested.
        predicted: the ratio by theory. Where it is not 1 within `MARGIN`, a ratio that equals it
            within `MARGIN` is a correction of the claim.
    """

    def equals(value: float) -> bool:
        return ratio.low >= value * (1 - MARGIN) and ratio.high <= value * (1 + MARGIN)

    if equals(1):
        outcome = Outcome.SUPPORTED
    elif abs(predicted - 1) > MARGIN and equals(predicted):
        outcome = Outcome.CORRECTED
    else:
        outside = ratio.high < 1 - MARGIN or ratio.low > 1 + MARGIN
        outcome = Outcome.NOT_SUPPORTED if outside else Outcome.UNDECIDED
    details = "" if predicted == 1 else f"Theory predicts {predicted:.3g}."
    quantity = "bridge estimate over gradient gap deviation"
    return Verdict("C5", outcome, ratio, quantity, scope, details)


def almost_straight(
    ratio: Estimate, *, scope: str, others: Mapping[str, Estimate] | None = None
) -> Verdict:
    """C6: is the fluctuation after training smaller than the edge margin?

    Args:
        ratio: fluctuation over edge margin of networks from the usual random start.
        scope: what was tested.
        others: the same ratio from other starts or on other pairs, to be shown beside it.
    """
    if ratio.high < 1:
        outcome = Outcome.SUPPORTED
    else:
        outcome = Outcome.NOT_SUPPORTED if ratio.low > 1 else Outcome.UNDECIDED
    details = f"The same ratio elsewhere: {_listed(others)}." if others else ""
    return Verdict("C6", outcome, ratio, "fluctuation over edge margin", scope, details)


def other_starts(ratios: Mapping[str, Mapping[str, Estimate]], *, scope: str) -> Verdict:
    """C7: is every quantity higher from every start that is not the usual random one?

    All intervals must lie above 1, so testing many of them cannot make "supported" more likely, and
    they are used as they are. A single one below 1 is enough for "not supported", so that interval
    is widened for the number of ratios (Bonferroni).

    Args:
        ratios: by quantity, by start, its ratio to the same quantity from the random start; an
            estimate without interval (NaN) supports nothing.
        scope: what was tested.

    The effect shown is the ratio that decides: the one whose interval reaches lowest or, if the
    claim is contradicted, ends lowest.

    Raises:
        InputError: no ratio, or quantities with different starts.
    """
    flat = {(name, start): x for name, starts in ratios.items() for start, x in starts.items()}
    if not flat or len({frozenset(starts) for starts in ratios.values()}) > 1:
        raise InputError(
            f"ratios must hold the same starts for each quantity, at least one, got "
            f"{[list(starts) for starts in ratios.values()]}; compute all of them."
        )
    below = {key: x for key, x in flat.items() if simultaneous(x, len(flat)).high < 1}
    if below:
        outcome = Outcome.NOT_SUPPORTED
        name, start = min(below, key=lambda key: below[key].high)
    else:
        supported = all(x.low > 1 for x in flat.values())
        outcome = Outcome.SUPPORTED if supported else Outcome.UNDECIDED
        # False sorts before True: a ratio without an interval decides before all others.
        name, start = min(flat, key=lambda key: (not math.isnan(flat[key].low), flat[key].low))
    quantity = f"{name} from “{start}” over random start, the ratio that decides"
    details = " ".join(f"Ratios of {of}: {_listed(starts)}." for of, starts in ratios.items())
    return Verdict("C7", outcome, flat[name, start], quantity, scope, details)


def tracks_generalisation(correlations: Mapping[str, Estimate], *, scope: str) -> Verdict:
    """C8: does every measure of curvature rise with the test error?

    All intervals must lie above 0, so testing many measures cannot make "supported" more likely,
    and they are used as they are. A single one below `MARGIN` is enough for "not supported", even
    if it lies above 0, so that interval is widened for the number of measures (Bonferroni).

    Args:
        correlations: by measure, in words, its partial rank correlation with the test error given
            the training loss, see `implreg.correlation.rank_correlation`; its n counts
            configurations. One without interval (NaN) supports nothing.
        scope: what was tested.

    The effect shown is the correlation that decides: the one whose interval reaches lowest or, if
    the claim is contradicted, ends lowest.

    Raises:
        InputError: no correlation, or one outside [-1, 1].
    """
    if not correlations or not all(abs(x.value) <= 1 for x in correlations.values()):
        raise InputError(
            f"correlations must hold numbers between -1 and 1, at least one, got "
            f"{ {name: x.value for name, x in correlations.items()} }; compute one per measure."
        )
    number = len(correlations)
    below = {k: x for k, x in correlations.items() if _widened_rank(x, number).high < MARGIN}
    if below:
        outcome, name = Outcome.NOT_SUPPORTED, min(below, key=lambda key: below[key].high)
    else:
        supported = all(x.low > 0 for x in correlations.values())
        outcome = Outcome.SUPPORTED if supported else Outcome.UNDECIDED
        # False sorts before True: one without an interval decides before all others.
        low = {key: (not math.isnan(x.low), x.low) for key, x in correlations.items()}
        name = min(low, key=lambda key: low[key])
    quantity = f"partial rank correlation of {name} with the test error, the one that decides"
    return Verdict(
        "C8",
        outcome,
        correlations[name],
        quantity,
        scope,
        f"Correlations: {_listed(correlations)}.",
        independent="configurations",
    )


def _widened_rank(correlation: Estimate, tests: int) -> Estimate:
    """The interval of a correlation, such that `tests` of them hold together.

    Each end moves away from the value by the ratio of the normal quantiles, on Fisher's scale
    artanh, on which a correlation is nearly normal.
    """
    tail = (1 - CONFIDENCE) / 2
    factor = float(stats.norm.ppf(1 - tail / tests) / stats.norm.ppf(1 - tail))
    nearly = math.nextafter(1, 0)
    value, low, high = (
        math.atanh(max(min(x, nearly), -nearly))  # in this order NaN stays NaN
        for x in (correlation.value, correlation.low, correlation.high)
    )
    low, high = (math.tanh(value + factor * (end - value)) for end in (low, high))
    return Estimate(correlation.value, low, high, correlation.n)


def _listed(estimates: Mapping[str, Estimate]) -> str:
    return ", ".join(f"{name} {x if x.n else 'no seed'}" for name, x in estimates.items())


def ledger(folder: str | Path) -> pd.DataFrame:
    """Every claim with the verdicts that executed chapters hold, one row per verdict.

    Args:
        folder: of executed notebooks (`.ipynb`); each verdict that they display is read.

    Returns:
        Columns as in `Verdict.to_dict`, and `chapter`. A claim without a verdict has one row with
        the verdict "not yet tested".

    Raises:
        InputError: the folder does not exist, or holds a notebook that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"chapters must be a folder of executed notebooks, got {str(folder)!r}, which does "
            f"not exist; run the other chapters first (python -m implreg book)."
        )
    rows = []
    for path in sorted(folder.glob("*.ipynb")):
        try:
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            outputs = [output for cell in cells for output in cell.get("outputs", [])]
            found = [o["data"][MIME] for o in outputs if MIME in o.get("data", {})]
        except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
            raise InputError(
                f"chapters must hold executed notebooks, but {path.name} cannot be read "
                f"({error}); run that chapter again."
            ) from error
        usual = {"figure": "", "independent": "seeds"}
        rows += [usual | verdict | {"chapter": path.stem} for verdict in found]
    tested = {row["id"] for row in rows}
    rows += [
        {"id": claim.id, "statement": claim.statement, "verdict": "not yet tested", "figure": ""}
        for claim in CLAIMS.values()
        if claim.id not in tested
    ]
    return pd.DataFrame(rows).sort_values("id", kind="stable", ignore_index=True)
