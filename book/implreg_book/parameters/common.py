"""What parameters of many chapters share: ranges, and how data sets and numbers go together."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from implreg_book.parameters.schema import Parameters, parameter


class Size(NamedTuple):
    """Of a data set: training samples, classes, pixels to a side, and whether they are images."""

    train: int
    classes: int
    side: int
    images: bool = True


DATASETS = {
    "digits": Size(1442, 10, 8),
    "mnist1d": Size(4000, 10, 40, images=False),
    "fashion-mnist": Size(4000, 10, 28),
    "mnist-5000": Size(4000, 10, 28),
    "mnist": Size(60000, 10, 28),
    "cifar10": Size(50000, 10, 32),
    "cifar100": Size(50000, 100, 32),
}
VGG = (3, 4, 5, 6, 8)  # convolutions
VGG_SIDE = 8  # pixels that three poolings need

Rules = dict[str, Any]
DATA: Rules = {"choices": tuple(DATASETS)}
KIND: Rules = {"choices": ("same", "different", "random")}
TRAIN: Rules = {"low": 10, "high": 60_000, "unit": "samples"}
SIDE: Rules = {"low": 0, "high": 64, "unit": "pixels"}
WIDTH: Rules = {"low": 1, "high": 65_536, "unit": "hidden units"}
WIDTHS: Rules = WIDTH | {"least": 2, "order": "distinct"}
# Narrower networks often give zero for a sample, by which nothing can be normalised.
NORMALISED: Rules = {"low": 32}
SEEDS: Rules = {"low": 1, "high": 10_000, "unit": "networks"}
SEED: Rules = {"low": 0, "high": 2**31 - 1}
PAIRS: Rules = {"low": 1, "high": 10_000, "unit": "pairs"}
RATE: Rules = {"low": 1e-6, "high": 100}
EPOCHS: Rules = {"low": 1, "high": 1_000_000, "unit": "epochs"}
WARMUP: Rules = EPOCHS | {"low": 0}
STEPS: Rules = {"low": 1, "high": 10_000_000, "unit": "steps"}
BATCH: Rules = {"low": 1, "high": 60_000, "unit": "samples"}
LOSSES: Rules = {"low": 1e-6, "high": 100, "order": "falling"}
SHARES: Rules = {"low": 0, "high": 1, "order": "rising"}
SCALE: Rules = {"low": 1e-3, "high": 1000}
FACTOR: Rules = {"low": 0.01, "high": 4}


class WithData(Parameters):
    """Checks of a data set, its training samples and what is drawn from them."""

    def check_train(
        self, dataset: str, train: str, pairs: str | None = None, *, same: bool = True
    ) -> None:
        """Refuse more training samples than there are, or, for pairs of a class, too few.

        Args:
            dataset: parameter that names the data.
            train: parameter that says how many samples.
            pairs: parameter that says how many pairs of a class they must have, if any must.
            same: whether each class needs two samples.
        """
        data, count = DATASETS[getattr(self, dataset)], getattr(self, train)
        least = data.classes * (1 + same)
        self.require(
            train,
            least <= count <= data.train,
            f"lie between {least} and {data.train:,} with {dataset} {getattr(self, dataset)}",
        )
        if pairs:
            most = count * (count // data.classes - 1)
            rule = f"be at most {most:,} with {count} samples"
            self.require(pairs, getattr(self, pairs) <= most, rule)

    def check_side(self, dataset: str, side: str, *, least: int = 2) -> None:
        """Refuse a size of images that the data or the networks cannot have."""
        name, pixels = getattr(self, dataset), getattr(self, side)
        data = DATASETS[name]
        rule = f"be 0 with {dataset} {name}, which are signals"
        self.require(side, data.images or not pixels, rule)
        rule = f"leave at least {least} pixels to a side for the networks of this chapter"
        self.require(side, (pixels or data.side) >= least, rule)

    def check_convolutional(self, convolutions: str | None, depths: str | None) -> None:
        """Refuse sizes that no VGG-like network and no ResNet of the paper has."""
        for name, fits, rule in (
            (convolutions, lambda n: n in VGG, f"be of {', '.join(map(str, VGG))}"),
            (depths, lambda n: n >= 10 and n % 6 == 4, "be of 10, 16, 22, 28, ... (6n + 4)"),
        ):
            if name:
                sizes = getattr(self, name)
                several = sizes if isinstance(sizes, tuple) else (sizes,)
                self.require(name, all(map(fits, several)), rule)


@dataclass(frozen=True, kw_only=True)
class Ablation(WithData):
    """What the chapters share whose networks train to the same losses."""

    dataset: str = parameter("fashion-mnist", "data set", **DATA)
    train: int = parameter(1000, "training samples", **TRAIN)
    side: int = parameter(14, "to which images are resized; 0 leaves them as they are", **SIDE)
    width: int = parameter(256, "hidden units of the reference", **WIDTH)
    seeds: int = parameter(
        8, "independent networks per condition, each with its own pairs", share=1, **SEEDS
    )
    target_losses: tuple[float, ...] = parameter(
        (0.3, 0.1, 0.01), "of training; the test is at the last", **LOSSES
    )
    learning_rate: float = parameter(0.1, "step size after the warm-up", **RATE)
    warmup_epochs: int = parameter(
        10, "over which the step size rises linearly from 1e-5", **WARMUP
    )
    epochs: int = parameter(3000, "the most that a training may take", **EPOCHS)
    batch: int = parameter(128, "samples per step", **BATCH)
    pairs: int = parameter(128, "pairs of training samples per network", **PAIRS)

    def together(self) -> None:
        """Refuse what the data set does not have."""
        self.check_train("dataset", "train", "pairs")
        self.check_side("dataset", "side")
