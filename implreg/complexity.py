r"""Complexity measures of neighbouring papers, beside those of `implreg.measures`.

Measures at samples return one number per sample, (N,), measures along paths one per path, (P,); the
papers take the mean, and so does `summary`. Measures of the weights are one number. Outputs are
logits unless a measure says otherwise, :math:`J = \partial f / \partial x` is their Jacobian, and
norms of matrices are Frobenius norms. The arithmetic is float64 whatever the type of the network,
which is read (`implreg.read`) and never changed.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from implreg.checks import check_choice, check_count, check_number
from implreg.datasets import Pairs
from implreg.errors import InputError
from implreg.tracing import Program, Trace, read
from implreg.tracing.program import Affine, Hinges
from implreg.tracing.trace import chunk_bytes

Net = nn.Module | Program

# Switches at most this share of the path apart are one jump of the gradient: rounding parts them.
_TOGETHER = 1e-12


def gradient_norm(net: Net, x: Tensor) -> Tensor:
    r"""Norm of the input gradient at each sample, :math:`\|J(x)\|_F`, (N,).

    With one output it is the norm of the gradient.

    Raises:
        InputError: a network that cannot be read, or samples of another shape than it takes.

    Source: Volhejn and Lampert (2021), whose published program takes the norm of the whole Jacobian
    where there are several outputs. Novak et al. (2018) use `sensitivity` instead.

    >>> net = nn.Linear(2, 1)
    >>> _ = net.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
    >>> gradient_norm(net, torch.zeros(1, 2)).tolist()
    [5.0]
    """
    program = _program(net, x)
    return torch.cat([_jacobian(program, part)[1].norm(dim=(1, 2)) for part in _parts(program, x)])


def sensitivity(net: Net, x: Tensor) -> Tensor:
    r"""Jacobian norm of the class probabilities, :math:`\|\partial_x \mathrm{softmax} f(x)\|_F`.

    Returns:
        (N,).

    Raises:
        InputError: as `gradient_norm`; a network with a single output, which is no class.

    Source: Novak et al. (2018), the input-output Jacobian of the probabilities, at test samples.

    >>> net = nn.Linear(1, 2)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0], [-1.0]])), net.bias.data.zero_()
    >>> sensitivity(net, torch.zeros(1, 1)).tolist()  # of 1 / (1 + exp(-2x)) and its complement
    [0.707...]
    """
    program = _program(net, x)
    if program.size(program.output) < 2:
        raise InputError("net must have two or more outputs, one per class, got one; use such.")
    norms = []
    for part in _parts(program, x):
        logits, jacobian = _jacobian(program, part)
        p = logits.softmax(dim=1)[..., None]
        norms.append((p * (jacobian - (p * jacobian).sum(1, keepdim=True))).norm(dim=(1, 2)))
    return torch.cat(norms)


def function_path_length(trace: Trace) -> Tensor:
    r"""Length of the curve of outputs along each path, :math:`\int \|\phi'(t)\| \, dt`, (P,).

    Exact: the outputs go straight from breakpoint to breakpoint.

    Source: Volhejn and Lampert (2021), there from 100 samples of the path.

    >>> import implreg as ir
    >>> trace = ir.trace(nn.Linear(3, 1), (torch.zeros(1, 3), torch.ones(1, 3)))
    >>> start, end = trace.values[0, 0], trace.ends[0, 0]
    >>> bool(torch.isclose(function_path_length(trace)[0], (end - start).abs()))
    True
    """
    return _per_path(trace, trace.piece_path, (_behind(trace) - trace.values).norm(dim=1))


def gradient_path_length(net: Net, trace: Trace, paths: Pairs | tuple[Tensor, Tensor]) -> Tensor:
    r"""Length of the curve of input gradients along each path, (P,).

    .. math:: \sum_i \|J(X_{t_i + 0}) - J(X_{t_i - 0})\|_F

    over the breakpoints; switches at one t make one jump. A unit with pre-activation z that
    switches alone makes a jump of rank one, :math:`\Delta J = u \, \partial z / \partial x`, whose
    share along the path is the gradient gap g. So its norm is
    :math:`\|g\| \, \|\partial z / \partial x\| / |\partial z / \partial x \cdot D|`. Where units
    switch together, or a pooling window switches, whole Jacobians are subtracted.

    Args:
        net: the network that was traced.
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
    x0, x1 = (paths.x0, paths.x1) if isinstance(paths, Pairs) else paths
    program = _program(net, x0)
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
        for some in rows.split(_rows(program)):
            s = switch[some]
            if site == program.sites[0]:  # affine up to here: a unit's gradient is one everywhere
                unit, row = trace.unit[s].unique(return_inverse=True)
                normal = _normal(program, x0[:1].expand(len(unit), *x0.shape[1:]), site, unit)[row]
            else:
                normal = _normal(program, points(behind[some]), site, trace.unit[s])
            normal = normal.flatten(1)
            across = (normal * (x1 - x0).flatten(1)[trace.path[s]]).sum(1).abs()
            jumps[some] = trace.gaps[s].norm(dim=1) * normal.norm(dim=1) / across
    for some in (~alone).nonzero().flatten().split(_rows(program)):
        after, prior = (_jacobian(program, points(k[some]))[1] for k in (behind, before))
        jumps[some] = (after - prior).norm(dim=(1, 2))
    return _per_path(trace, path[behind], jumps)


def weight_product(net: Net, sample: Tensor) -> float:
    r"""Weight product of a network with one hidden layer, :math:`\sum_i \|w_i\| \, \|v_i\|`.

    :math:`w_i` are the weights into hidden unit i and :math:`v_i` those out of it. It is the sum
    over hidden units of the jump of the Jacobian where the unit switches, and that is how it is
    computed: batch norm counts as part of the weights, a leaky ReLU with slope a contributes
    (1 - a) times, and every position of a convolution is a unit.

    Args:
        net: a network with one layer of activations.
        sample: an input, without a batch axis.

    Raises:
        InputError: more or fewer layers of activations, or pooling by maxima: a unit of a deeper
            layer has no single jump.

    Source: Volhejn and Lampert (2021) for one output, :math:`\sum_i \|w_i\| |v_i|`; the norm of
    :math:`v_i` for several outputs and the rest above are our reading.

    >>> import implreg as ir
    >>> net = ir.mlp(3, 8, 2, seed=0)
    >>> product = (net[0].weight.norm(dim=1) * net[2].weight.norm(dim=0)).sum().item()
    >>> math.isclose(weight_product(net, torch.zeros(3)), product, rel_tol=1e-6)
    True
    """
    program = _program(net, sample[None])
    sites = [program.operations[i] for i in program.sites]
    hinge = sites[0] if len(sites) == 1 else None
    if not isinstance(hinge, Hinges):
        raise InputError(
            f"net must have one layer of activations for its weight product, got {len(sites)} "
            f"layers that switch; use another measure."
        )
    taken, made = hinge.inputs[0], program.sites[0] + 1
    w = _linear(program, 0, taken).norm(dim=0)
    v = _linear(program, made, program.output).norm(dim=1)
    jump = torch.zeros(hinge.shape, dtype=program.dtype, device=program.device)
    for _, change in hinge.kinks:
        jump += change.abs() if isinstance(change, Tensor) else abs(change)
    return float((w * v * jump.flatten()).sum())


def deviation_from_affine(trace: Trace) -> Tensor:
    r"""Mean distance from the chord, :math:`\int_0^1 \|\phi(t) - \mathrm{chord}(t)\| \, dt`, (P,).

    The chord is the straight line from :math:`\phi(0)` to :math:`\phi(1)`; the norm is that of the
    vector of outputs. Exact: on a piece the distance is the norm of a linear function, which has an
    antiderivative.

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

    Counted as pieces of some length: units that switch together end one region, not several. At a
    corner of a polyline no region ends.

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


def local_complexity(
    net: Net, x: Tensor, *, radius: float, directions: int = 20, seed: int = 0
) -> Tensor:
    r"""Hidden units that switch within a small cross-polytope about each sample, (N,).

    Its vertices are :math:`x \pm r e_k` for P random orthonormal directions :math:`e_k`, the same
    for all samples. A unit counts if its pre-activation has not the same sign at all vertices; in
    the first layer these are the units whose hyperplane meets the polytope, deeper down an
    approximation of it. Pooling by maxima is not counted.

    Args:
        net: the network.
        x: samples, (N, *input).
        radius: r, in units of the samples.
        directions: P, at most the number of entries of a sample.
        seed: of the directions.

    Raises:
        InputError: as `gradient_norm`; an argument out of its range.

    Source: Humayun et al. (2024) and their published program.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.fill_(1.0), net[0].bias.data.copy_(torch.tensor([0.0, -2.0]))
    >>> local_complexity(net, torch.tensor([[0.5], [1.0], [1.5]]), radius=0.75, directions=1)
    tensor([1., 0., 1.], dtype=torch.float64)
    """
    program = _program(net, x)
    check_number("radius", radius, above=0)
    size = math.prod(program.input_shape)
    if check_count("directions", directions) > size:
        raise InputError(
            f"directions must be at most {size}, the number of entries of a sample, got "
            f"{directions}; lower it."
        )
    random = torch.Generator().manual_seed(check_count("seed", seed, at_least=0))
    normal = torch.randn(size, directions, generator=random, dtype=torch.float64)
    frame = radius * torch.linalg.qr(normal).Q.T.to(program.device, program.dtype)
    offsets = torch.cat([frame, -frame]).reshape(-1, *program.input_shape)
    counts = []
    with torch.no_grad():
        for part in _parts(program, x, each=len(offsets)):
            values = program.values((part[:, None] + offsets).flatten(0, 1))
            count = torch.zeros(len(part), dtype=torch.float64, device=part.device)
            for operation in program.operations:
                if isinstance(operation, Hinges):
                    z = values[operation.inputs[0]].reshape(len(part), len(offsets), -1)
                    low, high = z.amin(1), z.amax(1)
                    for at, _ in operation.kinks:
                        count += ((low <= at) & (high > at)).sum(1)
            counts.append(count)
    return torch.cat(counts)


def parameter_norm(net: nn.Module) -> float:
    r"""Norm of all parameters together, :math:`\|\theta\|_2`; buffers such as means do not count.

    >>> net = nn.Linear(2, 1)
    >>> _ = net.weight.data.copy_(torch.tensor([[2.0, 1.0]])), net.bias.data.fill_(2.0)
    >>> parameter_norm(net)
    3.0
    """
    return math.sqrt(sum(float(p.detach().double().square().sum()) for p in net.parameters()))


def distance(net: nn.Module, initial: nn.Module) -> float:
    r"""How far training has moved the parameters, :math:`\|\theta - \theta_0\|_2`.

    Raises:
        InputError: networks with different parameters.

    Source: Nagarajan and Kolter (2019).

    >>> import implreg as ir
    >>> distance(ir.mlp(3, 9, 1, seed=0), ir.mlp(3, 9, 1, seed=0))
    0.0
    """
    now, then = dict(net.named_parameters()), dict(initial.named_parameters())
    if {k: p.shape for k, p in now.items()} != {k: p.shape for k, p in then.items()}:
        raise InputError(
            "initial must have the same parameters as net, but names or shapes differ; pass the "
            "network that training began with."
        )
    squares = [(p.detach().double() - then[k].detach().double()).square() for k, p in now.items()]
    return math.sqrt(sum(float(x.sum()) for x in squares))


def norm_product(net: nn.Module, norm: str) -> float:
    r"""Product of the norms of all weights with two axes or more, :math:`\prod_l \|W_l\|`.

    A kernel of a convolution counts as the matrix (output channels) x (all other entries); its
    spectral norm is then not that of the convolution. Biases and batch norm do not count.

    Args:
        net: the network.
        norm: "frobenius" or "spectral".

    Raises:
        InputError: another norm.

    Source: Neyshabur et al. (2015) and Bartlett et al. (2017), where these products bound the
    complexity of a network.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.diag(torch.tensor([3.0, 4.0])))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 0.0]]))
    >>> norm_product(net, "frobenius"), norm_product(net, "spectral")
    (10.0, 8.0)
    """
    check_choice("norm", norm, ("frobenius", "spectral"))
    product = 1.0
    for p in net.parameters():
        if p.ndim > 1:
            w = p.detach().double().flatten(1)
            if norm == "frobenius":
                product *= float(w.norm())
            else:  # the root of the smaller Gram matrix: much faster than singular values
                gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
                product *= math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))
    return product


def summary(
    net: nn.Module,
    initial: nn.Module,
    trace: Trace,
    pairs: Pairs | tuple[Tensor, Tensor],
    x: Tensor,
    *,
    radius: float,
    directions: int = 20,
    seed: int = 0,
) -> dict[str, float]:
    """All measures of this module, each as one number: a row of a tidy table.

    Means over samples and paths. Measures that are not defined for the network are NaN, so that all
    rows have the same columns: `sensitivity` with one output, `weight_product` unless there is one
    layer of activations.

    Args:
        net: the network, in eval mode.
        initial: the network that training began with.
        trace: of `net` along `pairs`, with slopes per unit of t.
        pairs: straight paths.
        x: samples, (N, *input).
        radius: of `local_complexity`.
        directions: of `local_complexity`.
        seed: of `local_complexity`.

    Raises:
        InputError: as the measures.
    """
    program = _program(net, x)
    start = parameter_norm(initial)
    moved = distance(net, initial)
    row = {
        "gradient_norm": gradient_norm(program, x),
        "function_path_length": function_path_length(trace),
        "gradient_path_length": gradient_path_length(program, trace, pairs),
        "deviation_from_affine": deviation_from_affine(trace),
        "switch_density": switch_density(trace),
        "region_density": region_density(trace),
        "local_complexity": local_complexity(
            program, x, radius=radius, directions=directions, seed=seed
        ),
    }
    several = program.size(program.output) > 1
    shallow = len(program.sites) == 1 and isinstance(program.operations[program.sites[0]], Hinges)
    return {name: float(value.mean()) for name, value in row.items()} | {
        "sensitivity": float(sensitivity(program, x).mean()) if several else math.nan,
        "weight_product": weight_product(program, x[0]) if shallow else math.nan,
        "parameter_norm": parameter_norm(net),
        "distance": moved,
        "relative_distance": moved / start if start else math.nan,
        "frobenius_product": norm_product(net, "frobenius"),
        "spectral_product": norm_product(net, "spectral"),
    }


def _program(net: Net, x: Tensor) -> Program:
    program = net if isinstance(net, Program) else read(net, x[0])
    if tuple(x.shape[1:]) != program.input_shape:
        raise InputError(
            f"x must hold samples of shape {program.input_shape}, got {tuple(x.shape[1:])}; "
            f"reshape them."
        )
    return program


def _rows(program: Program, each: int = 1) -> int:
    """How many samples are taken at once, such that one array of a layer stays small."""
    widest = max(program.size(v) for v in range(len(program.operations) + 1))
    return max(1, chunk_bytes(program.device) // (program.dtype.itemsize * widest * each))


def _parts(program: Program, x: Tensor, each: int = 1) -> Iterator[Tensor]:
    yield from x.detach().to(program.dtype).split(_rows(program, each))


def _jacobian(program: Program, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (N, C) and their derivatives by the inputs (N, C, entries)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        outputs = program.values(x)[program.output].flatten(1)
        rows = [
            torch.autograd.grad(column.sum(), x, retain_graph=True)[0].flatten(1)
            for column in outputs.unbind(1)
        ]
    return outputs.detach(), torch.stack(rows, dim=1)


def _normal(program: Program, x: Tensor, site: int, unit: Tensor) -> Tensor:
    """Derivative of one pre-activation of each sample by the inputs, (N, *input)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = program.values(x)[program.operations[site].inputs[0]].flatten(1)
        return torch.autograd.grad(z.gather(1, unit[:, None]).sum(), x)[0]


def _linear(program: Program, source: int, target: int) -> Tensor:
    """The linear map from one value to a later one, all other values zero, (source, target)."""
    size = program.size(source)
    rows = torch.eye(size, dtype=program.dtype, device=program.device)
    found = {source: rows.reshape(size, *program.shape(source))}
    for i, operation in enumerate(program.operations[:target]):
        if isinstance(operation, Affine) and found.keys() & {*operation.inputs}:
            taken = [
                found[v] if v in found else rows.new_zeros(size, *program.shape(v))
                for v in operation.inputs
            ]
            found[i + 1] = operation.linear(*taken).reshape(size, *operation.shape)
    made = found.get(target)
    return rows.new_zeros(size, program.size(target)) if made is None else made.flatten(1)


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
