"""Chapter "Architecture": what depth and leaks do."""

import math

import pandas as pd

from implreg.figures import Figure
from implreg_book import figures
from implreg_book.chapters import same_loss
from implreg_book.chapters.architecture_found import (
    DEFLECTION,
    ERROR,
    MIDDLE,
    REFERENCE,
    STRAIGHTNESS,
    Found,
)
from implreg_book.chapters.missing import mean
from implreg_book.chapters.same_loss import both, cell, shown, times
from implreg_book.evidence import rules, words
from implreg_book.evidence.rules import Outcome, in_words
from implreg_book.evidence.statistics import NONE, Estimate, power_law
from implreg_book.parameters.schema import listed

SHAPE = {
    "deflection": r"gradient deflection $\delta$",
    "mid_path_deflection": "mid-path deflection",
    "bridge_ratio": "mid-path / gradient deflection",
    "switches": "switches M",
}
GROWTH = {"deflection": DEFLECTION, "mid_path_deflection": MIDDLE}
_COMPARED = {
    rules.WITHIN: "the same {} as",
    "larger": "more than",
    "smaller": "less than",
    "undecided": "not to be told, by this test, from",
}


# Depth.


def _by_depth(found: Found, rows: pd.DataFrame, prefix: str = "") -> pd.DataFrame:
    """The plain perceptrons with their depth."""
    layers = {REFERENCE: 1} | dict(zip(found.names.deeper, found.p.depths, strict=True))
    own = rows[rows.condition.isin(layers)]
    shape = own[[prefix + name for name in SHAPE]].set_axis(list(SHAPE), axis=1)
    return shape.assign(
        condition=own.condition, seed=own.seed, depth=own.condition.map(layers), reached=True
    )


def _theory(found: Found) -> pd.DataFrame:
    """What theory predicts before training, by depth."""
    return _by_depth(found, found.start, "theory_").groupby("depth")[list(SHAPE)].mean()


def depth_figure(found: Found) -> Figure:
    """Bends and switches against depth, before training and after it.

    A path without a switch has no quotient, so that such networks are not drawn.
    """
    parts = {"before training": found.start, "after training": found.reached}
    drawn = pd.concat(
        _by_depth(found, rows).assign(networks=name) for name, rows in parts.items() if len(rows)
    )
    whole = drawn.dropna()
    shape = SHAPE if len(whole) else {k: v for k, v in SHAPE.items() if k != "bridge_ratio"}
    return figures.plot_against(
        whole if len(whole) else drawn,
        "depth",
        list(shape),
        by="networks",
        theory=_theory(found).reset_index().assign(networks="before training"),
        log="x",
        xlabel="hidden layers",
        ylabel=list(shape.values()),
    )


def depth_table(found: Found) -> pd.DataFrame:
    """Exponents of both deflections against depth."""

    def exponent(rows: pd.DataFrame, column: str) -> Estimate:
        fine = rows[rows[column] > 0]
        fine = fine[fine.groupby("seed").depth.transform("nunique") > 1]
        return power_law(fine, "depth", column) if len(fine) else NONE

    predicted = _by_depth(found, found.start, "theory_")
    rows = {
        name: {
            "theory, before": f"{power_law(predicted, 'depth', column).value:.2f}",
            "before training": f"{exponent(_by_depth(found, found.start), column):.2f}",
            "after training": f"{exponent(_by_depth(found, found.reached), column):.2f}",
        }
        for column, name in GROWTH.items()
    }
    return pd.DataFrame(rows).rename_axis(columns="exponent of the depth")


def _over(ratio: Estimate, expected: float) -> Estimate:
    return ratio.map(lambda x: x / expected)


def _growth(found: Found) -> dict[str, Estimate]:
    """From one layer to the most: the growth of each deflection over theory's, their quotient."""
    theory, most = _theory(found), max(found.p.depths)
    growth = {
        column: _over(found.ratio(name, "deepest"), theory[column][most] / theory[column][1])
        for column, name in GROWTH.items()
    }
    deepest = found.names.keys["deepest"]
    rows = _by_depth(found, found.reached)
    quotients = same_loss.ratios(rows, {"bridge_ratio": "it"}, [deepest], tests=found.tests)
    return growth | {"bridge_ratio": quotients["it"][deepest]}


def depth_outcome(found: Found) -> Outcome:
    """Hypothesis 1."""
    tests = {column: rules.equal for column in GROWTH} | {"bridge_ratio": rules.falls}
    growth = _growth(found)
    return same_loss.judged(
        found.trained, [(tests[column], estimate) for column, estimate in growth.items()]
    )


def depth_words(found: Found) -> dict[str, object]:
    """What the section on depth says."""
    theory, growth, most = _theory(found), _growth(found), max(found.p.depths)
    before, after = _by_depth(found, found.start), _by_depth(found, found.reached)

    def spread(column: str) -> str:
        untrained = before[before[column] > 0].groupby("depth")[column].mean()
        grown = (after.groupby("depth")[column].mean() / untrained).dropna()
        ends = dict.fromkeys(f"{x:.2f}" for x in (grown.min(), grown.max()))
        return " to ".join(ends) if len(grown) else ""

    def against(column: str) -> str:
        word = in_words(growth[column]).removeprefix("the same ")
        return _COMPARED.get(word, "with one run not to be told from").format(word)

    sentences: dict[str, object] = {"growth": "", "quotient": ""}
    delta, middle, quotient = (
        shown(x)
        for x in (
            found.ratio(DEFLECTION, "deepest"),
            found.ratio(MIDDLE, "deepest"),
            growth["bridge_ratio"],
        )
    )
    if growth["deflection"].n:
        sentences["growth"] = (
            f"From one to {most} layers δ is multiplied by {delta}, which "
            f"is {against('deflection')} the {math.sqrt(most):.2f} of theory. The mid-path "
            f"deflection is multiplied by {middle}. This is "
            f"{against('mid_path_deflection')} the "
            f"{theory.mid_path_deflection[most] / theory.mid_path_deflection[1]:.2f} of theory, by "
            "which it would level off."
        )
    if growth["bridge_ratio"].n:
        one, many = (mean(after[after.depth == n].bridge_ratio) for n in (1, most))
        sentences["quotient"] = (
            f"The quotient of the two is {one:.2f} with one hidden layer and {many:.2f} with "
            f"{most}. With depth it becomes {quotient} times what it is for one "
            f"layer ({in_words(growth['bridge_ratio'])}); theory before training says "
            f"{theory.bridge_ratio[most] / theory.bridge_ratio[1]:.2f}. Training multiplies the "
            f"quotient by {spread('bridge_ratio')}, depending on the depth."
        )
    margins = [
        f"with {n} layers {times(found.families[REFERENCE][STRAIGHTNESS][f'depth {n}'])} that of "
        "one layer"
        for n in sorted({found.p.deep, most})
    ]
    return sentences | {
        "as-theory": _as_theory(found, before),
        "after": _after_training(found, after),
        "margins": listed(margins),
        "switches": _switches(found, before, spread("switches")),
        "outcome-1": str(depth_outcome(found)),
    }


def _as_theory(found: Found, before: pd.DataFrame) -> str:
    """Whether plain perceptrons do before training what theory says, as a clause."""
    plain = found.start[found.start.condition.isin(before.condition)]
    predicted = [same_loss.mean_ratio(plain, column, f"theory_{column}") for column in GROWTH]
    return words.by_outcome(
        rules.together(map(rules.equal, predicted)),
        yes="the networks do what theory says",
        no="the networks do not do what theory says, which is for wide layers",
        unclear="it is open whether the networks do what theory says, which is for wide layers",
    )


def _after_training(found: Found, plain: pd.DataFrame) -> str:
    """How training changes the deflections of plain perceptrons, as a sentence."""
    rows = found.reached[found.reached.condition.isin(plain.condition)]
    said = {
        name: words.by_ratio(
            same_loss.mean_ratio(rows, column, f"{column}_before"),
            larger="larger",
            smaller="smaller",
            same="the same",
            unclear="neither clearly larger nor clearly smaller",
        )
        for column, name in GROWTH.items()
    }
    if not len(rows):
        return ""
    if len(set(said.values())) == 1:
        return f"After training both deflections are {said[DEFLECTION]}."
    return "After training " + listed([f"the {of} is {word}" for of, word in said.items()]) + "."


def _switches(found: Found, before: pd.DataFrame, trained: str) -> str:
    """What depth and training do to the number of switches, to follow the word itself."""
    deepest = found.names.keys["deepest"]
    change = same_loss.ratios(before, {"switches": "switches"}, [deepest])["switches"][deepest]
    more = found.size("units", "deepest") > found.size("units")
    course = words.by_ratio(
        change,
        larger="become more with depth before training"
        + ", because layers of equal parameters have more units in all" * more,
        smaller="become fewer with depth before training",
        same="hardly change in number with depth before training",
        unclear="neither clearly become more nor clearly fewer with depth before training",
    )
    return f"{course}." + (f" Training multiplies their number by {trained}." if trained else "")


# Leaky slopes.


def _over_law(found: Found, loss: float, name: str) -> Estimate:
    """The deflection with a leak over what the law before training says."""
    return _over(found.at(loss)[DEFLECTION][name], 1 - found.names.leaky[name])


def leak_table(found: Found) -> pd.DataFrame:
    """Deflections with a leak beside the law."""
    start = found.start.assign(reached=True)
    names, target = found.names.leaky, found.target
    before = same_loss.ratios(start, {"deflection": DEFLECTION}, list(names))[DEFLECTION]
    rows = {
        name: {
            "1 − α": f"{1 - leak:g}",
            "before training": f"{before[name].value:.3f}" if before[name].n else "no switch",
            **{
                f"at loss {loss:g}": f"{found.at(loss)[DEFLECTION][name]:.2f}"
                for loss in found.p.target_losses
            },
            f"at loss {target:g}, over 1 − α": cell(_over_law(found, target, name)),
        }
        for name, leak in names.items()
    }
    return pd.DataFrame(rows).T.rename_axis(columns="deflection, ratio to the reference")


def leak_outcome(found: Found) -> Outcome:
    """Hypothesis 2."""
    over = [_over_law(found, found.target, name) for name in found.names.leaky]
    return same_loss.judged(found.trained, [(rules.equal, x) for x in over])


def leak_words(found: Found) -> dict[str, object]:
    """What the section on leaks says."""
    name = found.names.keys["leak"]
    leak = found.names.leaky[name]
    losses = dict.fromkeys((found.p.target_losses[0], found.target))
    over = {loss: _over_law(found, loss, name) for loss in losses}
    course = "; ".join(
        f"at a loss of {loss:g} it is {times(x)} that ({in_words(x)})" for loss, x in over.items()
    )
    return {
        "law": f"{1 - leak:g}",
        "law-course": f"With a leak of {leak:g} the law says {1 - leak:g} times the deflection of "
        f"the reference; {course}.",
        **both("error-leak", found.ratio(ERROR, "leak")),
        "outcome-2": str(leak_outcome(found)),
    }
