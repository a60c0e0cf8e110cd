"""What "During SGD" shows of single networks: one path of a ResNet, and the training player."""

from dataclasses import dataclass
from functools import cache

import pandas as pd
import torch
from matplotlib import pyplot as plt

import implreg as ir
from implreg.figures import Figure
from implreg.figures.display import CATEGORIES, MUTED, number, show, style
from implreg_book.chapters.families import UNKNOWN

_WIDTH = 64


@dataclass(frozen=True)
class Record:
    """A small perceptron in training, traced at many epochs.

    Attributes:
        pairs: the two paths; the first joins samples of one class, the second of two.
        traces: by epoch.
        losses: of training, by epoch.
        samples: how many it learns.
    """

    pairs: ir.Pairs
    traces: dict[int, ir.Trace]
    losses: dict[int, float]
    samples: int


@cache
def recorded() -> Record:
    """Train and trace the player's perceptron."""
    digits = ir.load("digits", train=600)
    both = [ir.pairs(digits, kind=kind, count=1, seed=0) for kind in ("same", "different")]
    x0, x1, y0, y1 = (
        torch.cat([getattr(one, name) for one in both]) for name in ("x0", "x1", "y0", "y1")
    )
    pairs = ir.Pairs(x0, x1, y0, y1, kind="random")
    x, y = digits.x_train, digits.y_train
    net = ir.mlp(x.shape[1], _WIDTH, _WIDTH, digits.classes, seed=0)
    kept = {*range(20), *range(20, 50, 5), *range(50, 101, 10)}
    traces, losses = {}, {}
    schedule = ir.SGD(0.05, epochs=max(kept), warmup_epochs=10)
    for epoch, _ in enumerate(ir.train(net, x, y, schedule, seed=0)):
        if epoch in kept:
            traces[epoch] = ir.trace(net, pairs)
            losses[epoch] = ir.evaluate(net, x, y)[0]
    return Record(pairs, traces, losses, len(x))


def player_numbers(record: Record) -> dict[str, object]:
    """What the prose says of the player, by name: from the first to the last epoch."""
    ends = [record.traces[epoch] for epoch in (min(record.traces), max(record.traces))]
    told: dict[str, object] = {
        "player-width": _WIDTH,
        "player-train": record.samples,
        "player-epochs": len(record.traces),
    }
    for pair, name in enumerate(("same", "different")):
        shown = int(ends[1].values[ends[1].first_pieces[pair]].argmax())  # first in the player
        relative = [ir.fluctuation(ir.normalize(trace, ends[0]))[pair, shown] for trace in ends]
        told[f"player-{name}"] = " to ".join(f"{float(x):.2f}" for x in relative)
    return told


def path_numbers(paths: pd.DataFrame) -> dict[str, object]:
    """How far the path of `implreg_book.experiments.sgd.first_path` is from its chord, by name."""
    told: dict[str, object] = {f"path-{name}": UNKNOWN for name in ("before", "after")}
    told |= {f"{name}-steps": UNKNOWN for name in told}
    for name, rows in zip(("before", "after"), _ends(paths).values(), strict=False):
        own, chord = _own(rows)
        told[f"path-{name}"] = number((own.value - chord).abs().max())
        told[f"path-{name}-steps"] = int((own.slope.diff().iloc[1:] != 0).sum())
    return told


def path_figure(paths: pd.DataFrame) -> Figure:
    """Slopes and outputs along that path, before and after training."""
    every, alt = _ends(paths), []
    with style():
        fig, panels = plt.subplots(
            2, len(every), figsize=(6.6, 4.8), sharex=True, squeeze=False, layout="constrained"
        )
        for column, (epoch, rows) in enumerate(every.items()):
            own, chord = _own(rows)
            for i, name in enumerate(("slope", "value")):
                panel = panels[i, column]
                panel.set_title(f"{'abcd'[len(every) * i + column]}  epoch {epoch:,}", loc="left")
                for _, line in rows[rows.output != rows.label].groupby("output"):
                    panel.plot(line.t, line[name], color=MUTED, alpha=0.45, linewidth=1)
                panel.plot(own.t, own[name], color=CATEGORIES[0], linewidth=2.2, zorder=4)
            panel.plot(own.t, chord, "--", color=MUTED, zorder=5)
            panel.set_xlabel("position t on the path")
            alt.append(
                f"at epoch {epoch} its output goes from {number(chord.iloc[0])} to "
                f"{number(chord.iloc[-1])}, at most {number((own.value - chord).abs().max())} from "
                "its chord"
            )
        for panel, label in zip(panels[:, 0], ("slope", "output φ(t)"), strict=True):
            panel.set_ylabel(label)
    return show(
        fig,
        alt="Slopes (above) and outputs (below) of a ResNet along one path. Of the output of the "
        f"class at t = 0: {'; '.join(alt)}. The others are thin lines.",
    )


def _ends(paths: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """The path before the first step and at the last epoch, if the network has not diverged."""
    ends = paths[paths.epoch.isin([paths.epoch.min(), paths.epoch.max()]) & ~paths.diverged]
    return {epoch: ends[ends.epoch == epoch] for epoch in ends.epoch.unique().tolist()}


def _own(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """The output of the class at the start of the path, and its chord."""
    own = rows[rows.output == rows.label]
    return own, own.value.iloc[0] + own.t * (own.value.iloc[-1] - own.value.iloc[0])
