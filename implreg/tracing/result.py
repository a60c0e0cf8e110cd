"""What a trace holds."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

if TYPE_CHECKING:
    from implreg.figures import Figure


@dataclass(frozen=True)
class Trace:
    """The outputs of a network along P paths, exactly: every switch, every piece.

    S switches over all paths, sorted by path and then by t, make S + P pieces. C is the number of
    outputs. Times are positions on the path, 0 at its start and 1 at its end; slopes and gaps are
    per unit of t (see `per_unit_length`). Float tensors are float64, index tensors int64.

    Attributes:
        t: breakpoints, (S,).
        path: which path each switch lies on, (S,).
        layer: index of the hidden layer whose unit switches, from 0, (S,).
        unit: index of that unit in its layer, from 0, (S,).
        gaps: gradient gaps, the jumps of the slope at the switches, (S, C).
        slopes: slope of the outputs on each piece, (S + P, C).
        values: outputs at the start of each piece, (S + P, C).
        ends: outputs at t = 1, (P, C).
        lengths: Euclidean length of each path, (P,).
        layers: qualified names of the layers that `layer` counts.
    """

    t: Tensor
    path: Tensor
    layer: Tensor
    unit: Tensor
    gaps: Tensor
    slopes: Tensor
    values: Tensor
    ends: Tensor
    lengths: Tensor
    layers: tuple[str, ...]

    def __len__(self) -> int:
        """Number of paths, P."""
        return len(self.lengths)

    @property
    def switches(self) -> Tensor:
        """M, the number of switches on each path, counted with multiplicity, (P,)."""
        return torch.bincount(self.path, minlength=len(self))

    @property
    def piece_path(self) -> Tensor:
        """Which path each piece lies on, (S + P,)."""
        paths = torch.arange(len(self), device=self.t.device)
        return paths.repeat_interleave(self.switches + 1)

    @property
    def piece_start(self) -> Tensor:
        """Time at which each piece starts, (S + P,)."""
        starts = self.t.new_zeros(len(self.t) + len(self))
        starts[self.first_pieces[self.path] + self._rank() + 1] = self.t
        return starts

    @property
    def piece_end(self) -> Tensor:
        """Time at which each piece ends, (S + P,)."""
        ends = self.t.new_ones(len(self.t) + len(self))
        ends[self.first_pieces[self.path] + self._rank()] = self.t
        return ends

    @property
    def first_pieces(self) -> Tensor:
        """Row of each path's first piece in `slopes` and `values`, (P,)."""
        pieces = self.switches + 1
        return pieces.cumsum(0) - pieces

    def _rank(self) -> Tensor:
        """How many switches of the same path come before each switch, (S,)."""
        switches = self.switches
        first = switches.cumsum(0) - switches
        return torch.arange(len(self.t), device=self.t.device) - first[self.path]

    def __getitem__(self, index: int) -> "Trace":
        """The trace of one path.

        Raises:
            IndexError: there is no such path.
        """
        paths = len(self)
        if not -paths <= index < paths:
            raise IndexError(f"path {index} of a trace of {paths} paths")
        index %= paths
        here, pieces = self.path == index, self.piece_path == index
        return replace(
            self,
            t=self.t[here],
            path=torch.zeros_like(self.path[here]),
            layer=self.layer[here],
            unit=self.unit[here],
            gaps=self.gaps[here],
            slopes=self.slopes[pieces],
            values=self.values[pieces],
            ends=self.ends[index : index + 1],
            lengths=self.lengths[index : index + 1],
        )

    def per_unit_length(self) -> "Trace":
        """The same trace with slopes and gaps divided by the length of their path."""
        return replace(
            self,
            gaps=self.gaps / self.lengths[self.path, None],
            slopes=self.slopes / self.lengths[self.piece_path, None],
        )

    def to_table(self) -> pd.DataFrame:
        """One row per switch: path, t, layer, unit, and one column `gap_c` per output c."""
        table = pd.DataFrame(
            {
                "path": self.path.cpu().numpy(),
                "t": self.t.cpu().numpy(),
                "layer": [self.layers[i] for i in self.layer.tolist()],
                "unit": self.unit.cpu().numpy(),
            }
        )
        gaps = pd.DataFrame(self.gaps.cpu().numpy()).add_prefix("gap_")
        return pd.concat([table, gaps], axis=1)

    def plot(self) -> "Figure":
        """Outputs and slopes along the first path (figure 1 of the paper)."""
        from implreg.figures import plot_path  # a trace needs no plotting library to exist

        return plot_path(self[0])
