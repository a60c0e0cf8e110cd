"""What memory tracing takes, and how time and memory grow with the number of switches.

Every row is measured in a fresh process. Peak memory is the largest resident memory of the process
(`ru_maxrss`) above that after the network, its inputs and a first trace of a tiny network were
made. Everything is float64 with slopes, gaps and units. Three tables:

* bounds: one path of a convolutional network with several values of the argument `memory`, which
  bounds the working set, and beside each the differences from the trace without a bound (whose own
  default is half of the free memory). The peak holds the result too, which the bound does not
  count; the project promises a peak of at most 1.5 times the bound of 256MB all the same.
* long paths: one polyline through more and more random points, followed by `implreg.stream`, whose
  pieces are looked at and dropped, and by `implreg.trace`, which keeps them all.
* wide networks: one straight path through one hidden layer of more and more units, streamed.

Below the second and the third table stands the exponent of time in the number of switches: the
slope of a line through the logarithms. At 1 a switch costs the same however many there are.

    python benchmarks/trace_memory.py
    python benchmarks/trace_memory.py --only bounds --bounds 100 256
    python benchmarks/trace_memory.py --quick                # tiny sizes, to try the script
"""

import argparse

import numpy as np
import torch
from _measure import conv_network, fresh, megabytes, random_ends, say, show, with_peak

import implreg as ir

TABLES = ("bounds", "long", "wide")


def warm_up() -> None:
    """What the first trace of a process loads and keeps."""
    ir.trace(conv_network(2, size=8), random_ends(1, 1, 8, 8))


def bounded(bound: int | None, quick: bool) -> dict:
    memory = None if bound is None else f"{bound}MB"
    net = conv_network(2 if quick else 16)
    x0, x1 = random_ends(1, 1, 28, 28)
    warm_up()
    trace, took, peak = with_peak(lambda: ir.trace(net, (x0, x1), memory=memory))
    row = {
        "memory": memory or "no bound",
        "switches": f"{len(trace.t):,}",
        "seconds": f"{took:.2f}",
    }
    row |= {"peak MB": f"{peak:.0f}", "result MB": f"{megabytes(trace):.1f}"}
    if memory is None:
        return row
    free = ir.trace(net, (x0, x1))
    same = torch.equal(trace.layer, free.layer) and torch.equal(trace.unit, free.unit)
    row |= {"peak / bound": f"{peak / bound:.2f}"}
    row |= {"same units": "yes" if same else "NO"}
    if len(trace.t) == len(free.t):
        apart = (trace.slopes - free.slopes).abs().max() / free.slopes.abs().max()
        row |= {"t apart": f"{float((trace.t - free.t).abs().max()):.1e}"}
        row |= {"slopes apart, relative": f"{float(apart):.1e}"}
    return row


def streamed(net: torch.nn.Module, paths: ir.tracing.paths.Paths) -> tuple[int, float]:
    """Number of switches and megabytes of all pieces that were handed out."""
    switches, handed = 0, 0
    for part in ir.stream(net, paths):
        switches += int((part.site >= 0).sum())
        handed += sum(x.nbytes for x in vars(part).values())
    return switches, handed / 1e6


def along(how: str, segments: int) -> dict:
    net = ir.mlp(64, 256, 256, 10, seed=0, dtype=torch.float64)
    path = ir.polyline(random_ends(segments + 1, 64)[0])
    warm_up()
    if how == "stream":
        (switches, size), took, peak = with_peak(lambda: streamed(net, path))
    else:
        trace, took, peak = with_peak(lambda: ir.trace(net, path))
        switches, size = len(trace.t), megabytes(trace)
    return measured(how, f"{segments:,} segments", switches, took, peak, size)


def across(how: str, width: int) -> dict:
    net = ir.mlp(16, width, 10, seed=0, dtype=torch.float64)
    x0, x1 = random_ends(1, 16)
    warm_up()
    (switches, size), took, peak = with_peak(lambda: streamed(net, (x0, x1)))
    return measured(how, f"{width:,} units", switches, took, peak, size)


def measured(how: str, what: str, switches: int, took: float, peak: float, size: float) -> dict:
    return {
        "by": how, "path": what, "switches": switches, "seconds": took,
        "microseconds / switch": f"{1e6 * took / switches:.2f}",
        "peak MB": f"{peak:.0f}", "pieces MB": f"{size:.1f}",
    }  # fmt: skip


def growing(title: str, function, hows: list[str], sizes: list[int]) -> None:
    """A table of growing sizes, and the exponents of time."""
    rows = []
    for how in hows:
        for size in sizes:
            say(f"{title}: {how}, {size:,} ...")
            rows.append(fresh(function, how, size))
    show(title, [
        row | {"switches": f"{row['switches']:,}", "seconds": f"{row['seconds']:.3g}"}
        for row in rows
    ])  # fmt: skip
    print()
    for how in hows:
        switches, took = np.array([(r["switches"], r["seconds"]) for r in rows if r["by"] == how]).T
        if len(switches) > 1:
            exponent = np.polyfit(np.log(switches), np.log(took), 1)[0]
            print(f"{how}: time grows as switches to the power {exponent:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES, help="which tables")
    parser.add_argument("--bounds", nargs="+", type=int, help="of the first table, in MB")
    parser.add_argument("--threads", type=int, help="number of threads")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, fewer rows")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if "bounds" in options.only:
        bounds = options.bounds or ([256] if options.quick else [64, 128, 256, 1024])
        rows = []
        for bound in bounds if options.quick else [None, *bounds]:
            say(f"bounds: {f'{bound}MB' if bound else 'none'} ...")
            rows.append(fresh(bounded, bound, options.quick))
        show("A convolutional network within bounds of memory", rows)
    if "long" in options.only:
        sizes = [10] if options.quick else [50, 500, 5000]
        hows = ["stream"] if options.quick else ["stream", "trace"]
        growing("Polylines through 64-256-256-10", along, hows, sizes)
    if "wide" in options.only:
        sizes = [2_000] if options.quick else [20_000, 200_000, 2_000_000]
        growing("One straight path through 16-units-10", across, ["stream"], sizes)


if __name__ == "__main__":
    main()
