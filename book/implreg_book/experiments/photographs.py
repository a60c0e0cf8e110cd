"""Chapter "From one photograph to another" (figure 1): one long path, sampled and exact.

All tables are long: a `measure` of an `output` (-1: of all that were kept) `at` a place, which is a
position t, a lag, a layer or a window, found in one `way`. Slopes and gaps are per unit length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from implreg import measures
from implreg.datasets import Dataset, load, pairs
from implreg.networks import resnet
from implreg.sampled import PLAIN, PROGRAM, Samples, sample
from implreg.tracing import Trace, trace
from implreg.training import SGD, train
from implreg_book.experiments import imagenet
from implreg_book.experiments.released import Positions
from implreg_book.experiments.types import Checked, Count, Index, Many, among

_MEMORY = "2GB"
_SHUFFLES = 100
_SHOWN = 64  # pixels along a side of the pictures that are shown
_DRAWN = 100  # positions that a curve has which is drawn thin
_LAGS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
Row = tuple[str, str, int, float, float]  # way, measure, output, at, number


@dataclass(frozen=True)
class Config(Checked):
    """A network and the path between two samples.

    Args:
        network: "imagenet", trained on ImageNet, between two photographs; "random", the same with
            random weights, between two items of clothing; "here", a small ResNet, trained on such,
            between the same two.
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

    windows: Many = 20
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
    net: nn.Module
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
        for name, values in net.named_parameters():
            if values.ndim == 4:
                nn.init.kaiming_normal_(values)
            elif name.endswith("bias"):  # else units that only touch zero are many
                nn.init.normal_(values, std=0.1)
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
    t; the mean `square` of how much true slopes change over numbers of switches; and both ends as
    pictures, `pixel` by pixel, the output being the channel.
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
    for name, picture in zip(("start", "end"), _pictures(config, here), strict=True):
        for channel, pixels in enumerate(picture):
            rows += [(name, "pixel", channel, i, float(x)) for i, x in enumerate(pixels.flatten())]
    exact = samples.slopes[0, :, here.kept] / samples.lengths
    for lag in (k for k in _LAGS if k < config.points // 4):
        square = (exact[lag:] - exact[:-lag]).square().mean()
        switches = samples.counts[0].unfold(0, lag, 1).sum(1).double().mean()
        rows.append(("samples", "square", -1, float(switches), float(square)))
    return _table(config, rows).astype({"at": "float32", "number": "float32"})


def _pictures(config: Config, here: Way) -> list[np.ndarray]:
    """Both ends to look at: channels, rows and columns, from 0 to 255."""
    if config.network == "imagenet":
        return [picture.transpose(2, 0, 1) for picture in imagenet.pictures(_SHOWN)]
    ends = [x[0, :1] for x in (here.x0, here.x1)]
    return [(255 * (x - x.min()) / (x.max() - x.min())).round().numpy() for x in ends]


def _short(x: Tensor) -> Tensor:
    """Numbers with 9 binary digits, more than a drawing shows; the rest is zeros, easily stored."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * 512).round() / 512, exponent)


def _estimates(samples: Samples, outputs: Iterable[int]) -> list[Row]:
    """Estimates of single outputs: by the released program, and with merging as its only trait."""
    rows: list[Row] = []
    for name, traits in (("program", PROGRAM), ("merging", replace(PLAIN, merging=True))):
        found = samples.estimate(traits).per_unit_length()
        rows.append((name, "switches seen", -1, 0.0, float(found.switches[0])))
        for k in outputs:
            for measure in ("gap_deviation", "deflection", "mid_path_deflection"):
                rows.append((name, measure, k, 0.0, float(getattr(found, measure)[0, k])))
    return rows


def windows(config: Windows) -> pd.DataFrame:
    """Every switch in short windows, `at` their numbers; the outputs are those that are kept.

    Of each window `start`, `length` (as shares of the path), `switches`, and the sum of `squares`
    of gaps (mean over outputs), also of each output; `variance` of the slope's change over lags
    (the way is "lag k") relative to their size, mean over outputs; of each layer (the way is
    "layer k") `switches` and `squares`.
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
        rows += _window(found, here.kept, i, [k for k in _LAGS if k <= config.switches // 2])
    return _table(config, rows)


def _stretches(here: Way, starts: Tensor, length: float) -> Trace:
    x = [here.x0 + (starts + s).view(-1, 1, 1, 1) * (here.x1 - here.x0) for s in (0, length)]
    return trace(here.net, (x[0], x[1]), outputs=here.kept, memory=_MEMORY, progress=False)


def _window(found: Trace, kept: Sequence[int], i: int, lags: Iterable[int]) -> list[Row]:
    squares = found.gaps.square()
    rows: list[Row] = [
        ("exact", "switches", -1, i, len(found.t)),
        ("exact", "squares", -1, i, float(squares.sum(0).mean())),
        *(("exact", "squares", k, i, float(x)) for k, x in zip(kept, squares.sum(0), strict=True)),
    ]
    for lag in lags:  # NaN where a window is shorter
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


def whole(config: Config) -> pd.DataFrame:
    """The whole path, exactly, and what the estimator says of it.

    Of each output that is kept `gap_deviation`, `deflection`, `mid_path_deflection`, `fluctuation`
    and `rise`, the difference of its ends. Of all, as they are and with the gaps in random orders
    (the way is "shuffled i"), `variance_ratio` over lags, `bend`, the mid-path deflection over the
    deflection, and `fluctuation` (root mean squares over outputs). `switches` and `squares` of each
    layer (the way is "layer k"); the estimates of `_estimates`.
    """
    here = way(config)
    ends = here.x0, here.x1
    found = trace(here.net, ends, outputs=here.kept, memory=_MEMORY, progress=False)
    found = found.per_unit_length()
    rows: list[Row] = [("exact", "switches", -1, 0, len(found.t))]
    for name, of_output in (
        ("gap_deviation", measures.gap_deviation(found)),
        ("deflection", measures.deflection(found)),
        ("mid_path_deflection", measures.mid_path_deflection(found)),
        ("fluctuation", measures.fluctuation(found)),
        ("rise", found.ends - found.values[:1]),
    ):
        rows += [
            ("exact", name, k, 0, float(x)) for k, x in zip(here.kept, of_output[0], strict=True)
        ]
    widths = (found.piece_end - found.piece_start) * found.lengths
    random = torch.Generator().manual_seed(0)
    rows += [("exact", *row) for row in _shape(found.gaps, widths)]
    for i in range(_SHUFFLES):
        gaps = found.gaps[torch.randperm(len(found.gaps), generator=random)]
        rows += [(f"shuffled {i}", *row) for row in _shape(gaps, widths)]
    rows += _by_layer(found, 0)
    return _table(config, rows + _estimates(_samples(config, here), here.kept))


def _shape(gaps: Tensor, widths: Tensor) -> list[tuple[str, int, float, float]]:
    """What depends on the order of gaps (M, C), on pieces of these lengths, all outputs pooled."""
    slopes = torch.cat([torch.zeros_like(gaps[:1]), gaps.cumsum(0)])
    square = gaps.square().mean()
    rows: list[tuple[str, int, float, float]] = []
    for lag in (k for k in _LAGS if k <= len(gaps) // 4):
        change = (slopes[lag:] - slopes[:-lag]).square().mean()
        rows.append(("variance_ratio", -1, lag, float(change / square) / lag))
    bend = slopes[len(gaps) // 2] - slopes[-1] / 2
    scaled = bend / (gaps.square().sum(0).sqrt() / 2)
    rise = (slopes * widths[:, None]).cumsum(0)
    off = rise - (widths.cumsum(0) / widths.sum())[:, None] * rise[-1]
    rows.append(("bend", -1, 0.0, measures.pool(scaled)))
    rows.append(("fluctuation", -1, 0.0, measures.pool(off.abs().amax(0))))
    return rows


def _table(config: Config, rows: list[Row]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["way", "measure", "output", "at", "number"])
    table = table.astype({"at": float, "number": float, "output": np.int16})
    return table.assign(phase=config.phase)
