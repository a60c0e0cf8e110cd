r"""What affine operations do on maps, place by place.

A map has C channels at places along some axes, shape (C, *sizes); entries without places, shape
(C,), are a map of one place without axes. An operation has a local form if it is one of these:

* `Mixing`: at each place the channels of some places around it, times a matrix for each
  (convolutions, transposed and depthwise ones, linear layers);
* `Channelwise`: the same for all channels, axis by axis, times a factor for each entry (pooling by
  averages, batch norm, padding, upsampling, sums, concatenation, means over places, ...);
* `Flat`: a matrix for each place, and all places added up (a linear layer behind a flatten).

A layer that mixes channels tells its form when it is read. The channelwise form is found by trying:
an operation is taken for what it makes of a few maps, if it then makes that of a random one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from implreg.tracing.patches import Patches, Sizes, flat_places, reach
from implreg.tracing.state import Bools, Ints, on_device

_BLOCK = 2**17  # entries that are computed with at once
_TRIED = 2**23  # entries that are tried at once
_SMALL, _SMALL_ALONE = 16**2, 64**2  # places times places of maps, see `Mixing.small`
_NEAR = 256  # units of rounding by which the same may differ


@dataclass(frozen=True)
class Mixing:
    r"""At each place q the sum over taps k of in[sources[q, k]] @ weight[k].

    Attributes:
        before: sizes of the map that it takes.
        sources: for each axis the place that each tap reads, -1 for none, (q, k).
        weight: (taps, C, C'); if each channel is by itself (taps, C).
    """

    before: Sizes
    sources: tuple[Ints, ...]
    weight: Tensor

    @cached_property
    def reads(self) -> tuple[Bools, ...]:
        """For each axis which places each place reads, (q, p)."""
        return tuple(
            (source[:, :, None] == np.arange(size)).any(1)
            for source, size in zip(self.sources, self.before, strict=True)
        )

    @cached_property
    def _taps(self) -> Tensor:
        """Which place each tap reads, the number behind for none, (q, k)."""
        found = np.zeros((1, 1), dtype=np.int64)
        for source, size in zip(self.sources, self.before, strict=True):
            outside = (found < 0)[:, None, :, None] | (source < 0)[None, :, None, :]
            both = found[:, None, :, None] * size + source[None, :, None, :]
            found = np.where(outside, -1, both).reshape(-1, found.shape[1] * source.shape[1])
        return on_device(np.where(found < 0, prod(self.before), found), self.weight)

    @cached_property
    def _matrices(self) -> Tensor:
        """Of each channel by itself the matrix of the whole map, (C, p + 1, q)."""
        places, each = self._taps, self.weight.expand(len(self._taps), *self.weight.shape)
        made = self.weight.new_zeros(prod(self.before) + 1, len(places), self.weight.shape[1])
        to = torch.arange(len(places), device=made.device)[:, None].expand_as(places)
        return made.index_put((places, to), each, accumulate=True).permute(2, 0, 1)

    @property
    def small(self) -> bool:
        """Whether maps are so small that `whole` is quicker than PyTorch, in its slow cases."""
        places = prod(self.before) * prod(map(len, self.sources))
        return places <= (_SMALL_ALONE if self.weight.ndim == 2 else _SMALL)

    def whole(self, x: Tensor) -> Tensor:
        """The result for whole maps, (R, C, *before) -> (R, C', *after), by products for all rows.

        In float64 PyTorch convolves on a processor row by row, and each channel by itself in turn.
        """
        places, channels = self._taps, self.weight.shape[-1]
        rows, after = functional.pad(x.flatten(2), (0, 1)), tuple(map(len, self.sources))
        if self.weight.ndim == 2:
            made = torch.bmm(rows.transpose(0, 1), self._matrices).transpose(0, 1)
        else:
            parts, weight = [], self.weight.flatten(0, 1)
            for part in rows.transpose(1, 2).split(max(1, _BLOCK // (len(weight) * len(places)))):
                taken = part.index_select(1, places.flatten()).view(-1, len(weight))
                parts.append((taken @ weight).view(len(part), len(places), channels))
            made = torch.cat(parts).transpose(1, 2)
        return made.reshape(len(x), channels, *after)

    def channel(self, patches: Patches) -> Ints | None:
        """Which channel of each patch the result changes, if it is only one."""
        return patches.channel if self.weight.ndim == 2 else None

    def act(self, patches: Patches, low: Ints, wide: Sizes, out: Tensor) -> None:
        """Add to the patches of the result that begin at `low`, (S, R', C') or (S, R', 1)."""
        taps, inside, own = self.weight.shape[0], prod(patches.wide), patches.channel
        entries = max(patches.rows.shape[2], 1 if own is None else out.shape[2])
        step = max(1, _BLOCK // (taps * prod(wide) * entries))
        slots, which = self._slots(patches, low, wide)
        nothing = patches.rows.new_zeros(min(step, len(patches)), 1, patches.rows.shape[2])
        for begin in range(0, len(patches), step):
            here = slice(begin, begin + step)
            rows, part = patches.rows[here], out[here]
            count = len(rows)
            first = np.arange(count)[:, None] * (inside + 1)
            index = on_device((slots[which[here]] + first).ravel(), out)
            rows = torch.cat([rows, nothing[:count]], dim=1).flatten(0, 1).index_select(0, index)
            rows = rows.view(count, -1, taps, rows.shape[1])
            if self.weight.ndim == 2:
                factor = self.weight[None, None]
                if own is not None:
                    factor = self.weight.T[on_device(own[here], rows), None, :, None]
                part += (rows * factor).sum(2)
            elif own is not None:
                chosen = self.weight[:, on_device(own[here], rows)].transpose(0, 1)
                part.baddbmm_(rows[..., 0], chosen)
            else:
                part.flatten(0, 1).addmm_(rows.flatten(0, 1).flatten(1), self.weight.flatten(0, 1))

    def _slots(self, patches: Patches, low: Ints, wide: Sizes) -> tuple[Ints, Ints]:
        """What each tap reads, counted inside the patch, the number behind for what is not in it.

        Most patches have one and the same pattern, (patterns, R' * k); and which each has, (S,).
        """
        slots, missing = np.zeros((2, 1, 1, 1), dtype=np.int64)
        which = np.zeros(len(patches), dtype=np.int64)
        for axis, source in enumerate(self.sources):
            width, size = patches.wide[axis], self.before[axis]
            pairs, own = np.unique(low[axis] * size + patches.low[axis], return_inverse=True)
            to, first = np.divmod(pairs, size)
            along = source[to[:, None] + np.arange(wide[axis])] - first[:, None, None]
            along[(along < 0) | (along >= width)] = -1
            along, alike = np.unique(along, axis=0, return_inverse=True)
            which = which * len(along) + alike.ravel()[own]
            shape = (-1, slots.shape[1] * along.shape[1], slots.shape[2] * along.shape[2])
            along = along[None, :, None, :, None, :]
            out = missing[:, None, :, None, :, None] | (along < 0)
            slots = slots[:, None, :, None, :, None] * width + along
            slots, missing = slots.reshape(shape), out.reshape(shape)
        slots[missing != 0] = prod(patches.wide)
        return slots.reshape(len(slots), -1), which

    def columns(self, units: Tensor) -> Tensor:
        """The map made of unit impulses at flat entries (k,) of the input, (k, C', *sizes)."""
        if not self.sources:
            return self.weight[0, units]
        channels, sizes = self.weight.shape[-1], tuple(map(len, self.sources))
        channel, place = np.divmod(units.cpu().numpy(), prod(self.before))
        low = np.stack(np.unravel_index(place, self.before))
        ones = self.weight.new_ones(len(place), 1, 1)
        impulses = Patches(low, (1,) * len(sizes), ones, channel)
        low, wide = reach([(self.reads, impulses)])
        depth = channels if self.channel(impulses) is None else 1
        rows = ones.new_zeros(len(place), prod(wide), depth)
        self.act(impulses, low, wide, rows)
        made = Patches(low, wide, rows, self.channel(impulses)).maps(channels, sizes)
        return made.reshape(len(place), channels, *sizes)


@dataclass(frozen=True)
class Channelwise:
    r"""Channel c at place q: gain[c, q] times the sum of along[q, p] in[channels[c], p].

    Attributes:
        along: for each axis a matrix (q, p).
        channels: which channel of the input each one reads, -1 for none, (C',).
        taken: how many channels the input has.
        gain: (C', places), or (C', 1) if it is the same at all places.
    """

    along: tuple[Tensor, ...]
    channels: Ints
    taken: int
    gain: Tensor

    @cached_property
    def reads(self) -> tuple[Bools, ...]:
        """For each axis which places each place reads, (q, p)."""
        return tuple((matrix != 0).cpu().numpy() for matrix in self.along)

    @cached_property
    def _stays(self) -> tuple[bool, ...]:
        """For each axis whether every place reads itself alone."""
        one = [torch.eye(len(matrix), dtype=matrix.dtype) for matrix in self.along]
        return tuple(torch.equal(x.cpu(), y) for x, y in zip(self.along, one, strict=True))

    def channel(self, patches: Patches) -> Ints | None:
        """Which channel of each patch the result changes, if it is only one."""
        if patches.channel is None:
            return None
        reads = self.channels >= 0
        readers = np.bincount(self.channels[reads], minlength=self.taken)
        if (readers[patches.channel] > 1).any():
            return None
        to = np.zeros(self.taken, dtype=np.int64)
        to[self.channels[reads]] = np.flatnonzero(reads)
        return to[patches.channel]

    def act(self, patches: Patches, low: Ints, wide: Sizes, out: Tensor) -> None:
        """Add to the patches of the result that begin at `low`, (S, R', C') or (S, R', 1)."""
        channel = self.channel(patches)
        sizes = tuple(map(len, self.along))
        step = max(1, _BLOCK // (prod(wide) * out.shape[2]))
        for begin in range(0, len(patches), step):
            some = patches.part(slice(begin, begin + step))
            first = low[:, begin : begin + step]
            rows = some.rows if channel is not None else some.full(self.taken)
            rows = self._moved(rows, some, first, wide)
            if channel is None:
                if not np.array_equal(self.channels, np.arange(rows.shape[2])):
                    known = on_device(np.maximum(self.channels, 0), rows)
                    rows = rows.index_select(2, known)
                gain = (
                    self.gain.T[None]
                    if self.gain.shape[1] == 1
                    else self.gain.T[on_device(flat_places(first, wide, sizes), rows)]
                )
            else:
                own = on_device(channel[begin : begin + step], rows)[:, None]
                here = on_device(flat_places(first, wide, sizes), rows)
                gain = self.gain[own, here if self.gain.shape[1] > 1 else 0][..., None]
                lost = self.channels[channel[begin : begin + step]] != some.channel
                gain = gain * on_device(1.0 - lost, rows)[:, None, None]
            out[begin : begin + step].addcmul_(rows, gain)

    def _moved(self, rows: Tensor, patches: Patches, low: Ints, wide: Sizes) -> Tensor:
        count = len(rows)
        for axis, matrix in enumerate(self.along):
            own, width = patches.low[axis], patches.wide[axis]
            if self._stays[axis] and wide[axis] == width and np.array_equal(own, low[axis]):
                continue
            to = on_device(low[axis][:, None] + np.arange(wide[axis]), rows)
            frm = on_device(own[:, None] + np.arange(width), rows)
            each = matrix[to[:, :, None], frm[:, None, :]]
            left = prod(wide[:axis])
            rows = torch.matmul(each[:, None], rows.reshape(count, left, width, -1))
            rows = rows.flatten(1)
        return rows.reshape(count, prod(wide), -1)


def channelwise(
    linear: Callable[..., Tensor], taken: Sequence[Sizes], number: int, shape: Sizes, like: Tensor
) -> Channelwise | None:
    """What an operation does to one of its inputs, if it does the same to all channels.

    Args:
        linear: the operation without its constant.
        taken: shapes of its inputs, for one sample.
        number: which of these.
        shape: of its result.
        like: a tensor of the type and on the device of the network.
    """
    if not shape or not taken[number]:
        return None
    channels, *before = taken[number]
    after = shape[1:] if len(shape) > 1 else (1,) * len(before)
    if len(after) != len(before) or not prod(shape) * channels * prod(before):
        return None

    def run(x: Tensor) -> Tensor:
        every = [x.new_zeros(len(x), *size) for size in taken]
        every[number] = x.expand(len(x), channels, *before)
        return linear(*every).reshape(len(x), shape[0], *after)

    wide = (1,) * len(before)
    gain = run(like.new_ones(1, channels, *before))[0]
    named = run(torch.arange(1.0, channels + 1).to(like).view(1, -1, *wide))[0]
    gains, names = (x.reshape(len(x), -1) for x in (gain, named))
    best = gains.abs().argmax(1, keepdim=True)
    top, name = (x.gather(1, best)[:, 0] for x in (gains, names))
    found = torch.where(top == 0, 0, name / top).round().long().cpu().numpy() - 1
    if found.max() >= channels or found.min() < -1:
        return None
    random = torch.Generator(like.device).manual_seed(0)
    drawn = torch.randn(
        (1, channels, *before), generator=random, dtype=like.dtype, device=like.device
    )
    made = run(drawn)[0]
    factor = gains[:, :1] if bool((gains == gains[:, :1]).all()) else gains
    for along in (_single_taps, _taps):
        axes = tuple(along(run, gain, i, n) for i, n in enumerate(before))
        form = Channelwise(axes, found, channels, factor)
        size = _NEAR * torch.finfo(like.dtype).eps * _applied(form, drawn[0], sizes=True)
        if bool(((_applied(form, drawn[0]) - made.reshape_as(size)).abs() <= size).all()):
            return form
    return None


def _single_taps(run: Callable[[Tensor], Tensor], gain: Tensor, axis: int, size: int) -> Tensor:
    """Which place each place reads along an axis, if it is only one, as a matrix (q, p)."""
    numbers = torch.arange(1.0, size + 1).to(gain).view(-1, *[1] * (gain.ndim - 2 - axis))
    (read,) = _shares(run, gain, axis, numbers[None, None])
    place = read.round().long() - 1
    known = (place >= 0) & (place < size)
    every = torch.arange(size, device=gain.device)
    return (every == torch.where(known, place, -1)[:, None]).to(gain)


def _taps(run: Callable[[Tensor], Tensor], gain: Tensor, axis: int, size: int) -> Tensor:
    """How each place reads the places along an axis, (q, p)."""
    one = torch.eye(size, dtype=gain.dtype, device=gain.device)
    one = one.view(size, 1, *[1] * axis, size, *[1] * (gain.ndim - 2 - axis))
    step = max(1, _TRIED // gain.numel())
    return torch.cat([_shares(run, gain, axis, some) for some in one.split(step)]).T


def _shares(run: Callable[[Tensor], Tensor], gain: Tensor, axis: int, maps: Tensor) -> Tensor:
    """What is made of some maps, in shares of what is made of ones, along one axis, (maps, q)."""
    made, whole = (
        x.movedim(axis - gain.ndim + 1, -1).flatten(-gain.ndim, -2) for x in (run(maps), gain[None])
    )
    best = whole.abs().argmax(1, keepdim=True)
    top = whole.gather(1, best)[:, 0]
    share = made.gather(1, best.expand(len(made), 1, -1))[:, 0] / top
    return torch.where(top == 0, 0, share)


def _applied(form: Channelwise, x: Tensor, *, sizes: bool = False) -> Tensor:
    """What a form makes of a map (C, *sizes), (C', places); or what all its terms add up to."""
    known = on_device(form.channels, x)
    gain, made = form.gain, x[known.clamp(min=0)] * (known >= 0).view(-1, *[1] * (x.ndim - 1)).to(x)
    along = form.along
    if sizes:
        gain, made, along = gain.abs(), made.abs(), tuple(matrix.abs() for matrix in along)
    for matrix in along:
        made = torch.tensordot(made, matrix, dims=([1], [1]))  # the axis goes to the end
    return made.reshape(len(made), -1) * gain


@dataclass(frozen=True)
class Flat:
    """All places at once: the sum over places p of in[p] @ weight[p], on a map of one place.

    Attributes:
        before: sizes of the map that it takes.
        weight: (places, C, C').
    """

    before: Sizes
    weight: Tensor

    @cached_property
    def reads(self) -> tuple[Bools, ...]:
        """For each axis which places the one place reads, (1, p)."""
        return tuple(np.ones((1, size), dtype=bool) for size in self.before)

    def channel(self, patches: Patches) -> Ints | None:
        """All channels of the result change."""
        return None

    def act(self, patches: Patches, low: Ints, wide: Sizes, out: Tensor) -> None:
        """Add to the patches of the result, (S, 1, C')."""
        places, rows, made = patches.places(self.before), patches.rows, out[:, 0]
        if patches.channel is not None:
            entry = places * self.weight.shape[1] + patches.channel[:, None]
            for slot in range(places.shape[1]):
                own = self.weight.flatten(0, 1).index_select(0, on_device(entry[:, slot], rows))
                made.addcmul_(own, rows[:, slot])
        elif 2 * places.shape[1] > len(self.weight):
            step = max(1, _BLOCK // prod(self.weight.shape[:2]))
            weight = self.weight.transpose(0, 1).flatten(0, 1)
            for begin in range(0, len(patches), step):
                some = patches.part(slice(begin, begin + step))
                made[begin : begin + step].addmm_(
                    some.maps(rows.shape[2], self.before).flatten(1), weight
                )
        else:
            by = places.ravel().argsort(kind="stable")
            bounds = np.bincount(places.ravel(), minlength=len(self.weight)).cumsum()
            for own, entries in zip(self.weight, np.split(by, bounds[:-1]), strict=True):
                row = on_device(entries // places.shape[1], rows)
                made.index_add_(0, row, rows.flatten(0, 1)[on_device(entries, rows)] @ own)


Form = Mixing | Channelwise | Flat
