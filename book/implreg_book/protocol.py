"""The settings of the released program, figure by figure, and how those of a run differ.

Everything that a page says of the program's protocol comes from the table in this module. A figure
has a value for each aspect that plays a part in it; None is a value, and says that there is none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from implreg.errors import InputError

Value = None | float | str | tuple["Value", ...]
Aspects = dict[str, Value]

# In the order of tables.
ASPECTS = (
    "data sets", "training samples", "pixels to a side", "resizing", "preprocessing",
    "pixels constant in training",
    "networks", "sizes", "channels, times the program's", "networks of each size", "variants",
    "hidden weights", "output weights", "dropout", "batch norm before training", "max pooling",
    "loss", "optimiser", "learning rate", "samples per step", "epochs", "warm-up, epochs",
    "warm-up from", "warm-up rises", "measured after epochs",
    "pairs", "pairs are", "pairs are drawn", "classes of a pair",
    "positions", "gaps", "seam", "normaliser", "outputs", "averages", "error bars", "x axis",
    "precision",
)  # fmt: skip

# Words that both sides use.
PERCEPTRON, VGG, RESNET = "perceptrons, one hidden layer", "VGG-like", "ResNets"
LANCZOS = "Lanczos, 8 bits"
STANDARDISED = "pixels / 255, features standardised, samples of norm √d"
HE, UNIT = "N(0, 2 / inputs)", "N(0, 1 / inputs)"
CROSS_ENTROPY, PLAIN, PER_STEP = "softmax cross-entropy", "plain SGD", "step by step"
ONE_CLASS, TWO_CLASSES = "of one class", "of two classes"
SWITCHES, EPOCH = "mean number of switches", "epoch"


def filled(batches: int, batch: int, learning_rate: float) -> str:
    """How batch norm gets its first running statistics, in words.

    Args:
        batches: of training samples, in training mode, with dropout.
        batch: samples in each.
        learning_rate: of the steps that are taken meanwhile.
    """
    return f"filled by {batches} batches of {batch:,} at rate {learning_rate:g}"


def dropped(family: str, share: float) -> str | None:
    """What dropout leaves out, in words, None if nothing.

    Args:
        family: `VGG` or `RESNET`.
        share: of the units of a dense layer, or of a block's entries.
    """
    after = f"after dense layers, {share / 2:g} after poolings"
    return f"{share:g} {after if family == VGG else 'in each block'}" if share else None


def together(*runs: Aspects) -> Aspects:
    """Several runs as one: what they share as it is, else the values of all, one by one.

    Args:
        runs: each with its aspects; those that one of them lacks are left out.

    >>> together({"epochs": 9, "sizes": (3, 5)}, {"epochs": 9, "sizes": (10,)})
    {'epochs': 9, 'sizes': ((3, 5), (10,))}
    """
    names = [name for name in runs[0] if all(name in run for run in runs)]
    every = {name: tuple(run[name] for run in runs) for name in names}
    return {name: of[0] if len(set(of)) == 1 else of for name, of in every.items()}


def _reference(network: str, data: str) -> str:
    return f"outputs of another untrained network, {network}, on {data}"


_THREE = ("mnist", "cifar10", "cifar100")
_SHARED: Aspects = {
    "training samples": 50_000, "pixels to a side": 28, "resizing": LANCZOS,
    "preprocessing": STANDARDISED, "pixels constant in training": "times 10⁵ in the test set",
    "channels, times the program's": 1, "variants": None, "hidden weights": HE,
    "output weights": UNIT, "dropout": None, "batch norm before training": None,
    "pairs": 128, "pairs are": "the same for all networks",
    "pairs are drawn": "classes uniform, with replacement", "classes of a pair": (ONE_CLASS,),
    "positions": 1000, "gaps": "merged between positions", "seam": None, "outputs": "all",
    "averages": "mean of h, deviation of β", "precision": "single",
}  # fmt: skip
_BEFORE: Aspects = _SHARED | {"data sets": _THREE, "error bars": "deviation over networks"}
_SEAM = "a slope normalised twice in mid-path"
_DURING: Aspects = _SHARED | {
    "networks of each size": 1, "loss": CROSS_ENTROPY, "optimiser": PLAIN, "samples per step": 128,
    "epochs": 2500, "warm-up, epochs": 200, "warm-up rises": PER_STEP,
    "measured after epochs": tuple(range(0, 2500, 20)), "x axis": EPOCH,
    "error bars": "deviation over paths and outputs",
}  # fmt: skip
_PERCEPTRONS: Aspects = _DURING | {
    "data sets": ("mnist",), "resizing": None, "networks": PERCEPTRON,
    "sizes": (1000, 3000, 5000, 7000, 9000), "output weights": HE, "learning rate": 0.001,
    "warm-up from": 1e-5, "normaliser": _reference("1,000 units", "the same data"),
}  # fmt: skip
_VGGS: Aspects = _DURING | {
    "data sets": ("cifar10",), "networks": VGG, "sizes": (3, 5, 8), "dropout": dropped(VGG, 0.5),
    "learning rate": 0.01, "warm-up from": 1e-5,
    "normaliser": _reference("3 convolutions", "the same data"),
}  # fmt: skip
_RESNETS: Aspects = _DURING | {
    "data sets": ("cifar100",), "networks": RESNET, "sizes": (10, 22, 34),
    "dropout": dropped(RESNET, 0.5), "batch norm before training": filled(79, 128, 1e-6),
    "learning rate": 0.02, "warm-up from": 1e-6, "seam": _SEAM,
    "normaliser": _reference("depth 10, filled", "the same data"),
}  # fmt: skip
_SIX = together(_PERCEPTRONS, _VGGS, _RESNETS)
FIGURES: Mapping[str, Aspects] = {
    "1": {
        "data sets": ("ImageNet",), "pixels to a side": 224, "resizing": "Pillow's default, 8 bits",
        "preprocessing": "a mean colour subtracted", "networks": "ResNets of bottlenecks",
        "sizes": (152,), "networks of each size": 1,
        "max pooling": "the largest entry of the direction", "pairs": 1,
        "classes of a pair": (TWO_CLASSES,), "positions": 1000, "normaliser": None,
        "outputs": "all", "x axis": "position t", "precision": "single",
    },
    "2": _BEFORE | {
        "networks": PERCEPTRON, "sizes": (1000, 2000, 3000, 4000, 5000),
        "networks of each size": 100, "x axis": "hidden units",
        "normaliser": _reference("1,000 units", "cifar10"),
    },
    "3": _PERCEPTRONS,
    "4 a-c": _BEFORE | {
        "networks": VGG, "sizes": (3, 4, 5, 6, 8), "networks of each size": 50,
        "x axis": SWITCHES, "normaliser": _reference("3 convolutions", "cifar10"),
    },
    "4 d-f": _VGGS,
    "5 a-c": _BEFORE | {
        "networks": RESNET, "sizes": (10, 16, 22, 28, 34, 40), "networks of each size": 50,
        "dropout": dropped(RESNET, 0.5),  # while batch norm is filled
        "batch norm before training": filled(20, 500, 1e-8), "x axis": SWITCHES, "seam": _SEAM,
        "normaliser": _reference("depth 10, filled", "cifar10"),
    },
    "5 d-f": _RESNETS,
    "6": {a: x for a, x in _SIX.items() if a not in ("gaps", "seam")} | {
        "outputs": "own class", "averages": "means over pairs",
        "error bars": "deviation over pairs",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Some figures of the program beside a run, by figure and aspect.

    Attributes:
        program: what the program has.
        run: what the run has.
    """

    program: Mapping[str, Aspects]
    run: Mapping[str, Aspects]

    def _of(self, side: Mapping[str, Aspects], aspect: str) -> dict[str, Value]:
        return {figure: side[figure][aspect] for figure in side if aspect in side[figure]}

    def _has(self, side: Mapping[str, Aspects], aspect: str) -> bool:
        return any(value is not None for value in self._of(side, aspect).values())

    @property
    def same(self) -> tuple[str, ...]:
        """Aspects that are equal for all figures."""
        every = [(a, self._of(self.program, a), self._of(self.run, a)) for a in ASPECTS]
        return tuple(aspect for aspect, theirs, ours in every if theirs and theirs == ours)

    @property
    def different(self) -> dict[str, tuple[dict[str, Value], dict[str, Value]]]:
        """Of aspects that are not: what the program has and what the run has, by figure."""
        every = {a: (self._of(self.program, a), self._of(self.run, a)) for a in ASPECTS}
        return {a: both for a, both in every.items() if all(both) and both[0] != both[1]}

    @property
    def missing(self) -> tuple[str, ...]:
        """What the program has that plays no part in the run."""
        run = {aspect for aspects in self.run.values() for aspect in aspects}
        return tuple(a for a in ASPECTS if self._has(self.program, a) and a not in run)

    @property
    def added(self) -> tuple[str, ...]:
        """What the run has that plays no part in the program."""
        program = {aspect for aspects in self.program.values() for aspect in aspects}
        return tuple(a for a in ASPECTS if self._has(self.run, a) and a not in program)

    def table(self) -> pd.DataFrame:
        """All aspects, those that differ first."""
        rows = {
            aspect: (_said(theirs), _said(ours, theirs))
            for aspect, (theirs, ours) in self.different.items()
        }
        rows |= {aspect: (_said(self._of(self.program, aspect)), "–") for aspect in self.missing}
        rows |= {aspect: ("–", _said(self._of(self.run, aspect))) for aspect in self.added}
        rows |= {aspect: (_said(self._of(self.program, aspect)), "same") for aspect in self.same}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["program", "this page"])
        return table.rename_axis(columns="aspect")


def compare(figures: str | Sequence[str], run: Mapping[str, Any]) -> Comparison:
    """What a run has the same as the program for some figures, and what not.

    Args:
        figures: one of `FIGURES`, or several.
        run: its aspects, some of `ASPECTS`; for several figures those of each, by figure.

    Raises:
        InputError: a figure or an aspect that there is not, or a figure without a run.

    >>> found = compare("2", {"sizes": (64, 1024), "hidden weights": HE})
    >>> found.different["sizes"][1], found.same
    ({'2': (64, 1024)}, ('hidden weights',))
    """
    named = (figures,) if isinstance(figures, str) else tuple(figures)
    _refuse("figures", named, FIGURES)
    runs: Any = {figures: run} if isinstance(figures, str) else run
    if set(runs) != set(named):
        raise InputError(
            f"run must have aspects for each of {list(named)}, got {list(run)}; name the figures."
        )
    for aspects in runs.values():
        _refuse("aspects of a run", aspects, ASPECTS)
    return Comparison({f: FIGURES[f] for f in named}, {f: runs[f] for f in named})


def _refuse(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InputError(f"{what} must be of {list(known)}, got {unknown}; correct the name.")


def _said(values: Mapping[str, Value], other: Mapping[str, Value] | None = None) -> str:
    """Values by figure in words; a figure is named unless all have the same.

    Args:
        values: of the side that is told.
        other: of the other side; what equals it is only called the same.
    """
    words = {
        figure: "same" if other and figure in other and other[figure] == value else in_words(value)
        for figure, value in values.items()
    }
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{figure.replace('-', '–')}: {said}" for figure, said in words.items())


def in_words(value: Value) -> str:
    """A value as a table has it; of long lists the first and the last.

    Args:
        value: of an aspect.

    >>> in_words(("mnist", "cifar10")), in_words(1e-5), in_words(50_000), in_words(None)
    ('mnist, cifar10', '1e-05', '50,000', 'none')
    >>> in_words(tuple(range(0, 2500, 20))), in_words(((3, 5), None))
    ('0, 20, 40, …, 2,480 (125)', '3, 5; none')
    """
    if isinstance(value, tuple):
        words = [in_words(entry) for entry in value]
        if len(words) > 7:
            words = [*words[:3], "…", f"{words[-1]} ({len(value)})"]
        lists = any(isinstance(x, tuple) or (isinstance(x, str) and "," in x) for x in value)
        return ("; " if lists else ", ").join(words)
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else value or "none"
