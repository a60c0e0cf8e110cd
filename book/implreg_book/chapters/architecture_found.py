"""Chapter "Architecture": which networks are compared, and how their bends compare."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from implreg_book.chapters import same_loss
from implreg_book.chapters.compared import reference_of
from implreg_book.chapters.same_loss import Ratios
from implreg_book.evidence import rules
from implreg_book.evidence.statistics import Estimate
from implreg_book.experiments import ablations, architecture, conditions, variants
from implreg_book.parameters.architecture import Parameters
from implreg_book.runs.grids import Grid, Grids

REFERENCE = ablations.REFERENCE
QUANTITIES = {
    "deflection": "gradient deflection",
    "mid_path_deflection": "mid-path deflection",
    "straightness": "fluctuation / edge margin",
    "test_error": "test error",
}
DEFLECTION, MIDDLE, STRAIGHTNESS, ERROR = QUANTITIES.values()


@dataclass(frozen=True)
class Names:
    """What the kinds of networks are called.

    Attributes:
        p: the parameters.
        units: of the perceptron with as many parameters as the convolutional network.
    """

    p: Parameters
    units: int

    @property
    def deeper(self) -> list[str]:
        """Perceptrons with several hidden layers."""
        return [f"depth {depth}" for depth in self.p.depths]

    @property
    def leaky(self) -> dict[str, float]:
        """Perceptrons with a leak, and how large it is."""
        return {f"leak {leak:g}": leak for leak in self.p.leaks}

    @property
    def keys(self) -> dict[str, str]:
        """Kinds of which the prose speaks."""
        deep = f"depth {self.p.deep}"
        return {
            "deepest": self.deeper[-1],
            "plain": deep,
            "skip": f"{deep}, skip",
            "small": f"{deep}, skip, small start",
            "norm": "batch norm",
            "deep_norm": f"{deep}, batch norm",
            "conv": "convolutions",
            "narrow": f"width {self.units}",
            "leak": list(self.leaky)[-1],
        }

    @property
    def order(self) -> list[str]:
        """All but the reference, as tables have them."""
        others = ("skip", "small", "norm", "deep_norm", "conv", "narrow")
        return [*self.deeper, *self.leaky, *(self.keys[key] for key in others)]

    @property
    def others(self) -> dict[str, list[str]]:
        """What is compared with another network than the reference, by that network."""
        keys = self.keys
        return {
            keys["plain"]: [keys["skip"], keys["small"], keys["deep_norm"]],
            keys["skip"]: [keys["small"]],
            keys["narrow"]: [keys["conv"]],
        }


@dataclass(frozen=True)
class Found:
    """What the runs have found.

    Attributes:
        p: the parameters.
        table: one row for each network and loss, see `implreg_book.experiments.ablations.run`.
        start: one row for each network before training, see `experiments.architecture.before`.
        modes: those with batch norm, see `experiments.architecture.normalisations`.
        units: of the perceptron with as many parameters as the convolutional network.
        scale: of the hidden weights of the small start.
        test_samples: on which test errors are measured.
    """

    p: Parameters
    table: pd.DataFrame
    start: pd.DataFrame
    modes: pd.DataFrame
    units: int
    scale: float
    test_samples: int

    @cached_property
    def names(self) -> Names:
        """What the kinds of networks are called."""
        return Names(self.p, self.units)

    @property
    def target(self) -> float:
        """The loss of the test."""
        return self.p.target_losses[-1]

    @cached_property
    def last(self) -> pd.DataFrame:
        """The networks at the loss of the test, or where training ended."""
        return self.table[self.table.target_loss == self.target]

    @cached_property
    def reached(self) -> pd.DataFrame:
        """Those that reached it, and in `..._before` what they were before training."""
        there = self.last[self.last.reached]
        return there.merge(self.start, on=["condition", "seed"], suffixes=("", "_before"))

    @property
    def trained(self) -> bool:
        """Whether those have learned something."""
        return rules.trained(self.reached.train_error)

    @property
    def tests(self) -> int:
        """How many intervals hold at once: those of all ratios, and one of a correlation."""
        pairs = len(self.names.order) + sum(map(len, self.names.others.values()))
        return len(QUANTITIES) * pairs + 1

    def at(self, loss: float) -> Ratios:
        """Ratios to the reference at a loss."""
        rows = self.table[self.table.target_loss == loss]
        return same_loss.ratios(rows, QUANTITIES, self.names.order, tests=self.tests)

    @cached_property
    def families(self) -> dict[str, Ratios]:
        """All ratios that are tested, by the network to which they are."""
        every = {REFERENCE: self.names.order} | self.names.others
        return {
            base: same_loss.ratios(self.last, QUANTITIES, names, base, tests=self.tests)
            for base, names in every.items()
        }

    def ratio(self, quantity: str, key: str, base: str | None = None) -> Estimate:
        """One of them, by the keys of `Names.keys`."""
        keys = self.names.keys
        return self.families[keys[base] if base else REFERENCE][quantity][keys[key]]

    def means(self, column: str, *, before: bool = False) -> pd.Series:
        """The mean of a column by kind, NaN if there is none."""
        rows = self.start if before else self.reached
        means = rows.groupby("condition")[column].mean()
        return means.reindex([REFERENCE, *self.names.order])

    def size(self, column: str, key: str | None = None) -> int:
        """Parameters or units of a kind of network, or of the reference."""
        name = self.names.keys[key] if key else REFERENCE
        return int(self.start[self.start.condition == name][column].iloc[0])


def changes(p: Parameters) -> dict[str, dict[str, Any]]:
    """How each kind differs from the reference; the last one is the narrow perceptron."""
    usual = reference_of(p)
    found = conditions.architectures(
        usual, depths=p.depths, leaks=p.leaks, deep=p.deep, channels=p.channels
    )
    data = usual.data()
    conv = ablations.changed(usual, found["convolutions"]).network
    count = variants.parameters(conv, data.shape, data.classes)
    names = Names(p, variants.equal_width(1, count, data.shape, data.classes))
    skip = found[names.keys["skip"]]
    scale = architecture.usual_size(ablations.changed(usual, skip).network).start.scale
    found[names.keys["small"]] = skip | {"start": {"scale": scale}}
    found[names.keys["narrow"]] = {"network": {"widths": (names.units,)}}
    return {name: found[name] for name in names.order}


def grids(p: Parameters) -> Grids:
    """Every kind for each seed, trained, before training, and those with batch norm once more."""
    configs = ablations.grid(reference_of(p), changes(p), p.seeds)
    kinds = [architecture.Networks(one, p.seeds) for one in configs if one.seed == 0]
    normed = [kind for kind in kinds if kind.config.network.batch_norm]
    return {
        "table": Grid(ablations.run, configs, "networks"),
        "start": Grid(architecture.before, kinds, "kinds of networks before training"),
        "modes": Grid(architecture.normalisations, normed, "kinds with batch norm"),
    }
