"""Some paths for some time, sent through operations on patches of maps; see `local`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from implreg.tracing.cuts import Cuts, find_crossings, jumps
from implreg.tracing.kinds import Affine, Hinges, Windows
from implreg.tracing.knots import Flow, Knots, Rows, Switches, offsets, sources
from implreg.tracing.maps import Form
from implreg.tracing.patches import Patches, Sizes, flat_places, reach
from implreg.tracing.program import Program
from implreg.tracing.state import Floats, Ints, integrate, on_device
from implreg.tracing.windows import find_wins

States = dict[int, list[Tensor]]


class Full(Exception):
    """The patches of a chunk take more memory than they may."""


class Chunk:
    """Some paths from one time to another, sent through the operations of the program's plan.

    Args:
        program: what the network does.
        x: where the paths are at the begin, (B, *input_shape).
        way: their direction, (B, *input_shape).
        times: begin and end.
        tolerance: of a value how far from zero rounding may leave it, (B, n).
        carried: for each operation that switches its state at the begin; empty at the start of
            the paths.
        limit: how many entries the patches of one value may have.
    """

    def __init__(
        self, program: Program, x: Tensor, way: Tensor, times: tuple[float, float],
        tolerance: Callable[[int], Tensor], carried: States, limit: float,
    ) -> None:  # fmt: skip
        self._program, self._plan, self._times = program, program.plan, times
        self._tolerance, self._carried, self._limit = tolerance, carried, limit
        self.states: States = {}
        self.lanes, self.largest = len(x), 0
        self.switches: dict[int, Switches] = {}
        self.silent: list[tuple[int, Switches]] = []
        shape = program.input_shape
        start = torch.cat([x, way])
        self.flows = {0: Flow(start, shape, {}, x.new_zeros(1, *shape[:1]))}
        for i in range(program.plan.position):
            operation = program.operations[i]
            if isinstance(operation, Affine):
                made = self._affine(i, operation)
            elif isinstance(operation, Hinges):
                made = self._hinges(i, operation)
            else:
                made = self._windows(i, operation)
            self.flows[i + 1] = made
            for value in {*operation.inputs}:
                if program.last_use[value] <= i:
                    del self.flows[value]

    def _room(self, patches: dict[int, tuple[int, Sizes]], channels: int, covered: int = 0) -> int:
        """How many rows the patches take; each of them may be of windows of so many entries."""
        rows = sum(count * prod(wide) for count, wide in patches.values())
        self._fits(rows * max(channels, covered))
        return rows

    def _fits(self, entries: int) -> None:
        self.largest = max(self.largest, entries)
        if self.largest > self._limit:
            raise Full

    def _affine(self, i: int, operation: Affine) -> Flow:
        taken = [self.flows[v] for v in operation.inputs]
        start = operation.of_rows([flow.start for flow in taken], self.lanes)
        layout = self._plan.layouts[i + 1]
        if i not in self._plan.forms:
            rows = taken[0].rows if taken[0].patches else start.new_zeros(1, *layout[:1])
            return Flow(start, layout, taken[0].patches, rows)
        felt: dict[int, list[tuple[Form, Patches]]] = {}
        for form, flow in zip(self._plan.forms[i], taken, strict=True):
            for site, patches in flow.patches.items():
                felt.setdefault(site, []).append((form, patches))
        boxes = {
            site: reach([(form.reads, patches) for form, patches in each])
            for site, each in felt.items()
        }
        channel = {site: _one_channel(each) for site, each in felt.items()}
        count = {site: len(self.switches[site].t) for site in felt}
        full = {site: (count[site], boxes[site][1]) for site in felt if channel[site] is None}
        rows = start.new_zeros(self._room(full, layout[0]) + 1, layout[0])
        made, at = {}, 0
        for site, each in felt.items():
            low, wide = boxes[site]
            shape = (count[site], prod(wide))
            if channel[site] is None:
                out = rows[at : at + prod(shape)].view(*shape, layout[0])
                at += prod(shape)
            else:
                out = rows.new_zeros(*shape, 1)
            for form, patches in each:
                if channel[site] is None and form.channel(patches) is not None:
                    thin = rows.new_zeros(*shape, 1)
                    form.act(patches, low, wide, thin)
                    out += Patches(low, wide, thin, form.channel(patches)).full(layout[0])
                else:
                    form.act(patches, low, wide, out)
            made[site] = Patches(low, wide, out, channel[site])
        return Flow(start, layout, made, rows)

    def _starts(self, flow: Flow) -> Tensor:
        """Values and slopes where the chunk begins, by place, (2, B * places, C)."""
        wide = flow.start.reshape(2, self.lanes, flow.layout[0], -1)
        return wide.transpose(2, 3).reshape(2, -1, flow.layout[0])

    def _back(self, made: Tensor, shape: Sizes) -> Tensor:
        """Values and slopes by place as starts of a flow again."""
        return made.view(2, self.lanes, -1, made.shape[-1]).transpose(2, 3).reshape(shape)

    def _slack(self, value: int, layout: Sizes) -> Tensor:
        """The tolerance by place, (B * places, C)."""
        wide = self._tolerance(value).view(self.lanes, layout[0], -1)
        return wide.transpose(1, 2).reshape(-1, layout[0])

    def _found(
        self, i: int, layout: Sizes, found: list[tuple[Ints, Ints, Floats, np.ndarray]],
        like: Tensor,
    ) -> dict[int, Patches]:  # fmt: skip
        """Enter switches: where (lane and place), channel, t; and make patches of their jumps."""
        where, channel, t, jump = (np.concatenate(x) for x in zip(*found, strict=True))
        lane, place = np.divmod(where, prod(layout[1:]))
        self.switches[i] = Switches(lane, t, channel * prod(layout[1:]) + place)
        if not len(t):
            return {}
        low = np.array(np.unravel_index(place, layout[1:]))
        rows = on_device(jump, like)[:, None, None]
        return {i: Patches(low, (1,) * len(low), rows, channel)}

    def _heard(self, i: int, value: int, patches: dict[int, Patches]) -> dict[int, Patches]:
        """Leave out patches without any change, of switches that no other value feels either.

        Such are most units below the largest of their window, and units of a dead channel.
        """
        others = [flow for v, flow in self.flows.items() if v != value]
        if self._program.last_use[value] > i:
            others.append(self.flows[value])
        left = {}
        for site, x in patches.items():
            if x.channel is not None and not any(site in flow.patches for flow in others):
                heard = (x.rows != 0).flatten(1).any(1).cpu().numpy()
                every = self.switches[site]
                self.silent.append((site, every.part(~heard)))
                self.switches[site], x = every.part(heard), x.part(heard.nonzero()[0])
            if len(x):
                left[site] = x
        return left

    def _hinges(self, i: int, operation: Hinges) -> Flow:
        value = operation.inputs[0]
        flow, (begin, end) = self.flows[value], self._times
        channels, sizes = flow.layout[0], flow.layout[1:]
        shared = any(x.rows is flow.rows for v, x in self.flows.items() if v != value)
        rows = Rows(flow, copy=shared or self._program.last_use[value] > i)
        covered = {site: x.places(sizes) for site, x in flow.patches.items()}
        knots = Knots(self.switches, covered, rows.bases, prod(sizes), self.lanes)
        self._fits(knots.most * channels)
        start, slack = self._starts(flow), self._slack(value, flow.layout)
        before = self._carried.get(i)
        on = [torch.empty_like(start[0], dtype=torch.bool) for _ in operation.kinks]
        after = [torch.empty_like(start[0], dtype=torch.bool) for _ in 2 * operation.kinks]
        found = []
        for places in knots.blocks(channels):
            row, times = knots.of(places, begin, end)
            index = on_device(places, slack)
            changes = rows.at(row)
            slopes = torch.cat([start[1][index][:, None], changes], dim=1).cumsum_(dim=1)
            z = integrate(start[0][index], slopes, on_device(np.diff(times), slopes))
            carried = None if before is None else [x[index] for x in before]
            own = _at_places(operation, places[:, None] % prod(sizes), channels)
            cuts, state = find_crossings(own, times, z, slack[index], carried)
            sides = [side.view(slopes.shape) for side in cuts.sides]
            for one, x in zip(
                [*on, *after], [*(side[:, 0] for side in sides), *state], strict=True
            ):
                one[index] = x
            if row.size:
                rows.put(row, changes.mul_(own.factor([side[:, 1:] for side in sides], z.dtype)))
            where = cuts.row // slopes.shape[1]
            steps = [d[where, 0, cuts.unit] if isinstance(d, Tensor) else d for _, d in own.kinks]
            jump = jumps(cuts, slopes.flatten(0, 1), steps)
            found.append((places[where], cuts.unit, cuts.t, jump))
        self.states[i] = after
        whole = _at_places(operation, np.tile(np.arange(prod(sizes)), self.lanes), channels)
        made = torch.stack([whole.value(start[0], on), start[1] * whole.factor(on, start.dtype)])
        patches = self._heard(i, value, rows.patches()) | self._found(i, flow.layout, found, start)
        return Flow(self._back(made, flow.start.shape), flow.layout, patches, rows.full)

    def _windows(self, i: int, operation: Windows) -> Flow:
        value = operation.inputs[0]
        flow, (begin, end) = self.flows[value], self._times
        channels, sizes = flow.layout[0], flow.layout[1:]
        layout, entries = self._plan.layouts[i + 1], self._plan.entries[i]
        count, wide = entries.shape
        reads = self._plan.reads[i]
        boxes = {site: reach([(reads, x)]) for site, x in flow.patches.items()}
        covered = {site: flat_places(*box, layout[1:]) for site, box in boxes.items()}
        full = {site: (len(flow.patches[site]), box[1]) for site, box in boxes.items()}
        out = flow.rows.new_zeros(self._room(full, channels, wide) + 1, channels)
        each = [x.full(channels).flatten(0, 1) for x in flow.patches.values()]
        every = torch.cat([*each, out[-1:]])
        source = sources(flow.patches, covered, entries, sizes)
        bases = dict(zip(covered, offsets([x.size for x in covered.values()]), strict=True))
        knots = Knots(self.switches, covered, bases, count, self.lanes)
        self._fits(knots.most * channels * wide)
        start, slack = self._starts(flow), self._slack(value, flow.layout)
        first_entry = np.repeat(np.arange(self.lanes) * prod(sizes), count)[:, None]
        chosen = on_device(np.tile(entries, (self.lanes, 1)) + first_entry, slack).long()
        before = self._carried.get(i)
        winner = chosen.new_empty(len(chosen), channels)
        after = [winner.clone(), winner.new_empty(len(winner), wide, channels, dtype=torch.bool)]
        found = []
        for windows in knots.blocks(channels * wide):
            row, times = knots.of(windows, begin, end)
            index = on_device(windows, slack)
            first = chosen[index]
            changes = every.index_select(0, on_device(source[row].ravel(), slack))
            changes = changes.view(*row.shape, wide, channels)
            slopes = torch.cat([start[1][first][:, None], changes], dim=1).cumsum_(dim=1)
            steps = on_device(np.diff(times), slopes)
            z = integrate(start[0][first].flatten(1), slopes.flatten(2), steps)
            z = z.view(*z.shape[:2], wide, channels)
            carried = None if before is None else [x[index] for x in before]
            cuts, state = find_wins(slopes, z, slack[first], times, carried)
            jump, last = _jumps_of_winners(cuts, slopes.flatten(0, 1))
            shape = (*slopes.shape[:2], channels)
            winners, last = (x.view(shape) for x in (cuts.sides[0], last))
            for one, x in zip([winner, *after], [winners[:, 0], *state], strict=True):
                one[index] = x
            own, other = (slopes.gather(2, x[:, :, None])[:, :, 0] for x in (winners, last))
            if row.size:
                index = on_device(np.where(row < 0, len(out) - 1, row).ravel(), slack)
                out.index_copy_(0, index, (own[:, 1:] - other[:, :-1]).flatten(0, 1))
                out[-1] = 0
            found.append((windows[cuts.row // shape[1]], cuts.unit, cuts.t, jump))
        self.states[i] = after
        made = start.gather(1, chosen.gather(1, winner).expand(2, -1, -1))
        patches = {}
        for site, box in boxes.items():
            rows = out[bases[site] :][: covered[site].size].view(*covered[site].shape, channels)
            patches[site] = Patches(*box, rows).thinned(flow.patches[site].channel)
        shape = (2 * self.lanes, *operation.shape)
        patches = self._heard(i, value, patches) | self._found(i, layout, found, start)
        return Flow(self._back(made, shape), layout, patches, out)


def _jumps_of_winners(cuts: Cuts, slopes: Tensor) -> tuple[np.ndarray, Tensor]:
    """By how much the slope of the largest jumps at each cut, and who is it behind them, (PK, n).

    `slopes`: of all entries, (PK, w, n).
    """
    now, jump = cuts.sides[0].clone(), np.empty(cuts.row.size)
    for order in np.unique(cuts.order):
        here = np.flatnonzero(cuts.order == order)
        row, unit, to = (on_device(x[here], now) for x in (cuts.row, cuts.unit, cuts.side))
        own = slopes[row, :, unit]
        change = own.gather(1, to[:, None]) - own.gather(1, now[row, unit][:, None])
        jump[here], now[row, unit] = change[:, 0].cpu().numpy(), to
    return jump, now


def _at_places(operation: Hinges, places: Ints, channels: int) -> Hinges:
    """A function of every entry, for the channels at some places, (*places, C)."""

    def at(x: float | Tensor) -> float | Tensor:
        if not isinstance(x, Tensor):
            return x
        whole = x.expand(operation.shape).reshape(channels, -1)
        return whole.T[on_device(places, whole)]

    if not any(isinstance(x, Tensor) for x in (operation.slope, *(d for _, d in operation.kinks))):
        return operation
    kinks = tuple((c, at(d)) for c, d in operation.kinks)
    return replace(operation, slope=at(operation.slope), kinks=kinks)


def _one_channel(each: Sequence[tuple[Form, Patches]]) -> Ints | None:
    """Which channel of each patch a sum changes, if it is only one."""
    found = [form.channel(patches) for form, patches in each]
    if found[0] is None or any(x is None or not np.array_equal(x, found[0]) for x in found):
        return None
    return found[0]
