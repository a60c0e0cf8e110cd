"""The training player: a recorded training run, epoch by epoch."""

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch
import traitlets
from torch import Tensor

from implreg import measures
from implreg.errors import InputError
from implreg.figures import Figure, plot_path
from implreg.tracing import Trace
from implreg.tracing.paths import Pairs
from implreg.widgets.bundle import notebook_module
from implreg.widgets.explorer import Explorer
from implreg.widgets.packing import pack
from implreg_book.widgets.scripts import JS

_SHOWN = 2  # outputs of each pair


def training_explorer(
    traces: Mapping[int, Trace],
    *,
    pairs: Pairs | None = None,
    losses: Mapping[int, float] | None = None,
) -> "TrainingExplorer":
    """Play a training run: outputs, slopes and gaps of a path, and the measures, epoch by epoch.

    Of each path the two outputs are shown that are largest at its ends after the last epoch. Every
    control is an attribute of the result, see `TrainingExplorer`.

    Args:
        traces: of the same straight paths at each recorded epoch, in any order. A trace keeps no
            samples, so paths are told apart by their number and lengths.
        pairs: the pairs that were traced; adds the edge margin.
        losses: training loss at each recorded epoch; adds a chart of it.

    Raises:
        InputError: no traces; an epoch that is no whole number of at least 0; traces of different
            paths or networks, or of polylines; losses of other epochs; or pairs that do not belong
            to the traces.

    >>> import implreg as ir
    >>> net, ends = ir.mlp(3, 9, 2, seed=0), (torch.eye(3)[:1], torch.eye(3)[1:2])
    >>> explorer = training_explorer({0: ir.trace(net, ends), 5: ir.trace(net, ends)})
    >>> explorer.epoch
    5
    """
    return TrainingExplorer(traces, pairs=pairs, losses=losses)


class TrainingExplorer(Explorer):
    """The explorer that `training_explorer` makes.

    Attributes:
        epoch: the recorded epoch that is shown.
        pair: number of the path.
        output: number of the output; if it is not among those shown of a path, its first.
        normalised: whether outputs are divided by their growth since the first recorded epoch.
        fixed: whether the charts keep their scales over epochs.
        playing: whether epochs follow one another by themselves.
    """

    name = "training"
    _esm = notebook_module(name, JS)

    epoch = traitlets.Int(0, min=0).tag(sync=True)
    pair = traitlets.Int(0, min=0).tag(sync=True)
    output = traitlets.Int(0, min=0).tag(sync=True)
    normalised = traitlets.Bool(False).tag(sync=True)
    fixed = traitlets.Bool(True).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    record = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        traces: Mapping[int, Trace],
        *,
        pairs: Pairs | None = None,
        losses: Mapping[int, float] | None = None,
    ) -> None:
        """Measure the traces; see `training_explorer`."""
        _check(traces, losses)
        self._traces = {int(epoch): traces[epoch] for epoch in sorted(traces)}
        last = list(self._traces.values())[-1]
        outputs = [_largest(last[k]) for k in range(len(last))]
        record = _record(self._traces, outputs, pairs, losses)
        super().__init__()
        self.record = record
        self.epoch = max(self._traces)
        self.output = outputs[0][0]

    @property
    def trace(self) -> Trace:
        """The trace of the path that is shown, as it is at this epoch and not normalised."""
        return self._traces[self.epoch][self.pair]

    def still(self) -> Figure:
        """Outputs and slopes of the path at this epoch."""
        shown = self.record["outputs"][self.pair]
        output = self.output if self.output in shown else shown[0]
        return plot_path(self.trace, [output], deflection=True)

    @traitlets.validate("epoch")
    def _recorded(self, proposal: Any) -> int:
        value: int = proposal["value"]
        if self.record and value not in self._traces:
            raise traitlets.TraitError(
                f"epoch must be a recorded one, got {value}; set one of {list(self._traces)}."
            )
        return value

    @traitlets.validate("pair")
    def _traced(self, proposal: Any) -> int:
        value: int = proposal["value"]
        if self.record and value >= len(self.record["outputs"]):
            raise traitlets.TraitError(
                f"pair must be below {len(self.record['outputs'])}, the number of traced paths, "
                f"got {value}; set such a one."
            )
        return value


def _check(traces: Mapping[int, Trace], losses: Mapping[int, float] | None) -> None:
    if not isinstance(traces, Mapping) or not traces:
        raise InputError(
            "traces must map at least one epoch to its trace, got none; record some, for example "
            "{0: implreg.trace(net, pairs)}."
        )
    first = next(iter(traces.values()))
    for epoch, one in traces.items():
        if isinstance(epoch, bool) or not isinstance(epoch, Integral) or epoch < 0:
            raise InputError(
                f"traces must have epochs of at least 0 as keys, whole numbers, got {epoch!r}; "
                f"use such keys."
            )
        if not isinstance(one, Trace):
            raise InputError(
                f"traces must hold traces, got {type(one).__name__} at epoch {epoch}; pass "
                f"implreg.trace(net, pairs)."
            )
        alike = one.ends.shape == first.ends.shape and one.layers == first.layers
        if one.segments > 1 or not alike or not torch.allclose(one.lengths, first.lengths):
            raise InputError(
                f"traces must be of the same straight paths and layers at every epoch, got others "
                f"at epoch {epoch}; trace one network in training on the same pairs."
            )
    if losses is not None and set(losses) != set(traces):
        raise InputError(
            f"losses must have the epochs of the traces, {sorted(traces)}, got {sorted(losses)}; "
            f"give the loss at each of them."
        )


def _largest(path: Trace) -> list[int]:
    """The outputs that are largest at the two ends of a path; if it is one, the next one too."""
    start, end = path.values[0], path.ends[0]
    first = [int(start.argmax()), int(end.argmax())]
    order = [int(k) for k in torch.maximum(start, end).argsort(descending=True)]
    return list(dict.fromkeys([*first, *order]))[:_SHOWN]


def _record(
    traces: Mapping[int, Trace],
    outputs: list[list[int]],
    pairs: Pairs | None,
    losses: Mapping[int, float] | None,
) -> dict[str, Any]:
    """What JavaScript needs: the pieces of every path, in single precision, and the measures."""
    initial = next(iter(traces.values()))
    starts, slopes, layers, counts, values, growth = [], [], [], [], [], []
    for one in traces.values():
        growth.append(_growth(one, initial))
        for k, shown in enumerate(outputs):
            path = one[k]
            counts.append(len(path.t))
            starts.append(path.piece_start.numpy(force=True))
            layers.append(path.layer.numpy(force=True))
            slopes.append(path.slopes[:, shown].T.numpy(force=True).ravel())
            values.append([float(path.values[0, c]) for c in shown])
    # Refuses pairs that do not belong to the traces, before anything else needs them.
    measured = [[_measures(one, outputs, pairs) for one in traces.values()]]
    known = not any(math.isnan(x) for at in growth for ends in at for x in ends)
    if known:
        relative = [measures.normalize(one, initial) for one in traces.values()]
        measured.append([_measures(one, outputs, pairs) for one in relative])
    return {
        "epochs": list(traces),
        "pairs": [f"pair {k}{_classes(pairs, k)}" for k in range(len(outputs))],
        "outputs": outputs,
        "layers": len(initial.layers),
        "counts": counts,
        "starts": pack(np.concatenate(starts).astype(np.float32)),
        "slopes": pack(np.concatenate(slopes).astype(np.float32)),
        "layer": pack(np.concatenate(layers).astype(np.uint8)),
        "values": values,
        "growth": growth if known else None,
        "measures": measured,
        "losses": None if losses is None else [_finite(losses[epoch]) for epoch in traces],
    }


def _classes(pairs: Pairs | None, k: int) -> str:
    """The labels of a pair, in words behind its number."""
    return "" if pairs is None else f", classes {int(pairs.y0[k])} and {int(pairs.y1[k])}"


def _growth(one: Trace, initial: Trace) -> list[list[float]]:
    """By how much the outputs at both ends of each path have grown; NaN where one is zero."""

    def norms(trace: Trace) -> Tensor:
        ends = torch.stack([trace.values[trace.first_pieces], trace.ends], dim=1)
        size: Tensor = ends.norm(dim=2)
        return size

    before, now = norms(initial), norms(one)
    ratio = torch.where((before > 0) & (now > 0), now / before, torch.nan)
    found: list[list[float]] = ratio.tolist()
    return found


def _measures(
    one: Trace, outputs: list[list[int]], pairs: Pairs | None
) -> dict[str, list[list[float | None]]]:
    """Each measure of each path and shown output; None where there is none."""
    found = {
        "gradient gap deviation": measures.gap_deviation(one),
        "gradient deflection": measures.deflection(one),
        "mid-path deflection": measures.mid_path_deflection(one),
        "fluctuation": measures.fluctuation(one),
    }
    if pairs is not None:
        found["edge margin"] = measures.edge_margin(one, pairs)[:, None].expand_as(one.ends)
    return {
        name: [[_finite(float(table[k, c])) for c in shown] for k, shown in enumerate(outputs)]
        for name, table in found.items()
    }


def _finite(value: float) -> float | None:
    """A number with more digits than are shown, and no longer than that as text."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
