"""Networks and their initialisation."""

import math

import pytest
import torch
from torch import nn

from implreg.checks import InputError
from implreg.networks import Initialisation, linear_layers, mlp


def test_weights_have_the_variances_asked_for() -> None:
    net = mlp(300, 400, 500, 200, seed=0, initialisation=Initialisation(1.5, 0.3, 0.7))
    expected = [(1.5**2 / 300, 0.3**2), (1.5**2 / 400, 0.3**2), (0.7**2 / 500, 0.0)]
    for (_, layer), (weight, bias) in zip(linear_layers(net), expected, strict=True):
        count = layer.weight.numel()  # relative error of a variance: sqrt(2 / count)
        assert abs(layer.weight.var().item() / weight - 1) < 5 * math.sqrt(2 / count)
        assert abs(layer.weight.mean().item()) < 5 * math.sqrt(weight / count)
        if bias:
            assert abs(layer.bias.var().item() / bias - 1) < 5 * math.sqrt(2 / len(layer.bias))
        else:
            assert not layer.bias.any()


def test_seed_gives_the_same_network_in_both_dtypes_and_leaves_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    single, double = mlp(5, 9, 2, seed=3), mlp(5, 9, 2, seed=3, dtype=torch.float64)
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(a, b.float())
    assert not torch.equal(single[0].weight, mlp(5, 9, 2, seed=4)[0].weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_nested_networks_are_read_in_order() -> None:
    inner = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    net = nn.Sequential(nn.Flatten(), inner, nn.Identity(), nn.Dropout().eval(), nn.Linear(3, 2))
    assert [name for name, _ in linear_layers(net)] == ["1.0", "4"]


@pytest.mark.parametrize(
    ("sizes", "seed", "message"),
    [
        ((64, 10), 0, "at least one hidden width"),
        ((64, 0, 10), 0, "sizes must be a whole number of at least 1, got 0"),
        ((64, 2.5, 10), 0, r"got 2\.5"),
        ((64, 5, 10), -1, "seed must be a whole number of at least 0"),
    ],
)
def test_refuses(sizes: tuple[int, ...], seed: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mlp(*sizes, seed=seed)


@pytest.mark.parametrize("values", [(0.0, 0, 1), (1, -1, 1), (1, 0, math.nan), (1, 0, math.inf)])
def test_refuses_scales(values: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match=r"sigma_. must be a finite number"):
        Initialisation(*values)
