"""Paths to trace: straight lines between two samples, polylines, closed loops."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from implreg.checks import check_array, check_finite
from implreg.errors import InputError


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of samples: the two ends of P paths.

    Attributes:
        x0: where the paths start, float64, shape (P, *shape) with the shape of one sample.
        x1: where the paths end, float64, shape (P, *shape).
        y0: labels of the starts, int64, shape (P,).
        y1: labels of the ends, int64, shape (P,).
        kind: "same", "different" or "random", see `implreg.pairs`.

    >>> x = torch.eye(3, dtype=torch.float64)
    >>> two = Pairs(x[:2], x[1:], torch.tensor([0, 1]), torch.tensor([1, 2]), "different")
    >>> len(two)
    2
    """

    x0: Tensor = field(repr=False)
    x1: Tensor = field(repr=False)
    y0: Tensor = field(repr=False)
    y1: Tensor = field(repr=False)
    kind: str

    def __len__(self) -> int:
        """Return P, the number of pairs."""
        return len(self.x0)


@dataclass(frozen=True)
class Polyline:
    """P paths that go straight from vertex to vertex; see `polyline`.

    Attributes:
        vertices: V points of each path, (P, V, *input).
        closed: whether the last vertex is the first one again.
    """

    vertices: Tensor
    closed: bool


_ARRAYS = (Tensor, np.ndarray)
Array = Tensor | NDArray[Any]
Straight = Pairs | tuple[Array, Array]
Paths = Straight | Polyline


def polyline(points: Array | Sequence[Array], *, closed: bool = False) -> Polyline:
    """A path that goes straight from point to point, or several such paths.

    Position t on it counts the points: t = 2 is the third of them, t = 2.5 half way to the fourth.

    Args:
        points: tensor or NumPy array (V, *input) of two or more inputs of the network; or a list of
            such, all of one shape, for several paths.
        closed: go back to the first point at the end.

    Returns:
        Paths of V - 1 segments, or of V if they are closed, to be traced.

    Raises:
        InputError: `points` does not hold real numbers of one shape with at least two points.

    >>> polyline(torch.eye(3), closed=True).vertices.shape
    torch.Size([1, 4, 3])
    """
    many = [points] if isinstance(points, _ARRAYS) else list(points)
    if not many or not all(isinstance(p, _ARRAYS) and p.ndim > 1 and len(p) > 1 for p in many):
        raise InputError(
            f"points must be a tensor (V, ...) of at least two points, or a list of such tensors, "
            f"got {_described(points)}; stack the inputs that the path goes through."
        )
    given = [check_array("points", p) for p in many]
    if len({p.shape for p in given}) > 1:
        raise InputError(
            f"points must be tensors of one shape, got {sorted({tuple(p.shape) for p in given})}; "
            f"trace paths with other numbers of points by themselves."
        )
    vertices = torch.stack(given)
    if closed:
        vertices = torch.cat([vertices, vertices[:, :1]], dim=1)
    return Polyline(vertices, closed)


def _described(given: object) -> str:
    if isinstance(given, _ARRAYS):
        what = "a tensor" if isinstance(given, Tensor) else "an array"
        return f"{what} of shape {tuple(given.shape)}"
    if isinstance(given, list | tuple):
        return f"{type(given).__name__} of {', '.join(map(_described, given)) or 'nothing'}"
    return type(given).__name__


def segments(paths: Paths, dtype: torch.dtype) -> tuple[Tensor, Tensor, int]:
    """Starts and ends of all straight segments, and their number per path.

    Returns:
        Starts and ends (P * N, *input) of type `dtype`, by path and then along it; N.

    Raises:
        InputError: the paths are not tensors of real numbers of one shape, hold NaN or infinity, or
            have a segment of no length.
    """
    if isinstance(paths, Polyline):
        vertices = _numbers("paths", check_array("paths", paths.vertices), dtype)
        x0, x1 = vertices[:, :-1].flatten(0, 1), vertices[:, 1:].flatten(0, 1)
        number = vertices.shape[1] - 1
    else:
        x0, x1 = ends(paths)
        if x0.shape != x1.shape or x0.ndim < 2 or len(x0) == 0:
            raise InputError(
                f"paths must be two tensors of one shape (P, ...) with P at least 1, got "
                f"{tuple(x0.shape)} and {tuple(x1.shape)}; reshape them (one pair: x[None])."
            )
        if x0.device != x1.device:
            raise InputError(
                f"paths must be on one device, got x0 on {x0.device} and x1 on {x1.device}; move "
                f"one of them."
            )
        x0, x1 = _numbers("paths: x0", x0, dtype), _numbers("paths: x1", x1, dtype)
        number = 1
    same = (x0 == x1).flatten(1).all(dim=1).nonzero().flatten().tolist()
    if same:
        raise InputError(
            f"paths must join two different samples, but the ends are equal in {len(same)} of "
            f"{len(x0)} {'pairs' if number == 1 else 'segments'} (first: {same[0]}); leave those "
            f"out."
        )
    return x0, x1, number


def ends(paths: Straight) -> tuple[Tensor, Tensor]:
    """Starts and ends of straight paths as tensors, their shapes and values not yet checked.

    Raises:
        InputError: the paths are no two tensors or arrays of real numbers.
    """
    pair = (paths.x0, paths.x1) if isinstance(paths, Pairs) else paths
    if not (isinstance(pair, tuple | list) and len(pair) == 2) or not all(
        isinstance(x, _ARRAYS) for x in pair
    ):
        raise InputError(
            f"paths must be implreg.pairs(...), implreg.polyline(...) or two tensors (x0, x1), "
            f"got {_described(paths)}; pass such paths."
        )
    return check_array("paths: x0", pair[0]), check_array("paths: x1", pair[1])


def _numbers(name: str, x: Tensor, dtype: torch.dtype) -> Tensor:
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix("torch.")
        raise InputError(
            f"{name} must hold numbers of a floating type, got {kind}; convert them to float64."
        )
    if x.device.type == "meta":
        raise InputError(f"{name} must hold values, got a tensor on the device meta; load it.")
    return check_finite(name, x.detach()).to(dtype)


def straight_ends(paths: Paths) -> tuple[Tensor, Tensor]:
    """Starts and ends of straight paths as checked (P, *input) float64 tensors on the CPU.

    Raises:
        InputError: as `segments`, or polylines.
    """
    x0, x1, number = segments(paths, torch.float64)
    if number > 1:
        raise InputError(
            f"paths must be straight, got polylines of {number} segments; pass two tensors "
            f"(x0, x1)."
        )
    return x0.cpu(), x1.cpu()
