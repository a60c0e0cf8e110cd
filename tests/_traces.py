"""What every trace must be: the network's own values and slopes."""

import torch
from torch import Tensor, nn

from implreg.tracing import Trace, trace


def drawn(seed: int, *shape: int) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check(net: nn.Module, ends: tuple[Tensor, Tensor], points: int = 2_001) -> Trace:
    """Values and slopes on every piece, and values on a fine grid, are the module's own."""
    x0, x1 = ends
    traced = trace(net, ends)
    path, begin, end = traced.piece_path, traced.piece_start, traced.piece_end
    wide = [-1] + [1] * (x0.ndim - 1)
    way = (x1 - x0)[path]
    middle = x0[path] + ((begin + end) / 2).view(wide) * way
    values, slopes = torch.func.jvp(net, (middle,), (way,))
    values, slopes = values.detach().flatten(1), slopes.detach().flatten(1)
    found = traced.values + (end - begin)[:, None] / 2 * traced.slopes
    assert (found - values).abs().max() <= 1e-11 * values.abs().max()
    long = end - begin > 1e-10
    assert (traced.slopes - slopes)[long].abs().max() <= 1e-10 * slopes.abs().max()

    grid = torch.linspace(0, 1, points, dtype=torch.float64)
    for i in range(len(x0)):
        with torch.no_grad():
            own = net(x0[i] + grid.view(wide) * (x1 - x0)[i]).flatten(1)
        assert (traced.at(grid, i) - own).abs().max() <= 1e-11 * own.abs().max()
    assert len(set(traced.layers)) == len(traced.layers)
    return traced
