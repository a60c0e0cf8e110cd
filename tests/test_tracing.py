"""`trace` against brute force, closed forms and its own symmetries."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from implreg.checks import InputError
from implreg.networks import Initialisation, linear_layers, mlp
from implreg.tracing import Trace, trace

BIASED = Initialisation(sigma_b=0.5)


def random_paths(count: int, inputs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, count, inputs, generator=random, dtype=torch.float64)
    return x0, x1


def pre_activations(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Hidden pre-activations of the points x, layer by layer, straight from the weights."""
    found = []
    for _, layer in linear_layers(net)[:-1]:
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
    layers = [layer for _, layer in linear_layers(net)]
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
    there, back = trace(net, (x0, x1)), trace(net, (x1, x0))
    same(back.t.flip(0), 1 - there.t)
    same(back.gaps.flip(0), there.gaps)
    same(back.slopes.flip(0), -there.slopes)


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
    same(scaled.t, plain.t)
    same(scaled.gaps, scale * plain.gaps, scale)
    net[-1].weight.data.mul_(2)
    same(trace(net, (x0, x1)).gaps, 2 * plain.gaps)


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
    same(permuted.t, plain.t)
    same(permuted.gaps, plain.gaps)
    first = permuted.layer == 0
    assert torch.equal(order[permuted.unit[first]], plain.unit[plain.layer == 0])


@settings(max_examples=20)
@given(sizes=sizes, seed=seeds, memory=st.sampled_from([20_000, 100_000, "1GB"]))
def test_batch_equals_single_whatever_the_memory(sizes: list[int], seed: int, memory: int) -> None:
    net = mlp(*sizes, seed=seed, initialisation=BIASED)
    x0, x1 = random_paths(5, sizes[0], seed)
    batch = trace(net, (x0, x1), memory=memory)
    for i in range(5):
        single = trace(net, (x0[i : i + 1], x1[i : i + 1]))
        same(batch[i].t, single.t)
        same(batch[i].slopes, single.slopes)
        same(batch[i].values, single.values)
        assert torch.equal(batch[i].unit, single.unit)
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
    assert set(table["layer"]) <= {"0", "2"}


def test_index_out_of_range() -> None:
    traced = trace(mlp(4, 8, 2, seed=0), random_paths(3, 4))
    assert len(list(itertools.islice(traced, 10))) == 3
    with pytest.raises(IndexError, match="path 3 of a trace of 3 paths"):
        traced[3]


class Model(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 1)), "'1' is GELU"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)), "in turn"),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "in turn"),
        (nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.ReLU()), "'1' is Dropout in training"),
        (nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.Tanh())), "'0.1' is Tanh"),
        (Model(), "is Model"),
        (lambda x: x, "got function"),
    ],
)
def test_refuses_other_networks(net: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trace(net, random_paths(2, 4))


def test_refuses_bad_paths() -> None:
    net = mlp(4, 8, 2, seed=0)
    x0, x1 = random_paths(3, 4)
    with pytest.raises(InputError, match="x0 and x1 are equal in 1 of 3 pairs"):
        trace(net, (x0, torch.cat([x1[:2], x0[2:]])))
    with pytest.raises(InputError, match=r"shape \(P, 4\).*got \(3, 5\)"):
        trace(net, (torch.zeros(3, 5), torch.ones(3, 5)))
    with pytest.raises(InputError, match=r"one pair: x\[None\]"):
        trace(net, (x0[0], x1[0]))
    with pytest.raises(InputError, match="x1 must be finite, but 4 of its 12"):
        trace(net, (x0, torch.cat([x1[:2], x1[2:] * torch.nan])))
    with pytest.raises(InputError, match="got Tensor"):
        trace(net, x0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="memory must be a whole number"):
        trace(net, (x0, x1), memory=0)


def test_refuses_parameters_that_are_not_finite() -> None:
    net = mlp(4, 8, 2, seed=0)
    net[2].weight.data[0, 0] = torch.inf
    with pytest.raises(InputError, match=r"net\.2\.weight must be finite"):
        trace(net, random_paths(3, 4))
