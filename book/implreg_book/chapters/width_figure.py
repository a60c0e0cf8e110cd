"""Figure 2 at the paper's size in both definitions: as the program computes it, and exactly."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from implreg.figures import Figure
from implreg_book import figures
from implreg_book.evidence import rules, words
from implreg_book.evidence.claims import Outcome
from implreg_book.evidence.statistics import NONE, Estimate, mean_interval, power_law, ratio
from implreg_book.experiments import program as experiment
from implreg_book.experiments.families import Network
from implreg_book.parameters.schema import listed
from implreg_book.parameters.width import Parameters
from implreg_book.protocol import FIGURES
from implreg_book.runs.grids import Grid

# Estimator and normaliser of each definition.
DEFINITIONS = {
    "program": ("program", "reference"),
    "exact, normalised as there": ("exact", "reference"),
    "exact, raw": ("exact", "raw"),
}
REFERENCE_DATA = "fashion-mnist"  # for the program's CIFAR-10


def grid(p: Parameters) -> Grid:
    """Networks of the paper's widths on its shared pairs, the largest first."""
    reference = Network("mlp", min(p.figure_widths))
    configs = [
        experiment.Config(
            dataset,
            Network("mlp", width),
            seed,
            reference,
            REFERENCE_DATA,
            p.figure_pairs,
            p.figure_pairs,
        )
        for width in sorted(p.figure_widths, reverse=True)
        for dataset in p.figure_datasets
        for seed in range(p.figure_seeds)
    ]
    return Grid(experiment.run, configs, "networks of figure 2")


@dataclass(frozen=True)
class InBoth:
    """What these networks show.

    Attributes:
        p: the parameters.
        table: rows of `implreg_book.experiments.program.run`, one network after the other.
    """

    p: Parameters
    table: pd.DataFrame

    def rows(self, definition: str, dataset: str) -> pd.DataFrame:
        """One row for each network."""
        estimator, variant = DEFINITIONS[definition]
        table = self.table
        return table[
            (table.estimator == estimator) & (table.variant == variant) & (table.dataset == dataset)
        ]

    def agreement(self, definition: str, dataset: str, width: int) -> Estimate:
        """Bridge estimate over gap deviation at one width, over networks."""
        rows = self.rows(definition, dataset)
        rows = rows[rows["size"] == width]
        fine = rows[(rows.gap_deviation > 0) & (rows.bridge_deviation > 0)]
        return ratio(fine.bridge_deviation, fine.gap_deviation) if len(fine) else NONE

    def exponent(self, definition: str, dataset: str) -> Estimate:
        """Of the gap deviation against width, over seeds."""
        by_seed = self.rows(definition, dataset).groupby("seed")
        return mean_interval([power_law(r, "size", "gap_deviation").value for _, r in by_seed])

    def agreeing(self, definition: str) -> tuple[int, int]:
        """At how many widths and data sets the two estimates are equal, and of how many."""
        every = [
            self.agreement(definition, dataset, width)
            for dataset in self.p.figure_datasets
            for width in self.p.figure_widths
        ]
        return sum(rules.equal(x) is Outcome.SUPPORTED for x in every), len(every)


def numbers(found: InBoth) -> dict[str, object]:
    """What the prose says, by name."""
    p, first = found.p, found.p.figure_datasets[0]
    narrow = min(p.figure_widths)
    agree = {name: words.how_many(*found.agreeing(name), "rows") for name in DEFINITIONS}
    falls = [found.exponent("program", d) for d in p.figure_datasets]
    return {
        "figure-networks": p.figure_seeds,
        "figure-pairs": p.figure_pairs,
        "figure-data": first,
        "figure-sets": listed(p.figure_datasets),
        "figure-reference": f"{narrow:,}",
        "figure-reference-data": REFERENCE_DATA,
        "figure-narrow": f"{narrow:,}",
        "figure-program": f"{found.agreement('program', first, narrow):.3f}",
        "figure-exact": f"{found.agreement('exact, raw', first, narrow):.3f}",
        "figure-agree-program": agree["program"],
        "figure-agree-exact": agree["exact, raw"],
        "figure-falls": f"{sum(rules.smaller(x, 0.0) for x in falls)} of "
        f"{words.some(len(falls), 'data set')}",
        "figure-sizes": _sizes(p),
    }


def _sizes(p: Parameters) -> str:
    papers = tuple(sorted(p.figure_widths)) == FIGURES["2"]["sizes"]
    units = listed([f"{width:,}" for width in p.figure_widths])
    return f"at {'the widths of the paper, ' if papers else ''}{units} units"


def figure(found: InBoth) -> Figure:
    """Both estimates against width, in both definitions, on the first data set."""
    first = found.p.figure_datasets[0]
    names = {"gap_deviation": "gap deviation", "bridge_deviation": "bridge estimate"}
    keys = ["size", "seed"]
    parts = []
    for column, name in names.items():
        program, exact = (
            found.rows(of, first).set_index(keys)[column] for of in ("program", "exact, raw")
        )
        both = pd.DataFrame({"program": program, "exact": exact}).reset_index()
        parts.append(both.assign(measure=name))
    return figures.plot_against(
        pd.concat(parts),
        "size",
        ["program", "exact"],
        by="measure",
        xlabel="hidden units",
        ylabel=["as the program computes them", "exactly, raw"],
    )


def table(found: InBoth) -> pd.DataFrame:
    """What the figure says, in each definition, by data set."""
    p, rows = found.p, {}
    for dataset in p.figure_datasets:
        rows[f"{dataset}: exponent of the gap deviation"] = {
            d: _told(found.exponent(d, dataset)) for d in DEFINITIONS
        }
        for width in sorted({min(p.figure_widths), max(p.figure_widths)}):
            rows[f"{dataset}: bridge over gap, {width:,} units"] = {
                d: _told(found.agreement(d, dataset, width)) for d in DEFINITIONS
            }
    return pd.DataFrame(rows).T


def _told(x: Estimate) -> str:
    return f"{x:.3f}" if x.n and np.isfinite(x.value) else "no run"
