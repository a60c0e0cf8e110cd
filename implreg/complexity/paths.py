"""Measures along paths, exact from a trace."""

import torch
from torch import Tensor

from implreg.complexity.jacobians import Net, jacobian_at, normal_of, program_of, rows_at_once
from implreg.errors import InputError
from implreg.tracing import Trace
from implreg.tracing.kinds import Hinges
from implreg.tracing.paths import Straight
from implreg.tracing.paths import ends as ends_of

# Switches at most this share of the path apart are one jump of the gradient: rounding parts them.
_TOGETHER = 1e-12


def function_path_length(trace: Trace) -> Tensor:
    r"""Length of the curve of outputs along each path, :math:`\int \|\phi'(t)\| \, dt`, (P,).

    Exact: the outputs go straight from breakpoint to breakpoint.

    Args:
        trace: of straight paths or polylines.

    Source: Volhejn and Lampert (2021), there from 100 samples of the path.

    >>> import implreg as ir
    >>> trace = ir.trace(torch.nn.Linear(3, 1), (torch.zeros(1, 3), torch.ones(1, 3)))
    >>> start, end = trace.values[0, 0], trace.ends[0, 0]
    >>> bool(torch.isclose(function_path_length(trace)[0], (end - start).abs()))
    True
    """
    return _per_path(trace, trace.piece_path, (_behind(trace) - trace.values).norm(dim=1))


def gradient_path_length(net: Net, trace: Trace, paths: Straight) -> Tensor:
    r"""Length of the curve of input gradients along each path, (P,).

    .. math:: \sum_i \|J(X_{t_i + 0}) - J(X_{t_i - 0})\|_F

    over the breakpoints; switches at one t make one jump. A unit with pre-activation z that
    switches alone makes a jump of rank one, :math:`\Delta J = u \, \partial z / \partial x`, whose
    share along the path is the gradient gap g. So its norm is
    :math:`\|g\| \, \|\partial z / \partial x\| / |\partial z / \partial x \cdot D|`. Where units
    switch together, or a pooling window switches, whole Jacobians are subtracted.

    Args:
        net: the network that was traced, or its program.
        trace: of straight paths, with slopes per unit of t, as `implreg.trace` returns it.
        paths: those that were traced.

    Raises:
        InputError: other paths than those of the trace, polylines, or slopes in other units.

    Source: Volhejn and Lampert (2021), there from 100 samples of the path.

    >>> import implreg as ir
    >>> net, ends = ir.mlp(2, 1, 1, seed=0), (torch.ones(1, 2), -torch.ones(1, 2))
    >>> jump = net[0].weight.norm() * net[2].weight.norm()  # at the only switch
    >>> length = gradient_path_length(net, ir.trace(net, ends), ends)
    >>> bool(torch.isclose(length[0], jump.double()))
    True
    """
    x0, x1 = ends_of(paths)
    program = program_of(net, x0)
    x0, x1 = x0.to(program.dtype), x1.to(program.dtype)
    _check_paths(trace, x0, x1)
    middle, path = (trace.piece_start + trace.piece_end) / 2, trace.piece_path

    def points(piece: Tensor) -> Tensor:
        t = middle[piece].reshape(-1, *[1] * (x0.ndim - 1))
        return torch.lerp(x0[path[piece]], x1[path[piece]], t)

    # Pieces of some length, and the last such piece before each of them on its path.
    piece = (trace.piece_end - trace.piece_start > _TOGETHER).nonzero().flatten()
    before, behind = piece[:-1], piece[1:]
    same = path[before] == path[behind]
    before, behind = before[same], behind[same]
    switch = behind - path[behind] - 1
    place = torch.tensor(program.sites, dtype=torch.long, device=switch.device)[trace.layer[switch]]
    hinges = [isinstance(operation, Hinges) for operation in program.operations]
    alone = (behind - before == 1) & torch.tensor(hinges, device=switch.device)[place]
    jumps = torch.zeros_like(middle[behind])
    for site in place[alone].unique().tolist():
        rows = (alone & (place == site)).nonzero().flatten()
        rows = rows[trace.unit[switch[rows]].argsort()]
        for some in rows.split(rows_at_once(program)):
            s = switch[some]
            if site == program.sites[0]:  # affine up to here: a unit's gradient is one everywhere
                unit, row = trace.unit[s].unique(return_inverse=True)
                anywhere = x0[:1].expand(len(unit), *x0.shape[1:])
                normal = normal_of(program, anywhere, site, unit)[row]
            else:
                normal = normal_of(program, points(behind[some]), site, trace.unit[s])
            normal = normal.flatten(1)
            across = (normal * (x1 - x0).flatten(1)[trace.path[s]]).sum(1).abs()
            jumps[some] = trace.gaps[s].norm(dim=1) * normal.norm(dim=1) / across
    for some in (~alone).nonzero().flatten().split(rows_at_once(program)):
        after, prior = (jacobian_at(program, points(k[some]))[1] for k in (behind, before))
        jumps[some] = (after - prior).norm(dim=(1, 2))
    return _per_path(trace, path[behind], jumps)


def deviation_from_affine(trace: Trace) -> Tensor:
    r"""Mean distance from the chord, :math:`\int_0^1 \|\phi(t) - \mathrm{chord}(t)\| \, dt`, (P,).

    The chord is the straight line from :math:`\phi(0)` to :math:`\phi(1)`; the norm is that of the
    vector of outputs. Exact: on a piece the distance is the norm of a linear function, which has an
    antiderivative.

    Args:
        trace: of straight paths.

    Raises:
        InputError: polylines.

    Source: Gamba et al. (2022) measure the absolute deviation from the affine interpolation of a
    path's ends; the mean over t and the norm over outputs are our reading of it.

    >>> import implreg as ir
    >>> trace = ir.trace(ir.mlp(3, 50, 1, seed=0), (torch.ones(1, 3), 2 * torch.ones(1, 3)))
    >>> bool(deviation_from_affine(trace) < 1e-12)  # a bias-free network is linear along a ray
    True
    """
    _straight(trace)
    path, start = trace.piece_path, trace.values[trace.first_pieces]
    rise = (trace.ends - start)[path]
    p = trace.values - start[path] - trace.piece_start[:, None] * rise
    q = _behind(trace) - start[path] - trace.piece_end[:, None] * rise
    mean = _mean_norm(p, q) * (trace.piece_end - trace.piece_start)
    return _per_path(trace, path, mean)


def switch_density(trace: Trace) -> Tensor:
    r"""Switches per unit length, :math:`M / \|D\|`, (P,).

    Args:
        trace: of straight paths, of length :math:`\|D\|`, or polylines, whose segments add up.

    Source: the density of linear regions of Gamba et al. (2022); that it is per unit of Euclidean
    length is our reading.

    >>> import implreg as ir
    >>> net = ir.mlp(3, 9, 1, seed=0)  # along a diameter every unit switches once
    >>> switch_density(ir.trace(net, (torch.eye(3)[:1], -torch.eye(3)[:1]))).tolist()
    [4.5]
    """
    return trace.switches / _lengths(trace)


def region_density(trace: Trace) -> Tensor:
    r"""Linear regions that a path meets per unit length, (P,).

    .. math:: \bigl(1 + \#\{t_i\}\bigr) / \|D\|

    with the number of different breakpoints :math:`t_i`. Counted as pieces of some length: units
    that switch together end one region, not several. At a corner of a polyline no region ends.

    Args:
        trace: of straight paths, of length :math:`\|D\|`, or polylines, whose segments add up.

    Source: the regions along a line of Hanin and Rolnick (2019).

    >>> import implreg as ir
    >>> net = ir.mlp(3, 9, 1, seed=0)  # along a diameter all units switch at the origin
    >>> region_density(ir.trace(net, (torch.eye(3)[:1], -torch.eye(3)[:1]))).tolist()
    [1.0]
    """
    bounds = torch.stack([trace.path.to(trace.t), trace.t], dim=1)
    apart = torch.ones_like(trace.path, dtype=torch.bool)
    apart[1:] = (bounds.diff(dim=0) > _TOGETHER).any(dim=1)
    regions = 1 + torch.bincount(trace.path[apart], minlength=len(trace))
    return regions / _lengths(trace)


def _behind(trace: Trace) -> Tensor:
    """Outputs at the end of each piece, (pieces, C)."""
    behind = trace.values.roll(-1, 0)
    behind[trace.first_pieces - 1] = trace.ends.roll(1, 0)
    return behind


def _per_path(trace: Trace, path: Tensor, summands: Tensor) -> Tensor:
    """Sum over each path, (n,) -> (P,)."""
    return torch.zeros_like(trace.ends[:, 0]).index_add(0, path, summands)


def _mean_norm(p: Tensor, q: Tensor) -> Tensor:
    r"""Mean norm of the points between p and q, :math:`\int_0^1 \|(1-u) p + u q\| \, du`, (n,).

    With b = q - p, coordinates a and e of p and q along b and their distance c from the line,
    the antiderivative is that of :math:`\sqrt{u^2 + c^2}`. Where b is short beside p it cancels,
    and Simpson's rule is exact up to rounding.
    """
    b = (q - p).norm(dim=1)
    along = (q - p) / b.clamp_min(torch.finfo(b.dtype).tiny)[:, None]
    a, e = (p * along).sum(1), (q * along).sum(1)
    c = (p - a[:, None] * along).norm(dim=1)

    def integral(u: Tensor) -> Tensor:
        area = torch.where(c > 0, c.square() * torch.asinh(u / c), 0)
        return (u * torch.hypot(u, c) + area) / 2

    simpson = (p.norm(dim=1) + 2 * (p + q).norm(dim=1) + q.norm(dim=1)) / 6
    return torch.where(b > 1e-3 * p.norm(dim=1), (integral(e) - integral(a)) / b, simpson)


def _lengths(trace: Trace) -> Tensor:
    return trace.lengths.reshape(len(trace), -1).sum(1)


def _straight(trace: Trace) -> None:
    if trace.segments > 1:
        raise InputError(
            f"trace must be of straight paths for this measure, got polylines of {trace.segments} "
            f"segments; trace each segment as a path of its own."
        )


def _check_paths(trace: Trace, x0: Tensor, x1: Tensor) -> None:
    _straight(trace)
    length = (x1 - x0).flatten(1).norm(dim=1) if x0.shape == x1.shape else x0.new_zeros(0)
    if length.shape != trace.lengths.shape or not torch.allclose(length, trace.lengths):
        raise InputError(
            f"paths must be the {len(trace)} paths of the trace, got others; pass those that were "
            f"traced."
        )
    step = trace.slopes * (trace.piece_end - trace.piece_start)[:, None]
    made = _behind(trace) - trace.values
    if not (step - made).norm() <= 1e-3 * made.norm():
        raise InputError(
            "trace must have slopes per unit of t, got others; pass the trace as implreg.trace "
            "returned it."
        )
