"""Chapter "From one photograph to another" (figure 1): one long path, sampled and exact.

All tables are long: a `measure` of an `output` (-1: of all that were kept) `at` a place, which is a
position t, a lag, a layer or a window, found in one `way`. Slopes and gaps are per unit length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures
from implreg.datasets import Dataset, load, pairs
from implreg.networks import resnet
from implreg.sampled import Index as Lookup
from implreg.sampled import Samples, sample
from implreg.tracing import Trace, trace
from implreg.training import SGD, train
from implreg_book.experiments import imagenet
from implreg_book.experiments.released import Positions
from implreg_book.experiments.types import Checked, Count, Index, Many, among

_MEMORY = "2GB"
_DRAWN = 100  # positions that a curve has which is drawn thin
_LAGS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
Row = tuple[str, str, int, float, float]  # way, measure, output, at, number


@dataclass(frozen=True)
class Config(Checked):
    """A network and the path between two samples.

    Args:
        network: "imagenet", trained on ImageNet, between two photographs; "random", the same with
            random weights, between two items of clothing; "here", a small ResNet that was trained on
            such, between the same two.
        side: of the images, in pixels.
        points: how many positions are sampled.
        others: how many outputs are kept, besides the two largest at each end.
        train: samples that "here" is trained on.
        epochs: of its training.

    Raises:
        InputError: an unknown network, or a number out of its range.
    """

    network: Annotated[str, among("imagenet", "random", "here")]
    side: Count
    points: Positions = 1000
    others: Index = 20
    train: Count = 1000
    epochs: Index = 60

    @property
    def phase(self) -> str:
        """Whether the network has been trained: "before" or "after"."""
        return "before" if self.network == "random" or not self.epochs else "after"


@dataclass(frozen=True)
class Windows(Config):
    """Short stretches of the path, evenly spaced.

    Args: those of `Config`, and
        windows: how many.
        switches: in one of them, about.
    """

    windows: Many = 50
    switches: Count = 200


class Way(NamedTuple):
    """What a configuration names: a network, the ends, the outputs that are kept, of how many."""

    net: nn.Module
    x0: Tensor
    x1: Tensor
    kept: list[int]
    outputs: int


def way(config: Config) -> Way:
    """Make the network and the two samples."""
    if config.network == "imagenet":
        net, ends = imagenet.trained(), imagenet.photographs(config.side)
    elif config.network == "random":
        net, ends = _random(), _clothes(config)[1].expand(-1, 3, -1, -1)
    else:
        net, ends = _here(config)
    net = net.double()
    with torch.no_grad():
        logits = net(ends)
    named = list(dict.fromkeys(logits.topk(2).indices.flatten().tolist()))
    order = torch.randperm(logits.shape[1], generator=torch.Generator().manual_seed(0)).tolist()
    others = [k for k in order if k not in named][: config.others]
    return Way(net, ends[:1], ends[1:], named + sorted(others), logits.shape[1])


def _samples(config: Config, here: Way) -> Samples:
    """In single precision, as the released program has it."""
    return sample(here.net, (here.x0, here.x1), points=config.points, dtype=torch.float32,
                  memory=_MEMORY, progress=False)  # fmt: skip


def _random() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = imagenet.MobileNetV2().eval()
        for values in net.parameters():
            if values.ndim == 4:
                nn.init.kaiming_normal_(values)
    return net


def _clothes(config: Config) -> tuple[Dataset, Tensor]:
    """Items of clothing to train on, and two of different classes."""
    data = load("fashion-mnist", train=config.train, shaped=True, side=config.side)
    drawn = pairs(data, kind="different", count=1, seed=0)
    return data, torch.cat([drawn.x0, drawn.x1]).double()


def _here(config: Config) -> tuple[nn.Module, Tensor]:
    data, ends = _clothes(config)
    net = resnet(10, width_factor=0.25, outputs=data.classes, shape=data.shape, seed=0)
    if config.epochs:
        sgd = SGD(0.05, epochs=config.epochs, warmup_epochs=min(5, config.epochs))
        for _ in train(net, data.x_train, data.y_train, sgd, seed=0):
            pass
    return net.eval(), ends


def sampled(config: Config) -> pd.DataFrame:
    """What the released program computes, and draws as figure 1: `value`, `slope` at t.

    The outputs that are kept are given at all positions, the others at some 100. Besides, of each
    output `fluctuation`, `rise` and the measures of `_estimates`; `switches` that were seen up to
    t; and the mean `square` of how much true slopes change over numbers of switches.
    """
    here = way(config)
    samples = _samples(config, here)
    t, values = samples.t, samples.values[0]
    slopes = samples.slopes_with_offsets[0] / samples.lengths
    few = torch.linspace(0, config.points - 1, min(_DRAWN, config.points)).round().long()
    rows: list[Row] = []
    for k in range(here.outputs):
        for name, curve in (("value", values[:, k]), ("slope", slopes[:, k])):
            at, seen = (t, curve) if k in here.kept else (t[few], _short(curve[few]))
            rows += [("program", name, k, *x) for x in zip(at.tolist(), seen.tolist(), strict=True)]
    off = (values - torch.lerp(values[:1], values[-1:], t[:, None])).abs().amax(0)
    for name, found in (("fluctuation", off), ("rise", values[-1] - values[0])):
        rows += [("program", name, k, 0.0, x) for k, x in enumerate(found.tolist())]
    passed = torch.cat([samples.counts.new_zeros(1), samples.counts[0].cumsum(0)]).tolist()
    rows += [("program", "switches", -1, *x) for x in zip(t.tolist(), passed, strict=True)]
    rows += _estimates(samples, range(here.outputs))
    exact = samples.slopes[0, :, here.kept] / samples.lengths
    for lag in (k for k in _LAGS if k < config.points // 4):
        square = (exact[lag:] - exact[:-lag]).square().mean()
        switches = samples.counts[0].unfold(0, lag, 1).sum(1).double().mean()
        rows.append(("samples", "square", -1, float(switches), float(square)))
    return _table(config, rows).astype({"at": "float32", "number": "float32"})


def _short(x: Tensor) -> Tensor:
    """Numbers with 9 binary digits, more than a drawing shows; the rest is zeros, easily stored."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * 512).round() / 512, exponent)


def _estimates(samples: Samples, outputs: Iterable[int]) -> list[Row]:
    """Estimates of single outputs: by the released program, and with merging as its only trait."""
    rows: list[Row] = []
    ways: dict[str, tuple[Lookup, bool]] = {
        "program": ("released", True),
        "merging": ("corrected", False),
    }
    for name, (index, biases) in ways.items():
        found = samples.estimate(index=index, biases=biases).per_unit_length()
        rows.append((name, "switches seen", -1, 0.0, float(found.switches[0])))
        for k in outputs:
            for measure in ("gap_deviation", "deflection", "mid_path_deflection"):
                rows.append((name, measure, k, 0.0, float(getattr(found, measure)[0, k])))
    return rows


def windows(config: Windows) -> pd.DataFrame:
    """Every switch in short windows, `at` their numbers; the outputs are those that are kept.

    Of each window `start`, `length` (as shares of the path), `switches`, and `seen`, how many kinks
    are on another side at its end than at its start; the sum of `squares` of gaps (mean over
    outputs), and of each output; `variance` of the slope's change over lags (the way is "lag k"),
    mean over outputs; of each layer (the way is "layer k") `switches` and `squares`.
    """
    here = way(config)
    number = torch.arange(config.windows, dtype=here.x0.dtype)
    starts = (number + 0.5) / config.windows
    # As long as their number of switches takes if all are as dense as in a short one in mid-path.
    share = 1e-5 * (224 / config.side) ** 2
    while True:
        first = _stretches(here, starts[config.windows // 2, None], share)
        if len(first.t) >= 20 or share > 0.5 / config.windows:
            break
        share *= 4
    length = min(share * config.switches / max(len(first.t), 1), 0.5 / config.windows)
    rows: list[Row] = []
    for i, start in enumerate(starts):
        found = _stretches(here, start[None], length).per_unit_length()
        rows += [("exact", "start", -1, i, float(start)), ("exact", "length", -1, i, length)]
        rows += _window(found, here.kept, i)
    return _table(config, rows)


def _stretches(here: Way, starts: Tensor, length: float) -> Trace:
    x = [here.x0 + (starts + s).view(-1, 1, 1, 1) * (here.x1 - here.x0) for s in (0, length)]
    return trace(here.net, (x[0], x[1]), outputs=here.kept, memory=_MEMORY, progress=False)


def _window(found: Trace, kept: Sequence[int], i: int) -> list[Row]:
    squares = found.gaps.square()
    rows: list[Row] = [
        ("exact", "switches", -1, i, len(found.t)),
        ("exact", "seen", -1, i, seen(found)),
        ("exact", "squares", -1, i, float(squares.sum(0).mean())),
        *(("exact", "squares", k, i, float(x)) for k, x in zip(kept, squares.sum(0), strict=True)),
    ]
    for lag in (k for k in _LAGS if k <= len(found.t) // 2):
        change = (found.slopes[lag:] - found.slopes[:-lag]).square().mean()
        rows.append((f"lag {lag}", "variance", -1, i, float(change) / lag))
    return rows + _by_layer(found, i)


def _by_layer(found: Trace, i: int) -> list[Row]:
    number = torch.bincount(found.layer, minlength=len(found.layers))
    square = torch.zeros(len(found.layers), dtype=found.gaps.dtype)
    square.index_add_(0, found.layer, found.gaps.square().mean(1))
    return [
        (f"layer {layer}", name, -1, i, float(x[layer]))
        for layer in range(len(found.layers))
        for name, x in (("switches", number), ("squares", square))
    ]


def seen(found: Trace, positions: int = 2) -> int:
    """How many of a path's switches samples at evenly spaced positions can see.

    A unit that switches an even number of times between two of them looks as if it had not; of one
    with two kinks, as ReLU6 has, both are counted as one.
    """
    step = torch.searchsorted(torch.linspace(0, 1, positions).to(found.t), found.t)
    table = pd.DataFrame({"step": step, "layer": found.layer, "unit": found.unit})
    return int((table.groupby(["step", "layer", "unit"]).size() % 2).sum())


def whole(config: Config) -> pd.DataFrame:
    """The whole path, exactly, and what the estimator says of it.

    Of each output that is kept `gap_deviation`, `deflection`, `mid_path_deflection`, `fluctuation`
    and `rise`, the difference of its ends, and `variance_ratio` over lags, which is also given
    with the gaps in random order (the way is "shuffled"); `switches` and `squares` of each layer
    (the way is "layer k"); the estimates of `_estimates`.
    """
    here = way(config)
    ends = here.x0, here.x1
    found = trace(here.net, ends, outputs=here.kept, memory=_MEMORY, progress=False)
    found = found.per_unit_length()
    rows: list[Row] = [
        ("exact", "switches", -1, 0, len(found.t)),
        ("exact", "seen", -1, 0, seen(found, config.points)),
    ]
    for name, of_output in (
        ("gap_deviation", measures.gap_deviation(found)),
        ("deflection", measures.deflection(found)),
        ("mid_path_deflection", measures.mid_path_deflection(found)),
        ("fluctuation", measures.fluctuation(found)),
        ("rise", found.ends - found.values[:1]),
    ):
        rows += [("exact", name, k, 0, float(x)) for k, x in zip(here.kept, of_output[0])]
    order = torch.randperm(len(found.gaps), generator=torch.Generator().manual_seed(0))
    for name, gaps in (("exact", found.gaps), ("shuffled", found.gaps[order])):
        for lag in (k for k in _LAGS if k <= len(gaps) // 4):
            ratio = _variance_ratio(gaps, lag).tolist()
            rows += [(name, "variance_ratio", k, lag, x) for k, x in zip(here.kept, ratio)]
    rows += _by_layer(found, 0)
    return _table(config, rows + _estimates(_samples(config, here), here.kept))


def _variance_ratio(gaps: Tensor, lag: int) -> Tensor:
    """As `implreg.measures.variance_ratio`, of each output by itself."""
    slopes = torch.cat([gaps[:1] * 0, gaps.cumsum(0)])
    return (slopes[lag:] - slopes[:-lag]).square().mean(0) / (lag * gaps.square().mean(0))


def _table(config: Config, rows: list[Row]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["way", "measure", "output", "at", "number"])
    table = table.astype({"at": float, "number": float, "output": np.int16})
    return table.assign(phase=config.phase)
