"""Every operation that can be traced, against the module itself; and why others are refused."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from _guarded import checks
from _traces import Net, check
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as module_hooks
from torch.nn.utils import parametrizations

from implreg.errors import InputError
from implreg.networks import mlp
from implreg.tracing import Trace, read, trace

SHAPES = {"flat": (12,), "line": (2, 16), "image": (2, 9, 8), "cube": (2, 5, 4, 6)}


def paths(kind: str, count: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(len(kind))
    x0, x1 = torch.randn(2, count, *SHAPES[kind], generator=random, dtype=torch.float64)
    return x0, x1


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """The module in double precision and eval mode, with random weights and statistics."""
    random = torch.Generator().manual_seed(seed)
    net = net.double().eval()
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_floating_point() and "original" not in name:
            fan = max(1, tensor[0].numel()) if tensor.ndim > 1 else 2
            tensor.data = torch.randn(tensor.shape, generator=random).double() * (1.4 / fan**0.5)
        if name.endswith("running_var"):
            tensor.data = tensor.abs() + 0.5
    return net


def linear(n_in: int, n_out: int) -> nn.Linear:
    return nn.Linear(n_in, n_out)


LAYERS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    # name: (kind of samples, layers before a ReLU or with activations of their own)
    "linear": ("flat", lambda: nn.Linear(12, 20)),
    "matmul-by-a-vector": ("line", lambda: Net(lambda m, x: x @ m.a.weight[0], a=nn.Linear(16, 1))),
    "linear-no-bias": ("flat", lambda: nn.Linear(12, 20, bias=False)),
    "linear-on-more-axes": ("line", lambda: nn.Linear(16, 7)),
    "linear-functional": ("flat", lambda: Net(lambda m, x: functional.linear(x, m.a.weight),
                                              a=nn.Linear(12, 9))),
    "matmul": ("flat", lambda: Net(lambda m, x: x @ m.a.weight.T + m.a.bias, a=nn.Linear(12, 9))),
    "matmul-from-the-left": ("line", lambda: Net(lambda m, x: m.a.weight @ x, a=nn.Linear(2, 5))),
    "addmm": ("flat", lambda: Net(lambda m, x: torch.addmm(m.a.bias, x, m.a.weight.T, alpha=2.0),
                                  a=nn.Linear(12, 9))),
    "weight-norm": ("flat", lambda: parametrizations.weight_norm(nn.Linear(12, 9))),
    "conv1d": ("line", lambda: nn.Conv1d(2, 5, 3, stride=2, padding=1)),
    "conv2d": ("image", lambda: nn.Conv2d(2, 5, (3, 2), stride=(2, 1), padding=(1, 0))),
    "conv2d-groups-dilation": ("image", lambda: nn.Conv2d(2, 6, 3, groups=2, dilation=2,
                                                          padding=2)),
    "conv2d-same": ("image", lambda: nn.Conv2d(2, 3, 4, padding="same")),
    "conv2d-valid": ("image", lambda: nn.Conv2d(2, 3, 3, padding="valid", bias=False)),
    "conv1d-replicate": ("line", lambda: nn.Conv1d(2, 3, 3, padding=1, padding_mode="replicate")),
    "conv1d-functional": ("line", lambda: Net(lambda m, x: functional.conv1d(
        x, m.a.weight, m.a.bias, padding="same", dilation=3), a=nn.Conv1d(2, 3, 3))),
    "conv3d-functional": ("cube", lambda: Net(lambda m, x: functional.conv3d(
        x, m.a.weight, groups=2), a=nn.Conv3d(2, 2, 2, groups=2))),
    "conv-transpose-functional": ("image", lambda: Net(lambda m, x: functional.conv_transpose2d(
        x, m.a.weight, m.a.bias, 2, 1, 1, 2, 1), a=nn.ConvTranspose2d(2, 4, 3, groups=2))),
    "conv2d-circular": ("image", lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")),
    "conv2d-reflect": ("image", lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")),
    "conv2d-functional": ("image", lambda: Net(lambda m, x: functional.conv2d(x, m.a.weight,
                                               stride=2), a=nn.Conv2d(2, 3, 3))),
    "conv3d": ("cube", lambda: nn.Conv3d(2, 3, 3, padding=1, stride=(1, 2, 1))),
    "conv-transpose1d": ("line", lambda: nn.ConvTranspose1d(2, 3, 3, stride=2)),
    "conv-transpose2d": ("image", lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1)),
    "conv-transpose3d": ("cube", lambda: nn.ConvTranspose3d(2, 2, 2)),
    "batch-norm1d": ("flat", lambda: nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8))),
    "batch-norm-functional": ("image", lambda: Net(lambda m, x: functional.batch_norm(
        x, m.a.running_mean, m.a.running_var, None, m.a.bias), a=nn.BatchNorm2d(2))),
    "dropout-functional": ("flat", lambda: Net(
        lambda m, x: functional.dropout(x, 0.5, m.training))),
    "batch-norm2d": ("image", lambda: nn.BatchNorm2d(2)),
    "batch-norm2d-plain": ("image", lambda: nn.BatchNorm2d(2, affine=False)),
    "batch-norm3d": ("cube", lambda: nn.BatchNorm3d(2)),
    "dropout": ("flat", lambda: nn.Sequential(nn.Dropout(), nn.Identity(), nn.Linear(12, 5))),
    "dropout2d": ("image", lambda: nn.Dropout2d()),
    "alpha-dropout": ("flat", lambda: nn.AlphaDropout()),
    "avg-pool1d": ("line", lambda: nn.AvgPool1d(3, 2, 1)),
    "avg-pool2d": ("image", lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "avg-pool2d-ceil": ("image", lambda: nn.AvgPool2d(2, ceil_mode=True)),
    "avg-pool3d": ("cube", lambda: nn.AvgPool3d(2)),
    "pooling-functional1d": ("line", lambda: Net(lambda m, x: torch.cat(
        [functional.avg_pool1d(x, 3, 2, 1), functional.adaptive_avg_pool1d(x, 5),
         functional.max_pool1d(x, 3, 2, padding=1),
         functional.adaptive_max_pool1d(x, 4)], 2))),
    "pooling-functional2d": ("image", lambda: Net(lambda m, x: torch.cat(
        [functional.avg_pool2d(x, (3, 8), None, 0, True), functional.adaptive_avg_pool2d(x, (2, 1)),
         functional.max_pool2d(x, (3, 8)), functional.adaptive_max_pool2d(x, (3, 1))], 2))),
    "pooling-functional3d": ("cube", lambda: Net(lambda m, x: torch.cat(
        [functional.avg_pool3d(x, (2, 4, 6)), functional.adaptive_avg_pool3d(x, (3, 1, 1)),
         functional.max_pool3d(x, (2, 4, 6)), functional.adaptive_max_pool3d(x, 1)], 2))),
    "adaptive-avg-pool1d": ("line", lambda: nn.AdaptiveAvgPool1d(5)),
    "adaptive-avg-pool3d": ("cube", lambda: nn.AdaptiveAvgPool3d((2, 3, None))),
    "adaptive-avg-pool2d": ("image", lambda: nn.AdaptiveAvgPool2d((4, 3))),
    "max-pool1d": ("line", lambda: nn.MaxPool1d(3, 2, 1)),
    "max-pool2d": ("image", lambda: nn.MaxPool2d(3, 2, 1)),
    "max-pool2d-dilation-ceil": ("image", lambda: nn.MaxPool2d(2, 3, dilation=2, ceil_mode=True)),
    "max-pool2d-functional": ("image", lambda: Net(lambda m, x: functional.max_pool2d(x, 2))),
    "max-pool3d": ("cube", lambda: nn.MaxPool3d(2)),
    "adaptive-max-pool1d": ("line", lambda: nn.AdaptiveMaxPool1d(5)),
    "adaptive-max-pool2d": ("image", lambda: nn.AdaptiveMaxPool2d((4, 3))),
    "adaptive-max-pool3d": ("cube", lambda: nn.AdaptiveMaxPool3d(2)),
    "amax": ("image", lambda: Net(lambda m, x: x.amax((2, 3)))),
    "amin": ("image", lambda: Net(lambda m, x: torch.amin(x, 2, keepdim=True))),
    "activations-functional": ("flat", lambda: Net(
        lambda m, x: functional.relu6(3 * x) + functional.hardtanh(1 * x, -0.2, 0.4, True)
        + torch.prelu(x, m.a.weight) + functional.leaky_relu_(1 * x, 0.2) + functional.rrelu(-x)
        + functional.softshrink(x) + abs(x), a=nn.PReLU(12))),
    "relu6": ("flat", lambda: nn.Sequential(nn.Linear(12, 20), Scale(6.0), nn.ReLU6())),
    "leaky-relu": ("flat", lambda: nn.Sequential(nn.Linear(12, 20), nn.LeakyReLU(0.2))),
    "leaky-relu-functional": ("flat", lambda: Net(lambda m, x: functional.leaky_relu(x, -0.3))),
    "prelu": ("image", lambda: nn.PReLU(2)),
    "prelu-one": ("flat", lambda: nn.PReLU()),
    "hardtanh": ("flat", lambda: nn.Hardtanh(-0.5, 0.7)),
    "hardtanh-functional": ("flat", lambda: Net(lambda m, x: functional.hardtanh(x))),
    "abs": ("flat", lambda: Net(lambda m, x: x.abs() - abs(x - 1))),
    "clamp": ("flat", lambda: Net(lambda m, x: x.clamp(-0.5, 0.5) + x.clamp(min=0.1)
                                  + torch.clamp(x, max=-0.1) + x.clamp_max(0.3) + x.clip(0, 1))),
    "maximum": ("flat", lambda: Net(lambda m, x: torch.maximum(m.a(x), x), a=nn.Linear(12, 12))),
    "minimum": ("flat", lambda: Net(lambda m, x: torch.min(m.a(x), x), a=nn.Linear(12, 12))),
    "maximum-with-a-constant": ("flat", lambda: Net(lambda m, x: torch.maximum(
        x, torch.linspace(-1, 1, 12, dtype=x.dtype)))),
    "relu-forms": ("flat", lambda: Net(lambda m, x: functional.relu(x) + torch.relu(-x)
                                       + (x - 1).relu() + (x + 0.5).relu_()
                                       + functional.relu(2 * x, inplace=True))),
    "flatten": ("image", lambda: nn.Flatten()),
    "view": ("image", lambda: Net(lambda m, x: x.view(x.size(0), 2, -1).reshape(len(x), -1))),
    "unflatten": ("flat", lambda: nn.Sequential(nn.Unflatten(1, (3, 4)), nn.Linear(4, 5))),
    "squeeze": ("flat", lambda: Net(lambda m, x: x.unsqueeze(1).squeeze())),
    "permute": ("image", lambda: Net(lambda m, x: x.permute(0, 3, 1, 2))),
    "transpose": ("image", lambda: Net(lambda m, x: x.transpose(1, 3).mT.swapaxes(-1, 1))),
    "movedim-flip": ("image", lambda: Net(lambda m, x: x.movedim(1, -1).flip(2))),
    "expand": ("flat", lambda: Net(lambda m, x: x[:, :1].expand(-1, 12) + x)),
    "arithmetic": ("flat", lambda: Net(lambda m, x: (3 - 2 * x + 1) / 4 - x / 0.5 - (-x) * 0.25)),
    "constants": ("flat", lambda: Net(lambda m, x: (x + m.a.bias) * m.a.bias - m.a.bias / 2,
                                      a=nn.Linear(3, 12))),
    "constant-with-batch": ("flat", lambda: Net(lambda m, x: x + torch.full_like(x, 0.3)
                                                + torch.ones(len(x), 1, dtype=x.dtype))),
    "in-place": ("flat", lambda: Net(in_place, a=nn.Linear(12, 12))),
    "broadcast": ("image", lambda: Net(lambda m, x: x + x.mean((2, 3), keepdim=True))),
    "reversed": ("flat", lambda: Net(lambda m, x: 1 - x + (2 + x) * 3 + m.a.bias - x
                                     + (m.a.bias + x) + m.a.bias * x + torch.rsub(x, 2, alpha=3),
                                     a=nn.Linear(1, 12))),
    "in-place-on-buffers": ("flat", lambda: Net(buffers, a=nn.BatchNorm1d(12))),
    "numpy-names-and-numbers": ("flat", lambda: Net(lambda m, x: x.sum(axis=1, keepdims=True)
                                                    + np.float32(2) * x * np.float64(3))),
    "alpha": ("flat", lambda: Net(lambda m, x: torch.add(x, m.a(x), alpha=0.5).sub(x, alpha=3),
                                  a=nn.Linear(12, 12))),
    "sum-mean": ("image", lambda: Net(lambda m, x: x.sum(1) - x.mean(dim=1))),
    "cat": ("flat", lambda: Net(lambda m, x: torch.cat([x, m.a(x), x.relu()], dim=1),
                                a=nn.Linear(12, 5))),
    "cat-with-a-constant": ("flat", lambda: Net(lambda m, x: torch.cat(
        [x, torch.ones(len(x), 3, dtype=x.dtype)], -1))),
    "stack-with-a-constant": ("flat", lambda: Net(lambda m, x: torch.stack(
        [torch.ones_like(x), x, torch.zeros(len(x), 12, dtype=x.dtype)], -1))),
    "stack": ("flat", lambda: Net(lambda m, x: torch.stack([x, 2 * x - 1], 1))),
    "chunk-split": ("flat", lambda: Net(chunk_and_split)),
    "indexing": ("image", lambda: Net(lambda m, x: x[:, 0, ::2, [1, 3]] + x[..., 1:3][:, 1, ::2])),
    "select": ("image", lambda: Net(lambda m, x: x.select(1, 0) + x.narrow(1, 1, 1).squeeze(1)
                                    + torch.index_select(x, 1, torch.tensor([1]))[:, 0])),
    "indexing-by-tensors": ("image", lambda: Net(lambda m, x: x[:, torch.tensor([True, False])]
        + x[:, 1:, torch.arange(8, -1, -1)][..., None][..., 0])),
    "padding-modes": ("line", lambda: Net(lambda m, x: functional.pad(x, (2, 1), "reflect")
        + functional.pad(x, (1, 2), "replicate") + functional.pad(x, (3, 0), "circular")
        + functional.pad(x, (-1, 4), value=0.3))),
    "padding": ("image", lambda: nn.Sequential(nn.ZeroPad2d(1), nn.ConstantPad2d(2, 0.7),
                                               nn.ReflectionPad2d(1), nn.ReplicationPad2d(1),
                                               nn.CircularPad2d(2))),
    "pad-functional": ("flat", lambda: Net(lambda m, x: functional.pad(x, (1, 2), value=-1.0))),
    "upsample-nearest": ("image", lambda: nn.Upsample(scale_factor=2)),
    "upsample-bilinear": ("image", lambda: nn.Upsample(size=(7, 11), mode="bilinear")),
    "interpolate-functional": ("image", lambda: Net(lambda m, x: functional.interpolate(
        x, (12, 5)) + functional.interpolate(x, (12, 5), mode="bilinear", align_corners=True))),
    "upsample-1d-3d": ("cube", lambda: nn.Upsample(scale_factor=(1, 2, 0.5), mode="trilinear")),
    "interpolate": ("line", lambda: Net(lambda m, x: functional.interpolate(
        x, scale_factor=1.5, mode="linear", align_corners=True))),
    # What no entry of the table is for, as it is linear.
    "einsum": ("line", lambda: Net(lambda m, x: torch.einsum("bci,ji->bcj", x, m.a.weight),
                                   a=nn.Linear(16, 5))),
    "bmm": ("line", lambda: Net(lambda m, x: torch.bmm(
        x, m.a.weight.T.expand(len(x), -1, -1)), a=nn.Linear(16, 5))),
    "baddbmm": ("line", lambda: Net(lambda m, x: torch.baddbmm(
        x, m.a.weight.expand(len(x), -1, -1), x, alpha=0.5), a=nn.Linear(2, 2))),
    "tensordot": ("line", lambda: Net(lambda m, x: torch.tensordot(x, m.a.weight, ([2], [1])),
                                      a=nn.Linear(16, 5))),
    "gather": ("flat", lambda: Net(lambda m, x: x.gather(
        1, torch.tensor([[3, 1, 3, 0]]).expand(len(x), -1)))),
    "take-along": ("flat", lambda: Net(lambda m, x: x.take_along_dim(torch.tensor([[3, 1]]), 1))),
    "moved-and-repeated": ("flat", lambda: Net(lambda m, x: x.roll(3, 1) + x.cumsum(1) / 4
        + x.repeat(1, 2)[:, 6:18] + x.repeat_interleave(2, 1)[:, :12] + x.tile(1, 1))),
    "differences": ("line", lambda: Net(lambda m, x: x.diff(dim=2).flip([1, 2]) + x.rot90(
        2, (1, 2))[..., 1:])),
    "triangles": ("image", lambda: Net(lambda m, x: x.tril() - x.triu(1) + x.diagonal(
        0, 1, 2).mean(-1)[:, None, None])),
    "unfold": ("image", lambda: Net(lambda m, x: functional.unfold(x, 3, stride=2))),
    "unfold-of-an-axis": ("line", lambda: Net(lambda m, x: x.unfold(2, 4, 2).sum(-1))),
    "fold": ("line", lambda: Net(lambda m, x: functional.fold(
        x.reshape(len(x), 8, 4), (3, 3), (2, 2)))),
    "shuffles": ("line", lambda: Net(lambda m, x: functional.pixel_unshuffle(
        functional.channel_shuffle(functional.pixel_shuffle(x.view(-1, 8, 2, 2), 2), 2), 2))),
    "lerp": ("flat", lambda: Net(lambda m, x: torch.lerp(x, m.a(x), 0.3) + torch.addcmul(
        x, m.a.bias, m.a.bias) + torch.addcdiv(x, m.a.bias, m.a.bias + 9), a=nn.Linear(12, 12))),
    "index-add": ("flat", lambda: Net(lambda m, x: torch.zeros(
        len(x), 5, dtype=x.dtype).index_add(1, torch.arange(12) % 5, x, alpha=0.5))),
    "scatter": ("flat", lambda: Net(lambda m, x: x.scatter(
        1, torch.tensor([[2, 5]]).expand(len(x), -1), 0.5) + x.index_fill(1, torch.tensor(3), 1))),
    "masks": ("flat", lambda: Net(lambda m, x: torch.where(torch.arange(12) > 4, x, -0.3 * x)
        + x.masked_fill(torch.arange(12) % 2 == 0, 1.0))),
    "instance-norm-with-statistics": ("image", lambda: nn.InstanceNorm2d(
        2, affine=True, track_running_stats=True)),
    "sum-in-double": ("flat", lambda: Net(lambda m, x: x.sum(1, True, dtype=torch.float64) + x)),
    "slices-written": ("flat", lambda: Net(slices_written, a=nn.Linear(12, 5))),
    "constants-written": ("flat", lambda: Net(constants_written, a=nn.Linear(12, 5))),
    "views-written": ("image", lambda: Net(views_written, a=nn.Linear(8, 8))),
    "what-has-no-say": ("flat", lambda: Net(lambda m, x: x[:, :1].expand_as(x) + x.new_ones(3, 1)[0]
        + torch.zeros_like(x).flip(1) * x)),
    "threshold": ("flat", lambda: nn.Threshold(0.3, 0.3)),
    "largest": ("line", lambda: Net(lambda m, x: torch.cat([
        x.max(2)[0], x.min(dim=1, keepdim=True).values.flatten(1), torch.max(x, -1).values], 1))),
    "pool-with-indices": ("image", lambda: Net(lambda m, x: m.a(x)[0], a=nn.MaxPool2d(
        2, return_indices=True))),
    "adaptive-pool-with-indices": ("line", lambda: Net(lambda m, x: m.a(x)[0],
                                                       a=nn.AdaptiveMaxPool1d(3, True))),
    "norms": ("line", lambda: Net(lambda m, x: torch.cat([
        x.norm(p=1, dim=2), torch.linalg.vector_norm(x, 1, (1, 2))[:, None],
        torch.linalg.norm(x, torch.inf, dim=1), torch.norm(x, float("inf"), 2, True).flatten(1),
        torch.linalg.vector_norm(x, -torch.inf, dim=1)], 1))),
    "where": ("flat", lambda: Net(lambda m, x: torch.where(x > 0, x, 0.1 * x)
        + torch.where(x <= 0.2, 0.2, x) + m.a(x).where(m.a(x) >= x, x), a=nn.Linear(12, 12))),
    "where-rows": ("line", lambda: Net(lambda m, x: torch.where(
        x[:, :1] > 0, m.a.weight @ x[:, :1], 0.0), a=nn.Linear(1, 3))),
    "products-with-masks": ("flat", lambda: Net(lambda m, x: x * (x > 0) + (x < 0.5).double() * (
        1 - 2 * x) + (~x.lt(-0.3)).to(x.dtype) * (x + 0.3) + x.gt(0).type_as(x).mul(x))),
    "masks-written": ("flat", lambda: Net(masks_written)),
    "sorted": ("flat", lambda: Net(lambda m, x: torch.cat([
        x.sort(1).values, x[:, :7].sort(descending=True)[0]], 1))),
    "order-statistics": ("line", lambda: Net(lambda m, x: torch.cat([
        x.topk(3, -1)[0].flatten(1), x.topk(2, 2, largest=False).values.flatten(1),
        x.median(2).values, x.median(dim=1, keepdim=True)[0].flatten(1), x.kthvalue(5)[0]], 1))),
    "recurrent": ("line", lambda: nn.Sequential(Net(lambda m, x: m.a(x.transpose(1, 2))[0],
        a=nn.RNN(2, 3, 2, batch_first=True, bidirectional=True, nonlinearity="relu")))),
    "recurrent-cell": ("flat", lambda: Net(lambda m, x: m.a(x, m.a(x)),
                                           a=nn.RNNCell(12, 5, nonlinearity="relu"))),
    "constants-made-alike": ("flat", lambda: Net(lambda m, x: functional.relu(
        x * torch.ones(1).to(x) + torch.arange(12).type_as(x)))),
    "choices-of-numbers": ("flat", lambda: Net(lambda m, x: torch.where(
        x[:, 0] > 0, x[:, 0], 0.0)[:, None] + (x[:, 1] * (x[:, 1] > 0))[:, None] + m.a(x),
        a=nn.Linear(12, 3))),
    "choices-before-writing": ("flat", lambda: Net(written_behind_a_choice)),
    "checks": ("flat", lambda: Net(checks, a=nn.Linear(12, 5))),
    "residual": ("flat", lambda: Net(lambda m, x: m.act(x + m.b(m.act(m.a(x)))), a=nn.Linear(12, 9),
                                     b=nn.Linear(9, 12), act=nn.ReLU())),
    "dense": ("flat", lambda: Net(dense, a=nn.Linear(12, 4), b=nn.Linear(16, 4))),
}  # fmt: skip


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def written_behind_a_choice(m: nn.Module, x: Tensor) -> Tensor:
    h = x * 1.0
    above = h > 0
    h.neg_()
    return h * above


def masks_written(m: nn.Module, x: Tensor) -> Tensor:
    low, high = x.clone(), x.clone()
    low[low < 0] = 0
    high.masked_fill_(high > 0.5, 0.5)
    return low + 2 * high + x.masked_fill(x < -0.4, -0.4)


def in_place(m: nn.Module, x: Tensor) -> Tensor:
    out = m.a(x)
    out += x
    out *= 2.0
    out.add_(1.0)
    return out


def slices_written(m: nn.Module, x: Tensor) -> Tensor:
    out = x.clone()
    out[:, 2:7] = m.a(x)
    out[:, 0] = 0.5
    out[:, [1, 9]] *= 2
    out[:, 8:] += x[:, :4]
    return out


def constants_written(m: nn.Module, x: Tensor) -> Tensor:
    out = x.new_zeros(len(x), 8)
    out[:, :5] = m.a(x)
    out[:, 5:].fill_(0.3)
    out[..., 5] = x[:, 0]
    return out.masked_fill_(torch.arange(8) == 6, 0.1)


def views_written(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    first, rows = h[:, 0], h.flatten(2)[..., 5:40]
    h[:, :, :5].relu_()
    rows.mul_(2.0)  # of what ReLU has left
    h.add_(1.0)
    first[:, 2:4] = x[:, 1, :2]
    h.transpose(2, 3).clamp_(-0.7, 0.9)
    return torch.cat([h.flatten(1), rows.flatten(1), first.sum(1)], 1)


def buffers(m: nn.Module, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out += x
    out -= m.a.running_var
    return functional.dropout(out, 0.5, False).add_(x)


def own_buffer(m: nn.Module, x: Tensor) -> Tensor:
    m.a.running_mean += x[:, 0]
    return x


def chunk_and_split(m: nn.Module, x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    c, d = torch.split(x, [5, 7], 1)
    e = x.unsqueeze(2).unbind(2)[0]
    return torch.cat([a - b, c * 2, d, e, torch.tensor_split(x, 3, dim=1)[1]], 1)


def dense(m: nn.Module, x: Tensor) -> Tensor:
    x = torch.cat([x, m.a(x).relu()], 1)
    return torch.cat([x, m.b(x).relu()], 1)


@pytest.mark.parametrize("name", LAYERS)
def test_operation(name: str) -> None:
    """Alone; and between activations, so that what is behind and before it switches too."""
    kind, make = LAYERS[name]
    ends = paths(kind)
    check(randomised(make()), ends)
    layer = make()
    with torch.no_grad():
        size = randomised(layer)(ends[0]).flatten(1).shape[1]
    net = nn.Sequential(nn.LeakyReLU(0.3), layer, nn.ReLU(), nn.Flatten(), nn.Linear(size, 9),
                        nn.ReLU(), nn.Linear(9, 3))  # fmt: skip
    assert check(randomised(net, seed=1), ends).switches.min() >= 3


def test_reading_leaves_nothing_behind() -> None:
    """Not in a tensor that the module keeps and writes to, nor in its hooks."""

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept = torch.zeros(2, 12, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            self.kept[:, :5] = x[:, :5]
            return self.kept.relu()

    net = Keeps()
    assert len(read(net, torch.zeros(12)).operations) == 3
    assert type(net.kept) is Tensor and not vars(net.kept) and not net.kept.any()
    assert not net._forward_hooks and not net._forward_pre_hooks


@pytest.mark.parametrize("grid", ["fixed", "affine"])
def test_samples_on_a_grid(grid: str) -> None:
    """Of which PyTorch knows no second derivative: values are compared."""

    def sample(m: nn.Module, x: Tensor) -> Tensor:
        at = torch.linspace(-1.1, 0.9, 24, dtype=x.dtype).view(1, 3, 4, 2)
        if grid == "affine":
            at = functional.affine_grid(m.a.weight.view(1, 2, 3), [1, 2, 3, 4], False)
        at = at.expand(len(x), -1, -1, -1)
        return functional.grid_sample(x.relu(), at, align_corners=False)

    net = randomised(Net(sample, a=nn.Linear(3, 2)))
    x0, x1 = paths("image")
    traced = trace(net, (x0, x1))
    assert traced.switches.min() >= 3
    t = torch.linspace(0, 1, 37, dtype=torch.float64)
    for i in range(2):
        points = torch.lerp(x0[i], x1[i], t.view(-1, 1, 1, 1))
        torch.testing.assert_close(traced[i].at(t), net(points).flatten(1).detach())


@pytest.mark.parametrize(
    "between",
    [
        nn.Sequential(nn.AvgPool2d(3), nn.Flatten(), nn.Linear(36, 5)),
        nn.Sequential(nn.BatchNorm2d(4), Scale(-0.3), nn.Conv2d(4, 3, 3), nn.Flatten()),
        nn.Sequential(nn.AvgPool2d((1, 3)), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, groups=1)),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 3, 3)),  # windows that leave out a border
        nn.Sequential(nn.Dropout(), nn.AvgPool2d(3, divisor_override=2), nn.Conv2d(4, 3, 2)),
    ],
)
def test_what_stands_between_an_activation_and_a_layer(between: nn.Module) -> None:
    """Operations that only move and scale entries become part of the layer behind them."""
    net = randomised(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), between, nn.ReLU()))
    x0, x1 = torch.randn(2, 2, 2, 9, 9, generator=torch.Generator().manual_seed(0)).double()
    check(net, (x0, x1))


KINKS: dict[type[nn.Module], Callable[..., list[float]]] = {
    nn.ReLU: lambda m: [0.0],
    nn.LeakyReLU: lambda m: [0.0],
    nn.PReLU: lambda m: [0.0],
    nn.RReLU: lambda m: [0.0],
    nn.ReLU6: lambda m: [0.0, 6.0],
    nn.Hardtanh: lambda m: [m.min_val, m.max_val],
    nn.Softshrink: lambda m: [-m.lambd, m.lambd],
}


def chosen(pool: nn.Module, z: Tensor) -> Tensor:
    """Which entry of its channel is the largest of each window, as PyTorch says, (N, *out)."""
    axes = z.ndim - 2
    if "Adaptive" in type(pool).__name__:
        function = getattr(functional, f"adaptive_max_pool{axes}d")
        return function(z, pool.output_size, return_indices=True)[1]
    return getattr(functional, f"max_pool{axes}d")(
        z, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, True
    )[1]


def changes(layer: nn.Module, z: Tensor) -> Tensor:
    """Which units of an activation or a pooling switch between one row of its input and the next.

    A window switches if another entry is the largest, and the two are equal in neither row.
    """
    if "Pool" not in type(layer).__name__:
        level = sum((z > kink).long() for kink in KINKS[type(layer)](layer)).flatten(1)
        return level[1:] != level[:-1]
    entry = chosen(layer, z).flatten(2)
    z = z.flatten(2)
    was, now = entry[:-1], entry[1:]
    behind, before = (z[:-1].gather(2, was) - z[:-1].gather(2, now),
                      z[1:].gather(2, now) - z[1:].gather(2, was))  # fmt: skip
    return ((behind > 1e-13) & (before > 1e-13)).flatten(1)


def check_switches(net: nn.Module, traced: Trace, ends: tuple[Tensor, Tensor]) -> int:
    """Neighbouring pieces differ in exactly the units that the trace names; how many it names."""
    taken: dict[str, tuple[nn.Module, Tensor]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor]) -> None:
            use, number = name, 1
            while use in taken:
                use, number = f"{name}:{number + 1}", number + 1
            taken[use] = module, args[0].clone()

        return hook

    handles = [
        m.register_forward_pre_hook(note(name)) for name, m in net.named_modules()
        if type(m) in KINKS or "MaxPool" in type(m).__name__
    ]  # fmt: skip
    for i in range(len(ends[0])):
        path = traced[i]
        keep = ((path.piece_end - path.piece_start) > 1e-9).nonzero().flatten()
        middle = ((path.piece_start + path.piece_end) / 2)[keep]
        taken.clear()
        with torch.no_grad():
            net(ends[0][i] + middle.view(-1, *[1] * (ends[0].ndim - 1)) * (ends[1] - ends[0])[i])
        assert list(taken) == list(traced.layers)
        # Behind which long piece each switch stands, and the next one behind it.
        listed = torch.bucketize(torch.arange(len(path.t)), keep, right=True) - 1
        for number, (module, z) in enumerate(taken.values()):
            rows, units = changes(module, z).nonzero(as_tuple=True)
            here = path.layer == number
            assert sorted(zip(listed[here].tolist(), path.unit[here].tolist())) == sorted(
                zip(rows.tolist(), units.tolist())
            ), (i, traced.layers[number])
    for handle in handles:
        handle.remove()
    return len(traced.t)


def behind(*layers: nn.Module, channels: int = 4, shape: tuple[int, ...] = (2, 9, 8)) -> nn.Module:
    """Layers behind a convolution and in front of an activation and a linear layer."""
    conv = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 1]
    first = conv(shape[0], channels) if len(shape) == 1 else conv(shape[0], channels, 3, padding=1)
    net = nn.Sequential(first, *layers, nn.Flatten()).eval()
    with torch.no_grad():
        size = net(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(*net, nn.Linear(size, 8), nn.ReLU(), nn.Linear(8, 2))


SWITCHING: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "relu": ("flat", lambda: behind(nn.ReLU(), channels=20, shape=(12,))),
    "relu-inplace": ("image", lambda: behind(nn.ReLU(inplace=True))),
    "leaky-relu": ("line", lambda: behind(nn.LeakyReLU(0.2, inplace=True), shape=(2, 16))),
    "prelu": ("image", lambda: behind(nn.PReLU(4))),
    "rrelu": ("image", lambda: behind(nn.RReLU())),
    "relu6": ("flat", lambda: behind(Scale(6.0), nn.ReLU6(), channels=20, shape=(12,))),
    "hardtanh": ("cube", lambda: behind(nn.Hardtanh(-0.5, 0.7), shape=(2, 5, 4, 6))),
    "softshrink": ("image", lambda: behind(nn.Softshrink(0.3))),
    "max-pool1d": ("line", lambda: behind(nn.MaxPool1d(3, 2, 1, ceil_mode=True), shape=(2, 16))),
    "max-pool2d-overlapping": ("image", lambda: behind(nn.MaxPool2d(3, 1, 1))),
    "max-pool2d-dilation": ("image", lambda: behind(
        nn.MaxPool2d(2, 3, dilation=2, ceil_mode=True))),
    "max-pool2d-with-ties": ("image", lambda: behind(nn.ReLU(), nn.MaxPool2d(3, 2, 1))),
    "max-pool3d": ("cube", lambda: behind(nn.MaxPool3d((2, 1, 2)), shape=(2, 5, 4, 6))),
    "adaptive-max-pool1d": ("line", lambda: behind(nn.AdaptiveMaxPool1d(5), shape=(2, 16))),
    "adaptive-max-pool2d": ("image", lambda: behind(nn.AdaptiveMaxPool2d((4, None)))),
    "adaptive-max-pool3d": ("cube", lambda: behind(nn.ReLU(), nn.AdaptiveMaxPool3d(2),
                                                   shape=(2, 5, 4, 6))),
    "batch-norm-and-average": ("image", lambda: behind(nn.BatchNorm2d(4), nn.ReLU(),
                                                       nn.AvgPool2d((3, 2)),
                                                       nn.Hardtanh(0.2, 0.6))),
}  # fmt: skip


@pytest.mark.parametrize("name", SWITCHING)
def test_switches_are_those_of_the_activations(name: str) -> None:
    """Also the names of the layers, and that nothing else switches in between."""
    kind, make = SWITCHING[name]
    net, ends = randomised(make()), paths(kind, 1 if kind == "cube" else 2)
    assert check_switches(net, check(net, ends, 20_001), ends) >= 10


def test_switches_of_reused_and_nested_activations() -> None:
    block = Net(lambda m, x: m.act(x + m.b(m.act(m.a(x)))), a=nn.Linear(9, 14), b=nn.Linear(14, 9),
                act=nn.ReLU())  # fmt: skip
    net = randomised(nn.Sequential(nn.Linear(12, 9), nn.ReLU(), block, block, nn.Linear(9, 2)))
    ends = paths("flat", 4)
    traced = check(net, ends)
    assert traced.layers == ("1", "2.act", "2.act:2", "2.act:3", "2.act:4")
    assert check_switches(net, traced, ends) > 30


def test_hard_sigmoid() -> None:
    """By itself, as PyTorch's derivative of it has single precision."""
    net = randomised(nn.Sequential(nn.Linear(12, 8), Scale(5.0), nn.Hardsigmoid()))
    x0, x1 = paths("flat", 1)
    traced, grid = trace(net, (x0, x1)), torch.linspace(0, 1, 20_001, dtype=torch.float64)
    assert len(traced.t) >= 5
    assert (traced.at(grid) - net(x0 + grid[:, None] * (x1 - x0))).abs().max() <= 1e-12


def test_names_of_functions_and_reused_modules() -> None:
    inner = Net(lambda m, x: functional.relu(x) + m.act(x - 1) + m.act(x + 1), act=nn.ReLU())
    net = nn.Sequential(nn.Linear(12, 4), Net(lambda m, x: m.inner(x).relu().relu(), inner=inner))
    traced = trace(randomised(net), paths("flat"))
    assert traced.layers == ("1.inner.relu", "1.inner.act", "1.inner.act:2", "1.relu", "1.relu:2")


def test_program_prints_one_operation_a_line() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    )
    program = read(Net(lambda m, x: m.net(x) + m.short(x.flatten(1)), net=net,
                       short=nn.Linear(36, 3)), torch.zeros(1, 6, 6))  # fmt: skip
    assert repr(program).splitlines() == [
        "Program of 8 operations, 40 hidden units",
        "   in           1x6x6",
        "    1  net.0    2x4x4  conv2d",
        "    2  net.1    2x4x4  relu",
        "    3  net.2    2x2x2  max_pool2d",
        "    4  net.3        8  flatten",
        "    5  net.4        3  linear",
        "    6  flatten     36  flatten(in)",
        "    7  short        3  linear",
        "    8  add          3  add(5, 7)",
    ]


def test_the_module_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    trace(net, paths("flat"))
    with pytest.raises(InputError):
        trace(nn.Sequential(net, nn.GELU()), paths("flat"))
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype
               for k, v in net.state_dict().items())  # fmt: skip
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert not module_hooks._global_forward_hooks and not module_hooks._global_forward_pre_hooks


def test_functions_are_named_after_the_module_that_calls_them() -> None:
    block = Net(lambda m, x: functional.leaky_relu(functional.relu(m.a(x)).relu() - 1, 0.1),
                a=nn.Linear(12, 4))  # fmt: skip
    pad = nn.Conv1d(1, 1, 3, padding=1, padding_mode="reflect")
    net = Net(lambda m, x: torch.maximum(m.pad(m.block1(x)[:, None]), x[:, None, :4]).relu(),
              block1=block, pad=pad)  # fmt: skip
    assert trace(randomised(net), paths("flat")).layers == (
        "block1.relu", "block1.relu:2", "block1.leaky_relu", "maximum", "relu"
    )  # fmt: skip


def test_parametrized_modules_have_their_own_names() -> None:
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(12, 4)), nn.ReLU())
    assert [o.name for o in read(net, torch.zeros(12)).operations] == ["0", "1"]


def branch(m: nn.Module, x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def goes_on(m: nn.Module, x: Tensor) -> Tensor:
    try:
        assert (x > 0).all()
    except AssertionError:
        x = -x
    return x if (x > 0).all() else 2 * x


class Lazy(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "gelu": (lambda: nn.Sequential(nn.Linear(12, 3), nn.GELU()),
             r"layer '1' \(GELU\) calls gelu, which is not piecewise linear"),
    "tanh-nested": (lambda: nn.Sequential(nn.Sequential(nn.Identity(), nn.Tanh())),
                    r"layer '0.1' \(Tanh\) calls tanh"),
    "softmax": (lambda: nn.Softmax(1), r"Softmax calls softmax, which is not piecewise linear"),
    "sigmoid-function": (lambda: Net(lambda m, x: torch.sigmoid(x)), r"Net calls sigmoid"),
    "layer-norm": (lambda: nn.Sequential(nn.LayerNorm(12)),
                   r"layer '0' \(LayerNorm\) calls layer_norm, which divides by a deviation"),
    "group-norm": (lambda: nn.GroupNorm(3, 12), "GroupNorm calls group_norm, which divides"),
    "product": (lambda: Net(lambda m, x: x * x), "multiplies two branches"),
    "matrix-product": (lambda: Net(lambda m, x: x @ x.mT), "first axis"),
    "power": (lambda: Net(lambda m, x: x**2), "calls pow, which is not piecewise linear"),
    "quotient": (lambda: Net(lambda m, x: x / x.sum(1, keepdim=True)), "divides by what it comp"),
    "reciprocal": (lambda: Net(lambda m, x: 1 / x), "divides by what it comp|calls r"),
    "norm-in-training": (lambda: nn.Sequential(nn.BatchNorm1d(12)).train(),
                         r"layer '0' \(BatchNorm1d\) normalises by the statistics of the batch"),
    "norm-without-statistics": (lambda: nn.BatchNorm1d(12, track_running_stats=False),
                                "normalises by the statistics of the batch"),
    "dropout-in-training": (lambda: nn.Sequential(nn.Dropout()).train(),
                            r"layer '0' \(Dropout\) is dropout in training mode.*net.eval\(\)"),
    "branching": (lambda: Net(branch), "decides by .*data-dependent"),
    "branching-on-a-sample": (lambda: Net(lambda m, x: x if bool(x[0, 0] > 0) else -x),
                              "decides by .*data-dependent"),
    "comparison": (lambda: Net(lambda m, x: (x > 0) * (x + 1)), "chooses between two branches"),
    "comparison-alone": (lambda: Net(lambda m, x: (x > 0).double()), "compares what it computes"),
    "where": (lambda: Net(lambda m, x: torch.where(x > 0, 1.0, -x)), "chooses between two"),
    "where-of-indices": (lambda: Net(lambda m, x: torch.where(x.argmax(1, True) > 1, x, 0 * x)),
                         "calls argmax"),
    "bool": (lambda: Net(lambda m, x: x if x.any() else -x), "decides by .*data-dependent"),
    "threshold": (lambda: Net(lambda m, x: functional.threshold(x, 1.0, 0.0)),
                  "a value other than its threshold"),
    "norm": (lambda: Net(lambda m, x: x.norm(dim=1)), "unless p is 1 or inf"),
    "matrix-norm": (lambda: Net(lambda m, x: torch.linalg.norm(x.view(-1, 3, 4), 1, (1, 2))),
                    "use linalg.vector_norm"),
    "check-that-goes-on": (lambda: Net(goes_on), "decides by"),
    "topk-unsorted": (lambda: Net(lambda m, x: x.topk(2, sorted=False)[0]), "use sorted=True"),
    "recurrent-last": (lambda: nn.Sequential(
        nn.Unflatten(1, (4, 3)),
        Net(lambda m, x: m.a(x)[1][0], a=nn.RNN(3, 2, batch_first=True, nonlinearity="relu"))),
        "samples on the second axis"),
    "item": (lambda: Net(lambda m, x: x * x.max().item()), "over all axes|calls item"),
    "sort": (lambda: Net(lambda m, x: x.sort(1).indices.double()), "uses indices"),
    "max-with-indices": (lambda: Net(lambda m, x: x.max(1).indices.double()), "uses indices"),
    "pool-with-indices": (lambda: nn.Sequential(nn.Unflatten(1, (1, 12)),
                                                Net(lambda m, x: m.a(x)[1].double(), a=nn.MaxPool1d(
                                                    2, return_indices=True))),
                          "uses indices"),
    "sign": (lambda: Net(lambda m, x: x.sign()), "calls sign, which is not continuous"),
    "batch-permuted": (lambda: Net(lambda m, x: x.permute(1, 0)), "first axis"),
    "batch-mean": (lambda: Net(lambda m, x: x - x.mean(0)), "first axis"),
    "total": (lambda: Net(lambda m, x: x.sum()), "first axis"),
    "batch-index": (lambda: Net(lambda m, x: x[0]), "first axis"),
    "batch-cat": (lambda: Net(lambda m, x: torch.cat([x, x])), "first axis"),
    "batch-in-reshape": (lambda: Net(lambda m, x: x.reshape(-1, 3)), "first axis"),
    "batch-dependent": (lambda: Net(lambda m, x: x + torch.arange(2.0, dtype=x.dtype)[:, None]),
                        "a constant that differs from sample to sample"),
    "cast": (lambda: Net(lambda m, x: x.float()), "moves what it computes from torch.float64"),
    "lstm": (lambda: nn.Sequential(nn.Unflatten(1, (3, 4)), nn.LSTM(4, 2, batch_first=True)),
             "got 2 outputs; choose one by output=0"),
    "lstm-output": (lambda: Net(lambda m, x: m.a(x[:, None])[0],
                                 a=nn.LSTM(12, 2, batch_first=True)),
                    r"layer 'a' \(LSTM\) calls lstm, which is not piecewise linear"),
    "attention": (lambda: Net(lambda m, x: m.a(x[:, None], x[:, None], x[:, None])[0],
                              a=nn.MultiheadAttention(12, 1)), "layer 'a'"),
    "script-inside": (lambda: nn.Sequential(nn.Linear(12, 3), torch.jit.script(nn.ReLU())),
                      r"layer '1' \(RecursiveScriptModule\) is TorchScript"),
    "own-buffer": (lambda: Net(own_buffer, a=nn.BatchNorm1d(12)), "changes a parameter or buffer"),
    "remainder": (lambda: Net(lambda m, x: x % 2), "calls remainder, which is not continuous"),
    "complex": (lambda: Net(lambda m, x: (x * 1j).real), "combines its input with a complex"),
    "not-finite": (lambda: Net(lambda m, x: x * float("inf")), "constant that is not finite"),
    "division-by-zero": (lambda: Net(lambda m, x: x / 0), "divides by zero"),
    "bits": (lambda: Net(lambda m, x: x.view(torch.int64)), "reads the bits of its input"),
    "property": (lambda: Net(lambda m, x: x.real), "takes .real of its input"),
    "index-that-moves-axes": (lambda: Net(lambda m, x: x.view(-1, 2, 2, 3)[:, [0, 1], :, [0, 2]]),
                              "first axis"),
    "axes-that-differ": (lambda: Net(lambda m, x: x[:, :2, None].expand(-1, 2, 2) + x[:, :2]),
                         "adds branches with different numbers of axes"),
    "keyword": (lambda: Net(lambda m, x: functional.relu(x, slope=1)), "calls relu|TypeError"),
    "einsum-of-two-branches": (lambda: Net(lambda m, x: torch.einsum("bi,bj->bij", x, x).sum(1)),
                               "calls einsum, a product of two branches"),
    "grid-of-the-input": (lambda: Net(lambda m, x: functional.grid_sample(
        x.view(-1, 1, 4, 3), x[:, :8].reshape(-1, 2, 2, 2), align_corners=False)),
        "calls grid_sample, which is not linear in what the network computes"),
    "samples-summed-into": (lambda: Net(lambda m, x: x.index_add(0, torch.tensor([0, 0]), x)),
                            "first axis"),
    "threshold-far-away": (lambda: Net(lambda m, x: functional.hardshrink(x, 1e6)),
                           "calls hardshrink, which is not continuous"),
    "threshold-nearby": (lambda: Net(lambda m, x: functional.hardshrink(x, 1e-6)),
                         "calls hardshrink, which is not continuous"),
    "mask-far-away": (lambda: Net(lambda m, x: torch.where(x > 1e6, 2 * x, x)), "chooses between"),
    "flipped-samples": (lambda: Net(lambda m, x: x.flip(0)), "first axis"),
    "sorted-samples": (lambda: Net(lambda m, x: x.msort()), "mixes the samples|nor among"),
    "rolled-over-samples": (lambda: Net(lambda m, x: x.roll(1)), "first axis"),
    "in-place-broadcast": (lambda: Net(lambda m, x: x[:, :1].clone().add_(x)),
                           "calls add_, whose result has another shape"),
    "empty-window": (lambda: nn.Sequential(nn.Unflatten(1, (6, 2)),
                                           nn.MaxPool1d(2, 1, padding=1, dilation=3)),
                     r"layer '1' \(MaxPool1d\) has a window of padding alone"),
    "mask": (lambda: Net(lambda m, x: x.masked_fill(x > 0, 1.0)), "chooses between"),
    "index-by-values": (lambda: Net(lambda m, x: m.a.weight[x.argmax(1)], a=nn.Linear(3, 12)),
                        "calls argmax: .*data-dependent"),
    "numpy": (lambda: Net(lambda m, x: torch.from_numpy(np.asarray(x))), "calls array"),
    "batch-random": (lambda: Net(lambda m, x: x + torch.rand(len(x), 1, dtype=x.dtype)),
                     "differs from sample to sample"),
    "unknown": (lambda: Net(lambda m, x: torch.fft.rfft(x).real),
                "calls fft_rfft, which returns torch.complex128; replace it"),
    "several-outputs": (Lazy, r"got 2 outputs; choose one by output=0"),
    "constant-output": (lambda: Net(lambda m, x: torch.zeros(2, 3)), "does not depend on it"),
    "lazy": (lambda: nn.LazyLinear(3), "lazy layer has not seen an input"),
    "own-error": (lambda: Net(lambda m, x: x.no_such_thing()), "AttributeError: .*no_such_thing"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name: str) -> None:
    make, message = REFUSED[name]
    net = make()
    if not name.endswith("in-training"):
        net.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=message) as refusal:
            trace(net, paths("flat"))
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


def test_refuses_what_is_no_network() -> None:
    with pytest.raises(InputError, match=r"must be a torch\.nn\.Module, got function"):
        trace(lambda x: x, paths("flat"))  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Linear(12, 3))
    with pytest.raises(InputError, match="got a TorchScript module"):
        trace(scripted, paths("flat"))
    with pytest.raises(InputError, match="on the device meta, which holds none"):
        trace(nn.Linear(12, 3, device="meta"), paths("flat"))
    mixed = nn.Sequential(nn.Linear(12, 3), nn.Linear(3, 3, device="meta"))
    with pytest.raises(InputError, match="on one device, but its parameters are on cpu, meta"):
        trace(mixed, paths("flat"))


def test_a_float32_network_is_traced_in_double_precision() -> None:
    net = mlp(12, 50, 50, 3, seed=0)
    double = mlp(12, 50, 50, 3, seed=0)
    double.load_state_dict(net.state_dict())
    traced, exact = trace(net, paths("flat")), trace(double.double(), paths("flat"))
    assert traced.t.dtype == torch.float64
    assert torch.equal(traced.t, exact.t)
    assert net[0].weight.dtype == torch.float32


def test_columns_of_a_convolution_are_its_answer_to_impulses() -> None:
    random = torch.Generator().manual_seed(0)
    for options in ({}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 3, "groups": 2},
                    {"padding": "same", "kernel_size": 4}, {"stride": 3, "groups": 4}):  # fmt: skip
        conv = nn.Conv2d(4, 8, **({"kernel_size": 3} | options)).double()
        operation = read(conv, torch.zeros(4, 9, 8)).operations[0]
        unit = torch.randint(0, math.prod((4, 9, 8)), (40,), generator=random)
        impulses = torch.eye(288, dtype=torch.float64)[unit].view(-1, 4, 9, 8)
        with torch.no_grad():
            expected = nn.functional.conv2d(impulses, conv.weight, None, conv.stride, conv.padding,
                                            conv.dilation, conv.groups)  # fmt: skip
        assert torch.allclose(operation.columns(unit), expected)


def test_networks_that_do_not_fit_their_paths() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU())
    with pytest.raises(
        InputError, match=r"of shape \(12,\) with RuntimeError.*layer '0' \(Linear\)"
    ):
        trace(net, paths("flat"))
    x0, x1 = paths("flat")
    with pytest.raises(InputError, match="must hold numbers of a floating type, got int64"):
        trace(net, (x0.long(), x1.long()))
    with pytest.raises(InputError, match=r"array of real numbers, got Tensor of torch\.complex"):
        trace(net, (x0 + 0j, x1 + 0j))
    with pytest.raises(InputError, match="got a tensor on the device meta"):
        trace(net, (x0.to("meta"), x1.to("meta")))
    net[0].weight.data[1, 2] = torch.nan
    with pytest.raises(InputError, match=r"net\.0\.weight must be finite"):
        trace(net, paths("flat"))
    buffered = nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4, device="meta")).eval()
    with pytest.raises(InputError, match="on one device, but its parameters are on cpu, meta"):
        trace(buffered, paths("flat"))


def test_a_program_can_be_used_instead_of_its_network() -> None:
    net, ends = randomised(behind(nn.ReLU(), nn.MaxPool2d(2))), paths("image")
    program = read(net, ends[0][0])
    for _ in range(2):
        again, traced = trace(program, ends), trace(net, ends)
        assert torch.equal(again.t, traced.t) and torch.equal(again.slopes, traced.slopes)
    with pytest.raises(InputError, match="the program was read with"):
        trace(program, paths("flat"))


@pytest.mark.parametrize("name", ["relu", "max-pool2d-overlapping", "hardtanh", "softshrink"])
def test_single_precision(name: str) -> None:
    kind, make = SWITCHING[name]
    net, ends = randomised(make()), paths(kind, 1)
    exact, traced = trace(net, ends), trace(net, ends, dtype=torch.float32)
    assert traced.slopes.dtype == torch.float32
    t = torch.linspace(0, 1, 501)
    error = traced.at(t).double() - exact.at(t.double())
    assert error.abs().max() <= 1e-4 * exact.values.abs().max()
    assert next(net.parameters()).dtype == torch.float64
