"""How fast the predictions of the theory are, and its kernels beside other ways to them.

Prints one table, for 128 random pairs in 784 dimensions and 12 hidden layers of 256, float64.

* Rows named after a function: its seconds, with 33 or 33 x 33 times along each path; the median
  over the rounds. The row below them is their sum, and its target what the project promises.
* Rows with something under `against`: covariances at 33 x 33 times, K of outputs and d2K/dsdt of
  slopes. Seconds are divided by those of another way to the same numbers, timed in the same round:
  the median over the rounds, and the smallest and largest. Below 1 means that `implreg`, which
  finds all derivatives whatever is asked for, is the faster. `apart` is the largest difference of
  the results over the largest value. No two times coincide, as others lose digits there.

autodiff is the arc-cosine recursion as papers write it, differentiated twice by `torch.func.jvp`.
neural-tangents (`pip install neural-tangents==0.6.5 jax==0.5.3 jaxlib==0.5.3`) is compiled before
it is timed; its rows are left out where it cannot be imported.

    python benchmarks/theory_speed.py                        # 1 and 2 threads, 2 minutes
    python benchmarks/theory_speed.py --quick                # tiny sizes, to try the script
"""

import argparse
import math
import os
from functools import partial

import numpy as np
import torch
from _measure import fresh, random_ends, say, show, side_by_side, timing_options
from torch import Tensor

import implreg as ir
from implreg import theory

INPUTS = 784
TARGET = 1.0


def times(points: int) -> tuple[Tensor, Tensor]:
    """(T, 1, 1) and (1, T, 1), evenly spaced; none of the one is among the other."""
    i = torch.arange(points, dtype=torch.float64)
    return ((i + 0.25) / points)[:, None, None], ((i + 0.75) / points)[None, :, None]


def autodiff(x0: Tensor, x1: Tensor, points: int, depth: int, bias: float) -> dict:
    start, mixed, end = ((x * y).sum(1) / INPUTS for x, y in ((x0, x0), (x0, x1), (x1, x1)))

    def first(s: Tensor, t: Tensor) -> Tensor:
        across = (s * (1 - t) + t * (1 - s)) * mixed
        return 2 * ((1 - s) * (1 - t) * start + across + s * t * end) + bias**2

    def k(s: Tensor, t: Tensor) -> Tensor:
        a, b, k = first(s, s), first(t, t), first(s, t)
        for layer in range(depth):
            size = (a * b).sqrt()
            u = (k / size).clamp(-1, 1).acos()
            k = size * (u.sin() + (math.pi - u) * u.cos()) / math.pi
            if layer < depth - 1:
                a, b, k = (x + bias**2 for x in (a, b, k))
        return k / 2

    def slope(function, at: Tensor) -> Tensor:
        return torch.func.jvp(function, (at,), (torch.ones_like(at),))[1]

    s, t = times(points)
    slopes = partial(slope, lambda s: slope(partial(k, s), t), s)
    return {"K": partial(k, s, t), "d2K/dsdt": slopes}


def neural_tangents(x0: Tensor, x1: Tensor, points: int, depth: int, bias: float) -> dict:
    try:
        import jax
        from neural_tangents import stax
    except ImportError:
        return {}
    jax.config.update("jax_enable_x64", True)
    hidden = [stax.Dense(1, math.sqrt(2), bias), stax.Relu()] * depth
    kernel = partial(stax.serial(*hidden, stax.Dense(1, 1.0))[2], get="nngp")
    s, t = (x.numpy().reshape(-1, 1) for x in times(points))

    def slopes(x0, way):
        way = jax.numpy.broadcast_to(way, (points, INPUTS))
        at_s, at_t, way = (x0 + s * way,), (x0 + t * way,), (way,)
        return jax.jvp(lambda x: jax.jvp(partial(kernel, x), at_t, way)[1], at_s, way)[1]

    def call(function):
        compiled = jax.jit(jax.vmap(function, out_axes=2))
        return lambda: torch.from_numpy(np.array(compiled(x0.numpy(), (x1 - x0).numpy())))

    k = call(lambda x0, way: kernel(x0 + s * way, x0 + t * way))
    return {"K": k, "d2K/dsdt": call(slopes)}


def measure(bias: float, repeats: int, quick: bool) -> list[dict]:
    threads = torch.get_num_threads()
    say(f"sigma_b {bias:g}, {threads} thread{'s'[: threads - 1]}, {repeats} rounds ...")
    if hasattr(os, "sched_setaffinity"):  # jax heeds nothing else
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    pairs, points, depth, width = (4, 5, 2, 16) if quick else (128, 33, 12, 256)
    x, start = random_ends(pairs, INPUTS), ir.Initialisation(sigma_b=bias)
    net = ir.mlp(INPUTS, *[width] * depth, 10, seed=0)
    t, s_and_t = torch.linspace(0, 1, points, dtype=torch.float64), times(points)
    own = {
        "at_initialisation": lambda: theory.at_initialisation(net, x, start),
        "gap_variance": lambda: theory.gap_variance(net, x, t, start),
        "slope_covariance": lambda: theory.slope_covariance(net, x, *s_and_t, start),
        "chord_deviation": lambda: theory.chord_deviation(net, x, t, start),
        "fluctuation": lambda: theory.fluctuation(net, x, start),
    }
    took = side_by_side(own, repeats)
    took["all predictions"] = total = np.sum(list(took.values()), axis=0)
    about = {"threads": threads, "sigma_b": f"{bias:g}"}
    rows = [about | {"what": name, "seconds": f"{np.median(x):.3g}"} for name, x in took.items()]
    if not quick:  # the target is for the real sizes
        rows[-1] |= {"target": f"{TARGET:g}", "met": "yes" if np.median(total) <= TARGET else "NO"}

    others = {"autodiff": autodiff, "neural-tangents": neural_tangents}
    ways = {name: way(*x, points, depth, bias) for name, way in others.items()}
    for what, function in ("K", theory.output_covariance), ("d2K/dsdt", theory.slope_covariance):
        calls = {name: way[what] for name, way in ways.items() if way}
        call = partial(function, net, x, *s_and_t, start)
        took = side_by_side({"implreg": call} | calls, repeats)
        for name, other in calls.items():
            ratios, found = took["implreg"] / took[name], other()
            rows.append(about | {
                "what": what, "seconds": f"{np.median(took['implreg']):.3g}",
                "against": name, "other s": f"{np.median(took[name]):.3g}",
                "ratio": f"{np.median(ratios):.3g}", "from": f"{ratios.min():.3g}",
                "to": f"{ratios.max():.3g}",
                "apart": f"{(call() - found).abs().max() / found.abs().max():.1e}",
            })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options = timing_options(parser)
    rows = []
    for threads in options.threads:
        for bias in (0.0, 0.3):
            rows += fresh(measure, bias, options.repeats, options.quick, threads=threads)
    show("Predictions, and kernels as a multiple of other ways to them, median over rounds", rows)


if __name__ == "__main__":
    main()
