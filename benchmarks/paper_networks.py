"""The two kinds of convolutional network of the paper, traced at their real size.

A pre-activation ResNet of depth 10 (width factor 1) and the VGG-like network of 3 convolutions, as
they are initialised, on the path between two images of one class of Fashion-MNIST, 28x28 pixels,
in float64. The ResNet is in eval mode, where its batch norm, fresh as it is, changes nothing but
rounding: in training mode outputs depend on the rest of the batch, and there is nothing to trace.

Prints one table. Each network is traced in a fresh process; peak memory is that of the process
above what it took before, on a GPU that of the GPU. The last two columns compare the trace with
the module itself at 64 random points: outputs, and slopes by `torch.func.jvp`; the largest
difference relative to the largest value.

    python benchmarks/paper_networks.py                      # minutes
    python benchmarks/paper_networks.py --device cuda --depth 52 --convolutions 8
    python benchmarks/paper_networks.py --quick              # a thousandth of the path
"""

import argparse

import torch
from _measure import fresh, say, show, with_peak

import implreg as ir

POINTS = 64


def measure(kind: str, size: int, memory: str | None, device: str, quick: bool) -> dict:
    make = {"resnet": ir.resnet, "vgg": ir.vgg}[kind]
    net = make(size, seed=0, dtype=torch.float64).eval().requires_grad_(False).to(device)
    pair = ir.pairs(ir.load("fashion-mnist"), kind="same", count=1, seed=0)
    x0, x1 = (x.view(1, 1, 28, 28).to(device, torch.float64) for x in (pair.x0, pair.x1))
    if quick:
        x1 = torch.lerp(x0, x1, 0.001)
    warm = torch.zeros(1, 8, device=device)
    ir.trace(ir.mlp(8, 8, 1, seed=0).to(device), (warm, warm + 1))
    gpu = x0.is_cuda
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    trace, took, peak = with_peak(lambda: ir.trace(net, (x0, x1), memory=memory))
    if gpu:
        peak = (torch.cuda.max_memory_allocated() - before) / 1e6

    t = torch.rand(POINTS, generator=torch.Generator().manual_seed(0), dtype=x0.dtype).to(device)
    way = x1 - x0
    points = x0 + t.view(-1, 1, 1, 1) * way
    values, slopes = torch.func.jvp(net, (points,), (way.expand_as(points),))
    found = trace.slopes[torch.searchsorted(trace.piece_start, t, right=True) - 1]
    return {
        "network": f"{kind}({size})", "device": device, "switches": f"{len(trace.t):,}",
        "pieces": f"{len(trace.slopes):,}", "seconds": f"{took:.1f}", "peak MB": f"{peak:.0f}",
        "values apart": f"{apart(trace.at(t), values):.1e}",
        "slopes apart": f"{apart(found, slopes):.1e}",
    }  # fmt: skip


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=("resnet", "vgg"), default=("resnet", "vgg"))
    parser.add_argument("--depth", type=int, default=10, help="of the ResNet: 10, 16, ..., 52")
    parser.add_argument("--convolutions", type=int, default=3, help="of the VGG: 3, 4, 5, 6, 8")
    parser.add_argument("--memory", help="bound on the working set, such as 1GB")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="number of threads")
    parser.add_argument("--quick", action="store_true", help="a thousandth of the path")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that PyTorch can use; leave it out.")
    rows = []
    for kind in options.only:
        say(f"{kind} ...")
        size = options.depth if kind == "resnet" else options.convolutions
        rows.append(
            fresh(
                measure, kind, size, options.memory, options.device, options.quick,
                threads=options.threads,
            )
        )  # fmt: skip
    show("Networks of the paper at 28x28 pixels, one path", rows)


if __name__ == "__main__":
    main()
