"""`trace` against brute force, closed forms and its own symmetries."""

import copy
import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from implreg.errors import InputError
from implreg.networks import Initialisation, mlp
from implreg.tracing import Interrupted, Part, Trace, polyline, read, trace
from implreg.tracing.refine import Refiner

BIASED = Initialisation(sigma_b=0.5)


def random_paths(count: int, inputs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, count, inputs, generator=random, dtype=torch.float64)
    return x0, x1


def linear_layers(net: nn.Module) -> list[nn.Linear]:
    return [module for module in net.modules() if isinstance(module, nn.Linear)]


def pre_activations(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Hidden pre-activations of the points x, layer by layer, straight from the weights."""
    found = []
    for layer in linear_layers(net)[:-1]:
        z = x @ layer.weight.T.double() + layer.bias.double()
        found.append(z)
        x = z.clamp(min=0)
    return found


def brute_force(
    net: nn.Module, x0: Tensor, x1: Tensor, samples: int
) -> list[tuple[float, int, int]]:
    """(t, layer, unit) of every switch: even samples, then bisection of every sign change."""
    grid = torch.linspace(0, 1, samples + 1, dtype=torch.float64)
    found: list[tuple[float, int, int]] = []
    before: list[Tensor] | None = None
    for chunk in grid.split(2**14):
        signs = [z > 0 for z in pre_activations(net, x0 + chunk[:, None] * (x1 - x0))]
        start = int((chunk[0] * samples).round())
        for layer, on in enumerate(signs):
            rows = on if before is None else torch.cat([before[layer], on])
            shift = start if before is None else start - 1
            for row, unit in (rows[1:] != rows[:-1]).nonzero().tolist():
                found.append((float(grid[row + shift]), layer, unit))
        before = [on[-1:] for on in signs]

    low = torch.tensor([t for t, _, _ in found], dtype=torch.float64)
    high = low + 1 / samples
    rows = torch.arange(len(found))
    layers = torch.tensor([layer for _, layer, _ in found])
    units = torch.tensor([unit for _, _, unit in found])

    def sign(t: Tensor) -> Tensor:
        stacked = torch.stack(pre_activations(net, x0 + t[:, None] * (x1 - x0)))
        return stacked[layers, rows, units] > 0

    at_low = sign(low)
    for _ in range(60):
        middle = (low + high) / 2
        same = sign(middle) == at_low
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return sorted(zip(((low + high) / 2).tolist(), layers.tolist(), units.tolist(), strict=True))


def jacobian_slope(net: nn.Module, x: Tensor, direction: Tensor) -> Tensor:
    """J D at the points x, layer by layer."""
    way = direction.expand(len(x), -1)
    layers = linear_layers(net)
    for layer in layers[:-1]:
        z = x @ layer.weight.T.double() + layer.bias.double()
        way = (way @ layer.weight.T.double()) * (z > 0)
        x = z.clamp(min=0)
    return way @ layers[-1].weight.T.double()


def test_trace_equals_brute_force() -> None:
    net = mlp(64, 64, 64, 1, seed=0, initialisation=BIASED, dtype=torch.float64)
    x0, x1 = random_paths(8, 64)
    traced = trace(net, (x0, x1))
    for i in range(8):
        expected = brute_force(net, x0[i], x1[i], samples=2**18)
        path = traced[i]
        assert list(zip(path.layer.tolist(), path.unit.tolist(), strict=True)) == [
            (layer, unit) for _, layer, unit in expected
        ]
        error = path.t - torch.tensor([t for t, _, _ in expected], dtype=torch.float64)
        assert error.abs().max() <= 1e-12

        middles = (path.piece_start + path.piece_end) / 2
        points = x0[i] + middles[:, None] * (x1[i] - x0[i])
        slopes = jacobian_slope(net, points, x1[i] - x0[i])
        assert ((path.slopes - slopes).abs() <= 1e-10 * slopes.abs()).all()


sizes = st.lists(st.integers(1, 12), min_size=3, max_size=5)
seeds = st.integers(0, 2**31)


def same(a: Tensor, b: Tensor, scale: float = 1.0) -> None:
    assert torch.allclose(a, b, rtol=1e-9, atol=1e-9 * scale), (a - b).abs().max()


def same_trace(a: Trace, b: Trace, scale: float = 1.0) -> None:
    """The same switches of the same units, and the same outputs and slopes between them.

    Switches at one t may trade places: then their gaps differ, but not what these add up to.
    """
    units = [sorted(zip(x.path.tolist(), x.layer.tolist(), x.unit.tolist(), x.t.tolist()))
             for x in (a, b)]  # fmt: skip
    assert [key[:3] for key in units[0]] == [key[:3] for key in units[1]]
    same(*(torch.tensor([key[3] for key in keys], dtype=torch.float64) for keys in units))
    same(a.ends, b.ends, scale)
    same(a.lengths, b.lengths)
    wide = a.piece_end - a.piece_start > 1e-8
    middle, path = ((a.piece_start + a.piece_end) / 2)[wide], a.piece_path[wide]
    for i in range(len(a)):
        here = middle[path == i]
        piece = torch.searchsorted(b[i].piece_start, here, right=True) - 1
        same(a.slopes[wide][path == i], b[i].slopes[piece], scale)
        same(a.at(here, i), b.at(here, i), scale)


def backwards(one: Trace) -> Trace:
    """The trace of a straight path as that of the way back."""
    return dataclasses.replace(
        one, t=1 - one.t.flip(0), layer=one.layer.flip(0), unit=one.unit.flip(0),
        gaps=one.gaps.flip(0), piece_start=1 - one.piece_end.flip(0), slopes=-one.slopes.flip(0),
        values=torch.cat([one.values[1:], one.ends]).flip(0), ends=one.values[:1],
    )  # fmt: skip


def size(traced: Trace) -> float:
    """How large its slopes and values are."""
    return float(max(traced.slopes.abs().max(), traced.values.abs().max()))


def times(factor: float, one: Trace) -> Trace:
    """The trace of a network whose outputs are multiplied by a factor."""
    grown = {k: factor * getattr(one, k) for k in ("gaps", "slopes", "values", "ends")}
    return dataclasses.replace(one, **grown)


def check_consistent(traced: Trace) -> None:
    """Gaps are the jumps of the slope, and slopes integrate to the values."""
    for i in range(len(traced)):
        path = traced[i]
        same(path.slopes.diff(dim=0), path.gaps)
        lengths = (path.piece_end - path.piece_start)[:, None]
        ends = torch.cat([path.values[1:], path.ends])
        same(path.values + path.slopes * lengths, ends)
        assert (path.t.diff() >= 0).all()


@settings(max_examples=40)
@given(sizes=sizes, seed=seeds)
def test_gaps_are_jumps_and_slopes_integrate(sizes: list[int], seed: int) -> None:
    net = mlp(*sizes, seed=seed, initialisation=BIASED)
    check_consistent(trace(net, random_paths(3, sizes[0], seed)))


@settings(max_examples=30)
@given(sizes=sizes, seed=seeds)
def test_reversal(sizes: list[int], seed: int) -> None:
    net = mlp(*sizes, seed=seed, initialisation=BIASED)
    x0, x1 = random_paths(1, sizes[0], seed)
    same_trace(backwards(trace(net, (x1, x0))), trace(net, (x0, x1)))


@settings(max_examples=30)
@given(sizes=sizes, seed=seeds, split=st.floats(0.1, 0.9))
def test_subdivision(sizes: list[int], seed: int, split: float) -> None:
    net = mlp(*sizes, seed=seed, initialisation=BIASED)
    x0, x1 = random_paths(1, sizes[0], seed)
    middle = x0 + split * (x1 - x0)
    whole = trace(net, (x0, x1)).per_unit_length()
    parts = trace(net, (torch.cat([x0, middle]), torch.cat([middle, x1]))).per_unit_length()
    joined = torch.cat([parts[0].t * split, split + parts[1].t * (1 - split)])
    same(joined, whole.t)
    same(parts.gaps, whole.gaps)


@settings(max_examples=30)
@given(sizes=sizes, seed=seeds, scale=st.floats(0.1, 10))
def test_scaling_of_inputs_and_outputs(sizes: list[int], seed: int, scale: float) -> None:
    net = mlp(*sizes, seed=seed)
    x0, x1 = random_paths(2, sizes[0], seed)
    x1 = x0 + 0.1 * x1  # in one dimension too, a path rarely meets the origin
    plain, scaled = trace(net, (x0, x1)), trace(net, (scale * x0, scale * x1))
    grown = times(scale, plain)
    same_trace(scaled, dataclasses.replace(grown, lengths=scale * grown.lengths), scale)
    net[-1].weight.data.mul_(2)
    same_trace(trace(net, (x0, x1)), times(2, plain))


@settings(max_examples=30)
@given(width=st.integers(2, 20), seed=seeds)
def test_permutation_of_units(width: int, seed: int) -> None:
    net = mlp(5, width, width, 2, seed=seed, initialisation=BIASED)
    x = random_paths(2, 5, seed)
    plain = trace(net, x)
    order = torch.randperm(width, generator=torch.Generator().manual_seed(seed))
    net[0].weight.data, net[0].bias.data = net[0].weight[order].data, net[0].bias[order].data
    net[2].weight.data = net[2].weight[:, order].data
    permuted = trace(net, x)
    unit = torch.where(permuted.layer == 0, order[permuted.unit], permuted.unit)
    same_trace(dataclasses.replace(permuted, unit=unit), plain)


@settings(max_examples=20)
@given(sizes=sizes, seed=seeds, memory=st.sampled_from([20_000, 100_000, "1GB"]))
def test_batch_equals_single_whatever_the_memory(sizes: list[int], seed: int, memory: int) -> None:
    net = mlp(*sizes, seed=seed, initialisation=BIASED)
    x0, x1 = random_paths(5, sizes[0], seed)
    batch = trace(net, (x0, x1), memory=memory)
    for i in range(5):
        same_trace(batch[i], trace(net, (x0[i : i + 1], x1[i : i + 1])))
    assert torch.equal(batch.piece_path, torch.repeat_interleave(batch.switches + 1))


def hand_made(w1: list[float], b1: list[float], w2: list[float]) -> nn.Sequential:
    net = mlp(1, len(w1), 1, seed=0, dtype=torch.float64)
    net[0].weight.data = torch.tensor(w1, dtype=torch.float64)[:, None]
    net[0].bias.data = torch.tensor(b1, dtype=torch.float64)
    net[2].weight.data = torch.tensor(w2, dtype=torch.float64)[None]
    return net


UNIT_PATH = (torch.zeros(1, 1), torch.ones(1, 1))


def test_identical_units_switch_together_and_keep_their_own_gaps() -> None:
    traced = trace(hand_made([2, 2, 1], [-1, -1, 1], [1, 3, 5]), UNIT_PATH)
    assert traced.t.tolist() == [0.5, 0.5]
    assert traced.gaps.flatten().tolist() == [2.0, 6.0]
    assert traced.slopes.flatten().tolist() == [5.0, 7.0, 13.0]


def test_zero_at_an_end_is_no_switch() -> None:
    traced = trace(hand_made([1, -1, 1, -1], [0, 0, -1, 1], [1, 2, 4, 8]), UNIT_PATH)
    assert len(traced.t) == 0
    assert traced.slopes.flatten().tolist() == [1.0 - 8.0]


def test_dead_network_has_one_flat_piece() -> None:
    traced = trace(hand_made([0, -1], [0, -1], [1, 1]), UNIT_PATH)
    assert len(traced.t) == 0
    assert traced.slopes.flatten().tolist() == [0.0]


@pytest.mark.parametrize(
    ("second", "switches", "slopes"),
    [
        # z = |2t-1| touches zero at t = 1/2: the slope jumps there, but by the first layer's gaps.
        ([1.0, 1.0], [(0, 0), (0, 1)], [-2.0, 2.0]),
        # z = relu(1-2t) is zero on the whole second half: the unit switches nowhere.
        ([0.0, 1.0], [(0, 0), (0, 1)], [-2.0, 0.0]),
    ],
)
def test_touching_zero(
    second: list[float], switches: list[tuple[int, int]], slopes: list[float]
) -> None:
    net = mlp(1, 2, 1, 1, seed=0, dtype=torch.float64)
    net[0].weight.data = torch.tensor([[2.0], [-2.0]], dtype=torch.float64)
    net[0].bias.data = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    net[2].weight.data = torch.tensor([second], dtype=torch.float64)
    net[4].weight.data = torch.ones(1, 1, dtype=torch.float64)
    traced = trace(net, UNIT_PATH)
    assert list(zip(traced.layer.tolist(), traced.unit.tolist(), strict=True)) == switches
    assert [traced.slopes[0].item(), traced.slopes[-1].item()] == slopes


def test_through_the_origin_every_first_layer_unit_switches_at_once() -> None:
    net = mlp(6, 16, 2, seed=1)
    x = random_paths(1, 6)[0]
    traced = trace(net, (x, -x))
    assert traced.switches.tolist() == [16]
    same(traced.t, torch.full_like(traced.t, 0.5))


def test_through_the_origin_of_a_deep_network_nothing_switches_for_rounding() -> None:
    net = mlp(6, 16, 16, 2, seed=1)
    x = random_paths(1, 6)[0]
    traced = trace(net, (x, -x))
    before, after = (torch.cat(pre_activations(net, end), dim=1) > 0 for end in (x, -x))
    assert traced.switches.item() == (before != after).sum()
    same(traced.t, torch.full_like(traced.t, 0.5))


def test_a_bottleneck_that_dies_switches_once() -> None:
    """After relu(z) of the only unit is off, every later pre-activation is zero on the piece."""
    for seed in range(20):
        net = mlp(2, 1, 8, 2, seed=seed)
        net[0].weight.data = torch.tensor([[1.0, 0.3]])
        x0, x1 = torch.tensor([[0.7, 0.1]]), torch.tensor([[-0.9, 0.2]])
        traced = trace(net, (x0, x1))
        assert traced.layer.tolist() == [0]
        assert traced.slopes[-1].tolist() == [0.0, 0.0]


def test_table_names_layers() -> None:
    table = trace(mlp(4, 8, 8, 2, seed=0), random_paths(3, 4)).to_table()
    assert list(table.columns) == ["path", "t", "layer", "unit", "gap_0", "gap_1"]
    assert set(table["layer"]) <= {"1", "3"}


def test_index_out_of_range() -> None:
    traced = trace(mlp(4, 8, 2, seed=0), random_paths(3, 4))
    assert len(list(itertools.islice(traced, 10))) == 3
    with pytest.raises(IndexError, match="path 3 of a trace of 3 paths"):
        traced[3]


def test_refuses_bad_paths() -> None:
    net = mlp(4, 8, 2, seed=0)
    x0, x1 = random_paths(3, 4)
    with pytest.raises(InputError, match=r"ends are equal in 1 of 3 pairs \(first: 2\)"):
        trace(net, (x0, torch.cat([x1[:2], x0[2:]])))
    with pytest.raises(InputError, match="equal in 1 of 2 segments"):
        trace(net, polyline(torch.stack([x0[0], x1[0], x1[0]])))
    with pytest.raises(InputError, match=r"shape \(5,\).*cannot be multiplied.*layer '0'"):
        trace(net, (torch.zeros(3, 5), torch.ones(3, 5)))
    with pytest.raises(InputError, match=r"one pair: x\[None\]"):
        trace(net, (x0[0], x1[0]))
    with pytest.raises(InputError, match="x1 must be finite, but 4 of its 12"):
        trace(net, (x0, torch.cat([x1[:2], x1[2:] * torch.nan])))
    with pytest.raises(InputError, match=r"got a tensor of shape \(3, 4\)"):
        trace(net, x0)  # type: ignore[arg-type]
    for numbers, kind in ((x0.long(), "int64"), (x0 + 0j, "complex128")):
        with pytest.raises(InputError, match=f"got {kind}|got Tensor of torch.{kind}"):
            trace(net, (numbers, numbers + 1))
    with pytest.raises(InputError, match="got x0 on cpu and x1 on meta"):
        trace(net, (x0, x1.to("meta")))
    with pytest.raises(InputError, match=r"points must be .* got a tensor of shape \(1, 4\)"):
        polyline(x0[:1])
    with pytest.raises(InputError, match="tensors of one shape"):
        polyline([x0, x0[:2]])


@pytest.mark.parametrize("memory", [0, -1, True, "plenty", "1 XB", 1.5])
def test_refuses_memory_that_is_no_size(memory: object) -> None:
    with pytest.raises(InputError, match=f"memory must be .* got {memory!r}"):
        trace(mlp(4, 8, 2, seed=0), random_paths(3, 4), memory=memory)  # type: ignore[arg-type]


def test_too_little_memory_says_how_much_would_do() -> None:
    net, ends = mlp(40, 300, 300, 2, seed=0), random_paths(2, 40)
    with pytest.raises(InputError, match="memory must be at least") as refusal:
        trace(net, ends, memory=1000)
    least = re.search(r"at least (\d+kB)", str(refusal.value))
    assert least is not None
    same(trace(net, ends, memory=least[1]).t, trace(net, ends).t)


def test_refuses_parameters_that_are_not_finite() -> None:
    net = mlp(4, 8, 2, seed=0)
    net[2].weight.data[0, 0] = torch.inf
    with pytest.raises(InputError, match=r"net\.2\.weight must be finite"):
        trace(net, random_paths(3, 4))


def test_refuses_other_precisions() -> None:
    with pytest.raises(InputError, match=r"float64 or torch\.float32, got torch\.float16"):
        trace(mlp(4, 8, 2, seed=0), random_paths(3, 4), dtype=torch.float16)


class Fickle(nn.Module):
    """Gives something else at every call."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * torch.rand(())).relu()


def test_a_trace_that_is_not_the_network_is_an_error() -> None:
    net = Fickle()
    with pytest.raises(ArithmeticError, match="operations, run again, do not give its outputs"):
        trace(net, random_paths(3, 4))


# --- exactness ----------------------------------------------------------------------------------


def conv_net() -> nn.Sequential:
    """The convolutional network of the benchmarks, 28x28."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AvgPool2d(4), nn.Flatten(), nn.Linear(784, 10),
    )  # fmt: skip
    return net.double().eval()


def longdouble_slopes(net: nn.Sequential, x: Tensor, direction: Tensor) -> np.ndarray:
    """J D of a Linear/ReLU stack at points x, in extended precision, layer by layer."""
    z, way = (v.numpy().astype(np.longdouble) for v in (x, direction.expand_as(x)))
    for layer in net:
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().double().numpy().astype(np.longdouble)
            z = z @ weight.T + layer.bias.detach().double().numpy().astype(np.longdouble)
            way = way @ weight.T
        else:
            way, z = way * (z > 0), np.maximum(z, 0)
    return way


def relative_error(found: Tensor, exact: np.ndarray | Tensor) -> float:
    """Largest error of a slope vector relative to its own length."""
    exact = torch.from_numpy(np.asarray(exact).astype(np.float64))
    return float(((found - exact).norm(dim=1) / exact.norm(dim=1)).max())


def test_slopes_of_a_deep_network_against_extended_precision() -> None:
    net = mlp(784, *[1024] * 4, 10, seed=0, dtype=torch.float64)
    x0, x1 = random_paths(1, 784)
    traced = trace(net, (x0, x1))
    wide = (traced.piece_end - traced.piece_start > 1e-12).nonzero().flatten()
    assert len(wide) > 0.999 * len(traced.slopes)
    some = wide[:: len(wide) // 48]  # 48 pieces: extended precision is slow
    middle = ((traced.piece_start + traced.piece_end) / 2)[some, None]
    exact = longdouble_slopes(net, x0 + middle * (x1 - x0), x1 - x0)
    assert relative_error(traced.slopes[some], exact) <= 1e-12


@pytest.mark.parametrize("which", ["mlp", "conv"])
def test_every_slope_against_automatic_differentiation(which: str) -> None:
    """On every piece of the two large networks of the benchmarks."""
    if which == "mlp":
        net, (x0, x1) = mlp(784, *[1024] * 4, 10, seed=0, dtype=torch.float64), random_paths(1, 784)
    else:
        net, ends = conv_net(), random_paths(1, 784)
        x0, x1 = (x.reshape(1, 1, 28, 28) for x in ends)
    traced = trace(net, (x0, x1))
    assert len(traced.t) > (1500 if which == "mlp" else 11_000)
    wide = (traced.piece_end - traced.piece_start > 1e-12).nonzero().flatten()
    some = wide if which == "mlp" else wide[::16]
    middle = (traced.piece_start + traced.piece_end)[some] / 2
    errors = []
    for t, slopes in zip(middle.split(256), traced.slopes[some].split(256), strict=True):
        points = x0 + t.view(-1, *[1] * (x0.ndim - 1)) * (x1 - x0)
        _, exact = torch.func.jvp(net, (points,), ((x1 - x0).expand_as(points),))
        errors.append(relative_error(slopes, exact.detach()))
    assert max(errors) <= 1e-9


def stepping(net: nn.Sequential, x0: Tensor, x1: Tensor) -> list[tuple[float, int, int]]:
    """A second algorithm: go from event to event, one at a time.

    At every step the affine map of the current region gives each unit's pre-activation as a line in
    t; the nearest zero ahead is the next event, and its unit changes sides.
    """
    weights = [(m.weight.detach().double().numpy(), m.bias.detach().double().numpy())
               for m in net if isinstance(m, nn.Linear)]  # fmt: skip
    start, way = x0.numpy(), (x1 - x0).numpy()
    sides = []
    z = start
    for weight, bias in weights[:-1]:
        z = weight @ z + bias
        sides.append(z > 0)
        z = np.maximum(z, 0)
    t, events = 0.0, []
    while True:
        value, slope, nearest = start, way, (1.0, -1, -1)
        for layer, (weight, bias) in enumerate(weights[:-1]):
            value, slope = weight @ value + bias, weight @ slope
            with np.errstate(divide="ignore", invalid="ignore"):
                zero = -value / slope
            # Towards the other side only: the unit that has just switched moves away from zero.
            towards = np.where(sides[layer], slope < 0, slope > 0)
            ahead = np.where(towards, np.maximum(zero, t), np.inf)
            unit = int(ahead.argmin())
            nearest = min(nearest, (float(ahead[unit]), layer, unit))
            value, slope = value * sides[layer], slope * sides[layer]
        t, layer, unit = nearest
        if layer < 0:
            return events
        events.append((t, layer, unit))
        sides[layer][unit] = ~sides[layer][unit]


@pytest.mark.parametrize("sizes", [(64, 64, 64, 1), (16, 40, 40, 40, 40, 3), (784, 256, 256, 10)])
def test_against_stepping_from_event_to_event(sizes: tuple[int, ...]) -> None:
    net = mlp(*sizes, seed=1, initialisation=BIASED, dtype=torch.float64)
    x0, x1 = random_paths(3, sizes[0])
    traced = trace(net, (x0, x1))
    for i in range(3):
        path, expected = traced[i], stepping(net, x0[i], x1[i])
        assert list(zip(path.layer.tolist(), path.unit.tolist(), strict=True)) == [
            (layer, unit) for _, layer, unit in expected
        ]
        assert np.abs(path.t.numpy() - [t for t, _, _ in expected]).max() <= 1e-12


def regioncam_times(net: nn.Sequential, x0: Tensor, x1: Tensor) -> np.ndarray:
    """Breakpoints by regioncam, an independent implementation in Rust and float32."""
    regioncam = pytest.importorskip(
        "regioncam", reason="regioncam is not installed; pip install 'implreg[test]' brings it"
    )
    camera = regioncam.Regioncam1D(size=1.0)
    first = True
    for layer in net:
        if isinstance(layer, nn.ReLU):
            camera.relu()
            continue
        if isinstance(layer, nn.Flatten):
            continue
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        if first:  # on the line itself, in double precision
            weight, bias = (weight @ (x1 - x0))[:, None], weight @ ((x0 + x1) / 2) + bias
        camera.linear(
            np.ascontiguousarray(weight.T.float().numpy()),
            np.ascontiguousarray(bias.float().numpy()),
        )
        first = False
    times: np.ndarray = camera.inputs.ravel()[1:-1].astype(np.float64) + 0.5
    return times


def as_matrix(layer: nn.Module, shape: tuple[int, ...]) -> nn.Linear:
    """A layer that is affine as a fully connected one."""
    inputs = math.prod(shape)
    with torch.no_grad():
        bias = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        columns = layer(torch.eye(inputs, dtype=torch.float64).view(inputs, *shape)).flatten(1)
        linear = nn.Linear(inputs, len(bias), dtype=torch.float64)
        linear.weight.copy_((columns - bias).T)
        linear.bias.copy_(bias)
    return linear


def test_against_regioncam() -> None:
    net = mlp(784, 256, 256, 256, 10, seed=2, initialisation=BIASED, dtype=torch.float64)
    x0, x1 = random_paths(1, 784, seed=2)
    traced = trace(net, (x0, x1))
    found = regioncam_times(net, x0[0], x1[0])
    assert len(found) == len(traced.t)
    assert np.abs(found - traced.t.numpy()).max() <= 2e-5


def test_a_convolutional_network_against_regioncam() -> None:
    torch.manual_seed(0)
    convolutions = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)
    readout = nn.Linear(64, 3)
    net = nn.Sequential(
        convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), nn.Flatten(), readout
    ).double()
    x0, x1 = random_paths(1, 64, seed=3)
    traced = trace(net, (x0.view(1, 1, 8, 8), x1.view(1, 1, 8, 8)))
    dense = nn.Sequential(
        as_matrix(convolutions[0], (1, 8, 8)), nn.ReLU(), as_matrix(convolutions[1], (4, 8, 8)),
        nn.ReLU(), readout,
    )  # fmt: skip
    found = regioncam_times(dense, x0[0], x1[0])
    assert len(found) == len(traced.t) > 80
    assert np.abs(found - traced.t.numpy()).max() <= 2e-5


# --- symmetries of other networks, chunks, polylines ----------------------------------------------


class Mixed(nn.Module):
    """Convolutions, batch norm, pooling, a residual and a maximum of two branches."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.block = nn.Conv2d(3, 3, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Linear(27, 4)
        for parameter in self.parameters():
            parameter.data = 0.7 * torch.randn(parameter.shape, generator=random)
        self.norm.running_mean = torch.randn(3, generator=random)
        self.norm.running_var = torch.rand(3, generator=random) + 0.5
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        x = self.pool(nn.functional.relu6(torch.maximum(self.block(x), x - 0.5)))
        return self.out(nn.functional.leaky_relu(x, 0.1).flatten(1))


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x0, x1 = random_paths(count, 36, seed)
    return x0.view(count, 1, 6, 6), x1.view(count, 1, 6, 6)


@settings(max_examples=10)
@given(seed=seeds, chunk=st.sampled_from([2**8, 2**11, 2**14]))
def test_chunks_change_nothing(seed: int, chunk: int) -> None:
    net, ends = Mixed(seed), images(3, seed)
    whole = trace(net, ends)
    with mock.patch.dict("implreg.tracing.memory._CHUNK", {"cpu": chunk}):
        chunked = trace(net, ends)
    same_trace(chunked, whole, size(whole))
    check_consistent(chunked)


def of_whole_numbers(seed: int, images: bool, biases: bool) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network and three paths that are prone to zeros, to ties and to switches at once."""
    random = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape, generator=random).double()

    net, shape = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU()), (3,)
    if images:
        net, shape = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(2, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        ), (1, 5, 5)  # fmt: skip
    net.append(nn.Linear(2 if images else 6, 2))
    for name, parameter in net.named_parameters():
        parameter.data = drawn(*parameter.shape) * (biases or name.endswith("weight"))
    x0, x1 = drawn(2, 3, *shape)
    return net, x0, torch.where((x0 == x1).flatten(1).all(1).view(-1, *[1] * len(shape)), -1, x1)


def switches_between(net: nn.Sequential, points: Tensor) -> list[Tensor]:
    """How often each unit of each ReLU and each window of each max pooling changes, layer by layer.

    A unit on which zeros lie has the side before them; a window changes where no entry is among the
    largest at two neighbouring points.
    """
    counts = []
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.ReLU):
                signs = torch.where(points.abs() < 1e-9, 0, points.sign()).flatten(1)
                units = [column[column != 0].diff() != 0 for column in signs.T]
                counts.append(torch.stack([changed.sum() for changed in units]))
            if isinstance(layer, nn.MaxPool2d):
                padded = nn.functional.pad(points, [int(layer.padding)] * 4, value=-torch.inf)
                for axis in (2, 3):
                    padded = padded.unfold(axis, int(layer.kernel_size), int(layer.stride))
                entries = padded.flatten(4)  # samples, channels, rows, columns, entries
                top = entries >= entries.amax(-1, keepdim=True) - 1e-9
                counts.append((~(top[1:] & top[:-1]).any(-1)).flatten(1).sum(0))
            points = layer(points)
    return counts


@settings(max_examples=25)
@given(seed=seeds, images=st.booleans(), biases=st.booleans(), room=st.integers(0, 6))
@example(seed=3, images=True, biases=False, room=0)
def test_zeros_ties_and_switches_at_once_whatever_the_memory_and_the_batch(
    seed: int, images: bool, biases: bool, room: int
) -> None:
    net, x0, x1 = of_whole_numbers(seed, images, biases)
    whole = trace(net, (x0, x1))
    check_consistent(whole)
    with pytest.raises(InputError) as refusal:
        trace(net, (x0, x1), memory=1)
    least = re.search(r"at least (\d+)kB", str(refusal.value))
    assert least is not None
    same_trace(trace(net, (x0, x1), memory=1000 * int(least[1]) << room), whole, size(whole))
    for i, one in enumerate(whole):
        same_trace(one, trace(net, (x0[i : i + 1], x1[i : i + 1])), size(one))
        wide = one.piece_end - one.piece_start > 1e-8
        middle = ((one.piece_start + one.piece_end) / 2)[wide]
        points = x0[i] + middle.view(-1, *[1] * (x0.ndim - 1)) * (x1 - x0)[i]
        for layer, expected in enumerate(switches_between(net, points)):
            found = torch.bincount(one.unit[one.layer == layer], minlength=len(expected))
            assert torch.equal(found, expected)


@settings(max_examples=15)
@given(seed=seeds)
def test_reversal_batch_and_linear_shortcut_of_a_mixed_network(seed: int) -> None:
    net, (x0, x1) = Mixed(seed), images(3, seed)
    plain = trace(net, (x0, x1))
    check_consistent(plain)

    back = trace(net, (x1, x0))
    for i in range(3):
        same_trace(backwards(back[i]), plain[i], size(plain))
        same_trace(trace(net, (x0[i : i + 1], x1[i : i + 1])), plain[i], size(plain))

    class WithShortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.shortcut = net, nn.Linear(36, 4, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) + self.shortcut(x.flatten(1))

    both = WithShortcut()
    with torch.no_grad():
        added = [both.shortcut(x.flatten(1)) for x in (x0, x1)]
    way, piece = (added[1] - added[0])[plain.piece_path], plain.piece_start[:, None]
    values = plain.values + added[0][plain.piece_path] + piece * way
    expected = dataclasses.replace(
        plain, slopes=plain.slopes + way, values=values, ends=plain.ends + added[1]
    )
    same_trace(trace(both, (x0, x1)), expected, size(plain))


@settings(max_examples=25)
@given(seed=seeds, scale=st.floats(-6, 6))
def test_rescaling_a_unit_and_its_outgoing_weights(seed: int, scale: float) -> None:
    net, factor = (
        mlp(5, 12, 12, 2, seed=seed, initialisation=BIASED, dtype=torch.float64),
        10**scale,
    )
    ends = random_paths(2, 5, seed)
    plain = trace(net, ends)
    net[2].weight.data[3] *= factor
    net[2].bias.data[3] *= factor
    net[4].weight.data[:, 3] /= factor
    same_trace(trace(net, ends), plain, size(plain))


@settings(max_examples=20)
@given(sizes=sizes, seed=seeds, corners=st.integers(2, 5), closed=st.booleans())
def test_a_polyline_is_its_segments(
    sizes: list[int], seed: int, corners: int, closed: bool
) -> None:
    net = mlp(*sizes, seed=seed, initialisation=BIASED)
    points, others = random_paths(corners, sizes[0], seed)
    if closed and corners == 2:
        points = torch.cat([points, others[:1]])
    traced = trace(net, polyline([points, others[: len(points)]] if not closed else points,
                                 closed=closed))  # fmt: skip
    vertices = torch.cat([points, points[:1]]) if closed else points
    parts = trace(net, (vertices[:-1], vertices[1:]))
    path, number = traced[0], len(vertices) - 1
    assert traced.segments == number
    same(path.t, parts.path + parts.t)
    assert torch.equal(path.segment, parts.path)
    same(path.gaps, parts.gaps)
    same(path.slopes, parts.slopes)
    same(path.lengths, parts.lengths)
    same(path.ends, parts.ends[-1:])
    same(path.piece_end, parts.piece_path + parts.piece_end)
    same(path.per_unit_length().slopes, parts.per_unit_length().slopes)
    if closed:
        same(path.ends[0], path.values[0])
    double = copy.deepcopy(net).double()
    with torch.no_grad():
        same(path.at(torch.arange(number + 1.0)), double(vertices))


def test_single_precision_is_close_to_double() -> None:
    net, ends = Mixed(3), images(2, 3)
    exact = trace(net, ends)
    rough = trace(net.float(), tuple(x.float() for x in ends), dtype=torch.float32)
    assert rough.slopes.dtype == torch.float32
    assert abs(int(rough.switches.sum() - exact.switches.sum())) <= 2
    grid = torch.linspace(0, 1, 50)
    assert torch.allclose(rough.at(grid).double(), exact.at(grid), atol=1e-3)


def test_threads_change_nothing() -> None:
    net, ends = mlp(64, 300, 300, 5, seed=0), random_paths(6, 64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = trace(net, ends)
        torch.set_num_threads(2)
        two = trace(net, ends)
    finally:
        torch.set_num_threads(before)
    same_trace(one, two)


# --- zeros and ties -----------------------------------------------------------------------------


def test_a_unit_that_is_zero_all_along_never_switches() -> None:
    net = mlp(3, 6, 6, 1, seed=0, dtype=torch.float64)
    net[0].weight.data[2] = 0.0  # dead without bias
    net[2].weight.data[4] = 0.0
    net[2].weight.data[5, :3], net[2].weight.data[5, 3:] = 1.0, -1.0
    net[0].weight.data[3:] = net[0].weight.data[:3]  # unit 5 of the second layer cancels
    traced = trace(net, random_paths(8, 3))
    second = traced.unit[traced.layer == 1]
    assert len(second) > 0
    assert not set(second.tolist()) & {4, 5}
    assert 2 not in traced.unit[traced.layer == 0].tolist()


def test_breakpoint_at_an_end_or_a_vertex_is_no_switch() -> None:
    net = hand_made([1, 1], [-0.5, -2], [1, 1])
    assert trace(net, (torch.tensor([[0.5]]), torch.tensor([[1.0]]))).switches.tolist() == [0]
    assert trace(net, (torch.tensor([[0.0]]), torch.tensor([[0.5]]))).switches.tolist() == [0]
    through = trace(net, polyline(torch.tensor([[0.0], [0.5], [1.0]])))
    assert through.switches.tolist() == [0]  # the slope changes at a corner, like any corner's
    assert through.slopes.flatten().tolist() == [0.0, 0.5]


def test_pieces_shorter_than_rounding_keep_their_switches() -> None:
    eps = torch.finfo(torch.float64).eps
    net = hand_made([1, 1, 1, 1], [-0.5, -0.5 - eps / 4, -0.5 + eps, -0.25], [1, 2, 4, 8])
    traced = trace(net, UNIT_PATH)
    assert traced.switches.tolist() == [4]
    assert traced.slopes[-1].item() == 15.0
    check_consistent(traced)


def test_a_path_through_zero_that_lies_on_it_switches_once() -> None:
    """z is negative, then zero on a stretch, then positive: z = relu(4t-3) - relu(1-4t)."""
    net = mlp(1, 2, 1, 1, seed=0, dtype=torch.float64)
    net[0].weight.data = torch.tensor([[4.0], [-4.0]], dtype=torch.float64)
    net[0].bias.data = torch.tensor([-3.0, 1.0], dtype=torch.float64)
    net[2].weight.data = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    net[4].weight.data = torch.ones(1, 1, dtype=torch.float64)
    for chunk in (2**6, 2**22):
        with mock.patch.dict("implreg.tracing.memory._CHUNK", {"cpu": chunk}):
            traced = trace(net, UNIT_PATH)
        assert sorted(zip(traced.layer.tolist(), traced.unit.tolist())) == [(0, 0), (0, 1), (1, 0)]
        assert traced.t[traced.layer == 1].tolist() == [0.75]
        assert (traced.slopes[0].item(), traced.slopes[-1].item()) == (0.0, 4.0)


class Pool(nn.Module):
    """The largest of four lines, after a ReLU or not."""

    def __init__(self, slopes: list[float], offsets: list[float], relu: bool) -> None:
        super().__init__()
        self.lines = nn.Linear(1, len(slopes), dtype=torch.float64)
        self.lines.weight.data = torch.tensor(slopes, dtype=torch.float64)[:, None]
        self.lines.bias.data = torch.tensor(offsets, dtype=torch.float64)
        self.relu, self.pool = nn.ReLU() if relu else nn.Identity(), nn.MaxPool1d(len(slopes))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.relu(self.lines(x))[:, None])[:, 0]


@pytest.mark.parametrize("chunk", [2**6, 2**22])
@pytest.mark.parametrize(
    ("pool", "switches", "slopes"),
    [
        # Two winners one after the other, inside one piece.
        (Pool([-2, 0, 2], [1, 0.5, -1], False), [("pool", 0.25), ("pool", 0.75)], [-2, 0, 2]),
        # Two equal lines win together: one change, not two.
        (Pool([0, 1, 1], [0.5, 0, 0], False), [("pool", 0.5)], [0, 1]),
        # All zero after the ReLU is a tie: the ReLU switches, the pool does not.
        (Pool([2, -2], [-1.5, 0.5], True), [("relu", 0.25), ("relu", 0.75)], [-2, 0, 2]),
        # Three lines through one point: one change of winner.
        (Pool([-1, 0, 1], [0.5, 0, -0.5], False), [("pool", 0.5)], [-1, 1]),
    ],
)
def test_max_pooling(
    pool: Pool, switches: list[tuple[str, float]], slopes: list[float], chunk: int
) -> None:
    with mock.patch.dict("implreg.tracing.memory._CHUNK", {"cpu": chunk}):
        traced = trace(pool, UNIT_PATH)
    names = [traced.layers[i] for i in traced.layer.tolist()]
    assert list(zip(names, traced.t.tolist())) == switches
    assert traced.slopes.flatten().tolist() == slopes


def test_max_pooling_inside_larger_windows_of_equal_entries() -> None:
    """Every change of a window's winning entry is found once, whatever the overlaps."""
    torch.manual_seed(1)
    conv, pool = nn.Conv2d(1, 2, 3, padding=1).double(), nn.MaxPool2d(3, 2, 1)
    x0, x1 = images(1, 5)
    traced = trace(nn.Sequential(conv, pool, nn.Flatten()), (x0, x1))
    grid = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    winners = []
    for t in grid.split(5000):
        with torch.no_grad():
            z = conv(x0 + t.view(-1, 1, 1, 1) * (x1 - x0))
        winners.append(nn.functional.max_pool2d(z, 3, 2, 1, return_indices=True)[1].flatten(1))
    changes = torch.cat(winners).diff(dim=0) != 0
    assert torch.equal(torch.bincount(traced.unit, minlength=18), changes.sum(dim=0))
    assert torch.equal((traced.t * 200_000).floor().long(), changes.any(dim=1).nonzero().flatten()
                       .repeat_interleave(changes.sum(dim=1)[changes.any(dim=1)]))  # fmt: skip


# --- files, plots, interruptions ------------------------------------------------------------------


def test_save_and_load(tmp_path: Path) -> None:
    for outputs in (None, [1, 0]):
        traced = trace(Mixed(0), images(3, 0), outputs=outputs)
        traced.save(tmp_path / "trace.npz")
        again = Trace.load(tmp_path / "trace.npz")
        assert again.source is None
        for field in dataclasses.fields(Trace):
            one, other = getattr(again, field.name), getattr(traced, field.name)
            if field.name in ("layers", "outputs"):
                assert one == other
            elif field.name != "source":
                assert torch.equal(one, other)
    assert traced.per_unit_length().outputs == traced[:2].outputs == (1, 0)


def test_load_refuses_other_files(tmp_path: Path) -> None:
    for name, content in (("empty.npz", b""), ("text.npz", b"hello"), ("cut.npz", b"PK\x03\x04zz")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"written by Trace.save, but .*{name} cannot be read"):
            Trace.load(tmp_path / name)
    with pytest.raises(InputError, match="No such file"):
        Trace.load(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="KeyError"):
        Trace.load(tmp_path / "other.npz")
    with pytest.raises(InputError, match=r"must end with \.npz"):
        trace(mlp(4, 8, 2, seed=0), random_paths(1, 4)).save(tmp_path / "trace.txt")


def test_positions_outside_the_path_are_refused() -> None:
    traced = trace(mlp(4, 8, 2, seed=0), random_paths(1, 4))
    with pytest.raises(InputError, match="t must be between 0 and 1"):
        traced.at(torch.tensor([1.5]))


@pytest.mark.parametrize("after", [1, 7, 20])
def test_interrupted_traces_keep_what_they_have(after: int) -> None:
    net, ends = mlp(4, 40, 40, 2, seed=0), random_paths(5, 4)
    whole = trace(net, ends)
    parts = Refiner.parts

    def stopped(self: Refiner) -> Iterator[Part]:
        yield from itertools.islice(parts(self), after)
        raise KeyboardInterrupt

    with (
        mock.patch.dict("implreg.tracing.memory._CHUNK", {"cpu": 2**10}),
        mock.patch.object(Refiner, "parts", stopped),
        pytest.raises(KeyboardInterrupt) as stop,
    ):
        trace(net, ends)
    kept = stop.value
    assert isinstance(kept, Interrupted)
    finished = 0 if kept.partial is None else len(kept.partial)
    assert finished < 5
    if kept.partial is not None:
        same_trace(kept.partial, whole[:finished])
    expected = whole.to_table().iloc[: len(kept.table)]
    assert list(kept.table["unit"]) == list(expected["unit"])
    assert list(kept.table["layer"]) == list(expected["layer"])
    np.testing.assert_allclose(kept.table["gap_1"], expected["gap_1"], rtol=1e-7, atol=1e-12)
    assert 0 <= kept.reached <= 1


def test_a_program_can_be_traced_again_and_again() -> None:
    net, ends = mlp(4, 8, 2, seed=0), random_paths(3, 4)
    program = read(net, ends[0][0])
    same_trace(trace(program, ends), trace(net, ends))
    with pytest.raises(InputError, match=r"samples of shape \(4,\).* got \(5,\)"):
        trace(program, random_paths(3, 5))
    with pytest.raises(InputError, match=r"that of the program, torch\.float64"):
        trace(program, ends, dtype=torch.float32)


class Apply(nn.Module):
    """A layer, and any function of what it gives."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, 6), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def test_a_single_number_per_sample() -> None:
    for function in (
        lambda x: x.relu()[:, 0],
        lambda x: x.sum(1).relu()[:, None],
        lambda x: x.relu().sum(1),
    ):
        traced = trace(Apply(function), random_paths(3, 4))
        check_consistent(traced)
        assert traced.ends.shape == (3, 1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.view(2, -1).relu(), "any number of samples|one row per sample"),
        (lambda x: x[:, :2, None].expand(2, -1, 3), "any number of samples"),
        (lambda x: nn.functional.linear(x, x.new_zeros(0, 6)), "at least one number per sample"),
        (lambda x: x[:, :0], "does not depend on it"),
    ],
)
def test_refuses_networks_for_two_samples_or_of_nothing(
    function: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trace(Apply(function), random_paths(3, 4))
