"""From a network and paths to a trace."""

import copy

import torch
from torch import Tensor, nn

from implreg.checks import InputError, check_count, check_finite
from implreg.datasets import Pairs
from implreg.networks import linear_layers
from implreg.tracing.refine import Kinks, push
from implreg.tracing.result import Trace

_MISMATCH = 1e-8  # relative; rounding stays some orders of magnitude below


def trace(net: nn.Module, paths: Pairs | tuple[Tensor, Tensor], *, memory: int = 2**29) -> Trace:
    r"""Every switch of a ReLU network along straight paths, exactly, for many paths at once.

    Along :math:`X_t = (1-t) X_0 + t X_1` the outputs :math:`\phi(t) = f(X_t)` are piecewise linear.
    At the breakpoint :math:`t_i`, where unit j with pre-activation :math:`z_j` and activation
    :math:`a_j` changes sign, the slope jumps by the gradient gap

    .. math::
        g_i = \frac{\partial f}{\partial a_j} \left|\frac{\mathrm{d} z_j}{\mathrm{d} t}\right| .

    Breakpoints, slopes and gaps are computed in float64 from the network's parameters, whatever
    their own dtype; nothing is sampled. The traced value at the end of each path is compared with
    the network's own.

    A unit whose pre-activation only touches zero, or is zero along a whole piece, does not change
    the slope and counts as no switch; a sign change exactly at t = 0 or t = 1 counts as none.

    Args:
        net: `Linear` and `ReLU` in turn, such as `implreg.mlp` makes. It is not changed.
        paths: pairs of samples, or two tensors (starts, ends) of shape (P, d).
        memory: bytes that the working set should not exceed; paths are traced in groups that fit.
            A single path takes what it needs.

    Returns:
        The `Trace` of all P paths.

    Raises:
        InputError: a layer that is neither `Linear` nor `ReLU`; parameters or samples that are not
            finite; shapes that do not fit; a pair of identical samples.
        ArithmeticError: the traced value at the end of a path is not the network's own.

    Source: figure 1 of Kubo et al. (2019).

    >>> net = torch.nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    >>> _ = net[0].weight.data.copy_(torch.tensor([[4.0], [-2.0]]))
    >>> _ = net[0].bias.data.copy_(torch.tensor([-1.0, 1.0]))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[3.0, 1.0]]))
    >>> path = trace(net, (torch.zeros(1, 1), torch.ones(1, 1)))  # 3 relu(4t-1) + relu(1-2t) + b
    >>> path.t.tolist(), path.unit.tolist()
    ([0.25, 0.5], [0, 1])
    >>> path.slopes.flatten().tolist(), path.gaps.flatten().tolist()
    ([-2.0, 10.0, 12.0], [12.0, 2.0])
    """
    check_count("memory", memory)
    named = linear_layers(net)
    for name, layer in named:
        for kind, parameter in layer.named_parameters():
            check_finite(f"net.{name}.{kind}", parameter.detach())
    weights = [layer.weight.detach().double() for _, layer in named]
    biases = [None if m.bias is None else m.bias.detach().double() for _, m in named]
    x0, x1 = path_ends(paths, inputs=weights[0].shape[1], device=weights[0].device)

    group = max(1, memory // _bytes_per_path([len(w) for w in weights]))
    groups = zip(x0.split(group), (x1 - x0).split(group), strict=True)
    parts = [_flatten(push(weights, biases, start, way)) for start, way in groups]

    first_path, path = 0, []
    for part in parts:
        path.append(part["path"] + first_path)
        first_path += len(part["ends"])
    joined = {k: torch.cat([part[k] for part in parts]) for k in parts[0] if k != "path"}
    result = Trace(
        path=torch.cat(path),
        lengths=(x1 - x0).norm(dim=1),
        layers=tuple(name for name, _ in named[:-1]),
        **joined,
    )
    _compare(net, x1, result)
    return result


def path_ends(
    paths: Pairs | tuple[Tensor, Tensor], *, inputs: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Starts and ends of the paths as checked (P, inputs) float64 tensors."""
    pair = (paths.x0, paths.x1) if isinstance(paths, Pairs) else paths
    if not (isinstance(pair, tuple | list) and len(pair) == 2) or not all(
        isinstance(x, Tensor) for x in pair
    ):
        raise InputError(
            f"paths must be implreg.pairs(...) or two tensors (x0, x1), got "
            f"{type(paths).__name__}; pass such a pair."
        )
    x0, x1 = (x.detach().to(device=device, dtype=torch.float64) for x in pair)
    if x0.shape != x1.shape or x0.ndim < 2 or len(x0) == 0 or x0[0].numel() != inputs:
        raise InputError(
            f"paths must be two tensors of one shape (P, {inputs}) with P at least 1, as the "
            f"network has {inputs} inputs, got {tuple(x0.shape)} and {tuple(x1.shape)}; reshape "
            f"them (one pair: x[None])."
        )
    check_finite("paths: x0", x0)
    check_finite("paths: x1", x1)
    x0, x1 = x0.flatten(1), x1.flatten(1)
    same = (x0 == x1).all(dim=1).nonzero().flatten().tolist()
    if same:
        raise InputError(
            f"paths must join two different samples, but x0 and x1 are equal in {len(same)} of "
            f"{len(x0)} pairs (first: pair {same[0]}); leave those out."
        )
    return x0, x1


def _bytes_per_path(widths: list[int]) -> int:
    """Estimate of the working set of one path: a few (kinks, units) arrays of the widest layer."""
    arrays, bytes_each = 6, 8
    kinks = [sum(widths[:layer]) + 2 for layer in range(len(widths))]
    return arrays * bytes_each * max(k * n for k, n in zip(kinks, widths, strict=True))


def _flatten(kinks: Kinks) -> dict[str, Tensor]:
    """The kinks of the outputs without their filling, one row per switch or piece."""
    real = kinks.unit >= 0
    pieces = torch.cat([real.new_ones(len(real), 1), real], dim=1)
    slopes = kinks.slopes()
    values = kinks.values(slopes)
    return {
        "path": real.nonzero()[:, 0],
        "t": kinks.t[real],
        "layer": kinks.layer[real],
        "unit": kinks.unit[real],
        "gaps": kinks.jump[real],
        "slopes": slopes[pieces],
        "values": values[:, :-1][pieces],
        "ends": values[:, -1],
    }


def _compare(net: nn.Module, x1: Tensor, result: Trace) -> None:
    """Raise if the traced values at the ends of the paths are not the network's own."""
    with torch.no_grad():
        own = copy.deepcopy(net).double()(x1)
    scale = torch.maximum(result.values.abs().max(), own.abs().max())
    error = (result.ends - own).abs().max()
    if not error <= _MISMATCH * scale:
        raise ArithmeticError(
            f"the trace ends {float(error):.3g} away from the network's own output (scale "
            f"{float(scale):.3g}); its numbers cannot be trusted: please report the network."
        )
