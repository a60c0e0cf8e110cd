"""The three families of networks of the paper, for configurations of experiments."""

from dataclasses import dataclass
from typing import Annotated, Any

from torch import nn

from implreg.datasets import Dataset, load
from implreg.networks import mlp, resnet, vgg
from implreg_book.experiments.types import Checked, Count, NotNegative, Positive, among


@dataclass(frozen=True)
class Network(Checked):
    """A network of one of the families.

    Args:
        family: "mlp" (one hidden layer), "vgg" or "resnet".
        size: hidden units, convolutions, or depth.
        width_factor: of channels and dense layers; 1 for an mlp.
        dropout: of a vgg, in training.

    Raises:
        InputError: an unknown family, or a number out of its range; `build` checks the rest.
    """

    family: Annotated[str, among("mlp", "vgg", "resnet")]
    size: Count
    width_factor: Positive = 1.0
    dropout: NotNegative = 0.0

    def named(self) -> dict[str, str | int]:
        """Family and size, as columns of a table."""
        return {"family": self.family, "size": self.size}

    def load(self, dataset: str, *, train: int | None = None, side: int = 0) -> Dataset:
        """The data set in the shape that the network takes, images resized unless `side` is 0."""
        shaped = self.family != "mlp"
        return load(dataset, train=train, shaped=shaped, side=side or None)

    def build(self, data: Dataset, seed: int) -> nn.Module:
        """The network for a data set, in eval mode, at its random initialisation."""
        if self.family == "mlp":
            return mlp(data.shape[0], self.size, data.classes, seed=seed).eval()
        common: dict[str, Any] = {"outputs": data.classes, "shape": data.shape, "seed": seed}
        common["width_factor"] = self.width_factor
        if self.family == "vgg":
            return vgg(self.size, dropout=self.dropout, **common).eval()
        return resnet(self.size, **common).eval()
