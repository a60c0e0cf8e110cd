"""Networks and their initialisation."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from implreg.errors import InputError
from implreg.networks import Initialisation, mlp, residual_mlp, resnet, vgg


def test_weights_have_the_variances_asked_for() -> None:
    net = mlp(300, 400, 500, 200, seed=0, initialisation=Initialisation(1.5, 0.3, 0.7))
    expected = [(1.5**2 / 300, 0.3**2), (1.5**2 / 400, 0.3**2), (0.7**2 / 500, 0.0)]
    for layer, (weight, bias) in zip(net[::2], expected, strict=True):
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


def test_leaky_networks_have_leaky_activations() -> None:
    net = mlp(5, 9, 9, 2, seed=3, leak=0.2)
    assert [type(m).__name__ for m in net] == ["Linear", "LeakyReLU"] * 2 + ["Linear"]
    assert net[1].negative_slope == 0.2
    assert torch.equal(net[0].weight, mlp(5, 9, 9, 2, seed=3)[0].weight)
    with pytest.raises(InputError, match="leak must be at least 0 and below 1, got 1"):
        mlp(5, 9, 2, seed=0, leak=1.0)


def test_residual_networks_add_scaled_branches() -> None:
    net = residual_mlp(5, 9, 2, 3, scale=0.3, seed=1, dtype=torch.float64)
    x = torch.randn(4, 5, dtype=torch.float64)
    inner = net[0](x)
    for block in (net[1], net[2]):
        inner = inner + 0.3 * block.branch[1](inner.clamp(min=0))
    assert torch.allclose(net(x), net[4](inner.clamp(min=0)))
    weight = net[1].branch[1].weight
    assert abs(weight.var().item() / (2 / 9) - 1) < 5 * math.sqrt(2 / weight.numel())
    with pytest.raises(InputError, match="scale must be a finite number above 0"):
        residual_mlp(5, 9, 2, 3, scale=0, seed=0)


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


def normals(net: nn.Module) -> list[tuple[str, float, nn.Conv2d | nn.Linear]]:
    """Name, fan-in and module of every layer that draws its weights."""
    return [
        (name, m.weight[0].numel(), m)
        for name, m in net.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
    ]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("convolutions", "stages"),
    [
        (3, "1-1-1"),
        (4, "1-1-2"),
        (5, "1-2-2"),
        (6, "2-2-2"),
        (7, "2-2-3"),
        (8, "2-2-4"),
        (9, "2-2-5"),
    ],
)
def test_vgg_spreads_its_convolutions_over_three_stages(convolutions: int, stages: str) -> None:
    net = vgg(convolutions, outputs=7, shape=(3, 28, 28), seed=0)
    kinds = "".join({"Conv2d": "c", "AvgPool2d": "p"}.get(type(m).__name__, "") for m in net)
    assert "-".join(str(len(stage)) for stage in kinds.split("p")[:-1]) == stages
    assert [m.out_features for m in net if isinstance(m, nn.Linear)] == [1024, 1024, 7]
    assert net[:-6](torch.zeros(1, 3, 28, 28)).shape == (1, 256, 3, 3)
    assert net(torch.zeros(2, 3, 28, 28)).shape == (2, 7)


def test_vgg_has_the_parameters_counted_by_hand() -> None:
    first, second, third = 64 * 9 + 64, 64 * 9 * 128 + 128, 128 * 9 * 256 + 256
    dense = (2304 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 10 + 10)
    assert parameters(vgg(3, seed=0)) == first + second + third + dense
    more = (64 * 9 * 64 + 64) + (128 * 9 * 128 + 128) + 3 * (256 * 9 * 256 + 256)
    assert parameters(vgg(8, seed=0)) == first + second + third + dense + more


@pytest.mark.parametrize("depth", [10, 16, 52])
def test_resnet_has_its_depth_and_its_shapes(depth: int) -> None:
    net = resnet(depth, outputs=7, shape=(3, 28, 28), seed=0)
    assert len(normals(net)) == depth
    assert all(m.bias is None for _, _, m in normals(net) if isinstance(m, nn.Conv2d))
    sizes = {}
    for name, module in net.named_children():
        module.register_forward_hook(lambda _, __, y, name=name: sizes.update({name: y.shape[1:]}))
    assert net(torch.zeros(2, 3, 28, 28)).shape == (2, 7)
    assert sizes["stage1"] == (16, 28, 28)
    assert sizes["stage2"] == (32, 14, 14)
    assert sizes["stage3"] == (64, 7, 7)


def test_resnet_has_the_parameters_counted_by_hand() -> None:
    def block(n_in: int, n_out: int, shortcut: bool) -> int:
        norms, kernels = 2 * n_in + 2 * n_out, 9 * n_in * n_out + 9 * n_out * n_out
        return norms + kernels + (n_in * n_out if shortcut else 0)

    stages = block(16, 16, False) + block(16, 32, True) + block(32, 64, True)
    assert parameters(resnet(10, seed=0)) == 144 + stages + 128 + 650
    more = block(16, 16, False) + block(32, 32, False) + block(64, 64, False)
    assert parameters(resnet(16, seed=0)) == 144 + stages + more + 128 + 650
    wide = block(16, 32, True) + block(32, 64, True) + block(64, 128, True)
    assert parameters(resnet(10, width_factor=2, seed=0)) == 144 + wide + 256 + 1290


@pytest.mark.parametrize("shape", [(1, 40), (2, 8, 12)])
def test_convolutional_networks_of_other_shapes(shape: tuple[int, ...]) -> None:
    x = torch.zeros(2, *shape)
    net = vgg(4, outputs=3, shape=shape, width_factor=0.25, dropout=0.5, seed=0)
    layers = [m for m in net if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    assert [m.weight.shape[0] for m in layers] == [16, 32, 64, 64, 256, 256, 3]
    assert layers[4].in_features == 64 * math.prod(n // 8 for n in shape[1:])
    fan_in = layers[1].weight[0].numel()
    assert fan_in == 16 * 3 ** (len(shape) - 1)
    assert abs(layers[1].weight.square().mean().item() * fan_in / 2 - 1) < 0.25
    assert net(x).shape == (2, 3)
    small = resnet(10, outputs=3, shape=shape, width_factor=0.25, seed=0)
    assert [small.convolution.out_channels, small.output.in_features] == [4, 16]
    assert small.stage1[0].shortcut is None and small(x).shape == (2, 3)


def test_a_block_is_shortcut_plus_branch() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 8, 8)
    net = resnet(10, seed=0).eval()
    same, strided = net.stage1[0], net.stage2[0]
    relu = torch.relu
    branch = same.convolution2(relu(same.norm2(same.convolution1(relu(same.norm1(x))))))
    assert torch.allclose(same(x), x + branch)
    inner = strided.convolution1(relu(strided.norm1(x)))
    branch = strided.convolution2(relu(strided.norm2(inner)))
    expected = torch.nn.functional.conv2d(x, strided.shortcut.weight, stride=2) + branch
    assert torch.allclose(strided(x), expected, atol=1e-6)


def test_dropout_is_where_the_program_has_it() -> None:
    kinds = [type(m).__name__ for m in vgg(3, dropout=0.5, seed=0)]
    shares = [m.p for m in vgg(3, dropout=0.5, seed=0) if isinstance(m, nn.Dropout)]
    before = [kinds[i - 1] for i, kind in enumerate(kinds) if kind == "Dropout"]
    assert before == ["AvgPool2d"] * 3 + ["ReLU"] * 2 and shares == [0.25] * 3 + [0.5] * 2
    net = resnet(10, dropout=0.5, seed=0)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5] * 3
    block, given = net.stage1[0], []
    block.convolution2.register_forward_pre_hook(lambda _, x: given.append(x[0]))
    block(torch.randn(4, 16, 9, 9, generator=torch.Generator().manual_seed(0)))
    assert 0.65 < (given[0] == 0).double().mean() < 0.85  # half by the ReLU, and half of the rest
    for make in (lambda p: vgg(3, dropout=p, seed=0), lambda p: resnet(10, dropout=p, seed=0)):
        x = torch.randn(2, 1, 28, 28)
        assert torch.equal(make(0.5).eval()(x), make(0.0).eval()(x))
        assert not [m for m in make(0.0).modules() if isinstance(m, nn.Dropout)]
        with pytest.raises(InputError, match="dropout must be a share below 1"):
            make(1.0)


def test_batch_norm_is_the_program_s() -> None:
    for norm in (m for m in resnet(10, seed=0).modules() if isinstance(m, nn.BatchNorm2d)):
        assert (norm.eps, norm.momentum, norm.affine) == (2e-5, 0.1, True)
        assert not norm.running_mean.any() and (norm.running_var == 1).all()


def test_a_stage_of_as_many_channels_as_the_one_before_has_its_stride() -> None:
    net = resnet(10, width_factor=0.04, seed=0)  # 1, 1 and 3 channels
    assert net.stage2[0].shortcut is not None
    assert net.stage1[0].shortcut is None
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(("convolutions", "units"), [(3, 89_856), (4, 102_400), (5, 127_488),
                                                     (6, 177_664), (8, 202_752)])  # fmt: skip
def test_vgg_has_the_units_of_the_program(convolutions: int, units: int) -> None:
    assert relu_units(vgg(convolutions, seed=0)) == units


@pytest.mark.parametrize("n", [1, 2, 6])
def test_resnet_has_the_units_of_the_program(n: int) -> None:
    assert relu_units(resnet(6 * n + 4, seed=0)) == 56_448 + 43_904 * (n - 1)


def relu_units(net: nn.Module) -> int:
    found = []
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, __, y: found.append(y[0].numel()))
    net.eval()(torch.zeros(1, 1, 28, 28))
    return sum(found)


def test_convolutional_weights_have_the_variances_asked_for() -> None:
    scales = Initialisation(1.5, 0.3, 0.7)
    for net, (hidden, bias, output) in (
        (vgg(4, seed=0, initialisation=scales), (1.5, 0.3, 0.7)),
        (resnet(10, seed=0), (math.sqrt(2), 0.0, 1.0)),
    ):
        last = normals(net)[-1][0]
        for name, fan_in, layer in normals(net):
            variance = (output if name == last else hidden) ** 2 / fan_in
            ratio = layer.weight.square().mean().item() / variance
            assert abs(ratio - 1) < 5 * math.sqrt(2 / layer.weight.numel()), name
            if layer.bias is not None and name != last and bias:
                ratio = layer.bias.square().mean().item() / bias**2
                assert abs(ratio - 1) < 5 * math.sqrt(2 / len(layer.bias)), name
            elif layer.bias is not None:
                assert not layer.bias.any()
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            assert (norm.weight == 1).all() and not norm.bias.any()


@pytest.mark.parametrize("make", [lambda **k: vgg(3, **k), lambda **k: resnet(10, **k)])
def test_convolutional_networks_are_functions_of_their_seed(make: Callable[..., nn.Module]) -> None:
    before = torch.random.get_rng_state()
    single, double = make(seed=3), make(seed=3, dtype=torch.float64)
    assert single.training
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert a.dtype == torch.float32 and b.dtype == torch.float64
        assert torch.equal(a, b.float())
    other = make(seed=4)
    for (_, _, a), (_, _, b) in zip(normals(single), normals(other), strict=True):
        assert not torch.equal(a.weight, b.weight)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vgg(2, seed=0), "convolutions must be a whole number of at least 3, got 2"),
        (lambda: vgg(3, outputs=0, seed=0), "outputs must be a whole number of at least 1, got 0"),
        (lambda: vgg(3, shape=(1.5, 8, 8), seed=0), r"shape must be a whole number .* got 1\.5"),
        (
            lambda: vgg(3, shape=(1, 7, 8), seed=0),
            r"shape must be \(channels, .* 8 entries .* 7, 8\)",
        ),
        (lambda: vgg(3, shape=(784,), seed=0), r"shape must be .* got \(784,\)"),
        (lambda: vgg(3, dropout=1.0, seed=0), "dropout must be a share below 1, got 1"),
        (lambda: vgg(3, width_factor=-1, seed=0), "width_factor must be a finite number above 0"),
        (lambda: vgg(3, seed=-1), "seed must be a whole number of at least 0"),
        (lambda: resnet(12, seed=0), r"depth must be 10, 16, 22 or another 6n \+ 4 .* got 12"),
        (lambda: resnet(4, seed=0), "depth must be 10, .* got 4"),
        (lambda: resnet("10", seed=0), "depth must be a whole number of at least 1, got '10'"),
        (
            lambda: resnet(10, width_factor=0, seed=0),
            "width_factor must be a finite number above 0",
        ),
        (lambda: resnet(10, shape=(0, 8), seed=0), "shape must be a whole number .* got 0"),
        (lambda: resnet(10, seed=True), "seed must be a whole number"),
    ],
)
def test_convolutional_networks_refuse(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
