"""Figures and tables of the chapter "What the released program measures"."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from implreg.figures import Figure
from implreg_book import figures
from implreg_book.chapters.missing import nothing_to_draw
from implreg_book.chapters.released_found import (
    AFTER,
    BEFORE,
    FINE,
    MEASURES,
    TRAITS,
    Found,
    cases,
    program_of,
)
from implreg_book.evidence import rules
from implreg_book.evidence.claims import Outcome
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments.released import EXACT

# ---------------------------------------------------------------- figures


def merging_figure(found: Found) -> Figure:
    """Merging against the number of samples."""
    if found.fine.empty:
        return nothing_to_draw("all perceptrons diverged")
    return figures.plot_against(
        found.fine,
        "points",
        FINE,
        by="phase",
        log="x",
        xlabel="samples T",
        ylabel=[
            r"sampled over exact $\sigma_\mathrm{gap}$",
            r"sampled over exact $\sigma_\mathrm{bridge}$",
            "share of switches that merge",
        ],
    )


def _traits_figure(case: tuple[str, str]) -> Callable[[Found], Figure]:
    def draw(found: Found) -> Figure:
        """The factors on both estimates against width of the traits that change one path."""
        rows = found.by_trait(case)
        rows = rows[rows.trait.isin(["merging", "index", "offsets", "drift"])]
        if rows.empty:
            return nothing_to_draw("all perceptrons diverged")
        return figures.plot_against(
            rows,
            "size",
            MEASURES[:2],
            by="trait",
            log="x",
            xlabel="width n",
            ylabel=[r"factor on $\sigma_\mathrm{gap}$", r"factor on $\sigma_\mathrm{bridge}$"],
        )

    return draw


after_figure, before_figure = _traits_figure(AFTER), _traits_figure(BEFORE)


# ---------------------------------------------------------------- tables


def list_table(found: Found) -> pd.DataFrame:
    """The program's traits, which stand in its description and are no result."""
    columns = ["trait", "in the program", "exactly"]
    return pd.DataFrame.from_dict(TRAITS, orient="index", columns=columns)


def traits_table(found: Found) -> pd.DataFrame:
    """Each trait's factor for one network of each family, before and after training."""
    p = found.p
    networks = {
        f"perceptron, width {max(p.widths):,}": (max(p.widths), "mlp"),
        f"VGG-like, {p.convolutions} convolutions": (p.convolutions, "vgg"),
        f"ResNet, depth {p.depth}": (p.depth, "resnet"),
    }
    touched = {
        "merging": ["gap"], "index": ["bridge"], "offsets": ["gap", "bridge"],
        "drift": ["gap", "bridge"], "seam": ["gap"], "means": ["gap"],
        "average switches": ["deflection"], "single precision": ["gap", "bridge"],
    }  # fmt: skip
    measure = dict(zip(("gap", "bridge", "deflection"), MEASURES, strict=True))
    rows = {
        f"{name}, {case[0]} training": {
            (trait, of): "not there"
            if trait == "seam" and family != "resnet"
            else f"{found.trait(trait, measure[of], size, case, family):.3g}"
            for trait, every in touched.items()
            for of in every
        }
        for name, (size, family) in networks.items()
        for case in (BEFORE, AFTER)
    }
    return pd.DataFrame(rows)


def figures_table(found: Found) -> pd.DataFrame:
    """Whether the estimator would change a figure of the paper."""
    return pd.DataFrame(
        {
            f"figure {figure}": {
                name: _changed(
                    found.effect(program_of(family), f"{column}_over_exact", size, case, family)
                )
                for name, column in zip(
                    ("gap deviation", "bridge estimate"), MEASURES[:2], strict=True
                )
            }
            for figure, (size, case, family) in cases(found.p).items()
        }
    ).T


def agreements_table(found: Found) -> pd.DataFrame:
    """The bridge estimate over the gap deviation in each definition, by figure."""
    return pd.DataFrame(
        {
            f"figure {figure}": {
                "program": _agreed(found.walk(program_of(family), size, case, family)),
                "exact, as normalised there": _agreed(found.walk(EXACT, size, case, family)),
                "exact, raw": _agreed(found.walk(EXACT, size, (case[0], "raw"), family)),
            }
            for figure, (size, case, family) in cases(found.p).items()
        }
    ).T


def _judged(estimate: Estimate, same: str, other: str) -> str:
    """A ratio behind the word for what its interval says: equal to 1, beyond, or neither."""
    word = {Outcome.SUPPORTED: same, Outcome.NOT_SUPPORTED: other}.get(rules.equal(estimate))
    return f"{word or 'undecided'}: {estimate:.2f}" if estimate.n else "not tested"


_agreed = partial(_judged, same="equal", other="apart")
_changed = partial(_judged, same="unchanged", other="changed")
