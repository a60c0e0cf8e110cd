"""Parameters of the chapter "Width at initialisation"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.WithData):
    """Random networks with one hidden layer."""

    chapter = "width"
    seconds = 480

    datasets: tuple[str, ...] = parameter(
        ("fashion-mnist", "digits", "mnist1d"),
        "data sets",
        order="distinct",
        share=0.11,
        **common.DATA,
    )
    widths: tuple[int, ...] = parameter(
        (64, 128, 256, 512, 1024, 2048, 4096), "hidden units", **common.WIDTHS
    )
    seeds: int = parameter(
        20, "independent networks per width, each with its own pairs", share=0.11, **common.SEEDS
    )
    pairs: int = parameter(128, "pairs of training samples per network", share=0.11, **common.PAIRS)
    kind: str = parameter("same", "classes of a pair", **common.KIND)
    figure_datasets: tuple[str, ...] = parameter(
        ("mnist-5000", "fashion-mnist", "digits"),
        "data sets of figure 2",
        order="distinct",
        **common.DATA,
    )
    figure_widths: tuple[int, ...] = parameter(
        (1000, 2000, 3000, 4000, 5000), "hidden units there", **common.WIDTHS | common.NORMALISED
    )
    figure_seeds: int = parameter(5, "networks of each width there", share=0.89, **common.SEEDS)
    figure_pairs: int = parameter(
        128, "pairs there, the same for all networks", share=0.89, **common.PAIRS
    )
