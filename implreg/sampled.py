r"""The measures as they come out of evenly spaced samples of a path, without its breakpoints.

The released program of Kubo et al. (2019), as described in the book, does not look for breakpoints:
it takes T positions :math:`t_k = k / (T-1)`, ends included, and computes at each of them the
activation pattern (which side of its kink every hidden unit is on, which entry wins every pooling
window) and the slope :math:`s_k`. With

.. math:: n_k = \text{number of units whose pattern differs between } t_k \text{ and } t_{k+1}

and :math:`M = \sum_k n_k`, its estimates for one output on one path are

.. math::
    \sigma_\mathrm{gap}^2 = \frac1K \sum_{k:\, n_k > 0} \frac{(s_{k+1} - s_k)^2}{n_k}, \qquad
    \beta = \frac{2}{\sqrt M} \Big(s_\mathrm{mid} - \frac{s_0 + s_{T-1}}{2}\Big),

K the number of intervals with a switch; :math:`\sigma_\mathrm{bridge}` is the standard deviation of
:math:`\beta` over paths and outputs. Three traits tell them from `implreg.measures`:

1. *Merging.* Switches inside one interval merge into one gap, and a unit that switches there and
   back is not seen; the finer the samples, the rarer.
2. *The index of the middle* (`index`). Let interval :math:`i_j` (counted from 0) be the j-th one
   that contains a switch (counted from 1), and j the smallest number with
   :math:`n_{i_1} + \dots + n_{i_j} \ge \lfloor M/2 \rfloor`, so that j = 0 if M < 2. The slope
   after half of the switches is :math:`s_{i_j + 1}` ("corrected"; :math:`s_0` for j = 0), as in
   `implreg.mid_path_deflection`. The released program looks up :math:`s_j` ("released"), which is
   sure to be the same only where no interval before is empty.
3. *Biases in the slope* (`biases`). The direction :math:`D = X_1 - X_0` is sent through the layers
   with their biases and normalisation shifts, which gives :math:`J D + (f(X_t) - J X_t)`, J the
   Jacobian at :math:`X_t`, instead of the slope :math:`J D`.

`sampled` does all at once; `sample` and `Samples.estimate` do it in two steps, for several settings
on one network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from implreg.checks import check_choice, check_count
from implreg.errors import InputError
from implreg.measures import pool
from implreg.tracing import Paths, Program
from implreg.tracing.kinds import Affine, Hinges, Operation, Windows
from implreg.tracing.memory import chunk_bytes, memory_bytes
from implreg.tracing.network import Network, Output
from implreg.tracing.trace import MISMATCH, Tracer, progress_bar

Index = Literal["released", "corrected"]

_INDICES = ("released", "corrected")
_FEWEST = 8  # positions of a chunk where memory allows; one of them is in two chunks
_COMPARED = 8  # positions whose outputs are compared with the network's own


@dataclass(frozen=True)
class Sampled:
    r"""What samples say of paths; see `sampled`.

    Attributes:
        switches: M, the sum of all :math:`n_k`, int64, (P,).
        intervals: K, the number of intervals with a switch, int64, (P,).
        gap_deviation: :math:`\sigma_\mathrm{gap}`, (P, C); NaN without a switch.
        mid_path_deflection: slope after half of the switches minus the mean of the first and the
            last slope, (P, C).
        lengths: Euclidean length of each path, (P,).

    Float tensors have the type of the arithmetic, slopes are per unit of t.

    >>> one = torch.ones(1, 1)
    >>> known = Sampled(torch.tensor([16]), torch.tensor([9]), 3 * one, 2 * one, one[0])
    >>> known.deflection.item()  # of 16 switches with gaps of size 3
    6.0
    """

    switches: Tensor
    intervals: Tensor
    gap_deviation: Tensor
    mid_path_deflection: Tensor
    lengths: Tensor = field(repr=False)

    def __len__(self) -> int:
        """Number of paths, P."""
        return len(self.switches)

    @property
    def deflection(self) -> Tensor:
        r""":math:`\delta = \sigma_\mathrm{gap} \sqrt M / 2`, (P, C); 0 without a switch."""
        return self.gap_deviation.nan_to_num(nan=0.0) * self._root_switches / 2

    def bridge_deviation(self) -> float:
        r"""Bridge estimate :math:`\sigma_\mathrm{bridge}` of the gap deviation, one number.

        .. math:: \operatorname{std} \frac{2}{\sqrt M} \Big(s_\mathrm{mid}-\frac{s_0+s_{T-1}}2\Big)

        over paths and outputs, as `implreg.bridge_deviation`: paths without a switch are left out
        (NaN if there is no other).
        """
        bends = self.switches > 0
        scaled = self.mid_path_deflection[bends] / (self._root_switches[bends] / 2)
        return float(scaled.std(correction=0)) if len(scaled) else float("nan")

    def per_unit_length(self) -> "Sampled":
        """The same with slopes divided by the length of their path, as `Trace.per_unit_length`."""
        return replace(
            self,
            gap_deviation=self.gap_deviation / self.lengths[:, None],
            mid_path_deflection=self.mid_path_deflection / self.lengths[:, None],
        )

    def summary(self) -> dict[str, float]:
        """Each measure as one number, under the names of `implreg.measures.summary`.

        Measures per path and output are pooled (`implreg.pool`); switches and intervals are means
        over paths.

        Returns:
            "switches", "intervals", "gap_deviation", "deflection", "bridge_deviation" and
            "mid_path_deflection".
        """
        return {
            "switches": float(self.switches.double().mean()),
            "intervals": float(self.intervals.double().mean()),
            "gap_deviation": pool(self.gap_deviation),
            "deflection": pool(self.deflection),
            "bridge_deviation": self.bridge_deviation(),
            "mid_path_deflection": pool(self.mid_path_deflection),
        }

    @property
    def _root_switches(self) -> Tensor:
        return self.switches.to(self.gap_deviation).sqrt()[:, None]


@dataclass(frozen=True)
class Samples:
    r"""Pattern changes and slopes at T evenly spaced positions of P paths; see `sample`.

    Attributes:
        counts: :math:`n_k`, the units whose pattern differs between neighbours, int64, (P, T - 1).
        slopes: :math:`J D` at every position, (P, T, C).
        slopes_with_offsets: :math:`J D + (f(X_t) - J X_t)` at every position, (P, T, C).
        values: outputs at every position, (P, T, C).
        lengths: Euclidean length of each path, (P,).
        growth: :math:`r_0` and :math:`r_1`, see `sampled`, (P, 2); None without `initial`.

    Float tensors have the type of the arithmetic, slopes are per unit of t.

    >>> import implreg as ir
    >>> samples = sample(ir.mlp(3, 9, 1, seed=0), (torch.ones(1, 3), torch.eye(3)[:1]), points=5)
    >>> samples.t.tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    counts: Tensor
    slopes: Tensor
    slopes_with_offsets: Tensor
    values: Tensor
    lengths: Tensor
    growth: Tensor | None = None

    def __len__(self) -> int:
        """Number of paths, P."""
        return len(self.counts)

    @property
    def t(self) -> Tensor:
        """The positions, (T,)."""
        return _positions(self.slopes.shape[1]).to(self.slopes)

    def raw(self) -> "Samples":
        """The same without normalisation."""
        return replace(self, growth=None)

    def estimate(self, *, index: Index = "released", biases: bool = True) -> Sampled:
        r"""The estimates; see `sampled` for what they are.

        Slopes at :math:`X_t` are divided by :math:`(1-t) r_0 + t r_1` if there is a `growth`.

        Args:
            index: "released" or "corrected", where the slope after half of the switches is.
            biases: whether slopes are those with offsets.

        Raises:
            InputError: `index` has another value.
        """
        check_choice("index", index, _INDICES)
        s = self.slopes_with_offsets if biases else self.slopes
        if self.growth is not None:
            t, (r0, r1) = self.t, self.growth[:, :, None].unbind(1)
            s = s / ((1 - t) * r0 + t * r1)[..., None]

        bent = self.counts > 0
        switches, intervals = self.counts.sum(1), bent.sum(1)
        merged = s.diff(dim=1).square() / self.counts.clamp(min=1)[..., None]
        variance = (merged * bent[..., None]).sum(1) / intervals[:, None]

        half = (switches // 2)[:, None]
        interval = torch.searchsorted(self.counts.cumsum(1), half)
        # Before the first switch the search ends in the first interval: there j is 0.
        position = interval + 1 if index == "corrected" else bent.cumsum(1).gather(1, interval)
        position = torch.where(half > 0, position, 0)[:, 0]
        middle = s[torch.arange(len(s), device=s.device), position]
        return Sampled(
            switches=switches,
            intervals=intervals,
            gap_deviation=variance.sqrt(),
            mid_path_deflection=middle - (s[:, 0] + s[:, -1]) / 2,
            lengths=self.lengths,
        )


def sampled(
    net: nn.Module | Program,
    paths: Paths,
    *,
    points: int = 1000,
    index: Index = "released",
    biases: bool = True,
    initial: nn.Module | Program | None = None,
    dtype: torch.dtype = torch.float64,
    output: Output = None,
    memory: int | str | None = None,
) -> Sampled:
    r"""Estimate how strongly paths bend as the released program does, from samples.

    The defaults are what the released program computes;
    `sampled(..., index="corrected", biases=False)` is the estimator without the two traits that are
    no matter of how fine the samples are: with rising `points` it becomes `implreg.measures` of the
    exact trace, and equals them once no interval holds two switches.

    Args:
        net: as `implreg.trace` takes it: a module in eval mode, or its program.
        paths: straight ones, as `implreg.trace` takes them.
        points: T, how many positions are taken on each path, ends included; at least 3.
        index: where the slope after half of the switches is looked up: at the position behind that
            interval ("corrected"), or at the number of intervals with a switch up to it, taken as a
            position ("released").
        biases: send the direction through the layers with their biases and normalisation shifts.
        initial: the network at initialisation. With it, slopes at :math:`X_t` are divided by
            :math:`(1-t) r_0 + t r_1`, :math:`r_i = \|f(X_i)\| / \|f_\mathrm{init}(X_i)\|`.
        dtype: of the arithmetic, `torch.float64` or `torch.float32`.
        output: which of several outputs, or the name of an inner module, see `implreg.read`.
        memory: bound on the working set, in bytes or as "512MB", besides the network and the
            result; half of the free memory by default.

    Returns:
        P paths, C outputs, in the type of the arithmetic. Slopes are derivatives by t, see
        `Sampled.per_unit_length`.

    Raises:
        InputError: as `implreg.trace`; polylines; fewer than three points; another `index`; a zero
            output vector at an end, where `initial` is given; too little memory for two points.
        ArithmeticError: sampled and actual outputs differ: the network is not what it seemed.

    Source: the released program of Kubo et al. (2019), as described in the book.

    >>> import implreg as ir
    >>> net, ends = ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1])
    >>> fine = sampled(net, ends, points=10_001, index="corrected", biases=False)
    >>> trace = ir.trace(net, ends)
    >>> bool((fine.switches == trace.switches).all())
    True
    >>> bool(torch.allclose(fine.gap_deviation, ir.gap_deviation(trace)))
    True
    """
    check_choice("index", index, _INDICES)
    how: Any = {"dtype": dtype, "output": output, "memory": memory}
    samples = sample(net, paths, points=points, initial=initial, **how)
    return samples.estimate(index=index, biases=biases)


def sample(
    net: nn.Module | Program,
    paths: Paths,
    *,
    points: int = 1000,
    initial: nn.Module | Program | None = None,
    dtype: torch.dtype = torch.float64,
    output: Output = None,
    memory: int | str | None = None,
    progress: bool | None = None,
) -> Samples:
    r"""Pattern changes and slopes at evenly spaced positions of paths, for `Samples.estimate`.

    A unit's pattern is whether its pre-activation is above the kink; every kink of an activation
    with several counts by itself. A pooling window's pattern is which entry is the largest; it
    differs between two positions if no entry is the largest at both, so that entries that tie
    (zeros from a ReLU) are one winner, as in `implreg.trace`.

    Args:
        net: as `implreg.trace` takes it: a module in eval mode, or its program.
        paths: straight ones, as `implreg.trace` takes them.
        points: T, how many positions are taken on each path, ends included; at least 3.
        initial: the network at initialisation, for `Samples.growth`; see `sampled`.
        dtype: of the arithmetic, `torch.float64` or `torch.float32`.
        output: which of several outputs, or the name of an inner module, see `implreg.read`.
        memory: bound on the working set, in bytes or as "512MB", besides the network and the
            result; half of the free memory by default.
        progress: show a progress bar; by default only if the work takes longer than two seconds.

    Raises:
        InputError: as `sampled`.
        ArithmeticError: sampled and actual outputs differ: the network is not what it seemed.

    >>> import implreg as ir
    >>> net, ends = ir.mlp(3, 50, 2, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1])
    >>> samples = sample(net, ends, points=100)
    >>> samples.counts.shape, samples.slopes.shape
    (torch.Size([1, 99]), torch.Size([1, 100, 2]))
    >>> bool((samples.estimate(index="corrected").switches == samples.counts.sum(1)).all())
    True
    """
    check_count("points", points, at_least=3)
    tracer = _straight(net, paths, dtype, output)
    program, x0, x1 = tracer.program, tracer.x0, tracer.x1
    limit = _rows(program, memory)
    with torch.no_grad():
        growth = None
        if initial is not None:
            initially = _straight(initial, paths, dtype, output).program
            growth = _growth(program, initially, x0, x1, limit)
        rows, outputs = len(x0) * points, program.size(program.output)
        counts = torch.zeros(rows, dtype=torch.int64, device=x0.device)
        slopes, with_offsets, values = x0.new_empty(3, rows, outputs).unbind()
        walk = _Walk(program, x0, x1, points)
        with progress_bar(rows, progress, desc="sampling", unit="position") as bar:
            for start in range(0, rows - 1, limit - 1):  # neighbouring chunks share a position
                here = slice(start, min(start + limit, rows))
                differ, moving = walk.chunk(here)
                counts[here.start : here.stop - 1] = differ
                slopes[here], with_offsets[here] = moving.way.flatten(1), moving.shifted.flatten(1)
                values[here] = moving.at.flatten(1)
                bar.update(here.stop - bar.n)
        shape = (len(x0), points, outputs)
        samples = Samples(
            counts.view(-1, points)[:, :-1].contiguous(),
            slopes.view(shape),
            with_offsets.view(shape),
            values.view(shape),
            (x1 - x0).flatten(1).norm(dim=1),
            growth,
        )
        if tracer.network is not None:
            _compare(tracer.network, x0, x1, samples)
    return samples


@dataclass(frozen=True)
class _Moving:
    """A value of a program at N positions and what a direction becomes on the way to it.

    Attributes:
        at: the value itself, (N, *shape).
        way: the direction, sent through the layers without biases, (N, *shape).
        shifted: the direction, sent through the layers with their biases, (N, *shape); the same
            tensor as `way` in a network without.
    """

    at: Tensor
    way: Tensor
    shifted: Tensor


class _Walk:
    """Positions of paths, by path and then along it, sent through a program a chunk at a time."""

    def __init__(self, program: Program, x0: Tensor, x1: Tensor, points: int) -> None:
        self._program, self._x0, self._x1, self._points = program, x0, x1, points
        self._t = _positions(points).to(x0)
        # Up to the first operation that switches all is linear: the ends of the paths are enough.
        self._bent = min(program.sites, default=len(program.operations))
        self._plain = not any(map(_adds, program.operations))

    def chunk(self, rows: slice) -> tuple[Tensor, _Moving]:
        """Units whose patterns differ between neighbouring rows, (N - 1,), and the output.

        Between the last row of a path and the first of the next one the number means nothing.
        """
        row = torch.arange(rows.start, rows.stop, device=self._x0.device)
        found = self._unbent(row // self._points, self._t[row % self._points])
        differ = torch.zeros(len(row) - 1, dtype=torch.int64, device=row.device)
        operations = self._program.operations
        for i in range(self._bent, len(operations)):
            operation = operations[i]
            taken = [found[v] for v in operation.inputs]
            if isinstance(operation, Affine):
                found[i + 1] = self._affine(operation, taken)
            elif isinstance(operation, Hinges):
                found[i + 1] = _hinges(operation, taken[0], differ)
            else:
                found[i + 1] = _windows(operation, taken[0], differ)
            self._drop(found, i)
        return differ, found[self._program.output]

    def _unbent(self, path: Tensor, t: Tensor) -> dict[int, _Moving]:
        """What the operations that switch and those behind them take, at positions of paths."""
        first, last = int(path[0]), int(path[-1]) + 1
        path = path - first
        x0, x1 = self._x0[first:last], self._x1[first:last]
        way = x1 - x0
        found = {0: _Moving(torch.cat([x0, x1]), way, way)}  # two rows of values for each path
        for i, operation in enumerate(self._program.operations[: self._bent]):
            assert isinstance(operation, Affine)
            found[i + 1] = self._affine(operation, [found[v] for v in operation.inputs])
            self._drop(found, i)

        def spread(end: _Moving) -> _Moving:
            here = t.view(-1, *[1] * (end.at.ndim - 1))
            at = (1 - here) * end.at[path] + here * end.at[path + (last - first)]
            way = end.way[path]
            return _Moving(at, way, way if self._plain else end.shifted[path])

        return {v: spread(end) for v, end in found.items()}

    def _affine(self, operation: Affine, taken: Sequence[_Moving]) -> _Moving:
        def shaped(made: Tensor) -> Tensor:
            return made.reshape(len(made), *operation.shape)

        way = shaped(operation.linear(*[x.way for x in taken]))
        return _Moving(
            shaped(operation.value(*[x.at for x in taken])),
            way,
            way if self._plain else shaped(operation.value(*[x.shifted for x in taken])),
        )

    def _drop(self, found: dict[int, _Moving], i: int) -> None:
        """Forget what no operation behind the i-th one reads."""
        for value in [v for v in found if self._program.last_use[v] <= i]:
            del found[value]


def _hinges(operation: Hinges, x: _Moving, differ: Tensor) -> _Moving:
    """Every entry on its side of the kinks; adds to `differ` the changes between neighbours."""
    on = [x.at > at for at, _ in operation.kinks]
    for above in on:
        differ += _count(above[1:] != above[:-1])
    way = x.way * operation.factor(on, x.way.dtype)
    shifted = way if x.shifted is x.way else operation.value(x.shifted, on)
    return _Moving(operation.value(x.at, on), way, shifted)


def _windows(operation: Windows, x: _Moving, differ: Tensor) -> _Moving:
    """The winner of every window; adds to `differ` the windows whose neighbours share none."""
    index = operation.index
    entries = x.at.flatten(1)[:, index]  # (N, windows, w)
    largest, winner = entries.max(dim=-1)
    top = entries == largest[..., None]
    differ += _count(~(top[1:] & top[:-1]).any(dim=-1))
    entry = index[torch.arange(len(index), device=index.device), winner]  # (N, windows)

    def won(moving: Tensor) -> Tensor:
        return moving.flatten(1).gather(1, entry).view(-1, *operation.shape)

    way = won(x.way)
    shifted = way if x.shifted is x.way else won(x.shifted)
    return _Moving(largest.view(-1, *operation.shape), way, shifted)


def _count(true: Tensor) -> Tensor:
    return true.flatten(1).sum(dim=1)


def _adds(operation: Operation) -> bool:
    """Whether an operation adds a constant to what it makes of a direction."""
    if isinstance(operation, Affine):
        return operation.bias is not None and bool((operation.bias != 0).any())
    if isinstance(operation, Hinges):
        return bool(operation.offset) or any(at for at, _ in operation.kinks)
    return False


def _positions(points: int) -> Tensor:
    return torch.linspace(0, 1, points, dtype=torch.float64)


def _straight(net: nn.Module | Program, paths: Paths, dtype: torch.dtype, output: Output) -> Tracer:
    """The program of the network, starts and ends of the paths, all checked as in `trace`."""
    checked = Tracer(net, paths, dtype=dtype, output=output)
    if checked.segments > 1:
        raise InputError(
            f"paths must be straight to be sampled, got polylines of {checked.segments} segments; "
            f"pass each segment as a path of its own, two tensors (x0, x1)."
        )
    return checked


def _compare(net: Network, x0: Tensor, x1: Tensor, samples: Samples) -> None:
    """Raise if the values at a few positions are not the network's own."""
    t, values = samples.t, samples.values
    allowed = MISMATCH[values.dtype] * values.abs().max()
    rows = torch.linspace(0, len(values) * len(t) - 1, _COMPARED, dtype=torch.float64)
    for row in rows.long().unique().tolist():
        path, position = divmod(row, len(t))
        own = net(torch.lerp(x0[path], x1[path], t[position])[None]).flatten()
        off = (own - values[path, position]).abs().max()
        if not off <= allowed:
            raise ArithmeticError(
                f"the samples belong to outputs {float(off):.3g} away from the network's own, so "
                f"that no number of them can be trusted; look for random numbers or state that "
                f"changes from call to call in the network."
            )


def _growth(program: Program, initial: Program, x0: Tensor, x1: Tensor, limit: int) -> Tensor:
    """How many times as large the outputs at both ends are as at initialisation, (P, 2)."""
    if (now := program.size(program.output)) != (then := initial.size(initial.output)):
        raise InputError(
            f"initial must be the network at initialisation, with its {now} outputs, got one with "
            f"{then}; pass the same network before training."
        )

    def sizes(of: Program) -> Iterator[Tensor]:
        for x in (x0, x1):
            outputs = [of.values(part)[of.output] for part in x.split(limit)]
            yield torch.cat(outputs).flatten(1).norm(dim=1)

    trained, untrained = (torch.stack([*sizes(of)], dim=1) for of in (program, initial))
    if not bool(((trained > 0) & (untrained > 0)).all()):
        raise InputError(
            "net and initial must have outputs that are not zero at both ends of every path; leave "
            "out the pairs where they are, or do without initial."
        )
    return trained / untrained


def _rows(program: Program, memory: int | str | None) -> int:
    """How many positions a chunk may hold, at least two."""
    item = torch.empty((), dtype=program.dtype).element_size()
    widest = most = 1
    for i, operation in enumerate(program.operations):
        alive = sum(program.size(v) for v in range(i + 1) if program.last_use[v] >= i)
        made = prod(operation.shape)
        if isinstance(operation, Windows):
            made += operation.index.numel()
        widest, most = max(widest, made), max(most, alive + 3 * made)
    each = 2 * 3 * item * most  # value and two directions; the ends of its path besides
    bounded = memory_bytes(memory, program.device, 2 * each, "at two positions")
    chunk = chunk_bytes(program.device) // (item * widest)
    return max(2, min(max(_FEWEST, chunk), bounded // each))
