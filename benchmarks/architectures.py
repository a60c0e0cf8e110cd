"""Architectures of torchvision and timm: which are traced, and whether the trace is true of them.

All are drawn at random, with rough parameters and statistics, and traced in float64 on a path with
tens or hundreds of switches. One table compares this with the module itself: outputs at random
points; slopes by `jvp`; and the sides of all units, watched below PyTorch's functions, of which
between the middles of two pieces exactly those may change that the trace names (confirmed; pieces
shorter than 1e-9 count with the next). The plain network once per piece takes `forward s`; the
layer with the fewest units on has `least on`. The other table says why networks are refused.

    pip install timm torchvision                             # in the builds that fit PyTorch
    python benchmarks/architectures.py                       # 7 minutes
    python benchmarks/architectures.py --only resnet18 dla34
    python benchmarks/architectures.py --quick               # two of them, to try the script
"""

import argparse
from collections import Counter
from typing import Any

import torch
from _measure import say, seconds, show
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import implreg as ir

try:
    import timm
    from torchvision import models
except (ImportError, RuntimeError) as error:  # the latter from builds that do not fit
    raise SystemExit(
        f"timm and torchvision are needed, in the builds that fit PyTorch ({error}); install them."
    ) from None

# Of torchvision, or else of timm; with the side of the images where it is not 32 pixels.
NAMES = """alexnet@64 vgg11_bn resnet18 resnet50 resnext50_32x4d wide_resnet50_2 densenet121
    squeezenet1_1 googlenet inception_v3@75 shufflenet_v2_x0_5 mobilenet_v2 fcn_resnet50
    deeplabv3_resnet50 res2net50_26w_4s hrnet_w18_small dla34 tf_efficientnet_lite0 repvgg_a0
    mobileone_s0 cspresnet50 darknet53 nf_resnet26 selecsls42b xception41@64 dpn68 pnasnet5large@64
    nasnetalarge@64 inception_resnet_v2@75 mobilenetv4_conv_small resnetblur18 vovnet39a
    resmlp_12_224+relu mobilenet_v3_small regnet_y_400mf convnext_tiny ghostnet_100
    lraspp_mobilenet_v3_large dm_nfnet_f0 lcnet_050 vit_tiny_patch16_224@224 starnet_s1 swin_t"""
SHORT, BATCH, BUDGET = 1e-9, 32, 4.0  # the last: seconds of forward passes at the switches


def network(name: str, side: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    images = torch.randn(16, 3, side, side).double()
    if name in models.list_models(models.segmentation):
        net = models.get_model(name, num_classes=10, weights_backbone=None)
        net.register_forward_hook(lambda _net, _given, made: made["out"])
    elif name in models.list_models():
        net = models.get_model(name, num_classes=10)
    else:
        more = {"act_layer": nn.ReLU, "img_size": side} if name.endswith("+relu") else {}
        net = timm.create_model(name.removesuffix("+relu"), num_classes=10, **more)
    for parameter in net.double().eval().requires_grad_(False).parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            parameter += 0.1 * torch.randn_like(parameter)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train().momentum = 1.0
    net(images)
    for norm in norms:
        mean = norm.eval().running_mean
        mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(mean)
        norm.running_var *= 0.7 + 0.7 * torch.rand_like(mean)
    return net, images


class Sides(TorchDispatchMode):
    """Which units change sides from point to point, and which windows their winner, by layer."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if name in ("relu", "leaky_relu", "hardtanh"):
            kinks = args[1:3] if name == "hardtanh" else [0]
            self.seen.append((sum((args[0] - kink).sign() for kink in kinks), None))
        made = func(*args, **(kwargs or {}))
        if name == "max_pool2d_with_indices":
            self.seen.append((made[1].flatten(2), args[0].flatten(2)))
        return made

    def changes(self, net: nn.Module, x: Tensor) -> list[Tensor]:
        self.seen, found = [], []
        with self:
            net(x)
        for side, z in self.seen:
            other = side.diff(dim=0).abs() > (z is None)  # by 1: from or to a kink itself
            if z is not None:  # unless both winners are level before or after
                top = z.gather(2, side)
                other &= z[1:].gather(2, side[:-1]) < top[1:]
                other &= z[:-1].gather(2, side[1:]) < top[:-1]
            found.append(other.flatten(1))
        return found


def confirmed(net: nn.Module, trace: ir.Trace, pieces: Tensor, points: Tensor) -> str:
    step = torch.searchsorted(pieces, torch.arange(len(trace.t)) + 1) - 1
    inside = (step >= 0) & (step < len(pieces) - 1)
    columns = (x[inside].tolist() for x in (step, trace.layer, trace.unit))
    named, found, sides = Counter(zip(*columns, strict=True)), set(), Sides()
    for begin in range(0, len(points) - 1, BATCH):
        layers = sides.changes(net, points[begin : begin + BATCH + 1])
        for layer, changed in enumerate(layers):
            found |= {(begin + row, layer, unit) for row, unit in changed.nonzero().tolist()}
    expected = found | {key for key, times in named.items() if times % 2}  # else it may be back
    return f"{len(found & named.keys()):,} of {len(expected):,}"


def apart(found: Tensor, expected: Tensor) -> str:
    return f"{float((found - expected).abs().max() / expected.abs().max()):.0e}"


@torch.no_grad()
def measure(name: str, side: str = "32") -> dict[str, object]:
    say(f"{name} ...")
    net, images = network(name, int(side))
    x0, x1, made = images[:1], images[1:2], {}
    forward = seconds(lambda: net(images[:4])) / 4
    try:
        program = ir.read(net, x0[0])
    except ir.InputError as error:
        return {"architecture": name, "refused": str(error)}
    most, sides = min(1000, max(20, int(BUDGET / forward))), Sides()
    while sum(int(x.sum()) for x in sides.changes(net, torch.cat([x0, x1]))) > most / 2:
        x1 = torch.lerp(x0, x1, 0.5)
    least = min(float((side >= 0).double().mean()) for side, z in sides.seen if z is None)
    took = seconds(lambda: made.update(trace=ir.trace(net, (x0, x1))))
    trace, way, t = made["trace"], x1 - x0, torch.rand(16, 1, 1, 1, dtype=x0.dtype)
    length = trace.piece_end - trace.piece_start
    pieces = (length > SHORT).nonzero().flatten()[:most]
    middles = x0.lerp(x1, (trace.piece_start + length / 2)[pieces, None, None, None])
    some = torch.randperm(len(pieces))[: max(20, most // 4)]
    jvps = [torch.func.jvp(net, (x,), (way.expand_as(x),))[1] for x in middles[some].split(BATCH)]
    return {
        "architecture": name, "units": f"{program.units:,}", "switches": f"{len(trace.t):,}",
        "values apart": apart(trace.at(t.flatten()), net(torch.lerp(x0, x1, t)).flatten(1)),
        "slopes apart": apart(trace.slopes[pieces[some]], torch.cat(jvps).flatten(1)),
        "confirmed": confirmed(net, trace, pieces, middles), "least on": f"{least:.0%}",
        "trace s": f"{took:.1f}", "forward s": f"{forward * len(trace.slopes):.1f}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of them")
    parser.add_argument("--quick", action="store_true", help="two of them")
    asked = parser.parse_args()
    only = ["resnet18", "mobilenet_v3_small"] if asked.quick else asked.only
    torch.set_num_threads(1)
    rows = [measure(*x) for x in (n.split("@") for n in NAMES.split()) if x[0] in (only or x)]
    for title, refused in (("Compared with the module itself", False), ("Refused", True)):
        if some := [row for row in rows if ("refused" in row) == refused]:
            show(title, some)


if __name__ == "__main__":
    main()
