"""The three families of networks of the paper, for configurations of experiments."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from implreg.checks import check_choice, check_count, check_number
from implreg.datasets import Dataset, load
from implreg.networks import mlp, resnet, vgg

FAMILIES = ("mlp", "vgg", "resnet")


@dataclass(frozen=True)
class Network:
    """A network of one of the families.

    Args:
        family: "mlp" (one hidden layer), "vgg" or "resnet".
        size: hidden units, convolutions, or depth.
        width_factor: of channels and dense layers; 1 for an mlp.
        dropout: of a vgg, in training.

    Raises:
        InputError: an unknown family, or a number out of its range; `build` checks the rest.
    """

    family: str
    size: int
    width_factor: float = 1.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_choice("family", self.family, FAMILIES)
        check_count("size", self.size)
        check_number("width_factor", self.width_factor, above=0)
        check_number("dropout", self.dropout, at_least=0)

    def named(self) -> dict[str, str | int]:
        """Family and size, as columns of a table."""
        return {"family": self.family, "size": self.size}

    def load(self, dataset: str, *, train: int | None = None, side: int = 0) -> Dataset:
        """The data set in the shape that the network takes, images resized unless `side` is 0."""
        shaped = self.family != "mlp"
        return load(dataset, train=train, shaped=shaped, side=side or None)

    def build(self, data: Dataset, seed: int, *, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The network for a data set, in eval mode, at its random initialisation."""
        common: dict[str, Any] = {
            "outputs": data.classes,
            "shape": data.shape,
            "seed": seed,
            "dtype": dtype,
        }
        net: nn.Module
        if self.family == "mlp":
            net = mlp(data.shape[0], self.size, data.classes, seed=seed, dtype=dtype)
        elif self.family == "vgg":
            net = vgg(self.size, width_factor=self.width_factor, dropout=self.dropout, **common)
        else:
            net = resnet(self.size, width_factor=self.width_factor, **common)
        return net.eval()
