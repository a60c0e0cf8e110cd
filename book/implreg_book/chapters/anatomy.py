"""Chapter "Anatomy of a path": one network, trained on the page, and one path through it."""

import copy
import math
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd
from pandas.io.formats.style import Styler
from torch import Tensor, nn
from tqdm import tqdm

import implreg as ir
from implreg.figures import Figure, plot_gaps, plot_path
from implreg_book.chapters import protocols
from implreg_book.evidence import rules
from implreg_book.evidence.claims import Verdict
from implreg_book.parameters.anatomy import Parameters
from implreg_book.protocol import Aspects
from implreg_book.runs.grids import Grids

_SECOND = {"same": "the same class", "different": "another class", "random": "any class"}
_ROWS = {
    "switches": "switches",
    "gap_deviation": "gradient gap deviation",
    "bridge_deviation": "bridge estimate",
    "deflection": "gradient deflection",
    "fluctuation": "fluctuation",
    "edge_margin": "edge margin",
}


@dataclass(frozen=True)
class Found:
    """A network before and after training, and the paths through both.

    Attributes:
        p: the parameters.
        data: the data set.
        drawn: the pairs.
        untrained: the network before training.
        net: the network after it; the untrained one if training diverged.
        diverged: whether it did.
        before: the paths through the former.
        after: the paths through the latter.
    """

    p: Parameters
    data: ir.Dataset
    drawn: ir.Pairs
    untrained: nn.Module
    net: nn.Module
    diverged: bool
    before: ir.Trace
    after: ir.Trace

    @property
    def path(self) -> ir.Trace:
        """The path of the figures, after training."""
        return self.after[self.p.pair]

    @property
    def label(self) -> int:
        """The class of the sample at t = 0."""
        return int(self.drawn.y0[self.p.pair])

    @property
    def summaries(self) -> dict[str, dict[str, float]]:
        """All measures, pooled; normalised ones only if no outputs are 0 at an end of a path."""
        traces = {"before training": self.before, "after training": self.after}
        with suppress(ir.InputError):
            traces["after, normalised"] = ir.normalize(self.after, self.before)
        return {name: ir.measures.summary(traced, self.drawn) for name, traced in traces.items()}


def grids(p: Parameters) -> Grids:
    """None: the network is trained on the page, so that one can see it."""
    return {}


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    aspects = {
        **protocols.of_data({p.dataset: 0}, p.train),
        **protocols.of_perceptrons(p.widths, 1, [len(p.widths)]),
        **protocols.of_pairs(p.pairs, [p.kind]),
        **protocols.TRACED,
        "x axis": "position t",
    }
    return protocols.beside("1", aspects)


def measure(p: Parameters) -> Found:
    """Draw the pairs, train a network, and trace it before and after."""
    data = ir.load(p.dataset, train=p.train)
    drawn = ir.pairs(data, kind=p.kind, count=p.pairs, seed=p.seed)
    net = ir.mlp(data.x_train.shape[1], *p.widths, data.classes, seed=p.seed)
    untrained, diverged = copy.deepcopy(net), False
    settings = ir.SGD(p.learning_rate, epochs=p.epochs, warmup_epochs=p.warmup_epochs)
    training = ir.train(net, data.x_train, data.y_train, settings, seed=p.seed)
    try:
        for _ in tqdm(training, total=p.epochs + 1):
            pass
    except ir.Diverged:  # weights that explode show nothing of a trained network
        net, diverged = untrained, True
    before, after = ir.trace(untrained, drawn), ir.trace(net, drawn)
    return Found(p, data, drawn, untrained, net, diverged, before, after)


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, path, data, label = found.p, found.path, found.data, found.label
    _, train_error = ir.evaluate(found.net, data.x_train, data.y_train)
    _, test_error = ir.evaluate(found.net, data.x_test, data.y_test)
    margin = float(ir.edge_margin(found.after, found.drawn)[p.pair])
    state = "trained network" if rules.trained([train_error]) else "hardly trained network"
    return {
        "dataset": p.dataset,
        "second": _SECOND[p.kind],
        "network": "network as it was before its training, which diverged,"
        if found.diverged
        else state,
        "switches": _counted(len(path.t), "hidden unit switches", "hidden units switch"),
        "pieces": _counted(len(path.slopes), "straight piece", "straight pieces"),
        "found": f"{len(path.t):,}",
        "fluctuation": _shown(ir.fluctuation(path)[0, label]),
        "margin": f"{_shown(abs(margin))} {'above' if margin >= 0 else 'below'}",
        "cancel": _cancelled(path, label),
        "gap": _shown(ir.gap_deviation(path)[0, label], ".3f"),
        "deflection": _shown(ir.deflection(path)[0, label]),
        "mid-path": _shown(ir.mid_path_deflection(path)[0, label]),
        "length": f"{path.lengths[0]:.2f}",
        "train-error": f"{100 * train_error:.1f}",
        "test-error": f"{100 * test_error:.1f}",
        "parameters": f"{sum(x.numel() for x in found.net.parameters()):,}",
        "pairs": f"{p.pairs} pair{'s' * (p.pairs > 1)}",
        "grown": _grown(found),
    }


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _shown(measure: float | Tensor, spec: str = ".2f") -> str:
    """A measure of one path; those of no gaps are 0."""
    x = float(measure)
    x = x if math.isfinite(x) else 0.0
    return f"{x:{spec if abs(x) < 1e5 else '.3g'}}".replace("-", "−")


def _cancelled(path: ir.Trace, label: int) -> str:
    """How far the gaps of an output cancel."""
    gaps = path.gaps[:, label]
    total = float(gaps.abs().sum())
    if not total:
        return "No kink bends it"
    left = f"{100 * float(gaps.sum().abs()) / total:.0f} % of the sum of their sizes"
    return f"Its kinks add up to {left}"


def _grown(found: Found) -> str:
    """By what training multiplies the gap deviation of all paths."""
    gaps = {name: row["gap_deviation"] for name, row in found.summaries.items()}
    start = gaps.pop("before training")
    if not start > 0:
        return "unknown, as there was no gap"
    return " and ".join(f"{_shown(gap / start)} times ({name})" for name, gap in gaps.items())


def path_figure(found: Found) -> Figure:
    """The path after training."""
    return plot_path(found.path, outputs=[found.label], deflection=True)


def before_figure(found: Found) -> Figure:
    """The same path before training."""
    return plot_path(found.before[found.p.pair], outputs=[found.label], deflection=True)


def gaps_figure(found: Found) -> Figure:
    """Every gap of the path."""
    return plot_gaps(found.path, output=found.label)


def gaps_table(found: Found) -> Styler:
    """The first gaps of the path, with the units behind them."""
    gap = f"gap_{found.label}"
    table = found.path.to_table().rename(columns={"layer": "module"})
    table = table[["t", "module", "unit", gap]].head(8)
    shown = table.assign(t=table.t.map("{:.6f}".format), **{gap: table[gap].map("{:+.3f}".format)})
    none = pd.DataFrame({"t": ["no breakpoint"]})
    return (none if table.empty else shown).style.hide(axis="index")


def summaries_table(found: Found) -> pd.DataFrame:
    """All measures of all paths, before and after training."""
    table = pd.DataFrame(found.summaries).loc[list(_ROWS)].rename(index=_ROWS)
    return table.map(lambda x: f"{x:,.3g}" if math.isfinite(x) else "–")


def verdicts(found: Found) -> dict[str, Verdict]:
    """None: one network decides nothing."""
    return {}


FIGURES = {"path": path_figure, "gaps": gaps_figure, "before": before_figure}
TABLES = {"gaps": gaps_table, "summaries": summaries_table}
