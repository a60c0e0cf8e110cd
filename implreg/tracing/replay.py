r"""Paths as functions of a network's numbers: with the pattern of a trace, differentiable.

On each piece of a traced path every value of the network is :math:`A + B t`. On which side of its
kink a unit is there, and which entry of a window is the largest, the trace has found. With that
fixed, A and B come from the layers alone, a switch is at :math:`t_i = (c - A) / B` of its unit, for
the kink c, and all of it can be differentiated in the weights.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from implreg.errors import InputError
from implreg.tracing.kinds import Affine, Hinges, Operation, Windows
from implreg.tracing.network import Network, Output
from implreg.tracing.program import Program
from implreg.tracing.read import record
from implreg.tracing.result import Source, Trace

_SHORT = 1e-10  # a piece in whose middle rounding may decide on the state of a unit


def replay(trace: Trace, source: Source, net: nn.Module, output: Output) -> Trace:
    """The paths of another network of the same make, see `implreg.Trace.replay`."""
    network = Network(net, source.program.dtype, output)
    program = record(network, source.x0[0], differentiable=True)
    if trace.outputs is not None:
        program = program.chosen(trace.outputs)
    if not _alike(program, source.program):
        raise InputError(
            "net must be of the make of the network that was traced, with other numbers at most, "
            "but its operations are others; trace it."
        )
    lane = trace.piece_segment
    first = torch.cat([lane.new_ones(1), lane.diff()]) > 0  # pieces that no switch begins
    switched = (~first).nonzero().flatten()
    value, slope, t = _followed(program, _states(trace, source), trace, source, switched)
    start = trace.piece_start.new_zeros(len(lane)).index_put((switched,), t)
    last = torch.cat([first[1:], first[:1]])
    return replace(
        trace,
        t=t + trace.segment,
        gaps=slope[switched] - slope[switched - 1],
        piece_start=start + lane % trace.segments,
        slopes=slope,
        values=value + start[:, None] * slope,
        ends=(value + slope)[last][trace.segments - 1 :: trace.segments],
    )


def _alike(one: Program, other: Program) -> bool:
    """Whether two programs differ in the numbers of their layers alone."""

    def made(operation: Operation) -> tuple[object, ...]:
        kinks = [at for at, _ in operation.kinks] if isinstance(operation, Hinges) else []
        return type(operation), operation.text, operation.inputs, operation.shape, kinks

    if [*map(made, one.operations)] != [*map(made, other.operations)]:
        return False
    windows = ([o.index for o in p.operations if isinstance(o, Windows)] for p in (one, other))
    return all(map(torch.equal, *windows))


def _states(trace: Trace, source: Source) -> dict[int, Tensor]:
    """For every operation that switches: how many kinks a unit is above, or which entry wins.

    On each piece, (N, units).
    """
    program, lane = source.program, trace.piece_segment
    start, end = (x - lane % trace.segments for x in (trace.piece_start, trace.piece_end))
    wide = (-1, *[1] * (source.x0.ndim - 1))
    way = (source.x1 - source.x0)[lane]
    with torch.no_grad():
        middle = program.values(source.x0[lane] + ((start + end) / 2).view(wide) * way)
    states = {}
    for site in program.sites:
        operation = program.operations[site]
        z = middle[operation.inputs[0]].flatten(1)
        if isinstance(operation, Windows):
            states[site] = z[:, operation.index].argmax(-1)
        else:
            assert isinstance(operation, Hinges)
            states[site] = torch.stack([z > at for at, _ in operation.kinks]).sum(0)
    return _settled(program, trace, states, end - start)


def _settled(
    program: Program, trace: Trace, found: dict[int, Tensor], length: Tensor
) -> dict[int, Tensor]:
    """States that change where the trace says, as they are in the longest piece in between.

    In the middle of a short piece rounding may decide on which side a unit is. Among entries of a
    window that tie another one may become the largest where a unit ends the tie, and the window
    does not switch: there every piece that is not short goes by itself.
    """
    lane, size = trace.piece_segment.cpu().numpy(), length.cpu().numpy()
    bounds = [*np.flatnonzero(np.diff(lane, prepend=-1)).tolist(), len(lane)]
    longest = [a + int(size[a:b].argmax()) for a, b in pairwise(bounds)]
    short = size < _SHORT
    last = np.maximum.accumulate(np.where(short, 0, np.arange(len(lane))))
    last = np.where(lane[last] == lane, last, np.array(longest)[lane])
    states = {
        site: state[torch.from_numpy(last).to(state.device)]
        if isinstance(program.operations[site], Windows)
        else state[longest][trace.piece_segment]
        for site, state in found.items()
    }
    switches: dict[tuple[int, int, int], list[int]] = {}
    pieces = np.setdiff1d(np.arange(len(lane)), bounds)
    for piece, layer, unit in zip(pieces, trace.layer.tolist(), trace.unit.tolist(), strict=True):
        switches.setdefault((int(lane[piece]), layer, unit), []).append(int(piece))
    for (i, layer, unit), begins in switches.items():
        site = program.sites[layer]
        runs = [*pairwise([bounds[i], *begins, bounds[i + 1]])]
        seen = [int(found[site][a + int(size[a:b].argmax()), unit]) for a, b in runs]
        operation = program.operations[site]
        if isinstance(operation, Hinges) and len(operation.kinks) == 1:  # from side to side
            surest = max(range(len(runs)), key=lambda k: size[slice(*runs[k])].max())
            seen = [(seen[surest] + k - surest) % 2 for k in range(len(runs))]
        elif isinstance(operation, Hinges):  # over a short stretch from kink to kink
            for k in range(1, len(runs) - 1):
                if abs(seen[k + 1] - seen[k - 1]) == 2:
                    seen[k] = (seen[k + 1] + seen[k - 1]) // 2
        for (a, b), state in zip(runs, seen, strict=True):
            own = states[site][a:b, unit]
            long = np.flatnonzero(~short[a:b])
            if isinstance(operation, Windows) and long.size:
                before = np.searchsorted(long, np.arange(b - a), side="right") - 1
                nearest = torch.from_numpy(long[before.clip(min=0)]).to(own.device)
                own[:] = found[site][a:b, unit][nearest]
            else:
                own[:] = state
    return states


def _followed(
    program: Program, states: dict[int, Tensor], trace: Trace, source: Source, switched: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A and B of the outputs on each piece, (N, C), and where the switches are, (S,)."""
    lane = trace.piece_segment
    known = {0: torch.cat([source.x0[lane], (source.x1 - source.x0)[lane]])}
    count = len(lane)
    t = trace.t.new_zeros(len(switched))
    for i, operation in enumerate(program.operations):
        taken = [known[v] for v in operation.inputs]
        if isinstance(operation, Affine):
            made = operation.linear(*taken)
            if operation.bias is not None:
                bias = operation.bias.expand(operation.shape)
                made = made + torch.cat([bias.expand_as(made[:count]), 0 * made[count:]])
        else:
            value, slope = taken[0].flatten(1).split(count)
            here = (trace.layer == program.sites.index(i)).nonzero().flatten()
            piece, unit = switched[here], trace.unit[here]
            state = states[i]
            was, now = state[piece - 1, unit], state[piece, unit]
            a, b = value[piece - 1], slope[piece - 1]
            rows = torch.arange(len(here), device=unit.device)
            if isinstance(operation, Windows):
                one, other = operation.index[unit, was], operation.index[unit, now]
                a, b = (x[rows, one] - x[rows, other] for x in (a, b))
                chosen = operation.index[torch.arange(len(operation.index)), state]
                made = torch.cat([value.gather(1, chosen), slope.gather(1, chosen)])
            else:
                kinks = a.new_tensor([at for at, _ in operation.kinks])
                crossed = torch.minimum(was, now).clamp(max=len(kinks) - 1)
                a, b = a[rows, unit] - kinks[crossed], b[rows, unit]
                on = [
                    (state > k).reshape(count, *operation.shape)
                    for k in range(len(operation.kinks))
                ]
                z, way = taken[0].split(count)
                made = torch.cat([operation.value(z, on), way * operation.factor(on, way.dtype)])
            still = b == 0  # of entries that tie
            found = torch.where(still, (trace.t - trace.segment)[here], -a / b.where(~still, 1))
            t = t.index_put((here,), found)
        known[i + 1] = made.reshape(2 * count, *operation.shape)
    value, slope = known[program.output].flatten(1).split(count)
    return value, slope, t
