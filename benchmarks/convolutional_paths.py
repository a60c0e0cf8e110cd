"""What an exact path through a convolutional network costs.

Each row is one network and one straight path, or the first share of it, in float64, in a fresh
process. `ratio` divides the trace by the plain network at the breakpoints of the same path, timed
in the same round: the median over the rounds (a single trace where there is no target). The plain
network is timed at as many breakpoints as `points` says, in the batch size that is quickest, and
its seconds are multiplied up. Peak memory is that of the first trace above what the process took
before. The last two columns compare the trace with the module itself at 64 random points: outputs,
and slopes by `torch.func.jvp`; the largest difference relative to the largest value.

The paper's networks are as they are initialised, in eval mode, on the path between two images of
one class of Fashion-MNIST; the others are random, and so are the ends of their paths.

    python benchmarks/convolutional_paths.py                 # with targets, 1 and 2 threads
    python benchmarks/convolutional_paths.py --only paper    # all depths of the paper; an hour
    python benchmarks/convolutional_paths.py --only paper --device cuda
    python benchmarks/convolutional_paths.py --quick         # a thousandth of two of the paths
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from _measure import (
    conv_network,
    fresh,
    in_batches,
    random_ends,
    say,
    seconds,
    show,
    side_by_side,
    timing_options,
    with_peak,
)
from torch import Tensor, nn

import implreg as ir

POINTS, CHECKED = 256, 64


@dataclass(frozen=True)
class Case:
    """A network, the shape of its samples, the share of the line and the promised ratio."""

    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    share: float = 1.0
    target: float | None = None


def plain(*layers: int | str, inputs: int, side: int, dense: tuple[int, ...]) -> nn.Sequential:
    """3x3 convolutions of so many channels, "max" and "mean" pooling, then linear layers."""
    torch.manual_seed(0)
    made: list[nn.Module] = []
    channels = inputs
    for layer in layers:
        if layer == "max":
            made.append(nn.MaxPool2d(2))
            side //= 2
        elif layer == "mean":
            made.append(nn.AdaptiveAvgPool2d(1))
            side = 1
        else:
            made += [nn.Conv2d(channels, layer, 3, padding=1), nn.ReLU()]
            channels = layer
    made.append(nn.Flatten())
    sizes = [channels * side**2, *dense]
    for i, (before, after) in enumerate(pairwise(sizes)):
        made += [nn.ReLU()] * (i > 0) + [nn.Linear(before, after)]
    for module in made:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return nn.Sequential(*made)


def paper(kind: str, size: int) -> Callable[[], nn.Module]:
    return lambda: {"resnet": ir.resnet, "vgg": ir.vgg}[kind](size, seed=0)


GREY, COLOUR = (1, 28, 28), (3, 32, 32)
CASES = {
    "targets": {
        "conv16-conv16-mean-dense": Case(conv_network, GREY, 1.0, 0.02),
        "4 x conv32, global mean": Case(
            lambda: plain(32, 32, 32, 32, "mean", inputs=3, side=32, dense=(10,)), COLOUR, 1, 0.01
        ),
        "conv32-max-conv64-max-dense": Case(
            lambda: plain(32, "max", 64, "max", inputs=1, side=28, dense=(10,)), GREY, 0.5, 0.05
        ),
        "conv32-max-conv64-max-conv64-2 dense": Case(
            lambda: plain(32, "max", 64, "max", 64, inputs=1, side=28, dense=(128, 10)),
            GREY, 0.5, 0.1,
        ),
        "vgg(3)": Case(paper("vgg", 3), GREY, 1.0, 0.15),
        "resnet(10)": Case(paper("resnet", 10), GREY, 0.2, 0.3),
    },
    "paper": {
        **{f"vgg({n})": Case(paper("vgg", n), GREY) for n in (3, 4, 5, 6, 8)},
        **{f"resnet({n})": Case(paper("resnet", n), GREY) for n in (10, 16, 22, 28, 34, 40)},
    },
}  # fmt: skip


@torch.no_grad()
def measure(group: str, name: str, repeats: int, device: str, quick: bool) -> dict:
    case = CASES[group][name]
    net = case.network().double().eval().requires_grad_(False).to(device)
    x0, x1 = ends(group, name, case)
    x0, x1 = x0.to(device), torch.lerp(x0, x1, case.share * (0.001 if quick else 1)).to(device)
    warm = torch.zeros(1, 8, device=device)
    ir.trace(ir.mlp(8, 8, 1, seed=0).to(device), (warm, warm + 1))
    if x0.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    trace, took, peak = with_peak(lambda: ir.trace(net, (x0, x1)))
    if x0.is_cuda:
        peak = (torch.cuda.max_memory_allocated() - before) / 1e6
    some = trace.t[torch.linspace(0, len(trace.t) - 1, min(POINTS, len(trace.t))).long()]
    forward, _ = in_batches(net, at(x0, x1, some))
    if case.target is None:
        times = {"trace": np.array([took]), "forward": np.array([seconds(forward)])}
    else:
        calls = {"trace": lambda: ir.trace(net, (x0, x1)), "forward": forward}
        times = side_by_side(calls, repeats)
    times["forward"] *= len(trace.t) / max(1, len(some))
    ratio = float(np.median(times["trace"] / times["forward"]))
    return {
        "network": name, "share of line": f"{case.share:g}", "switches": f"{len(trace.t):,}",
        "trace s": f"{np.median(times['trace']):.3g}",
        "forward s": f"{np.median(times['forward']):.3g}", "points": len(some),
        "ratio": f"{ratio:.3g}",
        "target": "" if quick or case.target is None else f"{case.target:g}",
        "met": "" if quick or case.target is None else "yes" if ratio <= case.target else "not",
        "peak MB": f"{peak:.0f}",
    } | apart(net, trace, x0, x1)  # fmt: skip


def ends(group: str, name: str, case: Case) -> tuple[Tensor, Tensor]:
    if name.startswith(("vgg", "resnet")):
        pair = ir.pairs(ir.load("fashion-mnist"), kind="same", count=1, seed=0)
        return pair.x0.view(1, *case.shape).double(), pair.x1.view(1, *case.shape).double()
    return random_ends(1, *case.shape)


def at(x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    return x0 + t.view(-1, *[1] * (x0.ndim - 1)) * (x1 - x0)


def apart(net: nn.Module, trace: ir.Trace, x0: Tensor, x1: Tensor) -> dict[str, str]:
    random = torch.Generator().manual_seed(0)
    t = torch.rand(CHECKED, generator=random, dtype=x0.dtype).to(x0.device)
    points = at(x0, x1, t)
    values, slopes = torch.func.jvp(net, (points,), ((x1 - x0).expand_as(points),))
    found = trace.slopes[torch.searchsorted(trace.piece_start, t, right=True) - 1]
    pairs = {"values apart": (trace.at(t), values), "slopes apart": (found, slopes)}
    return {
        words: f"{float((mine - own).abs().max() / own.abs().max()):.1e}"
        for words, (mine, own) in pairs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=CASES, default="targets", help="which networks")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = timing_options(parser)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that PyTorch can use; leave it out.")
    rows = []
    for threads in options.threads:
        for name in [*CASES[options.only]][-2 if options.quick else 0 :]:
            say(f"{name}, {threads} thread{'s'[: threads - 1]} ...")
            arguments = (options.only, name, options.repeats, options.device, options.quick)
            rows.append({"threads": threads} | fresh(measure, *arguments, threads=threads))
            say(f"    ratio {rows[-1]['ratio']}, {rows[-1]['trace s']} s")
    show("One path, tracing as a multiple of the plain network at its breakpoints", rows)


if __name__ == "__main__":
    main()
