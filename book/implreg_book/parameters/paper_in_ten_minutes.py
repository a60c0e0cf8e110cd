"""Parameters of the first page."""

from dataclasses import dataclass

from implreg_book.parameters.schema import Parameters as Base
from implreg_book.parameters.schema import parameter


@dataclass(frozen=True, kw_only=True)
class Parameters(Base):
    """Where the other chapters are."""

    chapter = "paper-in-ten-minutes"
    seconds = 10

    chapters: str = parameter("_build/executed", "folder of the other chapters, executed")
