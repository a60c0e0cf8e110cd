"""How much faster networks train side by side than one after the other.

Prints one table, for networks of one shape in float32, each with its seed, on 1,280 samples of 10
classes in batches of 128.

* `train s` is a loop of `train` over all networks, `Ensemble s` one `Ensemble` of them, its start
  included: the median over the rounds. A round is both, in turn, from the same initial weights.
* `speed-up` is the first over the second in the same round: the median, and the smallest and
  largest. Above 1 the ensemble is the faster.
* `apart` is the largest difference between the two of a network's loss after the last epoch, from
  rounding; `loss` is the mean there, to compare.

With more threads than idle cores all times are longer and scatter; the load at the start is written
on the error stream.

    python benchmarks/training_speed.py                      # 1 and 2 threads, 5 minutes
    python benchmarks/training_speed.py --quick              # tiny sizes, to try the script
"""

import argparse
from copy import deepcopy
from functools import partial

import numpy as np
import psutil
import torch
from _measure import fresh, say, seconds, show, timing_options
from torch import Tensor, nn

import implreg as ir
from implreg.training import SGD, Ensemble, evaluate, train

CLASSES = 10
SHAPES = {(64, 128, 10): 20, (64, 64, 64, 10): 20, (784, 256, 10): 4, (784, 1024, 10): 1}  # epochs


def samples(n: int, inputs: int) -> tuple[Tensor, Tensor]:
    """Classes are what a random linear map tells."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(n, inputs, generator=random)
    return x, (x @ torch.randn(inputs, CLASSES, generator=random)).argmax(dim=1)


def one_by_one(x: Tensor, y: Tensor, settings: SGD, nets: list[nn.Module]) -> None:
    for seed, net in enumerate(nets):
        for _ in train(net, x, y, settings, seed=seed):
            pass


def side_by_side(x: Tensor, y: Tensor, settings: SGD, nets: list[nn.Module]) -> None:
    for _ in Ensemble(nets, x, y, settings, seeds=range(len(nets))):
        pass


def measure(networks: int, repeats: int, quick: bool) -> list[dict]:
    threads = torch.get_num_threads()
    say(f"{threads} thread{'s'[: threads - 1]}, {networks} networks, {repeats} rounds ...")
    rows = []
    for shape, epochs in SHAPES.items():
        shape, epochs = ([8, *shape[1:-1], CLASSES], 1) if quick else (shape, epochs)
        x, y = samples(256 if quick else 1280, shape[0])
        settings = SGD(0.05, epochs, warmup_epochs=0)
        start = [ir.mlp(*shape, seed=seed) for seed in range(networks)]
        took, losses = [], []
        for _ in range(repeats + 1):
            for way in one_by_one, side_by_side:
                nets = deepcopy(start)
                took.append(seconds(partial(way, x, y, settings, nets)))
                losses.append([evaluate(net, x, y)[0] for net in nets])
        times = np.array(took[2:]).reshape(-1, 2)  # the first round warms up
        speed_up, (alone, together) = times[:, 0] / times[:, 1], np.array(losses[-2:])
        rows.append({
            "threads": threads, "network": "-".join(map(str, shape)), "networks": networks,
            "epochs": epochs, "train s": f"{np.median(times[:, 0]):.3g}",
            "Ensemble s": f"{np.median(times[:, 1]):.3g}",
            "speed-up": f"{np.median(speed_up):.2f}", "from": f"{speed_up.min():.2f}",
            "to": f"{speed_up.max():.2f}", "apart": f"{abs(alone - together).max():.1e}",
            "loss": f"{together.mean():.3g}",
        })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, help="how many side by side (default: 32)")
    options = timing_options(parser)
    networks = options.networks or (3 if options.quick else 32)
    say(f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}")
    rows = []
    for threads in options.threads:
        rows += fresh(measure, networks, options.repeats, options.quick, threads=threads)
    show("Time of networks one after the other over that side by side, median over rounds", rows)


if __name__ == "__main__":
    main()
