"""The three families of networks of the paper, for configurations of experiments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from torch import nn

from implreg.datasets import Dataset, load
from implreg.networks import mlp, resnet, vgg
from implreg.training import fill_statistics
from implreg_book.experiments.types import Checked, Count, Part, Positive, among

# What batch norm sees before anything is measured: as in the released program for figures 5 a-c
# and 5 d-f, or nothing.
FILLS: Mapping[str, Mapping[str, float]] = {
    "untouched": {},
    "initialisation": {"batches": 20, "batch": 500, "learning_rate": 1e-8},
    "training": {"batches": 79, "batch": 128, "learning_rate": 1e-6},
}


@dataclass(frozen=True)
class Network(Checked):
    """A network of one of the families.

    Args:
        family: "mlp" (one hidden layer), "vgg" or "resnet".
        size: hidden units, convolutions, or depth.
        width_factor: of channels and dense layers; 1 for an mlp.
        dropout: of a vgg's dense layers, and half as much of its poolings, or of a resnet's blocks,
            in training.
        statistics: of batch norm, see `FILLS`.

    Raises:
        InputError: an unknown family, or a number out of its range; `build` checks the rest.
    """

    family: Annotated[str, among("mlp", "vgg", "resnet")]
    size: Count
    width_factor: Positive = 1.0
    dropout: Part = 0.0
    statistics: Annotated[str, among(*FILLS)] = "untouched"

    def named(self) -> dict[str, str | int]:
        """Family and size, as columns of a table."""
        return {"family": self.family, "size": self.size}

    def load(self, dataset: str, *, train: int | None = None, side: int = 0) -> Dataset:
        """The data set in the shape that the network takes, images resized unless `side` is 0."""
        shaped = self.family != "mlp"
        return load(dataset, train=train, shaped=shaped, side=side or None)

    def build(self, data: Dataset, seed: int) -> nn.Module:
        """The network for a data set, in eval mode, before training; its seed is that of all."""
        if self.family == "mlp":
            return mlp(data.shape[0], self.size, data.classes, seed=seed).eval()
        common: dict[str, Any] = {"outputs": data.classes, "shape": data.shape, "seed": seed}
        common |= {"width_factor": self.width_factor, "dropout": self.dropout}
        if self.family == "vgg":
            return vgg(self.size, **common).eval()
        net = resnet(self.size, **common).eval()
        how: dict[str, Any] = dict(FILLS[self.statistics])
        if how:
            fill_statistics(net, data.x_train, data.y_train, seed=seed, **how)
        return net
