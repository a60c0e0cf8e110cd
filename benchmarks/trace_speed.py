"""How fast tracing is, beside things whose cost everyone knows.

Prints one table of ratios. In each row `trace` is divided by something else that was timed in the
same round, in the same process, with the same number of threads: the median over the rounds, and
the smallest and largest. Below 1 means that tracing is the faster. Everything is float64 (but
regioncam), and a trace always holds breakpoints, units, slopes, gaps and values. Networks and the
ends of single paths are random; the many paths join handwritten digits.

* forward pass: the plain network at the breakpoints of the same path, which are given to it.
* layer-wise floor: each linear layer, without anything between, applied to as many
  points as there are breakpoints made by the layers before it, and the two ends. No method that
  evaluates layers at breakpoints can do with less.
* jvp: slopes the ordinary way, by `torch.func.jvp` in the middle of each piece (of a path with
  thousands of pieces every tenth one, and ten times the seconds).
* regioncam: another exact tracer, written in Rust, float32 and without slopes
  (`pip install regioncam`; its rows are left out where it is missing).
* one by one: the same paths, in calls of their own; also with the network read but once for all of
  them (`implreg.read`).
* sampling: the plain network at 1,001 points of each path, which are given to it.

What takes points takes them in batches of the size that is quickest, column `batch`. A target,
where there is one, is what the project promises.

    python benchmarks/trace_speed.py                         # all, 1 and 2 threads
    python benchmarks/trace_speed.py --only wide --threads 1
    python benchmarks/trace_speed.py --quick                 # tiny sizes, to try the script
"""

import argparse

import numpy as np
import torch
from _measure import (
    fresh,
    in_batches,
    random_ends,
    say,
    show,
    side_by_side,
    timing_options,
)
from torch import Tensor, nn

import implreg as ir

CASES = ("wide", "narrow", "paths")
FORWARD_TARGET = {"wide": 0.75, "narrow": 0.8}
FLOOR_TARGET = 2.5


def network(case: str, quick: bool) -> tuple[str, nn.Sequential]:
    width, depth = {"wide": (1024, 4), "narrow": (256, 3)}[case]
    width = width // 32 if quick else width
    net = ir.mlp(784, *[width] * depth, 10, seed=0, dtype=torch.float64)
    return f"784-{width}x{depth}-10", net


def floor(net: nn.Sequential, sample: Tensor, switches: list[int]):
    """Each layer with weights on the points that are known before it."""
    calls, points, x = [], 2, sample
    hidden = iter(switches)
    for layer in net:
        if isinstance(layer, nn.Linear):
            calls.append(in_batches(layer, torch.randn(points, *x.shape[1:], dtype=x.dtype))[0])
        elif isinstance(layer, nn.ReLU):
            points += next(hidden)
        x = layer(x)
    return lambda: [call() for call in calls]


def regioncam_on(net: nn.Sequential, x0: Tensor, x1: Tensor):
    """A call that finds the breakpoints with regioncam, or None where that is not to be had."""
    try:
        from regioncam import Regioncam1D
    except ImportError:
        return None
    first, *layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    later = [
        (np.ascontiguousarray(layer.weight.T.numpy(), np.float32), np.float32(layer.bias.numpy()))
        for layer in layers
    ]

    def run() -> np.ndarray:
        camera = Regioncam1D(size=1.0)
        slope = first.weight @ (x1 - x0)[0]
        middle = first.weight @ ((x0 + x1) / 2)[0] + first.bias
        camera.linear(np.float32(slope.numpy())[None], np.float32(middle.numpy()))
        for weight, bias in later:
            camera.relu()
            camera.linear(weight, bias)
        return camera.inputs.ravel()[1:-1] + 0.5

    return run


def row(what: str, times: dict, against: str, **others) -> dict:
    ratios = times["trace"] / times[against]
    target = others.pop("target", None)
    median = float(np.median(ratios))
    return others | {
        "trace against": what,
        "ratio": f"{median:.3g}",
        "from": f"{ratios.min():.3g}",
        "to": f"{ratios.max():.3g}",
        "target": "" if target is None else f"{target:g}",
        "met": "" if target is None else "yes" if median <= target else "NO",
        "trace s": f"{np.median(times['trace']):.3g}",
        "other s": f"{np.median(times[against]):.3g}",
    }


def one_path(case: str, repeats: int, quick: bool) -> list[dict]:
    name, net = network(case, quick)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    x0, x1 = random_ends(1, 784)
    way = x1 - x0
    trace = ir.trace(net, (x0, x1))

    def at(t: Tensor) -> Tensor:
        return x0 + t[:, None] * way

    def slopes(x: Tensor) -> None:
        torch.func.jvp(net, (x,), (way.expand_as(x),))

    calls, batch = {"trace": lambda: ir.trace(net, (x0, x1))}, {}
    calls["forward"], batch["forward"] = in_batches(net, at(trace.t))
    calls["floor"] = floor(
        net, x0, torch.bincount(trace.layer, minlength=len(trace.layers)).tolist()
    )
    every = 10 if len(trace.slopes) > 5000 else 1
    middles = (trace.piece_start + trace.piece_end)[::every] / 2
    calls["jvp"], batch["jvp"] = in_batches(slopes, at(middles))
    other = regioncam_on(net, x0, x1)
    if other is not None:
        calls["regioncam"] = other
        if abs(len(other()) - len(trace.t)) > 0.01 * len(trace.t) + 2:
            say(f"{name}: regioncam finds {len(other()):,} breakpoints, trace {len(trace.t):,}.")
    times = side_by_side(calls, repeats)
    times["jvp"] *= every

    target = {"forward": FORWARD_TARGET[case], "floor": FLOOR_TARGET}
    words = {
        "forward": "forward pass at the breakpoints",
        "floor": "layer-wise floor",
        "jvp": "jvp in the middle of the pieces",
        "regioncam": "regioncam (float32, no slopes)",
    }
    return [
        row(words[key], times, key, case=name, switches=f"{len(trace.t):,}", target=target.get(key))
        | {"batch": batch.get(key)}
        for key in words
        if key in calls
    ]


def many_paths(repeats: int, quick: bool) -> list[dict]:
    count = 20 if quick else 1000
    net = ir.mlp(64, 64, 64, 10, seed=0, dtype=torch.float64).requires_grad_(False)
    pairs = ir.pairs(ir.load("digits"), count=count, seed=0)
    x0, x1 = pairs.x0.double(), pairs.x1.double()
    trace = ir.trace(net, (x0, x1))
    program = ir.read(net, x0[0])

    def one_by_one(what: torch.nn.Module | ir.Program) -> None:
        for i in range(count):
            ir.trace(what, (x0[i : i + 1], x1[i : i + 1]))

    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    points = (x0[:, None] + grid * (x1 - x0)[:, None]).flatten(0, 1)
    calls = {
        "trace": lambda: ir.trace(net, (x0, x1)),
        "one by one": lambda: one_by_one(net),
        "read once": lambda: one_by_one(program),
    }
    calls["sampling"], batch = in_batches(net, points)
    times = side_by_side(calls, repeats)
    about = {"case": f"{count:,} paths of 64-64-64-10", "switches": f"{len(trace.t):,}"}
    return [
        row("one by one", times, "one by one", **about, target=1 / 50),
        row("one by one, read once", times, "read once", **about),
        row("sampling at 1,001 points", times, "sampling", **about, target=0.2) | {"batch": batch},
    ]


@torch.no_grad()
def measure(cases: list[str], repeats: int, quick: bool) -> list[dict]:
    rows, threads = [], torch.get_num_threads()
    for case in cases:
        say(f"{case}, {threads} thread{'s'[: threads - 1]}, {repeats} rounds ...")
        found = many_paths(repeats, quick) if case == "paths" else one_path(case, repeats, quick)
        rows += [{"threads": threads} | row for row in found]
        say("\n".join(f"    {r['trace against']}: {r['ratio']}" for r in found))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, help="which cases")
    options = timing_options(parser)
    rows = []
    for threads in options.threads:
        rows += fresh(measure, options.only, options.repeats, options.quick, threads=threads)
    if options.quick:  # the targets are for the real sizes
        rows = [row | {"target": "", "met": ""} for row in rows]
    show("Tracing as a multiple of other work, median over rounds side by side", rows)
    wants_regioncam = {"wide", "narrow"} & {*options.only}
    if wants_regioncam and not any("regioncam" in row["trace against"] for row in rows):
        print("\nregioncam is not installed (pip install regioncam), so its rows are missing.")


if __name__ == "__main__":
    main()
