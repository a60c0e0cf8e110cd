"""Parameters of the chapter "Margin and fluctuation"."""

from dataclasses import dataclass

from implreg_book.parameters.sgd import Training


@dataclass(frozen=True, kw_only=True)
class Parameters(Training):
    """The networks of the chapter "During SGD"."""

    chapter = "margin"
    seconds = 1950
