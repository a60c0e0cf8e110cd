"""What a trace holds."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from implreg.checks import check_positions
from implreg.errors import InputError
from implreg.tracing.program import Program
from implreg.tracing.record import writes

if TYPE_CHECKING:
    from implreg.tracing.certificate import Certificate

_FORMAT = 1  # of saved traces


@dataclass(frozen=True, eq=False)
class Source:
    """What was traced; it stays in memory: copies of a trace, in files, do without it.

    Attributes:
        program: the network.
        x0: where all segments start, (P * N, *input).
        x1: where they end.
        tensors: of the network, and how often each had been written to.
    """

    program: Program
    x0: Tensor
    x1: Tensor
    tensors: tuple[tuple[Tensor, int], ...]

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Become None."""
        return type(None), ()


@dataclass(frozen=True)
class Trace:
    """The outputs of a network along P paths, exactly: every switch, every piece.

    A path has N straight segments, one if it joins two samples. S switches over all paths, sorted
    by path and then by t, make S + P * N pieces. C is the number of outputs. Times are positions on
    the path, 0 at its start and N at its end; slopes and gaps are per unit of t (see
    `per_unit_length`). Float tensors have the type of the arithmetic, index tensors are int64.

    At a corner of a polyline the slope jumps because the direction does: a piece ends there without
    a switch.

    Attributes:
        t: breakpoints, (S,).
        path: which path each switch lies on, (S,).
        segment: which segment of its path, from 0, (S,).
        layer: number of the layer whose unit switches, in order of execution, from 0, (S,).
        unit: flat index of that unit in its layer, from 0, (S,).
        gaps: gradient gaps, the jumps of the slope at the switches, (S, C).
        piece_start: where each piece starts, (S + P * N,).
        slopes: slope of the outputs on each piece, (S + P * N, C).
        values: outputs at the start of each piece, (S + P * N, C).
        ends: outputs at the end of each path, (P, C).
        lengths: Euclidean length of each segment, by path and then along it, (P * N,).
        layers: qualified names of the layers that `layer` counts.
        outputs: which entries of what the network returns these are, (C,); None for all.
        source: what was traced, for `certify` and `replay`; None in a trace from a file.

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 50, 2, seed=0), (torch.ones(3, 3), -torch.eye(3)))
    >>> len(trace), len(trace.slopes) - len(trace.t), trace.layers
    (3, 3, ('1',))
    >>> bool(torch.allclose(trace[0].slopes.diff(dim=0), trace[0].gaps))
    True
    """

    t: Tensor
    path: Tensor
    segment: Tensor
    layer: Tensor
    unit: Tensor
    gaps: Tensor
    piece_start: Tensor
    slopes: Tensor
    values: Tensor
    ends: Tensor
    lengths: Tensor
    layers: tuple[str, ...]
    outputs: tuple[int, ...] | None = None
    source: Source | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        """Number of paths, P."""
        return len(self.ends)

    @property
    def segments(self) -> int:
        """N, the number of straight segments of each path."""
        return len(self.lengths) // len(self.ends)

    @property
    def switches(self) -> Tensor:
        """M, the number of switches on each path, counted with multiplicity, (P,)."""
        return torch.bincount(self.path, minlength=len(self))

    @property
    def piece_path(self) -> Tensor:
        """Which path each piece lies on, (S + P * N,)."""
        return self.piece_segment // self.segments

    @property
    def piece_end(self) -> Tensor:
        """Where each piece ends, (S + P * N,)."""
        ends = self.piece_start.roll(-1)
        ends[self.first_pieces[1:] - 1] = self.segments
        ends[-1] = self.segments
        return ends

    @property
    def first_pieces(self) -> Tensor:
        """Row of each path's first piece in `slopes` and `values`, (P,)."""
        pieces = self.switches + self.segments
        return pieces.cumsum(0) - pieces

    @property
    def piece_segment(self) -> Tensor:
        """Row of `lengths` that each piece belongs to, (S + P * N,)."""
        number = len(self.lengths)
        switches = torch.bincount(self.path * self.segments + self.segment, minlength=number)
        rows = torch.arange(number, device=self.t.device)
        return rows.repeat_interleave(switches + 1)

    def __getitem__(self, index: int | slice) -> "Trace":
        """The trace of one path, or of the paths of a slice in steps of one.

        Raises:
            IndexError: there is no such path, or another step.
        """
        paths = len(self)
        if isinstance(index, slice):
            start, stop, step = index.indices(paths)
            if step != 1:
                raise IndexError(f"a slice of a trace must go in steps of one, got {step}")
        elif -paths <= index < paths:
            start = index % paths
            stop = start + 1
        else:
            raise IndexError(f"path {index} of a trace of {paths} paths")
        here = (self.path >= start) & (self.path < stop)
        pieces = (self.piece_path >= start) & (self.piece_path < stop)
        number = self.segments
        lanes, source = slice(start * number, stop * number), self.source
        if source is not None:
            source = replace(source, x0=source.x0[lanes], x1=source.x1[lanes])
        return replace(
            self,
            source=source,
            **{k: getattr(self, k)[here] for k in ("t", "segment", "layer", "unit", "gaps")},
            path=self.path[here] - start,
            **{k: getattr(self, k)[pieces] for k in ("piece_start", "slopes", "values")},
            ends=self.ends[start:stop],
            lengths=self.lengths[lanes],
        )

    def at(self, t: Tensor, path: int = 0) -> Tensor:
        """Outputs of the network at positions of one path.

        Args:
            t: positions between 0 and N, (n,).
            path: which path.

        Returns:
            (n, C).

        Raises:
            InputError: a position outside the path.
            IndexError: there is no such path.

        >>> import implreg as ir
        >>> trace = ir.trace(ir.mlp(3, 9, 2, seed=0), (torch.ones(1, 3), torch.eye(3)[:1]))
        >>> bool(torch.allclose(trace.at(torch.tensor([1.0]))[0], trace.ends[0]))
        True
        """
        one = self[path]
        t = check_positions("t", t.to(one.t), self.segments)
        piece = torch.searchsorted(one.piece_start, t, right=True) - 1
        return one.values[piece] + (t - one.piece_start[piece])[:, None] * one.slopes[piece]

    def per_unit_length(self) -> "Trace":
        """The same trace with slopes and gaps divided by the length of their segment."""
        segment = self.path * self.segments + self.segment
        return replace(
            self,
            gaps=self.gaps / self.lengths[segment, None],
            slopes=self.slopes / self.lengths[self.piece_segment, None],
            source=None,  # whose slopes are others
        )

    def to_table(self) -> pd.DataFrame:
        """One row per switch: path, t, layer, unit, and one column `gap_c` per output c.

        Returns:
            S rows; layers by their qualified names.
        """
        names = [self.layers[i] for i in self.layer.tolist()]
        return switch_table(self.path, self.t, names, self.unit, self.gaps)

    def _traced(self) -> Source:
        """What was traced, if it is known and as it was."""
        if not len(self):
            raise InputError("trace must hold at least one path, got none; trace some.")
        if self.source is None:
            raise InputError(
                "trace must know its network and its paths, which files do not keep, but it is "
                "from a file or a copy; trace again."
            )
        if any(writes(tensor) != before for tensor, before in self.source.tensors):
            raise InputError(
                "trace must be of the network as it is now, but its parameters or buffers have "
                "changed since; trace again."
            )
        return self.source

    def replay(self, net: nn.Module, *, output: int | str | None = None) -> "Trace":
        r"""The same paths as functions of the numbers of a network, to be differentiated in them.

        The pattern of switches is kept: which unit switches after which, on which path. Then
        breakpoints, slopes, gaps and values are rational functions of the weights, and with them
        all measures, so that these can be parts of a loss. What is returned is the trace of `net`
        as long as its own pattern is that of the trace, as it is for the network that was traced;
        its derivatives are then those of the trace. Where two switches change places, a unit comes
        to switch, or a switch leaves the path, the trace is not differentiable (the slopes are not
        even continuous in general at a fixed t, though the outputs are), and gradients are those of
        the pattern that was traced. The number of switches has no derivative.

        All pieces go through the network at once: for few paths of networks that fit in memory that
        many times.

        Args:
            net: the network that was traced, or one of the same make. Its parameters get gradients.
            output: as it was for the trace.

        Returns:
            A trace whose floating-point tensors have gradients, in the type of the arithmetic.

        Raises:
            InputError: the trace is from a file, or the traced network has changed since; `net` is
                of another make.

        >>> import implreg as ir
        >>> net = ir.mlp(3, 50, 1, seed=0)
        >>> again = ir.trace(net, (torch.ones(1, 3), -torch.eye(3)[:1])).replay(net)
        >>> ir.deflection(again).sum().backward()
        >>> net[0].weight.grad.shape
        torch.Size([50, 3])
        """
        from implreg.tracing.replay import replay

        return replay(self, self._traced(), net, output)

    def certify(self, *, exact: bool = True, progress: bool | None = None) -> "Certificate":
        r"""Prove that no switch is missed and none invented, as far as that can be proved.

        Around every switch lies a bracket of t, in which the unit's side is proved to change and
        that of every other unit is proved not to; between the brackets no unit changes. The network
        is what its floating-point numbers say; layers that are products of several of these, such
        as batch norm, are the matrices that double precision makes of them. It is computed with
        bounds of all rounding, and in rational numbers where these bounds are too wide.

        What is proved is which unit switches in which bracket; slopes, gaps and values are not
        looked at. A unit that is zero for a while counts as open, as its switch has no one place.
        Layers are dense matrices here: it is for networks of up to some ten thousand units.

        Args:
            exact: take rational numbers for what floating-point numbers cannot decide; slow where
                layers are wide.
            progress: show a progress bar; by default only if it takes longer than two seconds.

        Returns:
            What was proved of each switch, and the switches that the trace has missed.

        Raises:
            InputError: the trace is from a file or in float32; the network has changed since;
                `exact` is neither True nor False.

        >>> import implreg as ir
        >>> trace = ir.trace(ir.mlp(3, 50, 2, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1]))
        >>> trace.certify().holds
        True
        """
        from implreg.tracing.certificate import certify

        return certify(self, self._traced(), exact=exact, progress=progress)

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write the trace to a file that `Trace.load` and `numpy.load` read (npz).

        Args:
            file: its name, which ends with .npz.

        Raises:
            InputError: the file's name does not end with .npz.
            OSError: the file cannot be written.
        """
        name = os.fspath(file)
        if not name.endswith(".npz"):
            raise InputError(f"file must end with .npz, got {name}; name it for example trace.npz.")
        held = {name: getattr(self, name).cpu().numpy() for name in _TENSORS}
        if self.outputs is not None:
            held["outputs"] = np.asarray(self.outputs, dtype=np.int64)
        np.savez(name, format=np.int64(_FORMAT), layers=np.asarray(self.layers, dtype=str), **held)

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> "Trace":
        """Read a trace that `save` has written; nothing in the file is executed.

        Args:
            file: its name.

        Raises:
            InputError: the file is missing, damaged, or not a saved trace.
        """
        name = os.fspath(file)
        try:
            with np.load(name, allow_pickle=False) as held:
                version = int(held["format"])
                layers = tuple(str(x) for x in held["layers"])
                tensors = {name: torch.from_numpy(held[name]) for name in _TENSORS}
                outputs = tuple(held["outputs"].tolist()) if "outputs" in held else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            what = getattr(error, "strerror", None) or type(error).__name__
            raise InputError(
                f"file must be a trace written by Trace.save, but {name} cannot be read as one "
                f"({what}); trace again."
            ) from error
        if version != _FORMAT:
            raise InputError(
                f"file must be a trace of format {_FORMAT}, but {name} has format {version}; "
                f"install the implreg that wrote it, or trace again."
            )
        return cls(layers=layers, outputs=outputs, source=None, **tensors)


_TENSORS = [f.name for f in fields(Trace) if f.type is Tensor]


def switch_table(
    path: Tensor, t: Tensor, layers: Sequence[str], unit: Tensor, gaps: Tensor
) -> pd.DataFrame:
    """One row per switch, see `Trace.to_table`."""
    table = pd.DataFrame({"path": path.cpu(), "t": t.cpu(), "layer": layers, "unit": unit.cpu()})
    return pd.concat([table, pd.DataFrame(gaps.cpu().numpy()).add_prefix("gap_")], axis=1)
