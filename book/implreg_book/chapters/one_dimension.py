"""Chapter "One dimension": what it says. Runs are in `splines`, pictures in `splines_shown`."""

import pandas as pd

from implreg.figures.display import number
from implreg_book.chapters import protocols
from implreg_book.chapters.missing import mean
from implreg_book.chapters.splines import (
    STARTS,
    TESTS,
    Found,
    arrived,
    bend_of_limit,
    drawn,
    grids,
    hypotheses,
    limits,
    measure,
    over,
    starts,
)
from implreg_book.chapters.splines_shown import FIGURES, TABLES
from implreg_book.evidence import rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import Estimate, power_law
from implreg_book.experiments import one_dimension as experiment
from implreg_book.parameters.one_dimension import Parameters
from implreg_book.protocol import Aspects

__all__ = ["FIGURES", "TABLES", "Found", "grids", "limits", "measure", "starts"]


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    rate = f"at most {experiment.Config.rate:g}"
    return {
        "data sets": "points on a line",
        "training samples": len(p.x),
        **protocols.of_perceptrons(p.widths, p.networks),
        **protocols.of_descent("squared error", len(p.x), p.steps, rate),
        **protocols.TRACED,
        "hidden weights": tuple(starts(p)),
        "output weights": "0",
    }


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    return _of_the_run(found) | _of_width(found) | _of_scale(found) | _judged(found)


def _of_the_run(found: Found) -> dict[str, object]:
    """What was run, and what of it arrived."""
    p = found.p
    lost = found.every[~found.every.reached]
    where = ", ".join(f"{scale:g}" for scale in sorted(set(lost.scale)))
    return {
        "reach": f"{p.reach:g}",
        "spread": f"{p.spread:g}",
        "widest": f"{max(p.widths):,}",
        "narrowest": f"{min(p.widths):,}",
        "networks": words.some(p.networks, "network"),
        "units": f"{p.units:,}",
        "shown": words.some(drawn(p), "network"),
        "samples": len(p.x),
        "inner": len(p.x) - 2,
        "span": f"{max(p.y) - min(p.y):.2g}",
        "window": f"{experiment.WINDOW / 2 * (p.x[-1] - p.x[0]):.3g}",
        "window-length": f"{experiment.WINDOW * (p.x[-1] - p.x[0]):.3g}",
        "cover": f"{100 * experiment.SHARE:g} %",
        "kernel-scale": f"{p.kernel_scale:g}",
        "adaptive-scale": f"{p.adaptive_scale:g}",
        "untrained": f"{100 * rules.UNTRAINED:g} %",
        "lost-kernel": _lost(found.output),
        "lost-all": _lost(found.every),
        "lost-where": f"They are at scale {where}." if len(lost) else "All reached it.",
        "lost-tested": int(lost.scale.isin([p.kernel_scale, p.adaptive_scale]).sum()),
    }


def _of_width(found: Found) -> dict[str, object]:
    """What the networks do whose output weights alone were trained."""
    p, widest = found.p, max(found.p.widths)
    at_widest = {start: found.of(start, widest) for start in (*STARTS, "random")}
    powers = {
        "exponent-uniform": found.exponent("uniform", "to_limit"),
        "exponent-gaussian": found.exponent("Gaussian", "to_limit"),
        "gap-exponent": found.exponent("uniform", "gap_deviation"),
        "gap-random": found.exponent("random", "gap_deviation"),
        "random-exponent": found.exponent("random", "to_limit"),
    }
    solved = {
        of: power_law(found.solved[found.solved.start == of], "width", "to_limit") for of in STARTS
    }
    control = {
        start: over(at_widest[start].to_natural, at_widest[start].to_limit) for start in STARTS
    }
    learnt = found.by_width("uniform", "quadratic_variation")
    inside = starts(p)["uniform"].moments([p.x[0], p.x[-1]])[0]
    off = f"{100 * found.solved_apart().max():.2g}"
    return {
        **{name: _told(power, ".2f") for name, power in powers.items()},
        **{f"{name}-course": _course(power) for name, power in powers.items()},
        **{f"exponent-{of.lower()}-wide": f"{power:.2f}" for of, power in solved.items()},
        **{f"control-{of.lower()}": _told(times, ".2f") for of, times in control.items()},
        "solved": words.some(p.solved, "network"),
        "solved-least": f"{min(p.solved_widths):,}",
        "solved-most": f"{max(p.solved_widths):,}",
        "solved-off": "none of the trained networks arrived, so that this has no check here"
        if off == "nan"
        else "for the trained networks here that arrived the two distances differ by at most "
        f"{number(float(off))} %",
        "distance": _told(mean(at_widest["uniform"].to_limit), ".4f"),
        "chords": _told(mean(at_widest["uniform"].from_chords), ".3f"),
        "chords-limit": f"{bend_of_limit(p):.3f}",
        "walk": _told(mean(at_widest["random"].quadratic_variation), ".2f"),
        "walk-limit": f"{inside[1] - inside[0]:.2g}",
        "learnt": _told(over(learnt[widest], learnt[min(p.widths)]), ".5f"),
        "untested-kernel": _untested(found.output[found.output.start != "random"]),
    }


def _of_scale(found: Found) -> dict[str, object]:
    """What the networks do all of whose weights were trained."""
    p = found.p
    lazy, rich, lazy_same, same = (
        found.at(bends, scale).set_index("seed")
        for bends in ("alternating", "same sign")
        for scale in (p.kernel_scale, p.adaptive_scale)
    )
    smallest = found.every[found.every.scale == min(p.scales)]
    beyond = "From" if smallest.reached.all() else "Still smaller scales need not help: from"
    beyond += (
        f" scale {min(p.scales):g}, {_lost(smallest)} networks did not reach the training loss."
    )
    less = sum(
        rules.smaller(over(small.variation_ratio, large.variation_ratio))
        for small, large in ((rich, lazy), (same, lazy_same))
    )
    return {
        "lazy-nearer": _nearer(over(lazy.to_limit, lazy.to_linear)),
        "rich-nearer": _nearer(over(rich.to_limit, rich.to_linear)),
        "to-linear": _told(mean(rich.to_linear), ".5f"),
        "same-to-linear": _told(mean(same.to_linear), ".5f"),
        "same-to-cubic": _told(mean(same.to_limit), ".5f"),
        "made-small": ("neither data set", "one data set only", "both data sets")[less],
        "variation": _told(mean(rich.variation_ratio), ".4f"),
        "variation-lazy": _told(mean(lazy.variation_ratio), ".2f"),
        "variation-same": _told(mean(same.variation_ratio), ".4f"),
        "near": _told(mean(rich.near), ".3f"),
        "near-lazy": _told(mean(lazy.near), ".2f"),
        "near-same": _told(mean(same.near), ".2f"),
        "knots": _told(mean(rich.knots), ".1f"),
        "knots-lazy": _told(mean(lazy.knots), ".1f"),
        "smaller": beyond if min(p.scales) < p.adaptive_scale else "",
        "untested-all": _untested(rich),
    }


def _judged(found: Found) -> dict[str, object]:
    """What follows for the hypotheses, and the sentences that depend on it."""
    every = hypotheses(found)
    outcomes = {name: one.outcome() for name, one in every.items()}
    last = {name: one.outcomes()[-1] for name, one in every.items()}
    linear = rules.together([outcomes["H3"], outcomes["H4"]])
    return {
        **{name.lower(): str(outcome) for name, outcome in outcomes.items()},
        "tests": TESTS,
        "within": rules.WITHIN,
        "moral": _if(outcomes["H5"], "Small kinks do not make a straight line."),
        "another": _if(outcomes["H4"], ", and the networks find another"),
        "stairs": _if(last["H3"], ", a staircase that jumps at the samples"),
        "stairs-same": _if(
            last["H4"], ": between the samples the slope changes where no sample asks for it"
        ),
        "straight": _if(last["H5"], "So it does not."),
        "small-scale": _if(
            linear,
            "Straight lines between samples come from another kind of training, from small "
            "weights, in which the breakpoints move, and then only if the data force them to the "
            "samples. There single gaps are small as well, as many units share each kink; their "
            "sum is not.",
        ),
    }


def _if(outcome: Outcome, sentence: str) -> str:
    return words.by_outcome(outcome, yes=sentence, no="", unclear="")


def _lost(rows: pd.DataFrame) -> str:
    return f"{int((~rows.reached).sum()):,} of {len(rows):,}"


def _untested(rows: pd.DataFrame) -> str:
    """That training did not arrive, if so."""
    lost = f"But {_lost(rows)} of these networks did not reach the training loss"
    return "" if arrived(rows) else f"{lost}: what wide networks learn is not tested by them."


def _told(estimate: Estimate, digits: str) -> str:
    return f"{estimate:{digits}}" if estimate.n else "(no run)"


def _course(power: Estimate) -> str:
    """What a power of the width says."""
    return words.by_sign(
        power, below="falls", above="rises", unclear="neither clearly falls nor rises"
    )


def _nearer(cubic_over_linear: Estimate) -> str:
    """To which spline networks are nearer."""
    return words.by_ratio(
        cubic_over_linear,
        larger="nearer to the linear spline than to the cubic one",
        smaller="nearer to the cubic spline than to the linear one",
        same=f"as far from the cubic spline as from the linear one {rules.WITHIN}",
        unclear="not clearly nearer to one of the two splines",
    )


def verdicts(found: Found) -> dict[str, Verdict]:
    """No claim of the ledger is judged here."""
    del found
    return {}
