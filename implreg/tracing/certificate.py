r"""Proof that a trace has every switch and no other, by arithmetic with bounds.

A *state* of a unit is the side of its kinks on which it is, of a pooling window the entry that is
the largest. Where no state changes, all pre-activations are linear in t, so what has one and the
same state at two points has it in between: in the first layer, which is linear there, and then in
one layer after another. Hence, with brackets :math:`[l_i, u_i]` around the switches,

* from :math:`u_i` to :math:`l_{i+1}` nothing switches if every state is certain, and the same, at
  both ends: none is missed;
* in a bracket just one unit switches, and once, if every other state is certain all along it and
  that unit's state changes from one end to the other: none is invented.

Certain is what holds for all values within bounds, which cover the bracket and all rounding
(:math:`|\mathrm{fl}(Wx) - Wx| \le \gamma_n |W||x|` with :math:`\gamma_n \approx n \varepsilon`).
What these cannot decide is decided by the same inequalities in rational numbers, without rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from implreg.errors import InputError
from implreg.tracing.bounds import KINDS, Arithmetic, Values
from implreg.tracing.kinds import Hinges, Windows
from implreg.tracing.result import Source, Trace
from implreg.tracing.trace import progress_bar

_WIDTHS = [2.0**-k for k in range(46, 4, -3)]  # half widths of brackets, tried from the smallest
_TOGETHER = 2.0**-46  # switches no further apart than this have one bracket


@dataclass(frozen=True, eq=False)
class Certificate:
    """What was proved of a trace.

    Attributes:
        switches: one row per switch of the trace: path, t, layer, unit, `low` and `high` (its
            bracket), `finding`: "certified"; "together" with units of other layers that have the
            same bracket, all of which are proved to change in it, an odd number of times;
            "invented", as nothing switches there; or "open"; and `why`.
        missed: one row per unit that is proved to switch where the trace has no switch of it: path,
            layer, unit, and the t between which it does, `low` and `high`.
        places: what `exact` looks at, for every row of `switches`.
        holds: every switch is certified, none is missed.
    """

    switches: pd.DataFrame
    missed: pd.DataFrame
    places: list[tuple["_Lane", int]] = field(repr=False)

    @property
    def holds(self) -> bool:
        """Whether the trace is proved to have every switch and no other."""
        return self.missed.empty and bool((self.switches.finding == "certified").all())

    def __repr__(self) -> str:
        """Say in one sentence what was proved."""
        found = [f"{n:,} {name}" for name, n in self.switches.finding.value_counts().items()]
        wide = (self.switches.high - self.switches.low).max()
        told = f"{', '.join(found) or 'no switch'}, {len(self.missed):,} missed"
        return told if np.isnan(wide) else f"{told}; the widest bracket is {wide:.1e} wide"

    def exact(self, row: int) -> Fraction:
        """Where a switch of the trace is, as the rational number that it is.

        The network and the ends of the path are what their floating-point numbers say; the position
        is that of the row in `switches`, on its segment from 0 to 1.

        Args:
            row: number of the row, from 0.

        Raises:
            InputError: there is no such row, or its switch is not certified.

        >>> import implreg as ir
        >>> net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU()).double()
        >>> _ = net[0].weight.data.fill_(3), net[0].bias.data.fill_(-1)
        >>> ir.trace(net, (torch.zeros(1, 1), torch.ones(1, 1))).certify().exact(0)
        Fraction(1, 3)
        """
        if isinstance(row, float) or row not in range(len(self.switches)):
            raise InputError(
                f"row must be from 0 to {len(self.switches) - 1}, got {row}; choose one of these."
            )
        if (finding := self.switches.finding.iloc[row]) != "certified":
            raise InputError(
                f"row must be that of a certified switch, but {row} is {finding}; choose another."
            )
        lane, number = self.places[row]
        return lane.crossing(number)


def certify(trace: Trace, source: Source, *, exact: bool, progress: bool | None) -> Certificate:
    """Prove the switches of a trace, see `implreg.Trace.certify`."""
    if not isinstance(exact, bool):
        raise InputError(f"exact must be True or False, got {exact!r}; choose one of them.")
    if source.program.dtype != torch.float64:
        raise InputError(
            f"trace must be in torch.float64 to be certified, got {source.program.dtype}; trace "
            f"again with dtype=torch.float64."
        )
    arithmetic = cache(lambda kind: Arithmetic(source.program, kind))
    sites = np.array(source.program.sites, dtype=np.int64)
    x0, x1 = (x.flatten(1).cpu().numpy() for x in (source.x0, source.x1))
    lane_of = (trace.path * trace.segments + trace.segment).cpu().numpy()
    t, layer, unit = (x.cpu().numpy() for x in (trace.t - trace.segment, trace.layer, trace.unit))
    kinds = KINDS[2:] if arithmetic(KINDS[0]).underflows() else KINDS[: 2 + exact]
    places, tables, missed = [], [], []
    with progress_bar(len(x0), progress, desc="certifying", unit="path") as bar:
        for i in range(len(x0)):
            here = lane_of == i
            lane = _Lane(arithmetic, kinds, (x0[i], x1[i]), t[here], sites[layer[here]], unit[here])
            places += [(lane, k) for k in range(here.sum())]
            tables.append(lane.proved().assign(lane=i))
            missed.append(lane.missed().assign(lane=i))
            bar.update()
    found, more = (_named(pd.concat(rows), trace, sites) for rows in (tables, missed))
    found.insert(2, "t", trace.t.cpu().numpy())
    return Certificate(found, more, places)


def _named(table: pd.DataFrame, trace: Trace, sites: NDArray[np.int64]) -> pd.DataFrame:
    lane, layer = table.pop("lane"), np.searchsorted(sites, table.pop("site"))
    table["path"], table["segment"] = lane // trace.segments, lane % trace.segments
    table["layer"] = np.array(trace.layers, dtype=object)[layer]
    first = ["path", "segment", "layer", "unit", "low", "high"]
    return table[[*first, *table.columns.drop(first)]].reset_index(drop=True)


class _Lane:
    """One segment of a path: the switches that the trace has on it, and what is proved of them."""

    def __init__(
        self, arithmetic: Callable[[type], Arithmetic], kinds: Sequence[type],
        ends: tuple[Values, Values], t: Values, site: Values, unit: Values,
    ) -> None:  # fmt: skip
        self._arithmetic, self._kinds, self._ends = arithmetic, kinds, ends
        self._site, self._unit = site, unit
        apart = np.diff(t, prepend=-1.0) > _TOGETHER
        self._group = np.cumsum(apart) - 1
        first = np.flatnonzero(apart)
        last = np.r_[first[1:], len(t)][: len(first)] - 1
        # Of every group of switches: how many there are, of how many units and operations.
        keys = np.stack([self._group, site, unit], 1)
        units, sites = (np.unique(keys[:, :n], axis=0) for n in (3, 2))
        self._size, self._units, self._sites = (np.bincount(x[:, 0]) for x in (keys, units, sites))
        # Where it begins and ends, and then its bracket.
        self._low, self._high = t[first], t[last]
        self._finding = np.full(len(first), "open", dtype=object)
        self._why = np.full(len(first), "", dtype=object)

    def proved(self) -> pd.DataFrame:
        """One row per switch, with its bracket and what could be proved of it."""
        begin, end = self._low.copy(), self._high.copy()
        fences = np.r_[0.0, (begin[1:] + end[:-1]) / 2, 1.0][: len(begin) + 1]
        for kind in self._kinds:
            tried = np.zeros(len(begin))
            for width in _WIDTHS:
                low = np.maximum(begin - width, (begin + fences[:-1]) / 2)
                high = np.minimum(end + width, (end + fences[1:]) / 2)
                todo = np.flatnonzero((self._finding == "open") & (high - low > tried))
                tried = high - low
                for some in self._parts(todo, kind):
                    self._try(some, low[some], high[some], kind)
        return pd.DataFrame({
            "site": self._site, "unit": self._unit, "low": self._low[self._group],
            "high": self._high[self._group], "finding": self._finding[self._group],
            "why": self._why[self._group],
        })  # fmt: skip

    def _try(self, groups: Values, low: Values, high: Values, kind: type) -> None:
        """See what brackets around some groups prove."""
        count, arithmetic = len(groups), self._arithmetic(kind)
        t, none = np.r_[low, high, (low + high) / 2], np.zeros(2 * count)
        radius = np.r_[none, (high - low) / 2 + 2.0**-52]
        column = np.full(len(self._finding), -1)
        column[groups] = np.arange(count)
        column = column[self._group]  # of every switch; -1 if it is in none of the groups
        why, idle = np.full(count, "", dtype=object), np.zeros(count, dtype=bool)
        for site, _, certain, possible in arithmetic.states(self._ends, t, radius):
            first, second, inside = np.split(certain, 3, axis=2)
            known, sure = first.any(1) & second.any(1), inside.any(1)
            changes = ~(first & second).any(1) & (possible[..., 2 * count :].sum(1) == 2)
            here = (self._site == site) & (column >= 0)
            own = np.zeros(sure.shape, dtype=bool)
            own[self._unit[here], column[here]] = True
            idle |= (own & sure).any(0)
            doubt = ~known | ~sure & ~(own & changes)
            for k in np.flatnonzero(doubt.any(0) & (why == "")):
                name = arithmetic.program.operations[site].name
                why[k] = f"unit {doubt[:, k].argmax()} of layer {name} is not certain there"
        single, twice = self._size[groups] == 1, self._units[groups] < self._size[groups]
        # Units of one operation are linear there, so that each of them switches once.
        proved = np.where(self._sites[groups] == 1, "certified", "together")
        found = np.where(single & idle, "invented", proved)
        why[(why == "") & twice] = "one unit is there twice"
        found[(why != "") | (idle & ~single)] = "open"
        self._finding[groups], self._why[groups] = found, why
        done = groups[found != "open"]
        self._low[done], self._high[done] = low[found != "open"], high[found != "open"]

    def missed(self) -> pd.DataFrame:
        """One row per unit that switches between brackets, where the trace has no switch of it."""
        done = self._finding != "open"
        begin, end = np.r_[0.0, self._high[done]], np.r_[self._low[done], 1.0]
        gaps = np.arange(len(begin))
        held: dict[int, Values] = {}
        for kind in self._kinds:
            for some in self._parts(gaps, kind):
                t = np.r_[begin[some], end[some]]
                for site, _, certain, _ in self._arithmetic(kind).states(self._ends, t, 0 * t):
                    shape = (*certain.shape[:2], 2)
                    known = held.setdefault(site, np.zeros((*shape, len(begin)), dtype=bool))
                    known[..., some] = certain.reshape(*shape, -1)
            every = [np.asarray(known.any(1)).all(axis=(0, 1)) for known in held.values()]
            gaps = np.flatnonzero(~np.all(every, axis=0)) if every else gaps[:0]
        rows = [
            (site, unit, begin[k], end[k])
            for site, known in held.items()
            for k, unit in self._changes(site, known)
        ]
        return pd.DataFrame(rows, columns=["site", "unit", "low", "high"])

    def _changes(self, site: int, known: Values) -> Iterator[tuple[int, int]]:
        """Gaps and units of an operation that change there.

        A unit that is zero for a while has both states: it keeps that from before, gap after gap.
        In a window the entries that tie may hand over to one another.
        """
        keeps = isinstance(self._arithmetic(self._kinds[0]).program.operations[site], Hinges)
        done = (self._finding != "open")[self._group]
        number = np.cumsum(self._finding != "open")[self._group] - done  # gap, or bracket behind it
        state: Any = np.ones(known.shape[:2], dtype=bool)
        for k in range(known.shape[-1]):
            here = (self._site == site) & (number == k)
            state = (state if keeps else True) & known[:, :, 0, k] & known[:, :, 1, k]
            lost: Any = ~state.any(1)
            state[lost] = known[lost, :, 1, k]
            lost[self._unit[here & ~done]] = False  # no bracket, and so in the gap
            yield from ((k, int(unit)) for unit in np.flatnonzero(lost))
            state[self._unit[here & done]] = True

    def _parts(self, columns: Values, kind: type) -> list[Values]:
        """What can be computed at once of some columns."""
        count = self._arithmetic(kind).columns if len(columns) else 1
        return [columns[i : i + count] for i in range(0, len(columns), count)]

    def crossing(self, row: int) -> Fraction:
        """Where a certified switch is; between the ends of its bracket its unit is linear."""
        arithmetic, group = self._arithmetic(Fraction), self._group[row]
        t = np.array([self._low[group], self._high[group]])
        site, unit = self._site[row], self._unit[row]
        states = arithmetic.states(self._ends, t, 0 * t)
        _, z, certain, _ = next(x for x in states if x.at == site)
        before, after = certain[unit].argmax(0)
        operation = arithmetic.program.operations[site]
        if isinstance(operation, Windows):
            entries = operation.index[unit].tolist()
            height = z[entries[before]] - z[entries[after]]
        else:
            assert isinstance(operation, Hinges)
            height = z[unit] - Fraction(operation.kinks[min(before, after)][0])
        low, high = map(Fraction, t.tolist())
        share: Fraction = height[0] / (height[0] - height[1])
        return low + (high - low) * share
