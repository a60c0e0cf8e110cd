r"""Numbers that say how strongly a traced path bends.

Notation, for one output on one path with :math:`M` switches: slopes :math:`s_0, \dots, s_M`,
gradient gaps :math:`g_i = s_i - s_{i-1}`. Unless they say otherwise, measures return one number per
path and output, a float64 tensor of shape (P, C), in the units of the trace: use
`trace.per_unit_length()` for slopes per unit length and `normalize` for the normalised variants.

Measures of gaps alone hold for polylines too; those that compare a path with its chord or look at
its middle need straight paths and refuse polylines.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from implreg.checks import check_count, check_norms, check_positions
from implreg.errors import InputError
from implreg.tracing import Part, Trace
from implreg.tracing.paths import Pairs


def pool(measured: Tensor) -> float:
    r"""Root mean square over paths and outputs, leaving out NaN (paths without a switch).

    Args:
        measured: a measure, of any shape, such as (P, C).

    Returns:
        One number, NaN if there is no other.

    >>> pool(torch.tensor([[3.0, 4.0], [torch.nan, 5.0]]))
    4.08248...
    """
    return float(measured.square().nanmean().sqrt())


def quadratic_variation(trace: Trace) -> Tensor:
    r"""Quadratic variation of the slope, :math:`V = \sum_i g_i^2`, (P, C).

    Args:
        trace: of straight paths or polylines.

    Source: theorem T3 of the book gives its expectation at initialisation.

    >>> import implreg as ir
    >>> net = ir.mlp(3, 50, 2, seed=0)
    >>> trace = ir.trace(net, (torch.zeros(1, 3) + 1, torch.eye(3)[:1]))
    >>> bool(torch.allclose(quadratic_variation(trace)[0], trace.gaps.square().sum(0)))
    True
    """
    return _sum(trace, trace.gaps.square())


def total_variation(trace: Trace) -> Tensor:
    r"""Total variation of the slope, :math:`\sum_i |g_i|`, (P, C).

    This is the path's share of the second-order total variation of the network.

    Args:
        trace: of straight paths or polylines.

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 9, 1, seed=0), (torch.ones(1, 3), torch.eye(3)[:1]))
    >>> bool(total_variation(trace) >= (trace.slopes[-1] - trace.slopes[0]).abs())
    True
    """
    return _sum(trace, trace.gaps.abs())


def gap_deviation(trace: Trace) -> Tensor:
    r"""Gradient gap deviation, :math:`\sigma_\mathrm{gap} = \sqrt{\frac1M \sum_i g_i^2}`, (P, C).

    NaN on a path without a switch, where there is no gap to measure; `pool` leaves those out.

    Args:
        trace: of straight paths or polylines.

    Source: the estimator "hess." in figures 2 to 5 of Kubo et al. (2019), here without sampling.

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1]))
    >>> bool(torch.isclose(gap_deviation(trace)[0, 0], trace.gaps.square().mean().sqrt()))
    True
    """
    return (quadratic_variation(trace) / trace.switches[:, None]).sqrt()


def deflection(trace: Trace) -> Tensor:
    r"""Gradient deflection, :math:`\delta = \sigma_\mathrm{gap} \sqrt M / 2 = \sqrt V / 2`, (P, C).

    The standard deviation, at its middle, of a random-walk bridge of M steps with deviation
    :math:`\sigma_\mathrm{gap}`. Zero on a path without a switch.

    Args:
        trace: of straight paths or polylines.

    Source: figures 2 to 5 of Kubo et al. (2019).

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1]))
    >>> delta = gap_deviation(trace) * trace.switches[:, None].sqrt() / 2
    >>> bool(torch.allclose(deflection(trace), delta))
    True
    """
    return quadratic_variation(trace).sqrt() / 2


def mid_path_deflection(trace: Trace) -> Tensor:
    r"""The slope after half of the switches minus the mean of the end slopes, (P, C).

    .. math::
        s_{\lfloor M/2 \rfloor} - \frac{s_0 + s_M}2
        = \frac12 \Big(\sum_{i \le M/2} g_i - \sum_{i > M/2} g_i\Big)

    Its standard deviation is what `deflection` predicts for a random-walk bridge. It is made of the
    gaps, so that in a normalised trace the change of the normaliser along a path is no bend.

    Args:
        trace: of straight paths.

    Raises:
        InputError: polylines.

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1]))
    >>> s = trace.slopes[:, 0]
    >>> expected = s[(len(s) - 1) // 2] - (s[0] + s[-1]) / 2
    >>> bool(torch.isclose(mid_path_deflection(trace)[0, 0], expected))
    True
    """
    _straight(trace)
    return _split_deflection(trace, _walk(trace), trace.switches // 2)


def bridge_deviation(trace: Trace) -> float:
    r"""Bridge estimate :math:`\sigma_\mathrm{bridge}` of the gradient gap deviation, one number.

    The standard deviation, over paths and outputs, of `mid_path_deflection` divided by
    :math:`\sqrt M / 2`; paths without a switch are left out (NaN if there is no other). If gaps are
    uncorrelated with mean zero it equals :math:`\sigma_\mathrm{gap}`: the random-walk-bridge
    hypothesis.

    Args:
        trace: of straight paths, enough of them for a standard deviation.

    Raises:
        InputError: polylines.

    Source: the estimator "grad." in figures 2 to 5 of Kubo et al. (2019).

    >>> import implreg as ir
    >>> net, random = ir.mlp(3, 900, 5, seed=0), torch.Generator().manual_seed(0)
    >>> trace = ir.trace(net, tuple(torch.randn(2, 200, 3, generator=random)))
    >>> ratio = bridge_deviation(trace) / pool(gap_deviation(trace))
    >>> 0.8 < ratio < 1.2
    True
    """
    bends = trace.switches > 0
    scaled = mid_path_deflection(trace)[bends] / (_root_switches(trace)[bends] / 2)
    return float(scaled.std(correction=0)) if len(scaled) else float("nan")


def bridge_curve(trace: Trace, points: int = 21) -> Tensor:
    r"""The bridge estimate for a split after any share of the switches, (points,).

    For shares :math:`u` evenly spaced in [0, 1], the root mean square over paths and outputs of
    :math:`2 (s_{\lfloor uM \rfloor} - (s_0 + s_M)/2) / \sqrt M`. For uncorrelated gaps it is
    :math:`\sigma_\mathrm{gap}` at *every* share.

    Args:
        trace: of straight paths.
        points: number of shares, at least 2.

    Raises:
        InputError: polylines, or fewer than two points.

    >>> import implreg as ir
    >>> net, random = ir.mlp(3, 900, 5, seed=0), torch.Generator().manual_seed(0)
    >>> trace = ir.trace(net, tuple(torch.randn(2, 200, 3, generator=random)))
    >>> ratios = bridge_curve(trace, points=5) / pool(gap_deviation(trace))
    >>> bool(((ratios > 0.8) & (ratios < 1.2)).all())  # nearly flat
    True
    """
    check_count("points", points, at_least=2)
    _straight(trace)
    bends, walk = (trace.switches > 0)[:, None], _walk(trace)
    curve = []
    for share in torch.linspace(0, 1, points, dtype=torch.float64):
        split = _split_deflection(trace, walk, (trace.switches * float(share)).long())
        scaled = torch.where(bends, split / (_root_switches(trace) / 2), torch.nan)
        curve.append(pool(scaled))
    return torch.tensor(curve, dtype=torch.float64)


def variance_ratio(trace: Trace, lags: Sequence[int]) -> Tensor:
    r"""Growth of the slope's variance against that of a random walk, one number per lag.

    .. math:: \frac{\overline{(s_{i+k} - s_i)^2}}{k \, \overline{g_i^2}}

    over all i, paths and outputs: 1 at every lag k for uncorrelated gaps, below 1 where gaps
    anti-correlate. NaN where no path has k switches.

    Args:
        trace: of straight paths.
        lags: numbers k of switches, from 1.

    Returns:
        (lags,), in the order of `lags`.

    Raises:
        InputError: polylines, or a lag below 1.

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1]))
    >>> variance_ratio(trace, [1]).tolist()
    [1.0]
    """
    _straight(trace)
    square, walk = trace.gaps.square().mean(), _walk(trace)
    ratios = [
        _lagged(walk, trace.piece_path, lag, lambda a, b: (b - a).square()) / (lag * square)
        for lag in lags
    ]
    return torch.stack(ratios)


def gap_correlation(
    trace: Trace, lags: Sequence[int], *, layers: tuple[int, int] | None = None
) -> Tensor:
    r"""Correlation of gradient gaps k switches apart on one path, one number per lag.

    .. math:: \overline{g_i \, g_{i+k}} / \overline{g_i^2}

    over all i, paths and outputs; gaps have mean zero by symmetry at initialisation. With `layers`
    = (a, b), over those i alone where switch i is of layer a and switch i + k of layer b. NaN where
    there is no such pair of switches.

    Args:
        trace: of straight paths or polylines.
        lags: numbers k of switches, from 1.
        layers: two numbers as `Trace.layer` has them, or None for all switches.

    Returns:
        (lags,), in the order of `lags`.

    Raises:
        InputError: a lag below 1, or a layer that the trace does not have.

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1]))
    >>> g = trace.gaps[:, 0]
    >>> expected = (g[1:] * g[:-1]).mean() / g.square().mean()
    >>> bool(torch.isclose(gap_correlation(trace, [1])[0], expected))
    True
    """
    gaps = trace.gaps
    if layers is not None and not all(0 <= layer < len(trace.layers) for layer in layers):
        raise InputError(
            f"layers must be two of the {len(trace.layers)} traced layers counted from 0, got "
            f"{layers}; choose such layers."
        )

    def correlation(lag: int) -> Tensor:
        if layers is None:
            return _lagged(gaps, trace.path, lag, torch.mul) / gaps.square().mean()
        first, second = (torch.where((trace.layer == a)[:, None], gaps, torch.nan) for a in layers)
        product = _lagged(first, trace.path, lag, torch.mul, after=second)
        return product / (first.square().nanmean() * second.square().nanmean()).sqrt()

    return torch.stack([correlation(lag) for lag in lags])


def fluctuation(trace: Trace) -> Tensor:
    r"""Largest distance from the chord, :math:`\max_t |\phi(t) - \mathrm{chord}(t)|`, (P, C).

    The chord is the straight line from :math:`\phi(0)` to :math:`\phi(1)`. Exact, since a piecewise
    linear function is farthest from a line at a breakpoint.

    Args:
        trace: of straight paths.

    Raises:
        InputError: polylines.

    Source: figure 6 of Kubo et al. (2019).

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), 2 * torch.ones(1, 3)))
    >>> bool(fluctuation(trace) < 1e-12)  # a bias-free network is linear along a ray
    True
    """
    _straight(trace)
    start = trace.values[trace.first_pieces]
    t, path = trace.piece_start[:, None], trace.piece_path
    chord = start[path] + t * (trace.ends - start)[path]
    distance = (trace.values - chord).abs()
    index = path[:, None].expand_as(distance)
    return torch.zeros_like(start).scatter_reduce(0, index, distance, "amax")


def along(trace: Trace, t: Tensor) -> tuple[Tensor, Tensor]:
    r"""Outputs and slopes at given positions of every path, :math:`\phi(t)` and :math:`\phi'(t)`.

    Args:
        trace: of straight paths.
        t: positions in [0, 1], (T,). At a breakpoint the slope is that behind it.

    Returns:
        Outputs and slopes, (P, T, C) each.

    Raises:
        InputError: polylines, or a position outside [0, 1].

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 9, 2, seed=0), (torch.ones(1, 3), torch.eye(3)[:1]))
    >>> values, slopes = along(trace, torch.tensor([0.0, 1.0]))
    >>> bool(values[:, 1].allclose(trace.ends)), bool((slopes[0, 0] == trace.slopes[0]).all())
    (True, True)
    """
    _straight(trace)
    t = check_positions("t", t.to(trace.t))
    keys = 2 * trace.piece_path + trace.piece_start
    wanted = 2 * torch.arange(len(trace), device=t.device)[:, None] + t
    piece = torch.searchsorted(keys, wanted, right=True) - 1
    slopes = trace.slopes[piece]
    return trace.values[piece] + (t - trace.piece_start[piece])[..., None] * slopes, slopes


def edge_margin(trace: Trace, pairs: Pairs) -> Tensor:
    r"""Edge margin: how far the logits of both ends lead, (P,).

    .. math::
        \frac12 \sum_{i \in \{0, 1\}} \Big(f_{y_i}(X_i) - \max_{c \ne y_i} f_c(X_i)\Big)

    with the labels :math:`y_i` of the ends. Positive where both are classified well on average.

    Args:
        trace: of straight paths or polylines, whose ends count.
        pairs: the pairs that were traced, with their labels.

    Raises:
        InputError: `pairs` are not those of the trace, the network has a single output, or some
            outputs only were kept.

    Source: figure 6 of Kubo et al. (2019).

    >>> import implreg as ir
    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> _ = net.weight.data.copy_(torch.eye(2))  # the logits are the sample
    >>> ends = (torch.tensor([[3.0, 1.0]]), torch.tensor([[0.0, 4.0]]))
    >>> pairs = ir.Pairs(*ends, torch.tensor([0]), torch.tensor([1]), "different")
    >>> edge_margin(ir.trace(net, pairs), pairs).tolist()  # mean of 2 and 4
    [3.0]
    """
    outputs = trace.ends.shape[1]
    if trace.outputs is not None:
        raise InputError(
            f"trace must have all outputs of the network, as labels are among them, got those of "
            f"outputs={list(trace.outputs)}; trace without outputs=."
        )
    if (
        len(pairs) != len(trace)
        or outputs < 2
        or int(max(pairs.y0.max(), pairs.y1.max())) >= outputs
    ):
        raise InputError(
            f"pairs must be the {len(trace)} pairs of the trace with labels below its {outputs} "
            f"outputs (two or more), got {len(pairs)} pairs; pass the pairs that were traced."
        )

    starts = trace.values[trace.first_pieces]
    labels = (pairs.y0.to(starts.device), pairs.y1.to(starts.device))
    return (lead(starts, labels[0]) + lead(trace.ends, labels[1])) / 2


def lead(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the logit of a label exceeds the largest other one, (N,).

    Args:
        logits: (N, C), C at least 2.
        labels: (N,) int64.

    >>> lead(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0])).tolist()
    [2.0]
    """
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own[:, 0] - others.max(dim=1).values


def leaves_prediction(trace: Trace) -> Tensor:
    r"""Whether a path leaves the classes that are predicted at its ends, (P,) bool.

    True if somewhere on the path an output is larger than those that are largest at t = 0 and at
    t = 1. Exact: on a piece the distance of an output from the larger one of those two is concave,
    so that it is largest at an end of the piece or where the two cross.

    Args:
        trace: of straight paths of a network with two or more outputs.

    Raises:
        InputError: polylines, or a network with a single output.

    >>> import implreg as ir
    >>> x = torch.eye(3)
    >>> trace = ir.trace(ir.mlp(3, 50, 4, seed=0), (x[:1], 2 * x[:1]))  # along a ray
    >>> leaves_prediction(trace).tolist()
    [False]
    """
    _straight(trace)
    starts, path = trace.values[trace.first_pieces], trace.piece_path
    if starts.shape[1] < 2:
        raise InputError("trace must be of a network with two or more outputs, got one; use such.")
    first, last = starts.argmax(dim=1), trace.ends.argmax(dim=1)
    own = torch.stack([first, last], dim=1)[path]  # of each piece
    behind = trace.values + (trace.piece_end - trace.piece_start)[:, None] * trace.slopes
    a, b = (x.gather(1, own) for x in (trace.values, behind))
    # Where the two cross inside the piece, as a share of it; elsewhere at its start once more.
    apart, later = a[:, 0] - a[:, 1], b[:, 0] - b[:, 1]
    share = torch.where(apart * later < 0, apart / (apart - later), torch.zeros_like(apart))
    crossing = torch.lerp(trace.values, behind, share[:, None])
    left = torch.zeros_like(path, dtype=torch.bool)
    for outputs in (trace.values, behind, crossing):
        left |= outputs.amax(dim=1) > outputs.gather(1, own).amax(dim=1)
    return torch.zeros_like(first).index_add(0, path, left.long()) > 0


def normalize(trace: Trace, reference: Trace | Tensor) -> Trace:
    r"""The trace relative to how much larger the outputs are than those of a reference.

    Outputs, slopes and gaps at :math:`X_t` are divided by :math:`(1-t) r_0 + t r_1` with
    :math:`r_i = \|f(X_i)\| / \rho_i`; a slope is divided at the middle of its piece. Then every
    measure applies; the fluctuation is that at the breakpoints, between which a normalised output
    is not quite straight. In the book *own* normalisation takes for :math:`\rho_i` the norm of the
    outputs of the same network before training, *reference* normalisation that of an untrained
    network of another size, as the released program does.

    Args:
        trace: of straight paths.
        reference: a trace of the same paths, for the norms of its outputs at their ends, or these
            norms, (P, 2), all above 0.

    Raises:
        InputError: polylines, a reference of other paths, norms that are not above 0, or an output
            vector that is zero at an end.

    Source: the released program of Kubo et al. (2019), which divides a little otherwise
    (`implreg.sampled.Traits`: P5).

    >>> import implreg as ir
    >>> ends = (torch.ones(1, 3), -torch.eye(3)[:1])
    >>> small, large = (ir.mlp(3, 50, 2, seed=0) for _ in range(2))
    >>> _ = large[2].weight.data.mul_(10)  # all outputs grow tenfold
    >>> before, after = ir.trace(small, ends), ir.trace(large, ends)
    >>> bool(torch.allclose(deflection(normalize(after, before)), deflection(before)))
    True
    """
    _straight(trace)
    if isinstance(reference, Trace):
        reference = _norms_at_ends(trace, reference)
    now = _end_norms(trace)
    r0, r1 = (now / check_norms("reference", reference.detach(), len(trace)).to(now)).unbind(1)
    if not bool((now > 0).all()):
        raise InputError(
            "trace must have outputs that are not zero at both ends of every path; leave out the "
            "pairs where they are, or use the raw measures."
        )

    def growth(t: Tensor, path: Tensor) -> Tensor:
        grown: Tensor = (1 - t) * r0[path] + t * r1[path]
        return grown[:, None]

    pieces = trace.piece_path
    middle = (trace.piece_start + trace.piece_end) / 2
    return replace(
        trace,
        gaps=trace.gaps / growth(trace.t, trace.path),
        slopes=trace.slopes / growth(middle, pieces),
        values=trace.values / growth(trace.piece_start, pieces),
        ends=trace.ends / r1[:, None],
    )


def _norms_at_ends(trace: Trace, reference: Trace) -> Tensor:
    """The output norms of a reference that was traced along the same paths, (P, 2)."""
    alike = len(trace) == len(reference) and torch.allclose(trace.lengths, reference.lengths)
    if not alike or reference.segments > 1:
        raise InputError(
            f"reference must be a trace of the same paths as trace, got {len(reference)} paths for "
            f"{len(trace)}, or others; trace both networks on the same pairs."
        )
    return _end_norms(reference)


def _end_norms(trace: Trace) -> Tensor:
    return torch.stack([x.norm(dim=1) for x in (trace.values[trace.first_pieces], trace.ends)], 1)


@dataclass(frozen=True)
class Totals:
    r"""Measures that add up along a path, per path and output; see `streamed`.

    Attributes:
        switches: M, int64, (P,).
        quadratic_variation: :math:`V = \sum_i g_i^2`, (P, C).
        total_variation: :math:`\sum_i |g_i|`, (P, C).
        ends: outputs at the end of each path, (P, C).

    >>> totals = Totals(torch.tensor([4]), *torch.tensor([[[16.0]], [[7.0]], [[0.5]]]))
    >>> totals.gap_deviation, totals.deflection
    (tensor([[2.]]), tensor([[2.]]))
    """

    switches: Tensor
    quadratic_variation: Tensor
    total_variation: Tensor
    ends: Tensor

    @property
    def gap_deviation(self) -> Tensor:
        r"""Gradient gap deviation :math:`\sqrt{V / M}`, (P, C); NaN without a switch."""
        return (self.quadratic_variation / self.switches[:, None]).sqrt()

    @property
    def deflection(self) -> Tensor:
        r"""Gradient deflection :math:`\sqrt V / 2`, (P, C)."""
        return self.quadratic_variation.sqrt() / 2


def streamed(parts: Iterable[Part]) -> Totals:
    """Add up measures of paths while they are traced, so that their pieces are never held at once.

    Args:
        parts: from `implreg.stream`. Each segment of a polyline counts as a path.

    Raises:
        InputError: there are no parts.

    >>> import implreg as ir
    >>> net, ends = ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1])
    >>> totals = streamed(ir.stream(net, ends))
    >>> bool(torch.allclose(totals.deflection, deflection(ir.trace(net, ends))))
    True
    """
    sums: list[Tensor] = []  # of the paths so far: switches, squares, sizes
    ends: list[Tensor] = []
    paths = 0
    for part in parts:
        switch = part.site >= 0
        values = part.gaps[switch]
        first, last = int(part.path[0]), int(part.path[-1])
        here = part.path[switch] - first
        rows = torch.stack([torch.ones_like(values), values.square(), values.abs()])
        added = rows.new_zeros(3, last + 1 - first, values.shape[1]).index_add_(1, here, rows)
        if first < paths:  # the part goes on with the last path
            sums[-1][:, -1] += added[:, 0]
            added = added[:, 1:]
        if added.shape[1]:
            sums.append(added)
        ends.append(part.ends)
        paths = last + 1
    if not sums:
        raise InputError("parts must hold at least one part, got none; pass implreg.stream(...).")
    count, squares, sizes = torch.cat(sums, dim=1)
    return Totals(count[:, 0].long(), squares, sizes, torch.cat(ends))


def summary(trace: Trace, pairs: Pairs | None = None) -> dict[str, float]:
    """All measures of a trace, each as one number: a row of a tidy table.

    Measures per path and output are pooled (`pool`); switches, fluctuation, edge margin and the
    share of paths that leave the classes predicted at their ends are means over paths (and
    outputs). The last two need `pairs`; polylines have no bridge deviation, mid-path deflection and
    fluctuation.

    Args:
        trace: of straight paths or polylines; slopes in any unit.
        pairs: those that were traced, with their labels; straight paths.

    Returns:
        One number for each measure, under its name here; besides "switches", the mean of M.

    Raises:
        InputError: as `edge_margin`.

    >>> import implreg as ir
    >>> row = summary(ir.trace(ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), -torch.eye(3)[:1])))
    >>> list(row)
    ['switches', 'gap_deviation', 'deflection', 'quadratic_variation', 'total_variation',
     'bridge_deviation', 'mid_path_deflection', 'fluctuation']
    """
    row = {
        "switches": float(trace.switches.double().mean()),
        "gap_deviation": pool(gap_deviation(trace)),
        "deflection": pool(deflection(trace)),
        "quadratic_variation": float(quadratic_variation(trace).mean()),
        "total_variation": float(total_variation(trace).mean()),
    }
    if trace.segments == 1:
        row |= {
            "bridge_deviation": bridge_deviation(trace),
            "mid_path_deflection": pool(mid_path_deflection(trace)),
            "fluctuation": float(fluctuation(trace).mean()),
        }
    if pairs is not None:
        row["leaves_prediction"] = float(leaves_prediction(trace).double().mean())
        row["edge_margin"] = float(edge_margin(trace, pairs).mean())
    return row


def _straight(trace: Trace) -> None:
    if trace.segments > 1:
        raise InputError(
            f"trace must be of straight paths for this measure, got polylines of {trace.segments} "
            f"segments; trace each segment as a path of its own."
        )


def _sum(trace: Trace, per_switch: Tensor) -> Tensor:
    """Sum over the switches of each path, (S, C) -> (P, C)."""
    return torch.zeros_like(trace.ends).index_add(0, trace.path, per_switch)


def _root_switches(trace: Trace) -> Tensor:
    """The square root of M in the precision of the gaps, which that of whole numbers has not."""
    return trace.switches.to(trace.gaps).sqrt()[:, None]


def _walk(trace: Trace) -> Tensor:
    """Sums of gaps, one row per piece: slopes but for a constant of each path, in float64."""
    walk = torch.zeros_like(trace.slopes, dtype=torch.float64)
    behind = torch.ones(len(walk), dtype=torch.bool, device=walk.device)
    behind[trace.first_pieces] = False
    walk[behind] = trace.gaps.double()
    return walk.cumsum(0)


def _split_deflection(trace: Trace, walk: Tensor, split: Tensor) -> Tensor:
    """What `_walk` is after `split` (P,) switches minus the mean of its ends, (P, C)."""
    first = trace.first_pieces
    middle, start, end = (walk[first + k] for k in (split, 0, trace.switches))
    return (middle - (start + end) / 2).to(trace.gaps)


def _lagged(
    rows: Tensor,
    path: Tensor,
    lag: int,
    function: Callable[[Tensor, Tensor], Tensor],
    after: Tensor | None = None,
) -> Tensor:
    """Mean of function(row i, row i + lag) over rows of the same path, leaving out NaN."""
    check_count("lags", lag)
    after = rows if after is None else after
    same_path = path[lag:] == path[:-lag]
    return function(rows[:-lag][same_path], after[lag:][same_path]).nanmean()
