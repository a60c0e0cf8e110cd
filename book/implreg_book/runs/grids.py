"""What a chapter runs: grids with names, how many of their runs are there already, and tables."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from implreg_book.runs import results
from implreg_book.runs.grid import run_all
from implreg_book.runs.keys import origin_of
from implreg_book.runs.store import Store
from implreg_book.settings import STORE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Grid:
    """Runs of one experiment.

    Attributes:
        run: from a configuration to a table.
        configs: one for each run.
        label: what the runs are, in the plural.
    """

    run: Callable[..., pd.DataFrame]
    configs: "Sequence[DataclassInstance]"
    label: str = "runs"

    def table(self) -> pd.DataFrame:
        """The table of all runs; those that are stored or kept are not computed again."""
        return run_all(self.run, self.configs, label=self.label)

    def missing(self) -> int:
        """How many of the runs are neither stored with the book nor kept in the store."""
        place = os.environ.get(STORE)
        origin = origin_of(self.run, None, keyed=place is not None)
        keys = {origin.key(c) if place else str(i): c for i, c in enumerate(self.configs)}
        there = set(results.look_up(origin.experiment, keys))
        if place:
            kept = Store(place).entries(origin.experiment)
            there |= {entry.key for entry in kept if not entry.failed and entry.key in keys}
        return len(keys) - len(there)


Grids = Mapping[str, Grid]


def tables_of(grids: Grids) -> dict[str, pd.DataFrame]:
    """The table of each grid, one after the other."""
    return {name: grid.table() for name, grid in grids.items()}


def share_missing(grids: Grids) -> float:
    """Which part of all runs would have to be computed, from 0 to 1; all, if there are no grids."""
    runs = sum(len(grid.configs) for grid in grids.values())
    return sum(grid.missing() for grid in grids.values()) / runs if runs else 1.0
