"""Parameters of the chapter "Depth at initialisation"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """Random convolutional networks of several depths."""

    chapter = "depth-at-initialisation"
    seconds = 1000

    datasets: tuple[str, ...] = parameter(
        ("fashion-mnist", "digits", "mnist1d"),
        "data sets",
        order="distinct",
        share=1,
        **common.DATA,
    )
    side: int = parameter(
        14, "all images but the digits are resized to it", low=8, high=64, unit="pixels"
    )
    convolutions: tuple[int, ...] = parameter(
        common.VGG, "of the VGG-like networks", low=3, high=8, least=2, order="rising"
    )
    vgg_factor: float = parameter(
        0.25, "of their channels and dense layers; 1 in the paper", **common.FACTOR
    )
    depths: tuple[int, ...] = parameter(
        (10, 16, 22), "of the ResNets", low=10, high=154, least=2, order="rising"
    )
    # Below 0.05 two stages would have equally many channels, and the second's shortcut no stride.
    resnet_factor: float = parameter(
        0.25, "of their channels; 1 in the paper", **common.FACTOR | {"low": 0.05}
    )
    seeds: int = parameter(
        20, "independent networks of each kind, each with its own pairs", share=1, **common.SEEDS
    )
    theory_seeds: int = parameter(3, "of which the pairs are also predicted", **common.SEEDS)
    pairs: int = parameter(8, "pairs of training samples per network", share=1, **common.PAIRS)

    def together(self) -> None:
        """Refuse sizes that no such network has, and predictions of networks that are not there."""
        self.check_convolutional("convolutions", "depths")
        self.require(
            "theory_seeds", self.theory_seeds <= self.seeds, f"be at most seeds, {self.seeds}"
        )
