"""Which operations of a program are done on patches of maps, see `local`."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from torch import Tensor

from implreg.tracing.kinds import Affine, Operation, Windows
from implreg.tracing.maps import Flat, Form, Mixing, channelwise
from implreg.tracing.patches import Sizes, reached
from implreg.tracing.state import Bools, Ints

_WORTH = 1e7  # units times entries of all values, from which on patches are the quicker way
_FILLED = 0.6  # share of a map from which on patches are whole maps


@dataclass(frozen=True)
class Plan:
    """Which operations of a program are done on patches, and how.

    Attributes:
        position: the first operation that is not; 0 if it is not worth it.
        forms: for the affine ones the form of each input; nothing where none has patches yet, or
            where entries keep their order.
        entries: for the windows the places that each one covers, (windows, w).
        reads: for the windows and each axis, which places each one covers, (q, p).
        layouts: of every value that is made on patches, (C, *sizes).
    """

    position: int
    forms: dict[int, tuple[Form, ...]]
    entries: dict[int, Ints]
    reads: dict[int, tuple[Bools, ...]]
    layouts: dict[int, Sizes]


def plan(operations: Sequence[Operation], shape: Sizes, like: Tensor) -> Plan:
    """Follow how wide the patches of each operation's switches become.

    Args:
        operations: those of a program.
        shape: of a sample.
        like: a tensor of the type and on the device of the network.
    """
    layouts: dict[int, Sizes] = {0: shape}
    boxes: dict[int, dict[int, Sizes]] = {0: {}}
    forms: dict[int, tuple[Form, ...]] = {}
    entries: dict[int, Ints] = {}
    reads: dict[int, tuple[Bools, ...]] = {}
    units: dict[int, int] = {}
    shapes = [shape, *(operation.shape for operation in operations)]
    switching = [operation for operation in operations if not isinstance(operation, Affine)]
    if sum(prod(x.shape) for x in switching) * sum(map(prod, shapes)) <= _WORTH:
        return Plan(0, forms, entries, reads, layouts)
    for i, operation in enumerate(operations):
        taken = [layouts[v] for v in operation.inputs]
        felt = [boxes[v] for v in operation.inputs]
        if isinstance(operation, Affine):
            layouts[i + 1], boxes[i + 1] = operation.shape, {}
            if any(felt):
                if operation.keeps:
                    layouts[i + 1], boxes[i + 1] = taken[0], felt[0]
                    continue
                found = _forms(operation, [shapes[v] for v in operation.inputs], taken, like)
                if found is None:
                    break
                forms[i] = found
                one = (1,) * (len(taken[0]) - len(operation.shape))
                layouts[i + 1] = (*operation.shape, *one)
                boxes[i + 1] = _widened([form.reads for form in found], felt)
            continue
        sizes = taken[0][1:]
        share = sum(units[site] * prod(wide) for site, wide in felt[0].items())
        whole = prod(sizes) * sum(units[site] for site in felt[0])
        if prod(sizes) == 1 or share > _FILLED * whole:
            break
        layouts[i + 1], boxes[i + 1] = taken[0], dict(felt[0])
        if isinstance(operation, Windows):
            places = _entries(operation, taken[0])
            if places is None:
                break
            entries[i] = places
            one = (1,) * (len(taken[0]) - len(operation.shape))
            layouts[i + 1] = (*operation.shape, *one)
            reads[i] = _windows_read(places, layouts[i + 1][1:], sizes)
            boxes[i + 1] = _widened([reads[i]], felt)
        boxes[i + 1][i] = (1,) * len(sizes)
        units[i] = prod(operation.shape)
    else:
        i = len(operations)
    work = sum(units.values()) * sum(map(prod, shapes[: i + 1]))
    return Plan(i if units and work > _WORTH else 0, forms, entries, reads, layouts)


def _forms(
    operation: Affine, shapes: Sequence[Sizes], taken: Sequence[Sizes], like: Tensor
) -> tuple[Form, ...] | None:
    if isinstance(operation.form, Mixing):
        channels, *sizes = taken[0]
        if operation.form.before == tuple(sizes):
            return (operation.form,)
        if operation.form.sources or shapes[0] != (prod(taken[0]),):
            return None
        weight = operation.form.weight.view(channels, prod(sizes), -1).transpose(0, 1)
        return (Flat(tuple(sizes), weight.contiguous()),)
    if list(taken) != list(shapes):
        return None
    found = [
        channelwise(operation.linear, shapes, k, operation.shape, like) for k in range(len(shapes))
    ]
    return None if None in found else tuple(form for form in found if form is not None)


def _widened(
    reads: Sequence[tuple[Bools, ...]], felt: Sequence[dict[int, Sizes]]
) -> dict[int, Sizes]:
    """How wide patches are behind an operation, by the operation that switches."""
    made: dict[int, Sizes] = {}
    for own, boxes in zip(reads, felt, strict=True):
        for site, wide in boxes.items():
            each = []
            for read, width in zip(own, wide, strict=True):
                first, last = reached(read, np.arange(read.shape[1] - width + 1), width)
                each.append(int((last - first).max()) + 1)
            made[site] = tuple(map(max, made.get(site, (0,) * len(wide)), each))
    return made


def _entries(operation: Windows, layout: Sizes) -> Ints | None:
    """Which places each window covers, if it is the same for all channels."""
    channels, places = layout[0], prod(layout[1:])
    index = operation.index.cpu().numpy()
    if operation.shape[0] != channels or len(operation.shape) not in (1, len(layout)):
        return None
    index = (
        index.reshape(channels, -1, index.shape[1]) - places * np.arange(channels)[:, None, None]
    )
    same = (index == index[0]).all() and index.min() >= 0 and index.max() < places
    return index[0] if same else None


def _windows_read(entries: Ints, sizes: Sizes, before: Sizes) -> tuple[Bools, ...]:
    """For each axis which places each window covers, (q, p)."""
    window, made = np.unravel_index(np.arange(len(entries)), sizes), []
    for axis, along in enumerate(np.unravel_index(entries, before)):
        read = np.zeros((sizes[axis], before[axis]), dtype=bool)
        read[window[axis][:, None], along] = True
        made.append(read)
    return tuple(made)
