"""What the chapters "During SGD" and "Margin and fluctuation" share: three families in training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from implreg.figures import Figure
from implreg.figures.display import MUTED, new_figure, show, style
from implreg.training import SGD
from implreg_book import figures
from implreg_book.chapters import protocols
from implreg_book.evidence import rules, words
from implreg_book.evidence.statistics import NONE, Estimate, mean_interval, ratio
from implreg_book.experiments import sgd as experiment
from implreg_book.experiments.families import Network
from implreg_book.parameters.sgd import Training
from implreg_book.protocol import EPOCH, Aspects
from implreg_book.runs.grids import Grid

NAMES = {"mlp": "width", "vgg": "convolutions", "resnet": "depth"}
TITLES = {"mlp": "perceptrons", "vgg": "VGG-like networks", "resnet": "ResNets"}
FIGURES = {"mlp": "3", "vgg": "4 d-f", "resnet": "5 d-f"}
KINDS = {
    "same": "of the same class",
    "different": "of different classes",
    "train-test": "of a training and a test sample of the same class",
}
UNKNOWN = "(unknown)"
_BLOWN_UP = 1000  # times the loss before the first step above which a network is lost
_POSITIVE = ["train_loss", "fluctuation"] + [
    f"{prefix}{name}"
    for prefix in ("", "normalized_")
    for name in ("gap_deviation", "bridge_deviation", "deflection")
]


# In the program for all sizes: from which learning rate the warm-up rises.
WARMUP_FROM = {"mlp": 1e-5, "vgg": 1e-5, "resnet": 1e-6}


def vgg_like(size: int, factor: float) -> Network:
    """A VGG-like network with the program's dropout."""
    return Network("vgg", size, factor, 0.5)


def resnet_like(size: int, factor: float) -> Network:
    """A ResNet with the program's dropout and first statistics of batch norm."""
    return Network("resnet", size, factor, 0.5, "training")


def networks(p: Training) -> Grid:
    """Networks of all families, sizes and seeds."""
    return Grid(experiment.run, configs(p), "networks")


def configs(p: Training) -> list[experiment.Config]:
    """One for each network, or for several that train side by side, the longest runs first."""

    def settings(
        family: str, rate: float, epochs: tuple[int, ...], train: int, pairs: int
    ) -> dict[str, object]:
        sgd = SGD(rate, epochs[-1], p.batch, p.warmup_epochs, WARMUP_FROM[family])
        common = {"dataset": p.dataset, "kinds": p.kinds, "sgd": sgd, "epochs": epochs}
        return common | {"train": train, "pairs": pairs, "side": p.side * (family != "mlp")}

    images = (p.conv_measure_at, p.conv_train, p.conv_pairs)
    resnets = [resnet_like(n, p.resnet_factor) for n in p.depths]
    vggs = [vgg_like(n, p.vgg_factor) for n in p.convolutions]
    perceptrons = settings("mlp", p.learning_rate, p.measure_at, p.train, p.pairs)
    return [
        *experiment.grid(resnets, p.seeds, **settings("resnet", p.resnet_rate, *images)),
        *experiment.grid(vggs, p.seeds, **settings("vgg", p.vgg_rate, *images)),
        *experiment.grid([Network("mlp", n) for n in p.widths], p.seeds, **perceptrons),
    ]


def protocol(p: Training) -> dict[str, Aspects]:
    """What these runs have of the aspects of a protocol, by the figure that they reproduce."""
    found = {}
    for family, figure in FIGURES.items():
        every = [config for config in configs(p) if config.network.family == family]
        one, sizes = every[0], sorted({config.network for config in every}, key=_size)
        found[figure] = {
            **protocols.of_networks(sizes, p.seeds, [p.dataset]),
            **protocols.of_trained(one, one.sgd, one.epochs, one.kinds),
            "normaliser": protocols.OWN,
            "x axis": EPOCH,
        }
    return found


def _size(network: Network) -> int:
    return network.size


@dataclass(frozen=True)
class Networks:
    """Networks of the three families, measured while they trained.

    A network is lost, from then on, if its loss is no longer finite or far above that before the
    first step, or if no path bends any more.

    Attributes:
        p: the parameters.
        table: one row for each network, epoch and kind of pairs, see
            `implreg_book.experiments.sgd.run`.
    """

    p: Training
    table: pd.DataFrame

    def sizes(self, family: str) -> tuple[int, ...]:
        """The sizes of a family, the smallest first."""
        p = self.p
        return tuple(sorted({"mlp": p.widths, "vgg": p.convolutions, "resnet": p.depths}[family]))

    def largest(self, family: str) -> int:
        """The largest size of a family."""
        return self.sizes(family)[-1]

    def epochs(self, family: str) -> tuple[int, ...]:
        """When its networks were measured."""
        return self.p.measure_at if family == "mlp" else self.p.conv_measure_at

    @cached_property
    def _marked(self) -> pd.DataFrame:
        table, own = self.table.sort_values("epoch", kind="stable"), ["family", "size", "seed"]
        numbers = table[_POSITIVE].to_numpy(float)
        bad = ~(np.isfinite(numbers) & (numbers > 0)).all(axis=1)
        bad |= table.train_loss > _BLOWN_UP * table.groupby(own).train_loss.transform("first")
        bad = bad.groupby([table[name] for name in (*own, "epoch")]).transform("any")
        return table.assign(
            lost=bad.groupby([table[name] for name in own]).cummax(),
            bridge_ratio=table.bridge_deviation / table.gap_deviation,
        )

    @property
    def lost(self) -> int:
        """How many networks are lost in the end."""
        rows = self._marked[self._marked.lost]
        return len(rows[["family", "size", "seed"]].drop_duplicates())

    def of(self, family: str, kind: str | None = None) -> pd.DataFrame:
        """The networks of a family that are not lost, on pairs of one kind, the first by default.

        Their size stands in a column named as in `NAMES`.
        """
        rows = self._marked[~self._marked.lost & (self._marked.family == family)]
        rows = rows[rows.kind == (kind or self.p.kinds[0])]
        return rows.rename(columns={"size": NAMES[family]})

    def at(self, family: str, size: int, epoch: int, kind: str | None = None) -> pd.DataFrame:
        """Those of one size at one epoch, by seed."""
        rows = self.of(family, kind)
        chosen = rows[(rows[NAMES[family]] == size) & (rows.epoch == epoch)]
        return chosen.set_index("seed").sort_index()

    def start(self, family: str, size: int, kind: str | None = None) -> pd.DataFrame:
        """Those of one size before the first step, by seed."""
        return self.at(family, size, self.epochs(family)[0], kind)

    def end(self, family: str, size: int, kind: str | None = None) -> pd.DataFrame:
        """Those of one size at the last epoch, by seed."""
        return self.at(family, size, self.epochs(family)[-1], kind)

    def trained(self, family: str, size: int) -> bool:
        """Whether those of one size have learned their training samples, see `rules.trained`."""
        return rules.trained(self.end(family, size).train_error)

    def untested(self, family: str, sizes: Sequence[int]) -> str:
        """Why these sizes tell nothing of trained networks; "" if they do."""
        what = listed_sizes(family, sizes)
        ends = [self.end(family, size) for size in sizes]
        if not set.intersection(*(set(end.index) for end in ends)):
            return f"no seed is left of {what}"
        if all(self.trained(family, size) for size in sizes):
            return ""
        missed = 100 * max(end.train_error.mean() for end in ends)
        epochs = words.some(self.epochs(family)[-1], "epoch")
        worst = "up to " * (len(sizes) > 1)
        return f"after {epochs} {what} still miss {worst}{missed:.0f} % of their training samples"


def listed_sizes(family: str, sizes: Sequence[int]) -> str:
    """Networks of some sizes in words.

    >>> listed_sizes("mlp", [64, 1024]), listed_sizes("vgg", [5])
    ('the perceptrons of 64 to 1,024 units', 'the VGG-like networks with 5 convolutions')
    """
    low, high = f"{min(sizes):,}", f"{max(sizes):,}"
    span = low if low == high else f"{low} to {high}"
    words = {"mlp": f"of {span} units", "vgg": f"with {span} convolutions"}
    return f"the {TITLES[family]} {words.get(family, f'of depth {span}')}"


def pairs_of(kind: str) -> str:
    """A kind of pairs, in short.

    >>> pairs_of("same"), pairs_of("train-test")
    ('same-class pairs', 'train-test pairs')
    """
    return f"{kind} pairs" if kind == "train-test" else f"{kind}-class pairs"


def seeds(count: int) -> str:
    """What the numbers of a page are taken over."""
    return f"mean and 95 % interval over {count:,} seeds" if count > 1 else "one seed"


def over_seeds(values: pd.Series) -> Estimate:
    """Their mean, of no run if there is none."""
    return mean_interval(values) if len(values) else NONE


def paired(above: pd.Series, below: pd.Series) -> Estimate:
    """Ratio over the seeds that both have, of no run if there is none or a number is not positive.

    >>> paired(pd.Series([2.0, 2.0]), pd.Series([1.0])).value, paired(pd.Series(), pd.Series()).n
    (2.0, 0)
    """
    seeds = above.index.intersection(below.index)
    a, b = above[seeds], below[seeds]
    return ratio(a, b) if len(seeds) and (a > 0).all() and (b > 0).all() else NONE


def said(estimate: Estimate, spec: str = ".2f") -> str:
    """An estimate, or that it is unknown.

    >>> said(mean_interval([0.5])), said(NONE)
    ('0.50 (one seed)', '(unknown)')
    """
    return format(estimate, spec) if estimate.n else UNKNOWN


def drawn(table: pd.DataFrame, draw: Callable[[], Figure]) -> Figure:
    """A figure, or a note in its place if there is no row to draw."""
    if len(table):
        return draw()
    note = "No network is left to draw."
    with style():
        canvas = new_figure(1.0)
        canvas.text(0.5, 0.5, note, ha="center", color=MUTED)
    return show(canvas, alt=note)


def over_epochs(table: pd.DataFrame, by: str, labels: dict[str, str], *, log: str = "") -> Figure:
    """Columns against the epoch; `labels` are their names."""
    return drawn(
        table,
        lambda: figures.plot_against(
            table, "epoch", list(labels), by=by, ylabel=list(labels.values()), log=log
        ),
    )
