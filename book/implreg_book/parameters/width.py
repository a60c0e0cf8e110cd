"""Parameters of the chapter "Width at initialisation"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """Random networks with one hidden layer."""

    chapter = "width"
    seconds = 55

    datasets: tuple[str, ...] = parameter(
        ("fashion-mnist", "digits", "mnist1d"),
        "data sets",
        order="distinct",
        share=1,
        **common.DATA,
    )
    widths: tuple[int, ...] = parameter(
        (64, 128, 256, 512, 1024, 2048, 4096), "hidden units", **common.WIDTHS
    )
    seeds: int = parameter(
        20, "independent networks per width, each with its own pairs", share=1, **common.SEEDS
    )
    pairs: int = parameter(128, "pairs of training samples per network", share=1, **common.PAIRS)
    kind: str = parameter("same", "classes of a pair", **common.KIND)
