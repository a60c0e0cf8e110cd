"""Parameters of the chapter "From one photograph to another"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter

_PIXELS: common.Rules = {"low": 2, "high": 512, "unit": "pixels"}


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """One path through a network that was trained on ImageNet."""

    chapter = "photographs"
    seconds = 4200

    network: str = parameter(
        "imagenet", "with trained weights, or with random ones", choices=("imagenet", "random")
    )
    side: int = parameter(224, "of the photographs", **_PIXELS)
    points: int = parameter(1000, "positions that are sampled", low=3, high=100_000)
    windows: int = parameter(
        50, "short stretches that are traced exactly", low=2, high=1000, share=0.45
    )
    switches: int = parameter(200, "in each of them, about", low=2, high=10_000)
    whole_sides: tuple[int, ...] = parameter(
        (32, 64),
        "of the photographs on paths traced from end to end",
        most=4,
        order="rising",
        **_PIXELS | {"high": 128},
    )
    own_side: int = parameter(
        14, "of the images of the network that is trained here", low=2, high=64, unit="pixels"
    )
    train: int = parameter(1000, "its training samples", low=20, high=4000, unit="samples")
    epochs: int = parameter(60, "of its training", **common.EPOCHS)

    def together(self) -> None:
        """Refuse images that are larger than items of clothing can be."""
        for name in ("side", "whole_sides"):
            sides = getattr(self, name)
            largest = sides if isinstance(sides, int) else max(sides)
            rule = "be at most 64 with network random, whose images are items of clothing"
            self.require(name, self.network != "random" or largest <= 64, rule)
