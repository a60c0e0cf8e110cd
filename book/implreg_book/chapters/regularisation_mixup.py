"""Chapter "Labels and explicit regularisation": what mixup asks of a path, and what it gets."""

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from scipy.special import logit

from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, INK, MARKERS, MUTED, legend, new_figure, number
from implreg_book.chapters import same_loss
from implreg_book.chapters.missing import mean
from implreg_book.chapters.regularisation_found import REFERENCE, Found
from implreg_book.chapters.same_loss import Ratios, shown, times
from implreg_book.evidence import rules, words
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments.regularisation import best_line

MISPLACED, MIDDLE = "misplaced probability", "mid-path deflection"
MIXED = {
    "misplaced": MISPLACED,
    "deflection": "gradient deflection",
    "mid_path_deflection": MIDDLE,
}


def tests(found: Found) -> int:
    """How many intervals hold at once: of each quantity, on two kinds of pairs."""
    return len(MIXED) * len(found.p.mixups) * len(found.p.mixup_losses) * 2


def _ratios(found: Found, kind: str, loss: float) -> Ratios:
    """Ratios to the reference on a kind of pairs at a loss."""
    rows = found.between[(found.between.kind == kind) & (found.between.target_loss == loss)]
    return same_loss.ratios(rows, MIXED, found.of_kind["mixup"], tests=tests(found))


def ratio_table(found: Found) -> Styler:
    """All of them."""
    rows = [
        {"pairs": f"{kind} class" + "es" * (kind == "different"), "loss": f"{loss:g}"}
        | {"mixup": f"{alpha:g}"}
        | {of: shown(x[name]) for of, x in _ratios(found, kind, loss).items()}
        for kind in ("different", "same")
        for alpha, name in zip(found.p.mixups, found.of_kind["mixup"], strict=True)
        for loss in found.p.mixup_losses
    ]
    return pd.DataFrame(rows).style.hide(axis="index")


def outcomes(found: Found) -> dict[str, Outcome]:
    """Hypotheses 6 and 7."""
    at = _ratios(found, "different", found.p.test_loss)
    name = found.strongest["mixup"]
    tested = rules.trained(found.test[found.test.reached].train_error)

    def not_lower(x: Estimate) -> Outcome:
        return rules.decide(rules.larger(x, 1 / rules.SAME), rules.smaller(x))

    return {
        "mixup straightens probabilities": same_loss.judged(
            tested, [(rules.falls, at[MISPLACED][name])]
        ),
        "mixup does not straighten outputs": same_loss.judged(
            tested, [(not_lower, at[MIDDLE][name])]
        ),
    }


def _drawn(found: Found) -> tuple[str, dict[str, pd.DataFrame]]:
    """The lowest loss that a network of the first seed reached, and the courses there."""
    if "target_loss" not in found.courses:
        return "", {}
    lowest = found.courses.target_loss.min()
    rows = found.courses[found.courses.target_loss == lowest].sort_values("t")
    return f"{lowest:g}", dict(iter(rows.groupby("condition", sort=False)))


def course_figure(found: Found) -> Figure:
    """Probabilities and outputs along paths between classes."""
    lowest, courses = _drawn(found)
    t = np.linspace(0.01, 0.99, 99)
    told = []
    with style():
        fig = new_figure(3.4)
        left, right = panels = fig.subplots(1, 2)
        left.plot([0, 1], [0, 1], "--", color=INK, linewidth=1.6)
        best = best_line(found.p.mixups[-1]).steepness * (1 - 2 * t)
        handles = [
            *right.plot(t, logit(1 - t), "--", color=INK, linewidth=1.6, label="what mixup asks"),
            *right.plot(t, best, ":", color=MUTED, label="best straight line"),
        ]
        for i, (name, course) in enumerate(courses.items()):
            look = {"color": CATEGORIES[i], "marker": MARKERS[i], "markevery": 20, "label": name}
            left.plot(course.t, course.probability, **look)
            handles += right.plot(course.t, course.difference, **look)
            quarter = course.iloc[len(course) // 4]
            told.append(
                f"{name}: probability {number(quarter.probability)} at a quarter, difference "
                f"{number(course.difference.iloc[0])} at the start and "
                f"{number(quarter.difference)} at a quarter"
            )
        left.set_ylabel("probability of the class at t = 1")
        right.set_ylabel("difference of outputs z")
        for panel, letter in zip(panels, "ab", strict=True):
            panel.set_title(letter, loc="left", fontweight="bold")
            panel.set_xlabel("position t on the path")
        legend(fig, handles)
    alt = (
        "Line plots along paths between samples of different classes, as means over the pairs of "
        f"one seed at a training loss of {lowest}. Panel a, probability of the end class, over the "
        "straight line from 0 to 1; panel b, difference of the outputs of both classes, over the "
        f"curve that mixup asks for. {'; '.join(told)}."
    )
    return show(fig, alt=alt if courses else "What mixup asks; no network reached a loss.")


def line_table(found: Found) -> Styler:
    """What theory says of mixup, and how far the training loss got."""
    rows = []
    for alpha, name in zip(found.p.mixups, found.of_kind["mixup"], strict=True):
        best = best_line(alpha)
        loss = mean(found.last[found.last.condition == name].train_loss)
        rows.append(
            {
                "alpha": f"{alpha:g}",
                "a": f"{best.steepness:.2f}",
                "loss at the ends": f"{best.end_loss:.3f}",
                "mixup loss, straight": f"{best.mixup_loss:.3f}",
                "mixup loss, least": f"{best.least_loss:.3f}",
                f"training loss after {found.p.cap:,} epochs": f"{loss:.3f}",
            }
        )
    return pd.DataFrame(rows).style.hide(axis="index")


def numbers(found: Found) -> dict[str, object]:
    """What the section on mixup says."""
    p, name = found.p, found.strongest["mixup"]
    end = p.mixup_losses[-1]
    at_test, at_end = (_ratios(found, "different", loss) for loss in (p.test_loss, end))
    there = found.between[found.between.reached & (found.between.kind == "different")]
    own = there[(there.condition == REFERENCE) & (there.target_loss == p.test_loss)]
    bent = there[there.target_loss == end]
    bent = bent.assign(coherent=bent.mid_path_deflection / bent.deflection)
    coherent = {c: times(mean(bent[bent.condition == c].coherent)) for c in (name, REFERENCE)}
    lines = [best_line(alpha) for alpha in p.mixups]
    paid = max(line.mixup_loss / line.least_loss - 1 for line in lines)
    said = outcomes(found)
    misplaced = mean(own.misplaced)
    return {
        "alpha": f"{p.mixups[-1]:g}",
        "classes": found.classes,
        "mixup-tests": tests(found),
        "mixup-misplaced": times(at_test[MISPLACED][name]),
        "mixup-mid": times(at_test[MIDDLE][name]),
        "mixup-end": f"{end:g}",
        "mixup-misplaced-end": times(at_end[MISPLACED][name]),
        "mixup-mid-end": times(at_end[MIDDLE][name]),
        "mixup-same-end": times(_ratios(found, "same", end)[MIDDLE][name]),
        "own-misplaced": f"{misplaced:.2f}" if misplaced.n else "an unknown share (no run)",
        "further": p.further_seeds,
        "coherent-mixup": coherent[name],
        "coherent-own": coherent[REFERENCE],
        "paid": f"{100 * paid:.1f}",
        "lowest": _drawn(found)[0] or "the lowest (which none reached)",
        "closer": words.by_ratio(
            at_end[MISPLACED][name],
            smaller="With mixup the probabilities come closer to the straight line",
            larger="With mixup the probabilities go farther from the straight line",
            same="With mixup the probabilities are as far from the straight line as without",
            unclear="Whether mixup brings the probabilities closer to the straight line is open",
        ),
        "shape": _shape(found),
        "h-probabilities": str(said["mixup straightens probabilities"]),
        "h-outputs": str(said["mixup does not straighten outputs"]),
    }


def _shape(found: Found) -> str:
    """How far outputs are from what mixup asks and from the best straight line, as a sentence."""
    _, courses = _drawn(found)
    steepness = best_line(found.p.mixups[-1]).steepness

    def far(name: str) -> str:
        t, z = courses[name].t, courses[name].difference
        asked, line = (float((z - x).abs().mean()) for x in (logit(1 - t), steepness * (1 - 2 * t)))
        return f"{asked:.2f} and {line:.2f} for {name}"

    apart = [far(name) for name in (REFERENCE, found.strongest["mixup"]) if name in courses]
    if not apart:
        return "No network of the first seed reached a loss."
    return (
        "Its mean distance from what mixup asks and from the best straight line is "
        f"{', and '.join(apart)}."
    )
