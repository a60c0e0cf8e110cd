"""What every trace must be: the network's own values and slopes."""

from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from implreg.tracing import Trace, plan, trace


class Net(nn.Module):
    """A function as a module, with layers that it may use."""

    def __init__(
        self, function: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module
    ) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def drawn(seed: int, *shape: int) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def each_way(net: nn.Module, ends: tuple[Tensor, Tensor], **how: Any) -> Iterator[Trace]:
    """A trace on patches of maps, as far as that goes, and if it goes anywhere one without any."""
    worth = plan._WORTH
    try:
        plan._WORTH = 0
        found = trace(net, ends, **how)
        yield found
        plan._WORTH = inf
        if found.source is not None and found.source.program.plan.position:
            yield trace(net, ends, **how)
    finally:
        plan._WORTH = worth


def switched(found: Trace) -> list[tuple[int, int, int]]:
    """Which units switch, on which path, however often."""
    return sorted(zip(found.path.tolist(), found.layer.tolist(), found.unit.tolist(), strict=True))


def alike(one: Trace, other: Trace, near: float = 1e-10) -> None:
    """Two traces have the same switches, at the same times, and the same slopes."""
    assert switched(one) == switched(other)
    assert torch.allclose(one.t, other.t, rtol=0, atol=near)
    long = (one.piece_end - one.piece_start).minimum(other.piece_end - other.piece_start) > 1e-6
    size = max(1e-300, float(other.slopes.abs().max()))
    assert ((one.slopes - other.slopes)[long].abs() <= near * size).all()


def check(net: nn.Module, ends: tuple[Tensor, Tensor], points: int = 2_001) -> Trace:
    """Values and slopes on every piece, and values on a fine grid, are the module's own."""
    x0, x1 = ends
    traced, *whole = each_way(net, ends)
    for other in whole:
        alike(traced, other)
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
