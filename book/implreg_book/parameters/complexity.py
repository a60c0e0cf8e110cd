"""Parameters of the chapter "Complexity measures"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(common.Ablation):
    """The networks of the chapters on starts and optimisers, and some with noisy labels."""

    chapter = "complexity"
    seconds = 2200

    widths: tuple[int, ...] = parameter(
        (4, 8, 16, 32, 64, 128, 256, 512), "hidden units, with noisy labels", **common.WIDTHS
    )
    random_labels: tuple[float, ...] = parameter(
        (0.2, 0.6), "shares of labels that are random there", most=6, **common.SHARES
    )
    # Intervals of 19 measures at once leave out one draw of 760 at each end.
    resamples: int = parameter(3000, "of the bootstrap", low=1000, high=1_000_000)
