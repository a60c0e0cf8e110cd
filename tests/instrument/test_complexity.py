"""Complexity measures against closed forms, and against brute force on many architectures."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor, nn

from implreg.complexity import (
    deviation_from_affine,
    distance,
    function_path_length,
    gradient_norm,
    gradient_path_length,
    jacobians,
    local_complexity,
    norm_product,
    parameter_norm,
    paths,
    region_density,
    sensitivity,
    summary,
    switch_density,
    weight_product,
)
from implreg.errors import InputError
from implreg.networks import Initialisation, mlp, residual_mlp, resnet, vgg
from implreg.tracing import polyline, read, trace

BIASED = Initialisation(sigma_b=0.5)


def unit(*breakpoints: float, outputs: int = 1) -> nn.Module:
    """The sum of relu(x - b), for every output the same, times 1, 2, ..."""
    net = nn.Sequential(
        nn.Linear(1, len(breakpoints)), nn.ReLU(), nn.Linear(len(breakpoints), outputs)
    ).double()
    with torch.no_grad():
        net[0].weight.fill_(1)
        net[0].bias.copy_(-torch.tensor(breakpoints, dtype=torch.float64))
        net[2].weight.copy_((torch.arange(outputs) + 1.0)[:, None].expand(-1, len(breakpoints)))
        net[2].bias.zero_()
    return net


def normalised(seed: int) -> nn.Module:
    """A network with batch norm that has seen data, and dropout, in eval mode."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(4, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 7),
        nn.BatchNorm1d(7), nn.LeakyReLU(0.2), nn.Linear(7, 3),
    )  # fmt: skip
    for _ in range(5):
        net(2 * torch.randn(20, 4) + 1)
    return net.eval()


def pooled(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv1d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, 3)
    )


NETWORKS = {
    "mlp": (lambda: mlp(4, 9, 3, seed=1, initialisation=BIASED), (4,)),
    "deep": (lambda: mlp(4, 9, 8, 7, 3, seed=2, initialisation=BIASED), (4,)),
    "leaky": (lambda: mlp(4, 9, 8, 3, seed=3, initialisation=BIASED, leak=0.2), (4,)),
    "residual": (lambda: residual_mlp(4, 8, 2, 3, seed=4, initialisation=BIASED), (4,)),
    "batch norm": (lambda: normalised(5), (4,)),
    "one output": (lambda: mlp(4, 9, 1, seed=6, initialisation=BIASED), (4,)),
    "vgg": (lambda: vgg(3, outputs=3, shape=(1, 8), width_factor=0.05, seed=7), (1, 8)),
    "resnet": (lambda: resnet(10, outputs=3, shape=(1, 8), width_factor=0.2, seed=8).eval(),
               (1, 8)),
    "max pooling": (lambda: pooled(9), (1, 8)),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def case(request):
    """A network, its paths, their trace."""
    make, shape = NETWORKS[request.param]
    random = torch.Generator().manual_seed(10)
    ends = tuple(torch.randn(2, 4, *shape, generator=random))
    net = make()
    return net, ends, trace(net, ends)


def jacobian(net: nn.Module, x: Tensor, probabilities: bool = False) -> Tensor:
    """By torch, (C, entries), for a network in float64."""

    def outputs(x: Tensor) -> Tensor:
        y = net(x[None])[0]
        return y.softmax(0) if probabilities else y

    return torch.autograd.functional.jacobian(outputs, x.double()).flatten(1)


def double(net: nn.Module) -> nn.Module:
    return copy.deepcopy(net).double()


# ---------------------------------------------------------------- a known function


def test_one_kink():
    net, ends = unit(0.5), (torch.zeros(1, 1), torch.ones(1, 1))
    found = trace(net, ends)
    assert function_path_length(found).tolist() == [0.5]
    assert gradient_path_length(net, found, ends).tolist() == [1.0]
    assert deviation_from_affine(found).tolist() == [pytest.approx(1 / 8)]
    assert switch_density(found).tolist() == [1.0]
    assert region_density(found).tolist() == [2.0]
    assert gradient_norm(net, torch.tensor([[0.2], [0.8]])).tolist() == [0.0, 1.0]
    assert weight_product(net, torch.zeros(1)) == 1.0


def test_several_kinks_and_outputs():
    net, ends = unit(0.2, 0.7, outputs=2), (torch.zeros(1, 1), 2 * torch.ones(1, 1))
    found = trace(net, ends)  # slopes 0, 1, 2 in x, times (1, 2)
    size = math.sqrt(5)
    assert function_path_length(found).item() == pytest.approx(size * (0.5 + 2 * 1.3))
    assert gradient_path_length(net, found, ends).item() == pytest.approx(2 * size)
    assert weight_product(net, torch.zeros(1)) == pytest.approx(2 * size)
    assert switch_density(found).item() == 1.0
    assert region_density(found).item() == 1.5
    # The largest distance from the chord 1.55 x is at 0.7: two trapezoids and two triangles.
    a, b = 1.55 * 0.2, 1.55 * 0.7 - 0.5
    area = 0.2 * a / 2 + 0.5 * (a + b) / 2 + 1.3 * b / 2
    assert deviation_from_affine(found).item() == pytest.approx(size * area / 2)


def test_units_that_switch_together_make_one_jump():
    net = mlp(3, 20, 2, seed=0, dtype=torch.float64)
    x = torch.randn(1, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = trace(net, (-x, x))
    w, v = net[0].weight.detach(), net[2].weight.detach()
    jump = (v * (w @ x[0]).sign()) @ w
    assert gradient_path_length(net, found, (-x, x)).item() == pytest.approx(jump.norm().item())
    assert region_density(found).item() == pytest.approx(1 / x.norm().item())
    assert switch_density(found).item() == pytest.approx(10 / x.norm().item())


def test_a_linear_network_has_no_curvature():
    net, ends = nn.Linear(3, 2), (torch.zeros(1, 3), torch.ones(1, 3))
    found = trace(net, ends)
    assert gradient_path_length(net, found, ends).tolist() == [0.0]
    assert deviation_from_affine(found).item() < 1e-12
    row = summary(net, net, found, ends, torch.ones(2, 3), radius=1.0, directions=3)
    assert row["local_complexity"] == row["distance"] == row["switch_density"] == 0
    assert math.isnan(row["weight_product"])
    assert row["gradient_norm"] == pytest.approx(net.weight.norm().item())


def test_sensitivity_of_two_classes():
    net = nn.Linear(1, 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.5], [-1.5]]))
        net.bias.zero_()
    x = torch.tensor([[-0.4], [0.0], [2.0]])
    p = (3 * x.double()).sigmoid()
    expected = (math.sqrt(2) * 3 * p * (1 - p)).flatten()
    assert torch.allclose(sensitivity(net, x), expected)


# ---------------------------------------------------------------- brute force


def test_norms_of_jacobians(case):
    net, (x, _), _ = case
    net64 = double(net)
    expected = [jacobian(net64, point).norm().item() for point in x]
    assert gradient_norm(net, x).tolist() == pytest.approx(expected, rel=1e-9)
    if net64(x.double()).shape[1] > 1:
        expected = [jacobian(net64, point, probabilities=True).norm().item() for point in x]
        assert sensitivity(net, x).tolist() == pytest.approx(expected, rel=1e-9)


def test_gradient_path_length_is_that_of_jacobians(case):
    net, (x0, x1), found = case
    net64, expected = double(net), []
    for i in range(len(found)):
        one = found[i]
        knots = [0.0, *one.t.tolist(), 1.0]
        middles = [(a + b) / 2 for a, b in pairwise(knots) if b - a > 1e-12]
        jacobians = [
            jacobian(net64, torch.lerp(x0[i].double(), x1[i].double(), t)) for t in middles
        ]
        jumps = [(b - a).norm().item() for a, b in pairwise(jacobians)]
        expected.append(sum(jumps))
    length = gradient_path_length(net, found, (x0, x1))
    assert length.tolist() == pytest.approx(expected, rel=1e-7)
    assert (length > 0).all()


def test_path_measures_are_integrals(case):
    _, _, found = case
    for i in range(len(found)):
        one = found[i]
        start, rise = one.values[0], one.ends[0] - one.values[0]

        def away(t, one=one, start=start, rise=rise):
            return (one.at(torch.tensor([t], dtype=torch.float64)) - start - t * rise).norm().item()

        knots = one.piece_start.tolist()
        area = sum(integrate.quad(away, a, b)[0] for a, b in pairwise([*knots, 1.0]))
        assert deviation_from_affine(found)[i].item() == pytest.approx(area, rel=1e-6)
        curve = one.at(torch.tensor([*knots, 1.0], dtype=torch.float64))
        length = curve.diff(dim=0).norm(dim=1).sum().item()
        assert function_path_length(found)[i].item() == pytest.approx(length, rel=1e-9)
        assert function_path_length(found)[i] >= rise.norm() - 1e-12


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 2e-3, 1.0, 1e4])
@pytest.mark.parametrize("outputs", [1, 3])
def test_mean_norm_of_a_line(scale, outputs):
    random = torch.Generator().manual_seed(0)
    p, b = torch.randn(2, 5, outputs, generator=random, dtype=torch.float64)
    q = p + scale * b
    found = paths._mean_norm(p, q)
    for i in range(5):
        near = [] if outputs > 1 else [-(p[i] / (q[i] - p[i])).item()]  # where it is zero
        expected, _ = integrate.quad(
            lambda u, i=i: ((1 - u) * p[i] + u * q[i]).norm().item(), 0, 1, epsrel=1e-12,
            points=[u for u in near if 0 < u < 1], limit=500,
        )  # fmt: skip
        assert found[i].item() == pytest.approx(expected, rel=1e-10)


def test_mean_norm_of_points():
    zero = torch.zeros(1, 2, dtype=torch.float64)
    assert paths._mean_norm(zero, zero).tolist() == [0.0]
    assert paths._mean_norm(zero, zero + 3).item() == pytest.approx(math.sqrt(18) / 2)


def test_local_complexity_counts_units_that_change_sign(case):
    net, (x, _), _ = case
    size, net64 = x[0].numel(), double(net)
    normal = torch.randn(size, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    frame, _ = np.linalg.qr(normal.numpy())
    taken: list[Tensor] = []
    for module in net64.modules():
        if isinstance(module, nn.ReLU | nn.LeakyReLU):
            module.register_forward_pre_hook(lambda _, args: taken.append(args[0].flatten(1)))
    expected = []
    for point in x.double():
        vertices = [point + s * 0.3 * torch.tensor(e).reshape(point.shape)
                    for e in frame.T for s in (1, -1)]  # fmt: skip
        taken.clear()
        net64(torch.stack(vertices))
        above = [z > 0 for z in taken]
        expected.append(sum(int((a.any(0) & ~a.all(0)).sum()) for a in above))
    found = local_complexity(net, x, radius=0.3, directions=3, seed=5)
    assert found.tolist() == expected
    assert sum(expected) > 0


def test_local_complexity_of_all_directions_finds_close_hyperplanes():
    net = mlp(4, 50, 1, seed=0, initialisation=BIASED, dtype=torch.float64)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    far = (net[0](x) / net[0].weight.norm(dim=1)).abs()
    found = local_complexity(net, x, radius=0.5, directions=4)
    # A cross-polytope lies between the balls of radius r / sqrt(d) and r.
    assert ((far < 0.25).sum(1) <= found).all() and (found <= (far < 0.5).sum(1)).all()


@pytest.mark.parametrize("name", ["mlp", "one output"])
def test_weight_product_is_the_sum_over_units(name):
    net = NETWORKS[name][0]()
    w, v = net[0].weight.detach().double(), net[2].weight.detach().double()
    expected = sum((w[i].norm() * v[:, i].norm()).item() for i in range(len(w)))
    assert weight_product(net, torch.zeros(4)) == pytest.approx(expected)


def test_weight_product_folds_batch_norm_leaks_and_positions():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.LeakyReLU(0.25), nn.Dropout(0.5), nn.Linear(6, 2)
    )
    net(3 * torch.randn(50, 4))
    net.eval()
    scale = net[1].weight / (net[1].running_var + net[1].eps).sqrt()
    sizes = (net[0].weight * scale[:, None]).norm(dim=1) * net[4].weight.norm(dim=0)
    assert weight_product(net, torch.zeros(4)) == pytest.approx(0.75 * sizes.sum().item(), rel=1e-5)
    conv = nn.Sequential(nn.Conv1d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    w = conv[0].weight.abs().flatten().repeat_interleave(4)
    expected = (w * conv[3].weight.norm(dim=0)).sum().item()
    assert weight_product(conv, torch.zeros(1, 4)) == pytest.approx(expected, rel=1e-5)


def test_norms_of_parameters():
    net, other = mlp(4, 9, 3, seed=0), mlp(4, 9, 3, seed=1)
    now, then = (nn.utils.parameters_to_vector(n.parameters()).double() for n in (net, other))
    assert parameter_norm(net) == pytest.approx(now.norm().item())
    assert distance(net, other) == pytest.approx((now - then).norm().item())
    conv = vgg(3, outputs=3, shape=(1, 8), width_factor=0.05, seed=0)
    matrices = [p.detach().double().flatten(1) for p in conv.parameters() if p.ndim > 1]
    spectral = math.prod(torch.linalg.svdvals(m)[0].item() for m in matrices)
    assert norm_product(conv, "spectral") == pytest.approx(spectral)
    assert norm_product(conv, "frobenius") == pytest.approx(
        math.prod(m.norm().item() for m in matrices)
    )


# ---------------------------------------------------------------- one row, and what is left alone


def test_summary_is_the_means_of_the_measures(case):
    net, ends, found = case
    x = ends[0]
    row = summary(net, net, found, ends, x, radius=0.3, directions=3, seed=5)
    assert row["gradient_norm"] == pytest.approx(gradient_norm(net, x).mean().item())
    assert row["gradient_path_length"] == pytest.approx(
        gradient_path_length(net, found, ends).mean().item()
    )
    assert row["local_complexity"] == pytest.approx(
        local_complexity(net, x, radius=0.3, directions=3, seed=5).mean().item()
    )
    assert row["relative_distance"] == 0
    assert all(isinstance(value, float) for value in row.values())
    undefined = {name for name, value in row.items() if math.isnan(value)}
    program = read(net, x[0])
    expected = {"weight_product"} if len(program.sites) != 1 else set()
    expected |= {"sensitivity"} if program.size(program.output) == 1 else set()
    assert undefined == expected


def test_every_network_makes_the_same_columns():
    rows = []
    for make, shape in (NETWORKS["one output"], NETWORKS["max pooling"]):
        ends = tuple(torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(0)))
        net = make()
        rows.append(
            list(summary(net, net, trace(net, ends), ends, ends[0], radius=1, directions=2))
        )
    assert rows[0] == rows[1]


def test_networks_are_left_as_they_are(case):
    net, ends, found = case
    held, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    for p in net.parameters():
        p.grad = torch.full_like(p, 7.0)
    x = ends[0].clone()
    with torch.no_grad():
        summary(net, net, found, ends, x, radius=0.3, directions=2)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(value, held[name]) for name, value in net.state_dict().items())
    assert all((p.grad == 7).all() and p.requires_grad for p in net.parameters())
    assert torch.equal(x, ends[0]) and not x.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_chunks_change_nothing(case, monkeypatch):
    net, ends, found = case
    whole = summary(net, net, found, ends, ends[0], radius=0.3, directions=2)
    monkeypatch.setattr(jacobians, "chunk_bytes", lambda device: 1)
    parts = summary(net, net, found, ends, ends[0], radius=0.3, directions=2)
    assert parts == pytest.approx(whole, rel=1e-9, nan_ok=True)


# ---------------------------------------------------------------- refusals


def test_refusals():
    net, ends = mlp(4, 9, 3, seed=0), (torch.zeros(2, 4), torch.ones(2, 4))
    ends[1][1] = 2
    found = trace(net, ends)
    with pytest.raises(InputError, match="paths must be the 2 paths of the trace"):
        gradient_path_length(net, found, (ends[0], 3 * ends[1]))
    with pytest.raises(InputError, match="paths must be the 2 paths of the trace"):
        gradient_path_length(net, found, (ends[0][:1], ends[1][:1]))
    with pytest.raises(InputError, match="slopes per unit of t"):
        gradient_path_length(net, found.per_unit_length(), ends)
    line = trace(net, polyline(torch.eye(4)))
    with pytest.raises(InputError, match="straight paths"):
        deviation_from_affine(line)
    with pytest.raises(InputError, match="samples of shape"):
        gradient_norm(read(net, torch.zeros(4)), torch.zeros(2, 3))
    with pytest.raises(InputError, match="two or more outputs"):
        sensitivity(mlp(4, 9, 1, seed=0), ends[0])
    with pytest.raises(InputError, match="directions must be at most 4"):
        local_complexity(net, ends[0], radius=1.0, directions=5)
    with pytest.raises(InputError, match="radius"):
        local_complexity(net, ends[0], radius=0.0, directions=2)
    with pytest.raises(InputError, match=r"one layer of activations.*got 2"):
        weight_product(mlp(4, 9, 9, 3, seed=0), torch.zeros(4))
    with pytest.raises(InputError, match="same parameters"):
        distance(net, mlp(4, 8, 3, seed=0))
    with pytest.raises(InputError, match="norm must be one of"):
        norm_product(net, "nuclear")


def test_polylines_have_densities():
    found = trace(mlp(4, 9, 3, seed=0, initialisation=BIASED), polyline(torch.eye(4)))
    assert switch_density(found).item() == pytest.approx(len(found.t) / (3 * math.sqrt(2)))
    assert region_density(found).item() == pytest.approx((1 + len(found.t)) / (3 * math.sqrt(2)))
