"""How much is computed with at once."""

import re
from dataclasses import dataclass
from math import prod

import psutil
import torch

from implreg.errors import InputError
from implreg.tracing.kinds import Windows
from implreg.tracing.program import Program

_FEWEST = 8  # patches as large as the largest map that a chunk may have in any case
_CHUNK = {"cpu": 2**22}  # bytes of one array that a processor's cache holds with room to spare
_CHUNK_ELSEWHERE = 2**28
_PATCHES = 2**29  # bytes of all patches that are alive at once
_ARRAYS = 6  # arrays as large as the largest that are alive at once
_SHARE = 0.5  # of the free memory, unless the caller says otherwise
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\s*")


@dataclass(frozen=True)
class Bounds:
    """How much is computed with at once.

    Attributes:
        paths: how many are begun together.
        entries: how many the patches of one value may have.
        rows: how many rows (values and slopes of one piece) the chunks behind each switching
            operation may hold, by operation; and those that come from patches, or the paths
            themselves, under the key -1.
    """

    paths: int
    entries: float
    rows: dict[int, int]


def bounds(program: Program, memory: int | str | None) -> Bounds:
    """How much is computed with at once."""
    item = torch.empty((), dtype=program.dtype).element_size()
    position, sites = (
        program.plan.position,
        [s for s in program.sites if s >= program.plan.position],
    )
    places = [-1, *sites]
    widest, each = {}, {}
    for place, following in zip(places, [*sites, len(program.operations)], strict=True):
        follower = program.followers.get(place)
        first = (position if place < 0 else place) if follower is None else follower[0]
        sizes = [prod(operation.shape) for operation in program.operations[first:following]]
        alive = program.live(place) if place >= 0 else program.before(position)
        if place < 0:
            sizes += map(program.size, alive)
        if following in program.sites:
            switching = program.operations[following]
            sizes.append(program.size(switching.inputs[0]))
            sizes.append(switching.index.numel() if isinstance(switching, Windows) else 0)
        widest[place] = max([1, *sizes])
        each[place] = item * (_ARRAYS * widest[place] + sum(map(program.size, alive)))
    sizes = [program.size(v) for v in range(position + 1)]
    least = 2 * sum(each.values()) + (2 * _FEWEST * _ARRAYS * item * max(sizes) if position else 0)
    bounded = memory_bytes(memory, program.device, least, "on a single piece")
    chunk = chunk_bytes(program.device)
    rows = {
        p: max(1, min(chunk // (item * widest[p]), int(bounded // (len(each) * each[p])) - 1))
        for p in places
    }
    paths = chunk // (item * max(1, sum(sizes))) if position else rows[-1] // 2
    entries = min(_PATCHES, bounded / 2) / (_ARRAYS * item)
    return Bounds(max(1, paths), max(entries, _FEWEST * max(sizes)), rows)


def chunk_bytes(device: torch.device) -> int:
    """Of one array of a chunk, if memory is no limit."""
    return _CHUNK.get(device.type, _CHUNK_ELSEWHERE)


def memory_bytes(memory: int | str | None, device: torch.device, least: int, what: str) -> int:
    """What `memory` allows in bytes, see `trace`.

    Raises:
        InputError: it is no such number, or less than the `least` that values `what` take.
    """
    if memory is None:
        cuda = device.type == "cuda"
        free = torch.cuda.mem_get_info(device)[0] if cuda else psutil.virtual_memory().available
        allowed = int(free * _SHARE)
    elif isinstance(memory, str) and (match := _SIZE.fullmatch(memory)):
        number, prefix, binary = match.groups()
        allowed = int(float(number) * (1024 if binary else 1000) ** " kMGT".index(prefix or " "))
    elif isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
        raise InputError(
            f"memory must be a whole number of bytes or a size such as '512MB', got {memory!r}; "
            f"pass one of these, or leave it out."
        )
    else:
        allowed = memory
    if allowed < least:
        raise InputError(
            f"memory must be at least {-(-least // 1000)}kB for this network, whose values {what} "
            f"take as much, got {memory!r}; allow that much."
        )
    return allowed
