"""The path explorer: move two samples, and see every switch between them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from torch import Tensor, nn

from implreg.errors import InputError
from implreg.figures import Figure, plot_path
from implreg.tracing import Paths, Trace, trace
from implreg.tracing.paths import Polyline, ends
from implreg.widgets.bundle import notebook_module
from implreg.widgets.explorer import Explorer
from implreg.widgets.packing import pack
from implreg.widgets.random_networks import random_network

Networks = nn.Module | Mapping[str, nn.Module]
_PLANES = 12  # pairs that come with a network, so that a page can choose among them
_NUMBERS = 200_000  # of a network; more make a page too heavy, and Python traces instead


def path_explorer(
    net: Networks | None = None, paths: Paths | None = None, *, output: int | None = None
) -> "PathExplorer":
    """Explore outputs, slopes and gradient gaps along the path between two points.

    Without arguments: a random network with two inputs, whose width, depth, scale and seed can be
    set. With a network: the plane through the origin and both samples of a pair, in which the two
    can be moved. A network of `nn.Linear` and `nn.ReLU` is traced in the reader's browser, with or
    without Python; any other one that `implreg.trace` takes is traced by Python at every move.

    Every control is an attribute of the result, see `PathExplorer`.

    Args:
        net: a module in eval mode made of piecewise linear operations, or several by name, such as
            the same one before and after training; all of one shape.
        paths: pairs of samples, two tensors (starts, ends) of shape (P, *input), or a polyline.
        output: which output to show first; by default the one that is largest on the first path of
            the last network.

    Returns:
        A widget, which a notebook displays and the book mounts on a page.

    Raises:
        InputError: a network without paths or the reverse; what `implreg.trace` refuses; networks
            of different shapes; or an output that the network does not have.

    >>> explorer = path_explorer()
    >>> explorer.width, explorer.seed = 16, 3
    >>> len(explorer.trace), explorer.net[0].out_features
    (1, 16)
    """
    return PathExplorer(net, paths, output=output)


class PathExplorer(Explorer):
    """The explorer that `path_explorer` makes.

    Args:
        net: as `path_explorer` takes it.
        paths: as `path_explorer` takes them.
        output: as `path_explorer` takes it.

    Raises:
        InputError: as `path_explorer`.

    Attributes:
        points: the two samples in the plane, in units in which a sample has norm 1.
        position: t, between 0 and the number of the path's segments.
        width: hidden units per layer of the random network, where there is no other.
        depth: hidden layers of the random network.
        scale: of the hidden weights of the random network, see `random_network`.
        seed: of the weights of the random network.
        choice: which of the given networks is shown, from 0.
        pair: which of the given pairs is shown, from 0.
        output: which of the outputs is shown, from 0.
    """

    name = "path"
    _esm = notebook_module(name)

    points = traitlets.List([[1.0, 0.0], [-0.3, 0.95]]).tag(sync=True)
    position = traitlets.Float(0.5, min=0).tag(sync=True)
    width = traitlets.Int(32, min=1, max=256).tag(sync=True)
    depth = traitlets.Int(2, min=1, max=6).tag(sync=True)
    scale = traitlets.Float(1.0, min=0.1, max=10).tag(sync=True)
    seed = traitlets.Int(0, min=0, max=2**31 - 1).tag(sync=True)
    choice = traitlets.Int(0, min=0).tag(sync=True)
    pair = traitlets.Int(0, min=0).tag(sync=True)
    output = traitlets.Int(0, min=0).tag(sync=True)
    given = traitlets.Dict().tag(sync=True)
    traced = traitlets.Dict().tag(sync=True)

    def __init__(
        self, net: Networks | None = None, paths: Paths | None = None, *, output: int | None = None
    ) -> None:
        """Read the networks; see `path_explorer`."""
        if (net is None) != (paths is None):
            raise InputError(
                f"net and paths must be given together or not at all, got only "
                f"{'net' if paths is None else 'paths'}; pass both."
            )
        super().__init__()
        self._nets: list[nn.Module] = []
        self._planes: _Planes | None = None
        if net is None or paths is None:
            return
        named = dict(net) if isinstance(net, Mapping) else {"network": net}
        if not named:
            raise InputError("net must name at least one network, got none; pass one.")
        self._nets = list(named.values())
        traces = [trace(each, paths) for each in self._nets]
        last = traces[-1][0]
        if any(one[0].ends.shape != last.ends.shape or one.layers != last.layers for one in traces):
            raise InputError(
                "net must hold networks of one shape, got several; make an explorer for each."
            )
        self.output = _chosen(last, output)
        self.choice = len(self._nets) - 1
        self._paths = paths
        if not isinstance(paths, Polyline):
            self._planes = _Planes(*ends(paths))
            self.points = self._planes.points(0)
        labels = [f"pair {k}" for k in range(len(traces[-1]))]
        names = {"names": list(named), "pairs": labels, "outputs": last.ends.shape[1]}
        dense = [_dense(each) for each in self._nets]
        size = sum(p.numel() for each in self._nets for p in each.parameters())
        if self._planes is not None and all(dense) and size <= _NUMBERS:
            self.given = self._planes.given([each for each in dense if each], names)
        else:
            self._names = names | {"layers": len(last.layers)}
            self._retrace()
            self.observe(self._move, ["pair", "choice", "points"])

    @property
    def net(self) -> nn.Module:
        """The network that is shown."""
        if self._nets:
            return self._nets[self.choice]
        return random_network(2, self.width, self.depth, scale=self.scale, seed=self.seed)

    @property
    def trace(self) -> Trace:
        """The trace of the path that is shown."""
        if self._nets and self._planes is None:
            return trace(self.net, self._paths)[self.pair]
        ends = torch.tensor(self.points, dtype=torch.float64)[:, None]
        if self._planes is None:
            return trace(self.net, tuple(ends * 2**0.5))
        return trace(self.net, tuple(self._planes.samples(self.pair, ends)))

    def still(self) -> Figure:
        """Outputs and slopes of the path that is shown, and its breakpoints."""
        path = self.trace
        return plot_path(path, [self.output], deflection=path.segments == 1)

    @traitlets.validate("scale", "position")
    def _finite(self, proposal: Any) -> float:
        value: float = proposal["value"]
        if not np.isfinite(value):
            raise traitlets.TraitError(
                f"{proposal['trait'].name} must be a finite number, got {value!r}; set such a one."
            )
        return value

    @traitlets.validate("points")
    def _two_points(self, proposal: Any) -> list[list[float]]:
        try:
            points = np.asarray(proposal["value"], dtype=float)
        except (TypeError, ValueError):
            points = np.empty(0)
        if points.shape != (2, 2) or not np.isfinite(points).all():
            raise traitlets.TraitError(
                f"points must be two points of two finite numbers each, got "
                f"{proposal['value']!r}; set for example [[1, 0], [0, 1]]."
            )
        return [[float(x) for x in point] for point in points]

    def _move(self, change: Any) -> None:
        """Python traces: at a new pair from its own two samples, else from the moved points."""
        if change["name"] == "pair" and self._planes is not None:
            with self.hold_trait_notifications():
                self.points = self._planes.points(self.pair)
        self._retrace()

    def _retrace(self) -> None:
        one = self.trace
        arrays = {
            "t": one.t, "layer": one.layer.int(), "unit": one.unit.int(), "gaps": one.gaps,
            "starts": one.piece_start, "slopes": one.slopes, "values": one.values,
            "ends": one.ends[0],
        }  # fmt: skip
        self.traced = {
            **self._names,
            "segments": one.segments,
            **{name: pack(x.numpy(force=True)) for name, x in arrays.items()},
        }


class _Planes:
    """The planes through the origin and both samples of each pair, with a basis for each.

    Args:
        starts: samples (P, *shape).
        ends: likewise.
    """

    def __init__(self, starts: Tensor, ends: Tensor) -> None:
        self.shape = starts.shape[1:]
        a, b = (x.double().flatten(1) for x in (starts, ends))
        self.unit = float(torch.cat([a, b]).norm(dim=1).mean()) or 1.0
        first = _directions(a, torch.zeros_like(a))
        second = _directions(b - (b * first).sum(1, keepdim=True) * first, first)
        self.basis = torch.stack([first, second], dim=1)  # (P, 2, d)
        self._ends = torch.stack([a, b], dim=1)  # (P, 2, d)

    def points(self, pair: int) -> list[list[float]]:
        """The two samples of a pair in the coordinates of its plane."""
        found: list[list[float]] = (self._ends[pair] @ self.basis[pair].T / self.unit).tolist()
        return found

    def samples(self, pair: int, points: Tensor) -> Tensor:
        """The samples at points (..., 2) of the plane of a pair."""
        flat = self.unit * points @ self.basis[pair]
        return flat.reshape(*points.shape[:-1], *self.shape)

    def given(self, nets: Sequence[Sequence[nn.Linear]], names: dict[str, Any]) -> dict[str, Any]:
        """What JavaScript needs to trace fully connected networks in the first planes."""
        count = min(len(self.basis), _PLANES)
        return {
            **names,
            "pairs": names["pairs"][:count],
            "unit": self.unit,
            "points": [self.points(k) for k in range(count)],
            "networks": [
                {
                    "planes": [_layer(net[0], self.basis[k]) for k in range(count)],
                    "layers": [_layer(layer) for layer in net[1:]],
                }
                for net in nets
            ],
        }


def _directions(x: Tensor, other: Tensor) -> Tensor:
    """Rows of x with norm 1; where one is zero, some direction orthogonal to the row of `other`."""
    spare = torch.eye(x.shape[1], dtype=x.dtype)[other.abs().argmin(dim=1)]
    spare = spare - (spare * other).sum(1, keepdim=True) * other
    norm = x.norm(dim=1, keepdim=True)
    tiny = norm <= 1e-9 * (1 + other.norm(dim=1, keepdim=True))
    return nn.functional.normalize(torch.where(tiny, spare, x))


def _layer(layer: nn.Linear, basis: Tensor | None = None) -> dict[str, Any]:
    """A dense layer, behind the embedding of a plane if there is one."""
    weights = layer.weight.detach()
    if basis is not None:
        weights = weights.double() @ basis.T
    biases = layer.bias.detach() if layer.bias is not None else weights.new_zeros(len(weights))
    return {
        "weights": pack(weights.numpy(force=True)),
        "biases": pack(biases.numpy(force=True)),
        "inputs": weights.shape[1],
        "outputs": weights.shape[0],
    }


def _dense(net: nn.Module) -> list[nn.Linear] | None:
    """The layers of a plain fully connected ReLU network, else None."""
    layers = list(net) if isinstance(net, nn.Sequential) else []
    dense = [layer for layer in layers if isinstance(layer, nn.Linear)]
    plain = layers[::2] == dense and all(type(layer) is nn.ReLU for layer in layers[1::2])
    return dense if plain and len(layers) == 2 * len(dense) - 1 > 1 else None


def _chosen(first: Trace, output: int | None) -> int:
    """The output to show first."""
    count = first.ends.shape[1]
    if output is None:
        return int(first.values.max(dim=0).values.argmax())
    if isinstance(output, bool) or not isinstance(output, int) or not 0 <= output < count:
        raise InputError(
            f"output must be a whole number from 0 to {count - 1}, got {output!r}; choose among "
            f"the network's {count} outputs."
        )
    return output
