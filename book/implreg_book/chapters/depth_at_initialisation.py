"""Chapter "Depth at initialisation": figures 4 a-c and 5 a-c of the paper."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from implreg.figures import Figure
from implreg_book import figures
from implreg_book.chapters import protocols
from implreg_book.chapters.missing import nothing_to_draw
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.statistics import NONE, Estimate, mean_interval
from implreg_book.experiments import depth_at_initialisation as experiment
from implreg_book.experiments.families import Network
from implreg_book.parameters.common import DATASETS
from implreg_book.parameters.depth_at_initialisation import Parameters
from implreg_book.parameters.schema import listed
from implreg_book.protocol import SWITCHES, Aspects
from implreg_book.runs.grids import Grid, Grids, tables_of

VGG, RESNET = FAMILIES = ("VGG-like", "ResNet")
_IN_WORDS = {VGG: "VGG-like, {} convolutions", RESNET: "ResNet, depth {}"}
_FIGURE = {VGG: "4 a–c", RESNET: "5 a–c"}
_SIGMA = {
    "gap_deviation": r"$\sigma_\mathrm{gap}$",
    "bridge_deviation": r"$\sigma_\mathrm{bridge}$",
}
_BEND = {"deflection": r"deflection $\delta$", "mid_path_deflection": "mid-path deflection"}
_RELATIVE = {
    "switches": "switches",
    "gap_deviation": "gap deviation",
    "deflection": "deflection",
    "mid_path_deflection": "mid-path deflection",
}
_SILENT = "No network of this kind has a gap on its paths."


@dataclass(frozen=True)
class Found:
    """What the runs have found, of networks with gaps: a few channels can all fall silent.

    Attributes:
        p: the parameters.
        networks: how many were drawn.
        measured: one row for each network with gaps, by family, see
            `implreg_book.experiments.depth_at_initialisation.run`, with `bridge_ratio`.
        predicted: what theory says of the pairs of some of them, alike.
    """

    p: Parameters
    networks: int
    measured: dict[str, pd.DataFrame]
    predicted: dict[str, pd.DataFrame]

    def ends(self, family: str) -> tuple[int, int]:
        """Sizes of the smallest and the largest networks."""
        sizes = self.p.convolutions if family == VGG else self.p.depths
        return min(sizes), max(sizes)

    def channels(self, family: str) -> int:
        """Channels of the narrowest layers: the first of a ResNet has never more than 16."""
        if family == VGG:
            return max(1, round(64 * self.p.vgg_factor))
        return min(16, max(1, round(16 * self.p.resnet_factor)))

    def bridge(self, family: str, size: int) -> Estimate:
        """Bridge estimate over gap deviation, averaged over data sets."""
        return _over_seeds(self.measured[family], size, "bridge_ratio")

    def expected(self, family: str, size: int) -> float:
        """The same by theory."""
        return _over_seeds(self.predicted[family], size, "bridge_ratio").value

    def growth(self, family: str, name: str) -> Estimate:
        """A measure of the largest over that of the smallest networks, over data sets."""
        table = np.log(self.measured[family].set_index(["size", "dataset", "seed"])[name])
        small, large = (table[table.index.get_level_values(0) == n] for n in self.ends(family))
        both = (large.droplevel(0) - small.droplevel(0)).dropna()
        means = both.groupby("seed").mean()
        return mean_interval(means).map(lambda x: float(np.exp(x))) if len(means) else NONE

    def agreement(self, family: str, size: int, name: str) -> Estimate:
        """Measured over predicted, each data set by itself, averaged over data sets."""
        measured, predicted = (t[family] for t in (self.measured, self.predicted))
        theory = predicted[predicted["size"] == size].groupby("dataset")[name].mean()
        relative = measured.assign(
            relative=measured[name] / measured.dataset.map(theory).astype(float)
        )
        return _over_seeds(relative, size, "relative")

    def lags(self, family: str) -> pd.DataFrame:
        """Growth of the slope's variance in the largest networks, relative to a random walk."""
        rows = self.measured[family]
        rows = rows[rows["size"] == self.ends(family)[1]]
        columns = [f"variance_ratio_{lag}" for lag in experiment.LAGS]
        lags = rows.melt(["seed", "dataset"], columns, "lag", "variance_ratio").dropna()
        return lags.assign(lag=lags.lag.str.removeprefix("variance_ratio_").astype(int))


def _over_seeds(table: pd.DataFrame, size: int, name: str) -> Estimate:
    """A number of networks of one size, averaged over data sets; its interval is over seeds."""
    means = table[table["size"] == size].groupby("seed")[name].mean()
    return mean_interval(means) if len(means) else NONE


def grids(p: Parameters) -> Grids:
    """Random networks of both families and theory, the largest first: cores stay busy."""
    networks = {
        VGG: [Network("vgg", n, p.vgg_factor) for n in p.convolutions],
        RESNET: [Network("resnet", n, p.resnet_factor) for n in p.depths],
    }
    resized = {d: p.side for d in p.datasets if DATASETS[d].images and d != "digits"}

    def configs(family: str, count: int) -> list[experiment.Config]:
        return [
            experiment.Config(dataset, network, seed, p.pairs, resized.get(dataset, 0))
            for dataset in p.datasets
            for network in reversed(networks[family])
            for seed in range(count)
        ]

    measured = {f: Grid(experiment.run, configs(f, p.seeds), f) for f in FAMILIES}
    return measured | {
        _theory(f): Grid(experiment.predict, configs(f, p.theory_seeds), _theory(f))
        for f in FAMILIES
    }


def _theory(family: str) -> str:
    return f"{family}, theory"


def protocol(p: Parameters) -> dict[str, Aspects]:
    """What these runs have of the aspects of a protocol, by the figure that they reproduce."""
    found = {}
    for family, grid in list(grids(p).items())[:2]:
        configs: Any = grid.configs
        sizes = {config.network.size: config.network for config in configs}
        found[_FIGURE[family].replace("–", "-")] = {
            **protocols.of_data({config.dataset: config.side for config in configs}),
            **protocols.of_networks([sizes[n] for n in sorted(sizes)], p.seeds, p.datasets),
            **protocols.of_pairs(p.pairs),
            **protocols.TRACED,
            "x axis": SWITCHES,
        }
    return found


def measure(p: Parameters) -> Found:
    """Run, or take what is stored or kept."""
    tables = tables_of(grids(p))
    live = {
        name: table[table.gap_deviation > 0].assign(
            bridge_ratio=lambda rows: rows.bridge_deviation / rows.gap_deviation
        )
        for name, table in tables.items()
    }
    return Found(
        p,
        sum(len(tables[f]) for f in FAMILIES),
        {f: live[f] for f in FAMILIES},
        {f: live[_theory(f)] for f in FAMILIES},
    )


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, silent = found.p, found.networks - sum(map(len, found.measured.values()))
    told: dict[str, object] = {
        "networks": f"{found.networks:,}",
        "pairs": p.pairs,
        "datasets": listed(p.datasets),
        "silent": f" The paths of {silent:,} of them have no gap, as a layer of few channels can "
        "fall silent; these are left out."
        if silent
        else "",
    }
    for family, name in ((VGG, "vgg"), (RESNET, "resnet")):
        told |= {f"{name}-{key}": text for key, text in _of_family(found, family).items()}
    expected = (found.expected(family, found.ends(family)[1]) for family in FAMILIES)
    return told | {
        "reason": "By theory gaps of different layers anti-correlate, so that over a whole path "
        "the slope gets less far than independent steps would carry it."
        if max(expected) < 1 / rules.SAME
        else ""
    }


def _of_family(found: Found, family: str) -> dict[str, object]:
    """What the prose says of one family."""
    small, large = found.ends(family)
    shallow, deep = found.bridge(family, small), found.bridge(family, large)
    gaps, course = (found.growth(family, name) for name in ("gap_deviation", "bridge_ratio"))
    lags = found.lags(family)
    last = lags[lags.lag == lags.lag.max()].groupby("seed").variance_ratio.mean()
    return {
        "depths": f"{small} to {large}",
        "shallow": f"{shallow:.2f}",
        "deep": f"{deep:.2f}",
        "predicted": f"{found.expected(family, large):.2f}",
        "channels": found.channels(family),
        "gaps": words.by_ratio(
            gaps,
            smaller="shrink with depth",
            larger="grow with depth",
            same=f"keep their size {rules.WITHIN}",
            unclear="neither clearly shrink nor grow with depth",
        ),
        "gap-growth": f"{gaps:.2f}",
        "switch-growth": f"{found.growth(family, 'switches'):.2f}",
        "deflection-growth": f"{found.growth(family, 'deflection'):.2f}",
        "bend-growth": f"{found.growth(family, 'mid_path_deflection'):.2f}",
        "walk": words.by_outcome(
            rules.equal(deep), yes="are", no="are not", unclear="may or may not be"
        ),
        "course": words.by_ratio(
            course,
            smaller="and the deeper the network, the less",
            larger="and the deeper the network, the larger that number",
            same="and depth does not change that",
            unclear="and whether depth changes that is open",
        ),
        "longest": f"{lags.lag.max():,}" if len(lags) else "no",
        "near": _judged(mean_interval(last) if len(last) else NONE),
        "often": _judged(found.agreement(family, large, "switches")),
        "far": _judged(found.agreement(family, large, "bridge_ratio")),
    }


def _judged(ratio: Estimate) -> str:
    """A ratio and what it says."""
    return f"{ratio:.2f}" + f" ({rules.in_words(ratio)})" * (ratio.n > 1)


def _against_switches(columns: dict[str, str], family: str, found: Found) -> Figure:
    """Measures of a family against the mean number of switches of each size, with the theory."""
    if found.measured[family].empty:
        return nothing_to_draw(_SILENT)
    measured, predicted = (
        table.assign(mean=table.groupby(["dataset", "size"]).switches.transform("mean"))
        for table in (found.measured[family], found.predicted[family])
    )
    return figures.plot_against(
        measured,
        "mean",
        list(columns),
        by="dataset",
        theory=predicted,
        log="xy",
        xlabel=SWITCHES,
        ylabel=list(columns.values()),
    )


def ratio_figure(found: Found) -> Figure:
    """Bridge estimate over gap deviation of both families."""
    measured, predicted = (
        pd.concat([table.assign(family=family) for family, table in tables.items()])
        for tables in (found.measured, found.predicted)
    )
    if measured.empty:
        return nothing_to_draw(_SILENT)
    return figures.plot_against(
        measured,
        "size",
        "bridge_ratio",
        by="family",
        theory=predicted,
        log="x",
        xlabel="convolutions, or depth",
        ylabel=r"$\sigma_\mathrm{bridge}/\sigma_\mathrm{gap}$",
    )


def lags_figure(found: Found) -> Figure:
    """Growth of the slope's variance with the number of switches, in the largest networks."""
    lags = pd.concat([found.lags(f).assign(family=_largest(found, f)) for f in FAMILIES])
    if lags.empty:
        return nothing_to_draw(_SILENT)
    return figures.plot_against(
        lags,
        "lag",
        "variance_ratio",
        by="family",
        log="x",
        xlabel="switches apart, k",
        ylabel=r"$\overline{(s_{i+k} - s_i)^2} / (k\, \overline{g_i^2})$",
    )


def table(found: Found) -> pd.DataFrame:
    """Measured and predicted numbers of all sizes."""

    def row(family: str, size: int) -> dict[tuple[str, str], str]:
        made = {
            ("bridge ratio", "measured"): f"{found.bridge(family, size):.2f}",
            ("bridge ratio", "predicted"): f"{found.expected(family, size):.2f}",
        }
        for name, label in _RELATIVE.items():
            one = found.agreement(family, size, name)
            made["measured over predicted", label] = f"{one.value:.2f}" if one.n else "no run"
        return made

    sizes = {VGG: found.p.convolutions, RESNET: found.p.depths}
    rows = {_IN_WORDS[f].format(n): row(f, n) for f in FAMILIES for n in sizes[f]}
    return pd.DataFrame(rows).T


def _largest(found: Found, family: str) -> str:
    return _IN_WORDS[family].format(found.ends(family)[1])


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the random walk, by family."""
    judged = {}
    for family in FAMILIES:
        scope = (
            f"{', '.join(found.p.datasets)}, same-class pairs, {_largest(found, family)}, "
            "at initialisation"
        )
        large = found.ends(family)[1]
        ratio = found.bridge(family, large)
        verdict = (
            claims.random_walk_bridge(ratio, scope=scope, predicted=found.expected(family, large))
            if ratio.n
            else claims.not_tested("C5", _SILENT, scope=scope)
        )
        judged[family] = verdict.of_figure(_FIGURE[family])
    return judged


FIGURES = {
    "vgg": partial(_against_switches, _SIGMA, VGG),
    "vgg-deflection": partial(_against_switches, _BEND, VGG),
    "resnet": partial(_against_switches, _SIGMA, RESNET),
    "resnet-deflection": partial(_against_switches, _BEND, RESNET),
    "ratio": ratio_figure,
    "lags": lags_figure,
}
TABLES = {"numbers": table}
