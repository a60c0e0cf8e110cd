r"""The released program's estimator: the measures from evenly spaced samples of a path.

The released program of Kubo et al. (2019), as the book describes it, does not look for breakpoints:
it takes T positions :math:`t_k = k / (T-1)`, ends included, and computes at each of them the
activation pattern (which side of its kink every hidden unit is on) and :math:`F_k`, what the layers
make of the direction :math:`D = X_1 - X_0`. With

.. math:: n_k = \text{number of units whose pattern differs between } t_k \text{ and } t_{k+1},

:math:`S = \sum_k n_k`, and :math:`y_k = f(X_{t_k}) / l_k`, :math:`s_k = F_k / l_k` for a normaliser
:math:`l_k = (1-t_k) r_0 + t_k r_1`, its estimates for one output on one path are

.. math::
    h^2 = \frac1K \sum_{k:\, n_k > 0} \frac{(s_{k+1} - s_k)^2}{n_k}, \qquad
    \beta = \frac{2}{\sqrt S} \Big(s_\mathrm{mid} - \frac{s_0 + s_{T-1}}{2}\Big),

K the number of intervals with a switch. Of a network it gives :math:`\sigma_\mathrm{gap}`, the mean
of h over paths and outputs, :math:`\sigma_\mathrm{bridge}`, the standard deviation of
:math:`\beta`, and :math:`\delta = \sigma \sqrt{\bar S} / 2` of either, with the mean of S over
paths.

What tells these numbers from `implreg.measures` are seventeen traits, P1 to P17 in the book. Each
is a switch: `Traits` has those of the estimate; the other ones are arguments of `sample` and of
what it is given,

* P2 and P10, one switch at most per unit and interval, 1,000 positions for any network: `points`;
* P6, whose outputs the normaliser compares with: `reference`;
* P11, a mean of h beside a standard deviation: comes and goes with P8;
* P12, statistics of batch norm: `implreg.training.fill_statistics`;
* P13, fluctuation of the own class, normalised: `Samples.fluctuation`;
* P14, what error bars are of: the columns of h and of the rows beneath, `Sampled`;
* P15, shared pairs: `implreg.datasets.shared_pairs`;
* P16, max pooling of the direction's own entries: `winners`;
* P17, single precision: `dtype`.

With all of them on it is the program; with all of them off and rising `points` it becomes
`implreg.measures` of the exact trace, and equals them once no interval holds two switches.
"""

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from implreg.checks import check_count, check_norms
from implreg.errors import InputError
from implreg.measures import lead, pool
from implreg.tracing import Paths, Program
from implreg.tracing.kinds import Windows
from implreg.tracing.memory import chunk_bytes, memory_bytes
from implreg.tracing.network import Network, Output
from implreg.tracing.positions import Walk, positions
from implreg.tracing.trace import MISMATCH, Tracer, progress_bar

_FEWEST = 8  # positions of a chunk where memory allows; one of them is in two chunks
_COMPARED = 8  # positions whose outputs are compared with the network's own


@dataclass(frozen=True, kw_only=True)
class Traits:
    r"""What the released program does to its samples, each to be turned off by itself.

    `PROGRAM` has all of them but the seam, `PLAIN` has none.

    Args:
        merging: P1, the mean over intervals of :math:`(s_{k+1} - s_k)^2 / n_k`; else their sum,
            undivided, over S.
        index: P3, the middle of the path: of the intervals with a switch let :math:`c_j` be how
            many switches the first j have, q the first j with :math:`c_j > S / 2`; the slope is
            that at position q - 2 if :math:`S/2 - c_{q-1} < c_q - S/2`, at q - 1 if it is more, and
            their mean if both are equal. Position -1 is the last one. Else the slope behind the
            interval in which :math:`\lfloor S/2 \rfloor` switches are reached.
        offsets: P4, the direction is sent through the layers with their biases and normalisation
            shifts, :math:`F = J D + (f(X) - J X)`, J the Jacobian; else :math:`F = J D`.
        drift: P5, jumps are those of :math:`F_k / l_k`, with the change of the normaliser; else
            :math:`(F_{k+1} - F_k) / l`, l in the middle of the interval, and slopes add them up.
        seam: P7, length of the chunks of positions. The last slope of a chunk is divided by its
            :math:`l` once more before it is subtracted from the first of the next one. None for no
            chunks: in the program 500 in figure 5, none in figures 2 to 4.
        means: P8, :math:`\sigma_\mathrm{gap}` of a network is the mean of h; else their root mean
            square.
        average_switches: P9, :math:`\delta = \sigma \sqrt{\bar S} / 2`; else path by path.

    Raises:
        InputError: a chunk of less than one position.

    >>> Traits(seam=500) == PROGRAM, Traits(index=False).merging
    (False, True)
    """

    merging: bool = True
    index: bool = True
    offsets: bool = True
    drift: bool = True
    seam: int | None = None
    means: bool = True
    average_switches: bool = True

    def __post_init__(self) -> None:
        if self.seam is not None:
            check_count("seam", self.seam)


PROGRAM = Traits()
PLAIN = Traits(
    merging=False, index=False, offsets=False, drift=False, means=False, average_switches=False
)


@dataclass(frozen=True)
class Sampled:
    r"""What samples say of paths; see `sampled`.

    Attributes:
        switches: S, the sum of all :math:`n_k`, int64, (P,).
        intervals: K, the number of intervals with a switch, int64, (P,).
        gap_deviation: h, (P, C); NaN without a switch.
        mid_path_deflection: slope in the middle minus the mean of the first and the last slope,
            (P, C).
        lengths: Euclidean length of each path, (P,).
        traits: how a network's numbers are made of those of its paths.

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
    traits: Traits = field(default=PROGRAM, repr=False)

    def __len__(self) -> int:
        """Number of paths, P."""
        return len(self.switches)

    @property
    def deflection(self) -> Tensor:
        r""":math:`\delta = h \sqrt S / 2`, (P, C); 0 without a switch."""
        return self.gap_deviation.nan_to_num(nan=0.0) * self._half_root

    @property
    def bridge(self) -> Tensor:
        r""":math:`\beta`, the mid-path deflection over :math:`\sqrt S / 2`, (P, C); or NaN."""
        return self.mid_path_deflection / self._half_root.where(self._half_root > 0, torch.nan)

    def bridge_deviation(self) -> float:
        r"""Bridge estimate :math:`\sigma_\mathrm{bridge}` of the gap deviation, one number.

        The standard deviation of :math:`\beta` over paths and outputs, as
        `implreg.bridge_deviation`: paths without a switch are left out (NaN if there is no other).
        """
        found = self.bridge[self.switches > 0]
        return float(found.std(correction=0)) if len(found) else float("nan")

    def per_unit_length(self) -> "Sampled":
        """The same with slopes divided by the length of their path, as `Trace.per_unit_length`."""
        return replace(
            self,
            gap_deviation=self.gap_deviation / self.lengths[:, None],
            mid_path_deflection=self.mid_path_deflection / self.lengths[:, None],
        )

    def summary(self) -> dict[str, float]:
        """Each measure of the network as one number, named as in `implreg.measures.summary`.

        Switches and intervals are means over paths. The other ones follow the traits `means` and
        `average_switches`; without these they are pooled over paths and outputs (`implreg.pool`).

        Returns:
            "switches", "intervals", "gap_deviation", "deflection", "bridge_deviation" and
            "mid_path_deflection", which is the deflection by the bridge estimate.
        """
        bridge, switches = self.bridge_deviation(), float(self.switches.double().mean())
        gap = float(self.gap_deviation.nanmean()) if self.traits.means else pool(self.gap_deviation)
        deflections = (pool(self.deflection), pool(self.mid_path_deflection))
        if self.traits.average_switches:
            deflections = (gap * switches**0.5 / 2, bridge * switches**0.5 / 2)
        return {
            "switches": switches,
            "intervals": float(self.intervals.double().mean()),
            "gap_deviation": gap,
            "deflection": deflections[0],
            "bridge_deviation": bridge,
            "mid_path_deflection": deflections[1],
        }

    @property
    def _half_root(self) -> Tensor:
        return self.switches.to(self.gap_deviation).sqrt()[:, None] / 2


@dataclass(frozen=True)
class Samples:
    r"""Pattern changes and slopes at T evenly spaced positions of P paths; see `sample`.

    Attributes:
        counts: :math:`n_k`, the units whose pattern differs between neighbours, int64, (P, T - 1).
        slopes: :math:`J D` at every position, (P, T, C).
        slopes_with_offsets: :math:`J D + (f(X_t) - J X_t)` at every position, (P, T, C).
        values: outputs at every position, (P, T, C).
        lengths: Euclidean length of each path, (P,).
        growth: :math:`r_0` and :math:`r_1`, see `sample`, (P, 2); None without a reference.

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
        return positions(self.slopes.shape[1]).to(self.slopes)

    def raw(self) -> "Samples":
        """The same without normalisation."""
        return replace(self, growth=None)

    def relative_to(self, norms: Tensor) -> "Samples":
        r"""The same, normalised by :math:`r_i = \|f(X_i)\| / \rho_i`.

        Args:
            norms: :math:`\rho_i` at both ends of each path, (P, 2), all above 0.

        Raises:
            InputError: norms of another shape or not above 0, or an output vector that is zero.
        """
        now = self.values[:, [0, -1]].norm(dim=2)
        if not bool((now > 0).all()):
            raise InputError(
                "net must have outputs that are not zero at both ends of every path to be compared "
                "with a reference; leave out the pairs where they are, or do without reference."
            )
        known = check_norms("reference", norms.detach(), len(self))
        return replace(self, growth=now / known.to(now))

    def estimate(self, traits: Traits = PROGRAM) -> Sampled:
        """The estimates.

        Args:
            traits: what the program does that is to be done; all of it by default.

        >>> import implreg as ir
        >>> net, ends = ir.mlp(3, 90, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1])
        >>> samples = sample(net, ends, points=30)
        >>> early, middle = (samples.estimate(t) for t in (PROGRAM, Traits(index=False)))
        >>> bool(early.mid_path_deflection == middle.mid_path_deflection)
        False
        """
        s, jumps = self._slopes(traits)
        bent = self.counts > 0
        switches, intervals = self.counts.sum(1), bent.sum(1)
        squares = jumps.square() * bent[..., None]
        if traits.merging:
            squares = squares / self.counts.clamp(min=1)[..., None]
        variance = squares.sum(1) / (intervals if traits.merging else switches)[:, None]
        middle = _early(s, self.counts) if traits.index else _middle(s, self.counts)
        return Sampled(
            switches=switches,
            intervals=intervals,
            gap_deviation=variance.sqrt(),
            mid_path_deflection=middle - (s[:, 0] + s[:, -1]) / 2,
            lengths=self.lengths,
            traits=traits,
        )

    def fluctuation(self, labels: Tensor | None = None) -> Tensor:
        r"""The largest distance of :math:`y_k` from the straight line between its ends.

        Args:
            labels: the own class of each path, (P,) int64, whose output alone counts as in the
                program (P13); by default every output.

        Returns:
            (P,) with labels, (P, C) without; at most `implreg.fluctuation`.

        Raises:
            InputError: labels of another shape, or that are no classes.
        """
        y = self._outputs()
        chord = torch.lerp(y[:, :1], y[:, -1:], self.t[:, None])
        found = (y - chord).abs().amax(dim=1)
        if labels is None:
            return found
        own = _check_labels(labels, *found.shape)
        return found.gather(1, own[:, None])[:, 0]

    def edge_margin(self, labels: Tensor) -> Tensor:
        """The mean over both ends of own-class :math:`y` minus the largest other one, (P,).

        Args:
            labels: the own class of each path, (P,) int64; both ends have it.

        Raises:
            InputError: labels of another shape, or that are no classes; a single output.
        """
        y = self._outputs()
        if y.shape[2] < 2:
            raise InputError("net must have two or more outputs for a margin, got one; use such.")
        labels = _check_labels(labels, len(y), y.shape[2])
        return (lead(y[:, 0], labels) + lead(y[:, -1], labels)) / 2

    def _outputs(self) -> Tensor:
        """The values, normalised, (P, T, C)."""
        return self.values if self.growth is None else self.values / self._size(self.t)

    def _size(self, t: Tensor) -> Tensor:
        """The normaliser at positions, (P, T', 1)."""
        if self.growth is None:
            return t.new_ones(1, len(t), 1)
        return torch.lerp(self.growth[:, :1], self.growth[:, 1:], t)[..., None]

    def _slopes(self, traits: Traits) -> tuple[Tensor, Tensor]:
        """Normalised slopes, (P, T, C), and their jumps, (P, T - 1, C)."""
        way, t = self.slopes_with_offsets if traits.offsets else self.slopes, self.t
        size = self._size(t)
        s = way / size
        if not traits.drift:
            jumps = way.diff(dim=1) / self._size((t[1:] + t[:-1]) / 2)
            return torch.cat([s[:, :1], s[:, :1] + jumps.cumsum(1)], dim=1), jumps
        before = s[:, :-1]
        if traits.seam is not None and self.growth is not None:
            before, last = before.clone(), slice(traits.seam - 1, None, traits.seam)
            before[:, last] /= size[:, :-1][:, last]
        return s, s[:, 1:] - before


def _check_labels(labels: Tensor, paths: int, classes: int) -> Tensor:
    """Return labels that hold the number of a class, below `classes`, for each path."""
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype.itemsize < 2)
    inside = labels.shape == (paths,) and bool(((labels >= 0) & (labels < classes)).all())
    if not whole or not inside:
        raise InputError(
            f"labels must hold one whole number from 0 to {classes - 1}, a class, for each of the "
            f"{paths} paths, got shape {tuple(labels.shape)} and dtype {labels.dtype}; pass such "
            f"labels, for example pairs.y0."
        )
    return labels.long()


def _middle(s: Tensor, counts: Tensor) -> Tensor:
    """Of slopes (P, T, C), those behind the interval in which half of the switches are reached."""
    half = (counts.sum(1) // 2)[:, None]
    position = torch.searchsorted(counts.cumsum(1), half) + 1
    # Before the first switch the search ends in the first interval.
    return _at(s, torch.where(half > 0, position, 0)[:, 0])


def _early(s: Tensor, counts: Tensor) -> Tensor:
    """Of slopes (P, T, C), those that the program takes for them, (P, C); see `Traits`."""
    total, done = counts.sum(1, keepdim=True), counts.cumsum(1)
    k = (2 * done > total).int().argmax(dim=1, keepdim=True)  # the first such interval
    q = (counts > 0).cumsum(1).gather(1, k)
    # Twice the distances of half of the switches from what is reached before and behind.
    behind = 2 * done.gather(1, k) - total
    before = 2 * counts.gather(1, k) - behind
    sooner, later = (_at(s, (q - n)[:, 0] % s.shape[1]) for n in (2, 1))
    found = torch.where(before < behind, sooner, later)
    found = torch.where(before == behind, (sooner + later) / 2, found)
    return torch.where(total > 0, found, s[:, 0])


def _at(s: Tensor, position: Tensor) -> Tensor:
    return s[torch.arange(len(s), device=s.device), position]


def sampled(
    net: nn.Module | Program,
    paths: Paths,
    *,
    points: int = 1000,
    traits: Traits = PROGRAM,
    reference: nn.Module | Program | Tensor | None = None,
    winners: bool = False,
    dtype: torch.dtype = torch.float64,
    output: Output = None,
    memory: int | str | None = None,
) -> Sampled:
    r"""Estimate how strongly paths bend as the released program does, from samples.

    Args:
        net: as `implreg.trace` takes it: a module in eval mode, or its program.
        paths: straight ones, as `implreg.trace` takes them.
        points: as of `sample`, which draws what is estimated from.
        traits: what the program does that is to be done; all of it by default.
        reference: as of `sample`.
        winners: as of `sample`.
        dtype: of the arithmetic, `torch.float64` or `torch.float32`, which the program takes.
        output: which of several outputs, or the name of an inner module, see `implreg.read`.
        memory: as of `sample`.

    Returns:
        P paths, C outputs, in the type of the arithmetic. Slopes are derivatives by t, see
        `Sampled.per_unit_length`.

    Raises:
        InputError: as `sample`.
        ArithmeticError: as `sample`.

    Source: the released program of Kubo et al. (2019), as described in the book.

    >>> import implreg as ir
    >>> net, ends = ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1])
    >>> fine = sampled(net, ends, points=10_001, traits=PLAIN)
    >>> trace = ir.trace(net, ends)
    >>> bool((fine.switches == trace.switches).all())
    True
    >>> bool(torch.allclose(fine.gap_deviation, ir.gap_deviation(trace)))
    True
    """
    how: Any = {"reference": reference, "winners": winners, "dtype": dtype, "output": output}
    return sample(net, paths, points=points, memory=memory, **how).estimate(traits)


def sample(
    net: nn.Module | Program,
    paths: Paths,
    *,
    points: int = 1000,
    reference: nn.Module | Program | Tensor | None = None,
    winners: bool = False,
    dtype: torch.dtype = torch.float64,
    output: Output = None,
    memory: int | str | None = None,
    progress: bool | None = None,
) -> Samples:
    r"""Pattern changes and slopes at evenly spaced positions of paths, for `Samples.estimate`.

    A unit's pattern is whether its pre-activation is above the kink; every kink of an activation
    with several counts by itself. A pooling window's pattern, with `winners`, is which entry is the
    largest; it differs between two positions if no entry is the largest at both, so that entries
    that tie (zeros from a ReLU) are one winner, as in `implreg.trace`.

    Args:
        net: as `implreg.trace` takes it: a module in eval mode, or its program.
        paths: straight ones, as `implreg.trace` takes them.
        points: T, how many positions are taken on each path, ends included; at least 3.
        reference: whose outputs count as not grown, for :math:`r_i = \|f(X_i)\| / \rho_i` at
            both ends: a network, with :math:`\rho_i` the norm of its outputs at the same samples,
            such as the same network before training; or the norms themselves, (P, 2), all above 0.
            Without it nothing is normalised, as with :math:`r_i = 1`.
        winners: max pooling keeps of the direction the entry that wins, and each change of winner
            counts as a switch. The program, P16, neither counts these nor keeps them: of the
            direction it takes the maximum, as of a sample.
        dtype: of the arithmetic, `torch.float64` or `torch.float32`.
        output: which of several outputs, or the name of an inner module, see `implreg.read`.
        memory: bound on the working set, in bytes or as "512MB", besides the network and the
            result; half of the free memory by default.
        progress: show a progress bar; by default only if the work takes longer than two seconds.

    Raises:
        InputError: as `implreg.trace`; polylines; fewer than three points; norms of another shape
            or not above 0; a zero output vector at an end, where there is a reference; too little
            memory for two points.
        ArithmeticError: sampled and actual outputs differ: the network is not what it seemed.

    >>> import implreg as ir
    >>> net, ends = ir.mlp(3, 50, 2, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1])
    >>> samples = sample(net, ends, points=100)
    >>> samples.counts.shape, samples.slopes.shape
    (torch.Size([1, 99]), torch.Size([1, 100, 2]))
    >>> bool((samples.estimate().switches == samples.counts.sum(1)).all())
    True
    """
    check_count("points", points, at_least=3)
    tracer = _straight(net, paths, dtype, output)
    program, x0, x1 = tracer.program, tracer.x0, tracer.x1
    limit = _rows(program, memory)
    with torch.no_grad():
        rows, outputs = len(x0) * points, program.size(program.output)
        counts = torch.zeros(rows, dtype=torch.int64, device=x0.device)
        slopes, with_offsets, values = x0.new_empty(3, rows, outputs).unbind()
        walk = Walk(program, x0, x1, points, winners)
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
        )
        if tracer.network is not None:
            _compare(tracer.network, x0, x1, samples)
        if isinstance(reference, nn.Module | Program):
            reference = _norms(reference, paths, tracer, limit)
    return samples if reference is None else samples.relative_to(reference)


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


def _norms(reference: nn.Module | Program, paths: Paths, of: Tracer, limit: int) -> Tensor:
    """The norms of the outputs of a reference at both ends, (P, 2)."""
    program = _straight(reference, paths, of.x0.dtype, None).program
    found = []
    for x in (of.x0, of.x1):
        outputs = [program.values(part)[program.output] for part in x.split(limit)]
        found.append(torch.cat(outputs).flatten(1).norm(dim=1))
    return torch.stack(found, dim=1)


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
