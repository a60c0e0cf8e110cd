"""From a network and paths to a trace."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from implreg.errors import InputError
from implreg.tracing.memory import bounds
from implreg.tracing.network import Network, Output
from implreg.tracing.paths import Paths, segments
from implreg.tracing.program import Program
from implreg.tracing.read import first_line, record
from implreg.tracing.record import writes
from implreg.tracing.refine import Part, Refiner
from implreg.tracing.result import Source, Trace, switch_table
from implreg.tracing.rounding import roughness
from implreg.tracing.state import flat

MISMATCH = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative; rounding stays far below
_CHECKED = 8  # paths whose values are compared with the network's own, at _POINTS points each
_POINTS = 4
_ROUGH = 1e4  # times as far off as rounding makes the network's own, outputs may be
_DELAY = 2  # seconds before a progress bar shows


class Interrupted(KeyboardInterrupt):
    """A trace that was stopped by Ctrl-C; what it had found so far is kept.

    Attributes:
        partial: trace of the paths that were finished, or None if none was.
        table: all switches found so far, also those of an unfinished path, as `Trace.to_table`.
        reached: position up to which the unfinished path was traced.
    """

    def __init__(self, partial: Trace | None, table: pd.DataFrame, reached: float) -> None:
        finished = 0 if partial is None else len(partial)
        super().__init__(
            f"stopped after {finished} finished paths and {len(table):,} switches; they are kept "
            f"in this exception's partial and table"
        )
        self.partial, self.table, self.reached = partial, table, reached


def trace(
    net: nn.Module | Program,
    paths: Paths,
    *,
    dtype: torch.dtype = torch.float64,
    output: Output = None,
    outputs: Sequence[int] | None = None,
    memory: int | str | None = None,
    progress: bool | None = None,
) -> Trace:
    r"""Follow a network exactly along paths: every switch, every piece, every gradient gap.

    On the path :math:`X_t = (1-t) X_0 + t X_1` the outputs are piecewise linear in t. A switch is a
    sign change of a hidden pre-activation (a crossing of one of the kinks of its activation), or a
    change of the largest entry of a pooling window. Zeros up to rounding keep the side they had
    before: touching zero, zero along a whole piece and zero at an end are no switches. Units that
    switch at the same time have entries of their own, with pieces of no length between; so a path
    through the origin of a bias-free network has all of them at one t. Breakpoints closer than
    rounding may trade places.

    Afterwards the traced outputs are compared with the network's own at random points of the path.

    Args:
        net: a module in eval mode made of piecewise linear operations, see `read`; or the program
            that `read` makes of it, which saves reading it again.
        paths: `implreg.pairs(...)`; two tensors or NumPy arrays (x0, x1) of shape (P, *input); or
            `implreg.polyline(...)`. On the device of the network.
        dtype: of the arithmetic, `torch.float64` or `torch.float32`, whose rounding hides switches
            on short paths.
        output: which of several tensors that it returns, or the name of an inner module, see
            `read`.
        outputs: numbers of the entries of it that are kept, such as two logits of a thousand; all
            by default. An empty list asks for the switches alone, which is quicker; then nothing is
            compared.
        memory: bound on the working set, in bytes or as "512MB", besides the network and the
            result; half of the free memory by default. It bounds how many pieces are taken at once.
        progress: show a progress bar; by default only if the work takes longer than two seconds.

    Returns:
        All paths in one `Trace`.

    Raises:
        InputError: the network is not piecewise linear, see `read`; samples of another shape, not
            finite, not of a floating type, on another device; two equal ends; too little memory
            for a single piece (the message says how much would do).
        ArithmeticError: traced and actual outputs differ: the network is not what it seemed.
        Interrupted: Ctrl-C; the exception keeps what was traced.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    >>> _ = net[0].weight.data.copy_(torch.tensor([[4.0], [-2.0]]))
    >>> _ = net[0].bias.data.copy_(torch.tensor([-1.0, 1.0]))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[3.0, 1.0]]))
    >>> path = trace(net, (torch.zeros(1, 1), torch.ones(1, 1)))  # 3 relu(4t-1) + relu(1-2t) + b
    >>> path.t.tolist(), path.unit.tolist()
    ([0.25, 0.5], [0, 1])
    >>> path.slopes.flatten().tolist(), path.gaps.flatten().tolist()
    ([-2.0, 10.0, 12.0], [12.0, 2.0])
    """
    tracer = Tracer(
        net, paths, dtype=dtype, output=output, outputs=outputs, memory=memory, progress=progress
    )
    parts: list[Part] = []
    try:
        parts.extend(tracer)
    except KeyboardInterrupt as stop:
        raise tracer.interrupted(parts) from stop
    return tracer.joined(parts)


def stream(
    net: nn.Module | Program,
    paths: Paths,
    *,
    dtype: torch.dtype = torch.float64,
    output: Output = None,
    outputs: Sequence[int] | None = None,
    memory: int | str | None = None,
    progress: bool | None = None,
) -> Iterator[Part]:
    """Like `trace`, but hand out the pieces as they are found, in order, and keep none.

    For paths with more pieces than one wants to hold; `implreg.measures.streamed` computes measures
    this way. A path of a polyline comes as its segments one by one, each with positions from 0 to
    1: `Part.path` counts segments.

    Args:
        net: as `trace` takes it: a module in eval mode, or its program.
        paths: as `trace` takes them.
        dtype: of the arithmetic, `torch.float64` or `torch.float32`, whose rounding hides switches
            on short paths.
        output: which of several tensors that it returns, or the name of an inner module, see
            `read`.
        outputs: numbers of the entries of it that are kept, such as two logits of a thousand; all
            by default. An empty list asks for the switches alone, which is quicker; then nothing is
            compared.
        memory: bound on the working set, in bytes or as "512MB", besides the network; half of the
            free memory by default.
        progress: show a progress bar; by default only if the work takes longer than two seconds.

    Returns:
        Parts in the order of the paths; a long path comes in several.

    Raises:
        InputError: as `trace`.
        ArithmeticError: as `trace`, behind the last part.

    >>> import implreg as ir
    >>> parts = stream(ir.mlp(3, 50, 1, seed=0), (torch.ones(2, 3), -torch.eye(3)[:2]))
    >>> sum(len(part.finished) for part in parts)  # paths
    2
    """
    return iter(
        Tracer(
            net,
            paths,
            dtype=dtype,
            output=output,
            outputs=outputs,
            memory=memory,
            progress=progress,
        )
    )


class Tracer:
    """One call of `trace` or `stream`: checked arguments, the parts, and how to join them."""

    def __init__(
        self,
        net: nn.Module | Program,
        paths: Paths,
        *,
        dtype: torch.dtype,
        output: Output = None,
        outputs: Sequence[int] | None = None,
        memory: int | str | None = None,
        progress: bool | None = None,
    ) -> None:
        if dtype not in MISMATCH:
            raise InputError(
                f"dtype must be torch.float64 or torch.float32, got {dtype}; choose one of them."
            )
        if isinstance(net, Program) and output is not None:
            raise InputError(
                f"output must be left out where net is a program, got {output!r}; read the network "
                f"with it."
            )
        own = net if isinstance(net, Program) else Network(net, dtype, output)
        device = own.device
        self.x0, self.x1, self.segments = segments(paths, dtype)
        if device not in (None, self.x0.device):
            raise InputError(
                f"paths must be on the device of the network, {device}, got {self.x0.device}; move "
                f"them with x.to({str(device)!r})."
            )
        self.network = None if isinstance(own, Program) else own
        self.program = own if isinstance(own, Program) else record(own, self.x0[0])
        if self.program.dtype != dtype:
            raise InputError(
                f"dtype must be that of the program, {self.program.dtype}, got {dtype}; read the "
                f"network again with that dtype."
            )
        shape, expected = tuple(self.x0.shape[1:]), self.program.input_shape
        if shape != expected:
            raise InputError(
                f"paths must hold samples of shape {expected}, which the program was read with, "
                f"got {shape}; reshape them or read the network again."
            )
        if not self.program.size(self.program.output):
            raise InputError("net must return at least one number per sample, got none; mend it.")
        self.outputs = None
        if outputs is not None:
            self.program, self.outputs = self.program.chosen(outputs), tuple(outputs)
        held = self.network.tensors.values() if self.network else ()
        self._tensors = tuple((tensor, writes(tensor)) for tensor in held)
        self._bounds = bounds(self.program, memory)
        self._progress = progress

    def __iter__(self) -> Iterator[Part]:
        with torch.no_grad():
            check = _Comparison(self)
            total = len(self.x0)
            with progress_bar(
                total,
                self._progress,
                desc="tracing",
                unit="path" if self.segments == 1 else "segment",
                bar_format="{l_bar}{bar}| {n:.3g}/{total_fmt} [{elapsed}<{remaining}]",
            ) as bar:
                for part in Refiner(self.program, self.x0, self.x1, self._bounds).parts():
                    check.see(part)
                    yield part
                    ended = len(part.finished) > 0
                    done = part.finished[-1] + 1 if ended else part.path[-1] + part.start[-1]
                    bar.update(float(done) - bar.n)
            check.conclude()

    def joined(self, parts: list[Part]) -> Trace:
        """The trace of the paths that these parts finish."""
        number = self.segments
        ends = torch.cat([part.ends for part in parts])
        lanes = len(ends) // number * number
        columns = _concatenated(parts, "path start site unit gaps slopes values")
        pieces = int((columns[0] < lanes).sum())
        lane, start, site, unit, gaps, slopes, values = (x[:pieces] for x in columns)
        path, segment = lane // number, lane % number
        t = segment + start
        real = site >= 0
        sites = torch.tensor(self.program.sites, dtype=torch.int64, device=t.device)
        return Trace(
            t=t[real],
            path=path[real],
            segment=segment[real],
            layer=torch.searchsorted(sites, site[real]),
            unit=unit[real],
            gaps=gaps[real],
            piece_start=t,
            slopes=slopes,
            values=values,
            ends=ends[:lanes][number - 1 :: number],
            lengths=(self.x1 - self.x0).flatten(1).norm(dim=1)[:lanes],
            layers=tuple(self.program.operations[i].name for i in self.program.sites),
            outputs=self.outputs,
            source=Source(self.program, self.x0[:lanes], self.x1[:lanes], self._tensors),
        )

    def interrupted(self, parts: list[Part]) -> Interrupted:
        """The exception that keeps what these parts hold."""
        finished = sum(len(part.finished) for part in parts) // self.segments
        if not parts:
            return Interrupted(None, pd.DataFrame(), 0.0)
        lane, start, site, unit, gaps = _concatenated(parts, "path start site unit gaps")
        real = site >= 0
        path, t = lane // self.segments, lane % self.segments + start
        names = [self.program.operations[i].name for i in site[real].tolist()]
        table = switch_table(path[real], t[real], names, unit[real], gaps[real])
        reached = float(t[-1]) if int(path[-1]) >= finished else 0.0
        return Interrupted(self.joined(parts) if finished else None, table, reached)


def _concatenated(parts: list[Part], names: str) -> list[Tensor]:
    return [torch.cat([getattr(part, name) for part in parts]) for name in names.split()]


def progress_bar(total: int, progress: bool | None, **look: Any) -> "tqdm[Any]":
    """A bar as `progress` of `trace` asks for it, on the error stream."""
    return tqdm(
        total=total,
        disable=None if progress is None else not progress,
        delay=_DELAY if progress is None else 0,
        **look,
    )


class _Comparison:
    """Values at random points of some paths: the network's own against the traced ones."""

    def __init__(self, tracer: Tracer) -> None:
        x0, x1, self._program = tracer.x0, tracer.x1, tracer.program
        random = torch.Generator().manual_seed(0)
        paths = len(x0)
        chosen = torch.randperm(paths, generator=random)[:_CHECKED].sort().values
        self._path = chosen.repeat_interleave(_POINTS).to(x0.device)
        t = torch.rand(len(self._path), generator=random, dtype=torch.float64)
        self._t = t.to(device=x0.device, dtype=x0.dtype)
        way = x1[self._path] - x0[self._path]
        points = x0[self._path] + self._t.view(-1, *[1] * (x0.ndim - 1)) * way
        self._points, self._network = points, tracer.network
        self._outputs = slice(None) if tracer.outputs is None else list(tracer.outputs)
        try:
            own = self._call(points.clone())
        except Exception as error:
            raise InputError(
                f"net must take any number of samples at once, but it fails on "
                f"{points.shape[0]} of them with {type(error).__name__}: "
                f"{first_line(error)}; write no number of samples into its forward."
            ) from error
        if own.shape[0] != points.shape[0]:
            raise InputError(
                f"net must return one row per sample, got {own.shape[0]} rows for "
                f"{points.shape[0]} samples; keep the first axis for the samples."
            )
        self._own = self._kept(own)
        self._seen = torch.full_like(self._own, torch.nan)
        self._scale = self._own.abs().amax((0, 1)) if self._own.numel() else self._own.new_zeros(())

    def _call(self, x: Tensor) -> Tensor:
        if self._network is None:
            return self._program.values(x)[self._program.output]
        return self._network(x)

    def _kept(self, made: Tensor) -> Tensor:
        """Of what the network returns the outputs that are traced."""
        return flat(made) if self._network is None else flat(made)[:, self._outputs]

    def see(self, part: Part) -> None:
        """Note the outputs at those points that the part reaches."""
        if not part.values.numel():
            return
        self._scale = torch.maximum(self._scale, part.values.abs().max())
        keys, wanted = 2.0 * part.path + part.start, 2.0 * self._path + self._t
        piece = torch.searchsorted(keys, wanted, right=True) - 1
        reached = (piece >= 0) & (part.path[piece.clamp(min=0)] == self._path)
        piece = piece[reached]
        since = self._t[reached] - part.start[piece]
        self._seen[reached] = part.values[piece] + since[:, None] * part.slopes[piece]

    def conclude(self) -> None:
        """Raise if the traced values are not the network's own."""
        if not self._own.numel() or self._agrees(self._seen):
            return
        # The network's own outputs may be no better: see what the last digits of the input change.
        random = torch.Generator(self._points.device).manual_seed(0)
        nudge = torch.empty_like(self._points).bernoulli_(generator=random) - 0.5
        nudged = self._points * (1 + 4 * torch.finfo(nudge.dtype).eps * nudge)
        again, other = (self._kept(self._call(x)) for x in (self._points.clone(), nudged))
        noise = _ROUGH * (other - self._own).abs().max()
        if self._own.abs().max() <= noise:  # zero up to rounding, and as rough as its terms
            rough = roughness(self._program, self._points, output=True)[self._program.output]
            noise = noise.maximum(_ROUGH * rough.max())
        if torch.equal(again, self._own) and bool((self._seen - self._own).abs().max() <= noise):
            return
        read = flat(self._program.values(self._points)[self._program.output])
        why = (
            "this is a fault of implreg, please report it"
            if self._agrees(read)
            else "its operations, run again, do not give its outputs: look for random numbers, "
            "state that changes from call to call, or writing into views"
        )
        error = (self._seen - self._own).abs().max()
        raise ArithmeticError(
            f"the trace gives outputs {float(error):.3g} away from the network's own (scale "
            f"{float(self._scale):.3g}), so that no number of it can be trusted; {why}."
        )

    def _agrees(self, found: Tensor) -> bool:
        scale = torch.maximum(self._scale, found.abs().max())
        return bool((found - self._own).abs().max() <= MISMATCH[found.dtype] * scale)
