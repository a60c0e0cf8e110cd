"""Checks of arguments: every refusal is one sentence that says what to do."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from implreg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor  # seconds to import, and not all that is checked is one


def check_count(name: str, value: object, *, at_least: int = 1) -> int:
    """Return `value` if it is an integer of at least `at_least`, else raise `InputError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InputError(
            f"{name} must be a whole number of at least {at_least}, got {value!r}; "
            f"pass such a number."
        )
    return value


def check_number(
    name: str, value: object, *, above: float | None = None, at_least: float | None = None
) -> float:
    """Return `value` as a finite float within its bound, else raise `InputError`."""
    bound = (
        f" above {above:g}" if above is not None
        else f" of at least {at_least:g}" if at_least is not None
        else ""
    )  # fmt: skip
    number = float(value) if isinstance(value, int | float) else float("nan")
    inside = (above is None or number > above) and (at_least is None or number >= at_least)
    if isinstance(value, bool) or not abs(number) < float("inf") or not inside:
        raise InputError(
            f"{name} must be a finite number{bound}, got {value!r}; pass such a number."
        )
    return number


def check_share(name: str, value: object, *, whole: bool = True) -> float:
    """Return `value` if it is a number from 0 to 1, the 1 itself if `whole`, else `InputError`."""
    share = check_number(name, value, at_least=0)
    if share > 1 or (share == 1 and not whole):
        bound = "of at most 1" if whole else "below 1"
        raise InputError(f"{name} must be a share {bound}, got {value!r}; lower it.")
    return share


def check_choice(name: str, value: object, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`, else raise `InputError`."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}; choose one.")
    return value


def check_finite(name: str, value: "Tensor") -> "Tensor":
    """Return `value` if it holds neither NaN nor infinity, else raise `InputError`."""
    low, high = value.aminmax() if value.numel() else (value.sum(), value.sum())
    if not (low.isfinite() and high.isfinite()):
        bad = int((~value.isfinite()).sum())
        raise InputError(
            f"{name} must be finite, but {bad} of its {value.numel()} entries are NaN or "
            f"infinite; remove or replace them."
        )
    return value


def check_positions(name: str, value: "Tensor", end: int = 1) -> "Tensor":
    """Return `value` if all of it lies between 0 and `end`, else raise `InputError`."""
    inside = (value >= 0) & (value <= end)  # NaN is not
    if not bool(inside.all()):
        raise InputError(
            f"{name} must be between 0 and {end}, got {value[~inside].tolist()[:4]}; choose "
            f"positions on the path."
        )
    return value


def check_norms(name: str, value: "Tensor", paths: int) -> "Tensor":
    """Return `value` if it holds a finite number above 0 for both ends of each path."""
    if value.shape != (paths, 2) or not bool(((value > 0) & value.isfinite()).all()):
        raise InputError(
            f"{name} must hold the norm of an output vector at both ends of every path, ({paths}, "
            f"2), all above 0 and finite, got shape {tuple(value.shape)} and entries from "
            f"{float(value.min()) if value.numel() else 0:g}; leave out the pairs where an output "
            f"vector is zero, or use the raw measures."
        )
    return value


def check_array(name: str, value: object, place: str = "") -> "Tensor":
    """Return a tensor of real numbers as it is, a NumPy array as a new one, else `InputError`.

    Args:
        name: of the argument.
        value: a dense tensor, or an array, which keeps its precision up to float64.
        place: where it came from, to be told behind what came.
    """
    import numpy as np
    import torch

    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and not np.ma.is_masked(value):
        # torch has neither foreign byte orders nor longer numbers.
        dtype = value.dtype.newbyteorder("=") if value.dtype.itemsize <= 8 else np.dtype(float)
        return torch.from_numpy(np.array(value, dtype, order="C"))
    dense = isinstance(value, torch.Tensor) and value.layout is torch.strided
    if isinstance(value, torch.Tensor) and dense and not (value.is_quantized or value.is_complex()):
        return value
    dtype = getattr(value, "dtype", None)
    kind = type(value).__name__ + (f" of {dtype}" if dtype else "")
    raise InputError(
        f"{name} must be a dense tensor or a NumPy array of real numbers, got {kind}{place}; "
        f"convert it to float64."
    )
