"""The claims ledger: what is claimed, how it is tested, and the verdict that a run computes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from implreg.errors import InputError
from implreg_book.evidence import rules
from implreg_book.evidence.rules import Outcome as Outcome
from implreg_book.evidence.statistics import FISHER, NONE, Estimate, simultaneous

MIME = "application/vnd.implreg.verdict+json"


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
            f"below {rules.SAME:g}. Contradicted if one lies above.",
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
            f"The interval of its ratio, widest to narrowest network, lies below {rules.SAME:g}.",
        ),
        Claim(
            "C5",
            "Gradient gaps act like a random-walk bridge.",
            "The interval of bridge estimate over gradient gap deviation lies between "
            f"{1 / rules.SAME:.3g} and {rules.SAME:g}; a correction if it lies {rules.WITHIN} of "
            "another ratio that theory predicts; else contradicted if it lies outside.",
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
            f"number (Bonferroni), lies below {rules.WEAK:g}: next to no relation, or the opposite "
            "one.",
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
        lines = {"Test": claim.test}
        if self.outcome is Outcome.NOT_TESTED:
            lines["Not tested"] = f"{self.details}; {self.scope}."
        else:
            lines["Found"] = (
                f"{self.quantity}: {self.effect} (95 % interval, {self.effect.n} "
                f"{self.independent}); {self.scope}."
            )
            if self.details:
                lines["In full"] = self.details
        body = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in lines.items())
        kind = self.outcome.name.lower().replace("_", "-")
        title = f"{claim.id}. {claim.statement}"
        return {
            "text/plain": f"{title} {self.outcome}: {list(lines.values())[1]}",
            "text/markdown": f"**{title}** *{self.outcome}*\n\n"
            + "\n\n".join(f"{name}: {text}" for name, text in lines.items()),
            "text/html": f'<div class="claim claim-{kind}"><p class="claim-title">{escape(title)} '
            f'<strong class="claim-verdict">{self.outcome}</strong></p><dl>{body}</dl></div>',
            MIME: self.to_dict(),
        }


def not_tested(claim: str, why: str, *, scope: str) -> Verdict:
    """What is said of a claim where the networks that it is about are not there.

    Args:
        claim: its id.
        why: there is nothing to test, such as "no network reached the loss".
        scope: what would have been tested.
    """
    return Verdict(claim, Outcome.NOT_TESTED, NONE, "nothing", scope, why)


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
    outcome = rules.together(map(rules.no_growth, ratios.values()))
    quantity = f"test error, widest over narrowest network that fits, {name}"
    return Verdict("C1", outcome, ratio, quantity, scope, f"Ratios: {_listed(ratios)}.")


def width_exponent(claim: str, exponent: Estimate, *, scope: str) -> Verdict:
    """C2 and C3: does the gradient gap deviation fall with width, and with exponent −1/2?"""
    outcome = rules.inside(exponent, high=0)
    if outcome is Outcome.SUPPORTED and -0.5 not in exponent:
        outcome = Outcome.CORRECTED
    return Verdict(claim, outcome, exponent, "exponent of width", scope)


def no_growth(ratio: Estimate, *, scope: str) -> Verdict:
    """C4: is the deflection of the widest network no larger than that of the narrowest?"""
    quantity = "deflection, widest over narrowest network"
    return Verdict("C4", rules.no_growth(ratio), ratio, quantity, scope)


def random_walk_bridge(ratio: Estimate, *, scope: str, predicted: float = 1.0) -> Verdict:
    """C5: is the bridge estimate equal to the gradient gap deviation, see `rules.equal`?

    Args:
        ratio: bridge estimate over gradient gap deviation.
        scope: what was tested.
        predicted: the ratio by theory. Where that is not 1 within `rules.SAME`, a ratio that equals
            it so closely is a correction of the claim.
    """
    outcome = rules.equal(ratio)
    apart = not 1 / rules.SAME <= predicted <= rules.SAME
    if outcome is not Outcome.SUPPORTED and apart and rules.same(ratio, predicted):
        outcome = Outcome.CORRECTED
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
    outcome = rules.inside(ratio, high=1)
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
    flat = {f"{of} from “{at}”": x for of, starts in ratios.items() for at, x in starts.items()}
    if not flat or len({frozenset(starts) for starts in ratios.values()}) > 1:
        raise InputError(
            f"ratios must hold the same starts for each quantity, at least one, got "
            f"{[list(starts) for starts in ratios.values()]}; compute all of them."
        )
    below = [name for name, x in flat.items() if rules.smaller(simultaneous(x, len(flat)))]
    outcome, name = _all_above(flat, 1, below)
    quantity = f"{name} over random start, the ratio that decides"
    details = " ".join(f"Ratios of {of}: {_listed(starts)}." for of, starts in ratios.items())
    return Verdict("C7", outcome, flat[name], quantity, scope, details)


def tracks_generalisation(correlations: Mapping[str, Estimate], *, scope: str) -> Verdict:
    """C8: does every measure of curvature rise with the test error?

    All intervals must lie above 0, so testing many measures cannot make "supported" more likely,
    and they are used as they are. A single one below `rules.WEAK` is enough for "not supported",
    even if it lies above 0, so that interval is widened for the number of measures (Bonferroni).

    Args:
        correlations: by measure, in words, its partial rank correlation with the test error given
            the training loss, see `implreg_book.correlation.rank_correlation`; its n counts
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
    wide = {name: simultaneous(x, len(correlations), FISHER) for name, x in correlations.items()}
    below = [name for name, x in wide.items() if rules.smaller(x, rules.WEAK)]
    outcome, name = _all_above(correlations, 0, below)
    quantity = f"partial rank correlation of {name} with the test error, the one that decides"
    details = f"Correlations: {_listed(correlations)}."
    return Verdict(
        "C8", outcome, correlations[name], quantity, scope, details, independent="configurations"
    )


def _all_above(
    found: Mapping[str, Estimate], bound: float, below: Sequence[str]
) -> tuple[Outcome, str]:
    """Whether all estimates lie above a bound and none is known to lie below, and which decides."""
    supported = not below and all(rules.larger(x, bound) for x in found.values())
    # False sorts before True: an estimate without an interval decides before all others.
    lowest = min(found, key=lambda key: (not math.isnan(found[key].low), found[key].low))
    decides = min(below, key=lambda key: found[key].high, default=lowest)
    return rules.decide(supported, bool(below)), decides


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
