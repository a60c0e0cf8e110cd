"""Chapter "Width at initialisation": figure 2 of the paper."""

from dataclasses import dataclass

import pandas as pd

from implreg.figures import Figure
from implreg_book import figures
from implreg_book.chapters import protocols, width_figure
from implreg_book.chapters.width_figure import InBoth
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.statistics import Estimate, mean_interval, power_law
from implreg_book.experiments import width as experiment
from implreg_book.parameters.schema import listed
from implreg_book.parameters.width import Parameters
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grid, Grids, tables_of

_SIGMA = {
    "gap_deviation": r"$\sigma_\mathrm{gap}$",
    "bridge_deviation": r"$\sigma_\mathrm{bridge}$",
}


@dataclass(frozen=True)
class Found:
    """What the runs have found.

    Attributes:
        p: the parameters.
        table: one row for each network, see `implreg_book.experiments.width.run`.
        both: figure 2 in both definitions.
    """

    p: Parameters
    table: pd.DataFrame
    both: InBoth

    def of(self, dataset: str) -> pd.DataFrame:
        """The networks on one data set."""
        return self.table[self.table.dataset == dataset]

    def exponents(self, dataset: str) -> pd.Series:
        """Exponent of the gap deviation against width, by seed."""
        by_seed = self.of(dataset).groupby("seed")
        return pd.Series(
            {s: power_law(rows, "width", "gap_deviation").value for s, rows in by_seed}
        )

    def ends(self, dataset: str) -> pd.Series:
        """Deflection of the widest over that of the narrowest network, by seed."""
        by = self.of(dataset).pivot(index="seed", columns="width", values="deflection")
        return by[max(self.p.widths)] / by[min(self.p.widths)]

    def relative(self, above: str, below: str, dataset: str) -> pd.Series:
        """Ratio of two columns, each averaged over widths, by seed."""
        by = self.of(dataset).groupby("seed").mean(numeric_only=True)
        return by[above] / by[below]

    def rows(self, dataset: str) -> dict[str, pd.Series]:
        """Each number of the table of this chapter, by seed."""
        return {
            "exponent of the gap deviation": self.exponents(dataset),
            "deflection, widest over narrowest": self.ends(dataset),
            "bridge estimate over gap deviation": self.relative(
                "bridge_deviation", "gap_deviation", dataset
            ),
            **{
                f"{name.replace('_', ' ')}, measured over predicted": self.relative(
                    name, f"theory_{name}", dataset
                )
                for name in ("gap_deviation", "deflection", "switches")
            },
        }

    def overall(self) -> dict[str, Estimate]:
        """The same numbers, of each seed averaged over the data sets."""
        every = [self.rows(dataset) for dataset in self.p.datasets]
        return {
            name: mean_interval(pd.concat([rows[name] for rows in every], axis=1).mean(axis=1))
            for name in every[0]
        }


def grids(p: Parameters) -> Grids:
    """One random network for each data set, width and seed, the longest runs first."""
    configs = [
        experiment.Config(dataset, width, seed, p.pairs, p.kind)
        for dataset in p.datasets
        for width in sorted(p.widths, reverse=True)
        for seed in range(p.seeds)
    ]
    return {"networks": Grid(experiment.run, configs, "networks"), "figure": width_figure.grid(p)}


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    return {
        **protocols.of_data(dict.fromkeys(p.datasets, 0)),
        **protocols.of_perceptrons(p.widths, p.seeds),
        **protocols.of_pairs(p.pairs, [p.kind]),
        **protocols.TRACED,
        "x axis": "hidden units",
    }


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    tables = tables_of(grids(p))
    return Found(p, tables["networks"], InBoth(p, tables["figure"]))


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, overall = found.p, found.overall()
    exponent, ends, bridge, gap, deflection, _ = overall.values()
    kink = words.by_sign(exponent, below="yes", above="no, more", unclear="that is open")
    path = words.by_ratio(ends, larger="no, more", smaller="yes", same="no", unclear="open")
    agree = words.by_ratio(
        bridge,
        same="with one hidden layer, gaps do act like the steps of a random walk",
        larger="gaps do not cancel here as the steps of a random walk would",
        smaller="gaps cancel here more than the steps of a random walk would",
        unclear="whether gaps act like the steps of a random walk these networks do not decide",
    )
    return {
        "answer": f"One kink, {kink}; the whole path, {path}.",
        "course": words.by_sign(
            exponent, below="falls", above="rises", unclear="neither clearly falls nor rises"
        ),
        "classes": words.CLASSES[p.kind],
        "datasets": listed(p.datasets),
        "networks": f"{len(found.table):,}",
        "pairs": p.pairs,
        "exponent": f"{exponent:.3f}",
        "deflection-ratio": f"{ends:.3f}",
        "gap-agreement": f"{gap:.3f}",
        "deflection-agreement": f"{deflection:.3f}",
        "bridge": f"{bridge:.3f}",
        "walk": agree,
        "narrowest": f"{min(p.widths):,}",
        "widest": f"{max(p.widths):,}",
        "point": words.by_ratio(
            ends,
            same="This is the paper's point about size: more units do not make a more crooked "
            "function, they cut the same bend into finer pieces.",
            larger="More units make a more crooked function here, against the paper's point "
            "about size.",
            smaller="More units even make a straighter function here.",
            unclear=f"Whether it is the same {rules.WITHIN} these networks do not decide.",
        ),
        **width_figure.numbers(found.both),
    }


def gap_figure(found: Found) -> Figure:
    """Both estimates of the gap deviation against width."""
    names = list(_SIGMA)
    theory = found.table.drop(columns=names).rename(columns={f"theory_{n}": n for n in names})
    return figures.plot_against(
        found.table,
        "width",
        names,
        by="dataset",
        theory=theory,
        log="xy",
        xlabel="width n",
        ylabel=list(_SIGMA.values()),
    )


def deflection_figure(found: Found) -> Figure:
    """The deflection against width."""
    theory = found.table.drop(columns="deflection")
    return figures.plot_against(
        found.table,
        "width",
        "deflection",
        by="dataset",
        theory=theory.rename(columns={"theory_deflection": "deflection"}),
        log="x",
        xlabel="width n",
        ylabel=r"gradient deflection $\delta$",
    )


def table(found: Found) -> pd.DataFrame:
    """All numbers, by data set."""
    every = {dataset: found.rows(dataset) for dataset in found.p.datasets}
    return pd.DataFrame(every).map(lambda values: f"{mean_interval(values):.3f}")


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the claims, by claim."""
    p = found.p
    scope = (
        f"{', '.join(p.datasets)}, {p.kind}-class pairs, one hidden layer of {min(p.widths):,} to "
        f"{max(p.widths):,} units, at initialisation"
    )
    exponent, ends, bridge, *_ = found.overall().values()
    return {
        "C2": claims.width_exponent("C2", exponent, scope=scope).of_figure("2"),
        "C4": claims.no_growth(ends, scope=scope).of_figure("2"),
        "C5": claims.random_walk_bridge(bridge, scope=scope).of_figure("2"),
    }


def figure_in_both(found: Found) -> Figure:
    """Figure 2 of the paper in both definitions."""
    return width_figure.figure(found.both)


def table_in_both(found: Found) -> pd.DataFrame:
    """What figure 2 says in each definition."""
    return width_figure.table(found.both)


FIGURES = {"both": figure_in_both, "gap": gap_figure, "deflection": deflection_figure}
TABLES = {"both": table_in_both, "numbers": table}
