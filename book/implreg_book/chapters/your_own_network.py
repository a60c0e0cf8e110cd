"""Chapter "Your own network": what it shows beside the code that a reader reads there."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

import implreg as ir
from implreg.datasets import Dataset
from implreg.errors import InputError
from implreg.tracing import Trace
from implreg.tracing.paths import Pairs
from implreg_book.chapters import protocols
from implreg_book.evidence import words
from implreg_book.parameters.your_own_network import Parameters
from implreg_book.protocol import Aspects

_MEASURES = {
    "switches": "switches per path",
    "gap_deviation": "gradient gap deviation",
    "bridge_deviation": "bridge estimate",
    "deflection": "gradient deflection",
    "fluctuation": "fluctuation",
    "edge_margin": "edge margin",
}
_ROWS = ["t", "path", "segment", "layer", "unit", "gaps"]  # of a trace, one for each switch
_PIECES = ["piece_start", "slopes", "values"]  # one for each piece
_SIDE = 28  # pixels of the network's input


def images(x: Tensor) -> Tensor:
    """Flat samples as images of one channel and 28x28 pixels, float32, (N, 1, 28, 28)."""
    side = math.isqrt(x.shape[1])
    return interpolate(x.float().view(-1, 1, side, side), _SIDE, mode="bilinear")


def protocol(p: Parameters) -> Aspects:
    """What the network of the page has of the aspects of a protocol."""
    data = protocols.of_data({p.dataset: _SIDE}, p.train)
    aspects = {
        **data,
        "resizing": data["resizing"] and "bilinear",
        "networks": f"a residual network of {p.channels:,} and {2 * p.channels:,} channels",
        "networks of each size": 1,
        "max pooling": "the winner is followed",
        **protocols.of_pairs(p.pairs),
        **protocols.TRACED,
        "x axis": "position t",
    }
    return protocols.beside("1", aspects)


def error_of(net: nn.Module, data: Dataset) -> float:
    """Share of test samples that a network of images gets wrong."""
    with torch.no_grad():
        return float((net(images(data.x_test)).argmax(1) != data.y_test).double().mean())


def trained(p: Parameters, net: nn.Module, data: Dataset) -> dict[str, object]:
    """What the prose says of the training."""
    return {
        "dataset": p.dataset,
        "pairs": words.some(p.pairs, "path"),
        "test-error": f"{100 * error_of(net, data):.1f}",
    }


def checked(value_error: float, slope_error: float) -> dict[str, object]:
    """What the prose says of differences from the network itself, relative to the largest."""
    rounding = max(value_error, slope_error) < 1e-9
    return {
        "value-error": f"{value_error:.0e}",
        "slope-error": f"{slope_error:.0e}",
        "rounding": "both are rounding" if rounding else "more than rounding",
    }


def layers(trace: Trace) -> pd.DataFrame:
    """Of each layer, how often it switches and its share of the quadratic variation, in %."""
    square = torch.zeros(len(trace.layers), dtype=trace.gaps.dtype)
    square.index_add_(0, trace.layer, trace.gaps.square().sum(dim=1))
    return pd.DataFrame(
        {
            "layer": range(1, 1 + len(trace.layers)),
            "name": trace.layers,
            "switches": torch.bincount(trace.layer, minlength=len(trace.layers)),
            "share (%)": 100 * square / square.sum() if square.any() else square,
        }
    )


def layers_told(trace: Trace) -> dict[str, object]:
    """What the prose says of that table."""
    table, pool = layers(trace), trace.layers.index("maxpool")
    largest = int(table["share (%)"].to_numpy().argmax())
    return {
        "pool-row": pool + 1,
        "pool-switches": f"{table.switches[pool]:,}",
        "largest": trace.layers[largest],
        "largest-share": f"{table['share (%)'][largest]:.1f}",
    }


def measures(trace: Trace, drawn: Pairs) -> pd.DataFrame:
    """All measures, pooled over paths and outputs."""
    found = ir.measures.summary(trace, drawn)
    return pd.DataFrame({"value": {name: found[key] for key, name in _MEASURES.items()}})


def short_pieces(trace: Trace, long: Tensor) -> dict[str, object]:
    """How many pieces are too short to have a middle, and how many of these pooling makes.

    Args:
        trace: of a network with a layer `maxpool`.
        long: of each piece, whether it is long enough.
    """
    pool = trace.layers.index("maxpool")
    short = torch.nonzero(~long).flatten()
    before = short - 1 - trace.piece_path[short]  # the switch at the start of each
    both = (trace.layer[before] == pool) & (trace.layer[before + 1] == pool)
    return {
        "pieces": f"{len(long):,}",
        "short": f"{len(short):,}",
        "short-pool": f"{int(both.sum()):,}",
    }


def tampered(path: Trace) -> dict[str, Trace]:
    """The trace of one path without its middle switch, and with another one before that."""
    number, middle = torch.arange(len(path.t)), len(path.t) // 2
    twice = _with_rows(path, number.repeat_interleave(1 + (number == middle)))
    t = twice.t.clone()
    t[middle] = (path.t[middle - 1] + path.t[middle]) / 2  # where nothing switches
    return {
        f"without switch {middle + 1}": _with_rows(path, number[number != middle]),
        "with another one": replace(twice, t=t),
    }


def proofs(path: Trace) -> pd.DataFrame:
    """What is proved of a trace, and of two that are wrong."""
    every = {"as traced": path} | (tampered(path) if len(path.t) > 1 else {})
    found = [(name, one.certify()) for name, one in every.items()]
    rows = [(name, str(proof), "yes" if proof.holds else "no") for name, proof in found]
    return pd.DataFrame(rows, columns=["trace", "what was proved", "certified"])


def _with_rows(trace: Trace, switches: Tensor) -> Trace:
    """A trace that has these of its switches, and the pieces that they begin."""
    pieces = torch.cat([torch.tensor([0]), switches + 1])
    rows = {name: getattr(trace, name)[switches] for name in _ROWS}
    return replace(trace, **rows, **{name: getattr(trace, name)[pieces] for name in _PIECES})


class Product(nn.Module):
    """No piecewise linear function."""

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(x) x."""
        return torch.relu(x) * x


class Condition(nn.Module):
    """A function whose code depends on the data."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x or -x, for the whole batch."""
        return x if (x > 0).all() else -x


def refusal(network: nn.Module, ends: tuple[Tensor, Tensor], memory: str | None = None) -> str:
    """What the tracer says to a network that it does not take."""
    try:
        ir.trace(network, ends, memory=memory)
    except InputError as error:
        return str(error)
    raise AssertionError(f"{network} was traced")


def refused(ends: tuple[Tensor, Tensor]) -> pd.DataFrame:
    """Layers that are refused, each with the answer."""
    every = {
        "GELU": nn.GELU(),
        "layer norm": nn.LayerNorm(8),
        "batch norm in training mode": nn.BatchNorm1d(8),
        "dropout in training mode": nn.Dropout(),
        "a product of two branches": Product(),
        "control flow that depends on the data": Condition(),
    }
    first = nn.Flatten(), nn.Linear(_SIDE**2, 8)
    answers = [(name, refusal(nn.Sequential(*first, one), ends)) for name, one in every.items()]
    return pd.DataFrame(answers, columns=["layer", "answer"])


def switches_of(slopes: Sequence[float], starts: Sequence[float], **layers: nn.Module) -> str:
    """Where a layer of units with these pre-activations, and what is behind it, switch.

    >>> switches_of([2.0], [-1.0], relu=nn.ReLU())
    'relu at 0.5'
    """
    units = nn.Linear(1, len(slopes))
    units.weight.data = torch.tensor(slopes)[:, None]
    units.bias.data = torch.tensor(starts)
    net = nn.Sequential(OrderedDict(units=units, **layers))
    found = ir.trace(net, (torch.zeros(1, 1), torch.ones(1, 1)))
    where = zip(found.layer.tolist(), found.t.tolist(), strict=True)
    return ", ".join(f"{found.layers[layer]} at {t:g}" for layer, t in where) or "none"


def coincidences(seed: int) -> pd.DataFrame:
    """Cases in which something must be decided, and what the tracer finds."""
    minus_sum = nn.Linear(2, 1, bias=False)
    minus_sum.weight.data.fill_(-1)
    relu, again = {"relu": nn.ReLU()}, {"relu": nn.ReLU(), "second": nn.ReLU()}
    summed = {"relu": nn.ReLU(), "sum": minus_sum, "second": nn.ReLU()}
    pool: dict[str, nn.Module] = {"row": nn.Unflatten(1, (1, -1)), "pool": nn.MaxPool1d(2)}
    point = torch.full((1, 784), 0.5)
    through = ir.trace(ir.mlp(784, 20, 5, seed=seed), (point, -point))
    at = sorted({f"{t:g}" for t in through.t.tolist()})
    touched = switches_of([2.0, -2.0], [-1.0, 1.0], **summed)
    tied = switches_of([2.0, -2.0], [-1.5, 0.5], **relu, **pool)
    cases = [
        ("two equal units", "2t − 1, 2t − 1", switches_of([2.0, 2.0], [-1.0, -1.0], **relu)),
        ("a dead unit", "−1", switches_of([0.0], [-1.0], **relu)),
        ("zero all along", "0", switches_of([0.0], [0.0], **relu)),
        ("zero at the ends", "t, t − 1", switches_of([1.0, 1.0], [0.0, -1.0], **relu)),
        ("zero touched by a second ReLU", "2t − 1, 1 − 2t; then −|2t − 1|", touched),
        (
            "a ReLU behind a ReLU",
            "2t − 1; then max(2t − 1, 0)",
            switches_of([2.0], [-1.0], **again),
        ),
        ("one entry overtakes", "t, 1 − t", switches_of([1.0, -1.0], [0.0, 1.0], **pool)),
        ("equal entries", "t, t", switches_of([1.0, 1.0], [0.0, 0.0], **pool)),
        ("entries tied at zero", "2t − 1.5, 0.5 − 2t", tied),
        (
            "through the origin",
            "20 units without biases",
            f"{int(through.switches)} units at {', '.join(at)}",
        ),
    ]
    return pd.DataFrame(cases, columns=["case", "pre-activations or entries", "switches"])


class Digits:
    """A perceptron that learns digits, and paths on which it is measured."""

    def __init__(self, seed: int) -> None:
        self.data = ir.load("digits", train=1000)
        self.x, self.y = self.data.x_train.float(), self.data.y_train
        self.penalised, self.watched = (
            ir.pairs(self.data, kind="same", count=64, seed=seed + other) for other in (0, 1)
        )

    def loss(self, net: nn.Module, rows: Tensor) -> Tensor:
        """Cross-entropy of some samples."""
        return cross_entropy(net(self.x[rows]), self.y[rows])

    def measured(self, net: nn.Module) -> dict[str, float]:
        """Deflection of other paths than those of the penalty, training loss and test error."""
        with torch.no_grad():
            loss = float(self.loss(net, torch.arange(len(self.x))))
            right = net(self.data.x_test.float()).argmax(1) == self.data.y_test
        bent = float(ir.deflection(ir.trace(net, self.watched)).mean())
        error = 1 - float(right.double().mean())
        return {"deflection": bent, "train_loss": loss, "test_error": error}


def penalised(p: Parameters, learned: pd.DataFrame) -> dict[str, object]:
    """What the prose says of the strongest penalty, beside the weakest.

    Args:
        p: of the chapter.
        learned: rows with `penalty`, `step` and what `Digits.measured` returns.
    """
    last = learned[learned.step == learned.step.max()].groupby("penalty").mean()
    free, held = last.loc[min(p.penalties)], last.loc[max(p.penalties)]
    return {
        "penalty": f"{max(p.penalties):g}",
        "weakest": f"with the weakest, {min(p.penalties):g}" if min(p.penalties) else "without",
        "penalty-ratio": f"{held.deflection / free.deflection:.2f}",
        "penalty-errors": f"{held.test_error:.3f} and {free.test_error:.3f}",
        "penalty-losses": f"{held.train_loss:.2g} and {free.train_loss:.2g}",
    }
