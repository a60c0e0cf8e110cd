"""Predictions for convolutional networks against dense theory, differences and simulation."""

import math
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn
from torch.func import jvp

from implreg import datasets, measures
from implreg.errors import InputError
from implreg.networks import HE, Initialisation, Residual, mlp, residual_mlp, resnet, vgg
from implreg.theory import Prediction, architecture, at_initialisation, initialisation, quadrature
from implreg.theory.quadrature import moments_between
from implreg.tracing import polyline, trace

BIASED = Initialisation(1.3, 0.5, 0.8)


def samples(*shape: int, paths: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x0, x1 = torch.randn(2, paths, *shape, generator=random, dtype=torch.float64)
    return x0, x1


def agree(found: Prediction, expected: Prediction, tolerance: float) -> bool:
    return all(
        torch.allclose(getattr(found, f.name), getattr(expected, f.name), rtol=tolerance, atol=0)
        for f in fields(Prediction)
    )


def pointwise(
    shape: tuple[int, int, int], width: int, *end: nn.Module, leak: float = 0.0
) -> nn.Sequential:
    """Two layers of 1x1 convolutions, in which pixels do not meet before the end."""
    return nn.Sequential(
        nn.Conv2d(shape[0], width, 1),
        nn.LeakyReLU(leak),
        nn.Conv2d(width, width, 1),
        nn.LeakyReLU(leak),
        *end,
    )


# Against the theory of dense networks


@pytest.mark.parametrize("how", [HE, BIASED], ids=["he", "biased"])
@pytest.mark.parametrize(
    "net",
    [
        mlp(7, 50, 3, seed=0),
        mlp(7, 50, 40, 3, seed=0),
        residual_mlp(7, 40, 3, 2, scale=0.7, seed=0),
        residual_mlp(7, 40, 3, 2, scale=0.7, seed=0, leak=0.3),
    ],
    ids=["shallow", "deep", "residual", "leaky"],
)
def test_dense_networks_are_those_of_one_pixel(net: nn.Module, how: Initialisation) -> None:
    """Pixel by pixel, with integrals by quadrature, against angles."""
    ends = samples(7)
    found = initialisation._on_grids(architecture(net, how), *ends)
    assert agree(found, at_initialisation(net, ends, how), 1e-8)


@pytest.mark.parametrize("leak", [0.0, 0.3])
@pytest.mark.parametrize("how", [HE, BIASED], ids=["he", "biased"])
def test_a_single_pixel_is_a_dense_network(how: Initialisation, leak: float) -> None:
    ends = samples(7, 1, 1)
    net = pointwise((7, 1, 1), 40, nn.Flatten(), nn.Linear(40, 3), leak=leak)
    dense = at_initialisation(
        mlp(7, 40, 40, 3, seed=0, leak=leak), (ends[0].flatten(1), ends[1].flatten(1)), how
    )
    assert agree(at_initialisation(net, ends, how), dense, 1e-8)


def test_pixels_that_never_meet_add_up() -> None:
    """Behind 1x1 convolutions and a dense layer, each pixel is a dense network of its own."""
    x0, x1 = samples(5, 2, 3)
    pixels, width = 6, 40
    net = pointwise((5, 2, 3), width, nn.Flatten(), nn.Linear(width * pixels, 3))
    found = at_initialisation(net, (x0, x1), BIASED)
    each = [
        at_initialisation(mlp(5, width, width, 3, seed=0), (x0[..., i, j], x1[..., i, j]), BIASED)
        for i in range(2)
        for j in range(3)
    ]
    switches = sum(p.layer_switches for p in each)
    assert torch.allclose(found.layer_switches, switches, rtol=1e-9)
    variation = sum(p.quadratic_variation for p in each) / pixels
    assert torch.allclose(found.quadratic_variation, variation, rtol=1e-9)
    # Independent of one another but for the common middle, which is not that of each pixel.
    seen = architecture(net, BIASED, (5, 2, 3))
    t = torch.full((3, 3), 0.3, dtype=torch.float64)
    one = architecture(mlp(5, width, width, 3, seed=0), BIASED, (5,))
    apart = [
        moments_between(one, x0[..., i, j], x1[..., i, j], t) for i in range(2) for j in range(3)
    ]
    together = moments_between(seen, x0, x1, t)
    assert torch.allclose(together, torch.stack(apart).mean(dim=0), rtol=1e-12)


@pytest.mark.parametrize("leak", [0.0, 0.3])
@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)])
def test_pixels_that_are_all_equal_are_one(pool: nn.Module, leak: float) -> None:
    """The limit of two pixels with one and the same pre-activation."""
    one = samples(7)
    ends = tuple(x[..., None, None].expand(-1, -1, 2, 2) for x in one)
    net = pointwise((7, 2, 2), 40, pool, nn.Flatten(), nn.Linear(40, 3), leak=leak)
    found = at_initialisation(net, ends)
    dense = at_initialisation(mlp(7, 40, 40, 3, seed=0, leak=leak), one)
    assert torch.allclose(found.layer_switches, 4 * dense.layer_switches, rtol=1e-9)
    # Four gaps of a quarter in place of one.
    assert torch.allclose(found.quadratic_variation, dense.quadratic_variation / 4, rtol=1e-9)
    assert torch.allclose(found.mid_path_deflection, dense.mid_path_deflection, rtol=1e-7)


def test_flattening_changes_nothing_for_activations() -> None:
    ends = samples(2, 5, 5)

    def predicted(*middle: nn.Module) -> Prediction:
        return at_initialisation(
            nn.Sequential(nn.Conv2d(2, 4, 3), *middle, nn.Linear(4 * 9, 2)), ends, BIASED
        )

    assert agree(predicted(nn.Flatten(), nn.ReLU()), predicted(nn.ReLU(), nn.Flatten()), 1e-15)


def test_images_are_flattened_before_a_dense_network() -> None:
    ends, net = samples(2, 3, 4), mlp(24, 50, 40, 3, seed=0)
    expected = at_initialisation(net, (ends[0].flatten(1), ends[1].flatten(1)))
    for same in (net, nn.Sequential(nn.Flatten(), net)):
        assert agree(at_initialisation(same, ends), expected, 1e-15)
    # Pixel by pixel the first dense layer is a convolution as large as the image.
    wide = nn.Sequential(nn.Conv2d(2, 50, (3, 4)), nn.Flatten(), *net[1:])
    assert agree(at_initialisation(wide, ends), expected, 1e-8)


def test_fresh_batch_norm_scales_by_its_epsilon() -> None:
    ends = samples(2, 5, 5)

    def predicted(*norm: nn.Module) -> Prediction:
        end = (nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2))
        return at_initialisation(nn.Sequential(nn.Conv2d(2, 4, 3), *norm, *end).eval(), ends)

    normed, plain = predicted(nn.BatchNorm2d(4, eps=0.5)), predicted()
    assert torch.allclose(normed.switches, plain.switches, rtol=1e-12)
    for name in ("deflection", "mid_path_deflection"):
        expected = getattr(plain, name) / math.sqrt(1.5)
        assert torch.allclose(getattr(normed, name), expected, rtol=1e-12)


# Derivatives and limits


def between(net: nn.Module, ends: tuple[Tensor, Tensor], s: float, t: float) -> Tensor:
    """K_f, K_s, K_t and K_st at two times, (4, P)."""
    seen = architecture(net, HE, tuple(ends[0].shape[1:]))
    times = torch.tensor([s, t, 1.0], dtype=torch.float64)[:, None].expand(3, len(ends[0]))
    return moments_between(seen, *ends, times)[:, 0, 1]


def leaky(channels: int, seed: int = 0) -> nn.Module:
    """Strides, padding, pooling with gaps, leaky ReLUs; drawn by He initialisation."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, channels, 3, stride=(1, 2), padding=(2, 1)),
        nn.LeakyReLU(0.2),
        nn.AvgPool2d(2, (3, 2)),
        nn.Conv2d(channels, channels, 2),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * channels, 4),
    )
    for layer, k in ((net[0], 18 / 2), (net[3], 4 * channels / 2), (net[6], 2 * channels)):
        nn.init.normal_(layer.weight, 0, k**-0.5)
        nn.init.zeros_(layer.bias)
    return net


NETS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (vgg(4, shape=(2, 9, 8), width_factor=0.1, seed=0), (2, 9, 8)),
    (vgg(3, shape=(1, 19), width_factor=0.1, seed=0), (1, 19)),
    (resnet(10, shape=(1, 7, 6), width_factor=2, seed=0).eval(), (1, 7, 6)),
    (resnet(16, shape=(2, 11), width_factor=0.5, seed=0).eval(), (2, 11)),
    (leaky(20), (2, 6, 7)),
]
every_net = pytest.mark.parametrize(
    ("net", "shape"), NETS, ids=["vgg", "vgg1", "resnet", "res1", "leaky"]
)


@every_net
def test_derivatives_are_those_of_the_covariance(net: nn.Module, shape: tuple[int, ...]) -> None:
    ends, s, t, h = samples(*shape), 0.2, 0.7, 1e-3

    def k(i: int, j: int) -> Tensor:
        return between(net, ends, s + i * h, t + j * h)[0]

    def sloped(offsets: tuple[tuple[int, int], ...], scale: float) -> Tensor:
        signs = [1, -1] if len(offsets) == 2 else [1, -1, -1, 1]
        return sum(sign * k(*at) for sign, at in zip(signs, offsets)) / scale

    at, ds, dt, dsdt = between(net, ends, s, t)
    tiny = 1e-6 * float(at.abs().max())
    assert torch.allclose(ds, sloped(((1, 0), (-1, 0)), 2 * h), rtol=1e-5, atol=tiny)
    assert torch.allclose(dt, sloped(((0, 1), (0, -1)), 2 * h), rtol=1e-5, atol=tiny)
    mixed = sloped(((1, 1), (1, -1), (-1, 1), (-1, -1)), 4 * h * h)
    assert torch.allclose(dsdt, mixed, rtol=1e-5, atol=1e-5 * float(mixed.abs().max()))


@every_net
def test_moments_of_a_point_with_itself_are_limits(net: nn.Module, shape: tuple[int, ...]) -> None:
    ends = samples(*shape)
    seen = architecture(net, HE, shape)
    times = torch.tensor([0.4, 0.4 + 1e-7, 0.9], dtype=torch.float64)[:, None].expand(3, 3)
    found = moments_between(seen, *ends, times)
    alone, near, far = found[:, 0, 0], found[:, 0, 1], found[:, 1, 2]
    assert torch.allclose(alone, near, rtol=1e-5)
    assert torch.allclose(alone[1], alone[2], rtol=1e-12)
    back = moments_between(seen, *ends, times.flip(0))[:, 0, 1]
    assert torch.allclose(far, back[[0, 2, 1, 3]], rtol=1e-12)
    assert torch.allclose(far, found[:, 2, 1][[0, 2, 1, 3]], rtol=1e-12)


@every_net
def test_ends_of_a_path_may_be_exchanged_and_outputs_scaled(
    net: nn.Module, shape: tuple[int, ...]
) -> None:
    x0, x1 = samples(*shape, paths=2)
    found = at_initialisation(net, (x0, x1))
    assert agree(at_initialisation(net, (x1, x0)), found, 1e-6)
    order = torch.tensor([1, 0])
    moved = at_initialisation(net, (x0[order], x1[order]))
    larger = at_initialisation(net, (x0, x1), Initialisation(sigma_o=3.0))
    for f in fields(Prediction):
        one = getattr(found, f.name)
        assert torch.allclose(getattr(moved, f.name), one[order], rtol=1e-9)
        power = {"layer_variation": 2, "layer_switches": 0, "lengths": 0}
        factor = 3.0 ** power.get(f.name, 1)
        assert torch.allclose(getattr(larger, f.name), factor * one, rtol=1e-9)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, ends = vgg(3, shape=(1, 8, 8), width_factor=0.1, seed=0), samples(1, 8, 8)
    found = at_initialisation(net, ends)
    monkeypatch.setattr(quadrature, "_ENTRIES", 1)
    assert agree(at_initialisation(net, ends), found, 1e-12)


@pytest.mark.parametrize("shape", [(1, 16), (1, 8, 8)], ids=["signals", "images"])
def test_integrals_are_accurate(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The windows of signals have three entries, so that some pass near the origin."""
    net, ends = vgg(4, shape=shape, width_factor=0.1, seed=0), samples(*shape, paths=2)
    found = at_initialisation(net, ends)
    monkeypatch.setattr(quadrature, "_NODES", 24)
    monkeypatch.setattr(quadrature, "_TAIL", 1e-8)
    assert agree(found, at_initialisation(net, ends), 1e-6)


@pytest.mark.parametrize("normed", [False, True], ids=["plain", "residual"])
def test_rays_have_no_switches(normed: bool) -> None:
    shape = (1, 8, 8)
    net = resnet(10, shape=shape, seed=0).eval() if normed else vgg(3, shape=shape, seed=0)
    found = at_initialisation(net, (samples(*shape)[0], 2 * samples(*shape)[0]))
    assert not found.layer_switches.any() and not found.deflection.any()


# Against all pairs of pixels


def selections(layer: nn.Module, space: tuple[int, ...]) -> Tensor:
    """Which pixel each place of a window takes at each entry, (entries, places, pixels)."""
    size, stride, padding = (
        (n, n) if isinstance(n, int) else n
        for n in (layer.kernel_size, layer.stride, layer.padding)
    )
    pixels, entries = math.prod(space), math.prod(size)
    images = torch.eye(pixels, dtype=torch.float64).view(pixels, 1, *space)
    kernels = torch.eye(entries, dtype=torch.float64).view(entries, 1, *size)
    made = nn.functional.conv2d(images, kernels, stride=stride, padding=padding)
    return made.flatten(2).permute(1, 2, 0)


def of_all_pairs(net: nn.Module, x: Tensor, how: Initialisation) -> Tensor:
    """Covariances of an output between samples (T, channels, height, width), layer by layer."""
    space = x.shape[2:]
    k = torch.einsum("scp,tcq->stpq", x.flatten(2), x.flatten(2)) / x.shape[1]
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.AvgPool2d):
            taken = selections(layer, space)
            if isinstance(layer, nn.Conv2d):
                k = torch.einsum("opi,stij,oqj->stpq", taken, k, taken) / len(taken)
                k = how.sigma_w**2 * k + how.sigma_b**2
            else:
                mean = taken.mean(dim=0)
                k = mean @ k @ mean.T
            space = layer(x.new_zeros(1, getattr(layer, "in_channels", 1), *space)).shape[2:]
        elif isinstance(layer, nn.LeakyReLU):
            root = torch.einsum("sspp->sp", k).sqrt()
            size = root[:, None, :, None] * root[None, :, None]
            cosine = (k / size).clamp(-1, 1)
            angle = cosine.arccos()
            kappa = (angle.sin() + (math.pi - angle) * cosine) / (2 * math.pi)
            leak = layer.negative_slope
            k = size * ((1 - leak) ** 2 * kappa + leak * cosine)
    return how.sigma_o**2 * k.diagonal(dim1=2, dim2=3).mean(dim=2)


def padded(leak: float) -> nn.Module:
    """Pixels outside of the image meet those at its border twice before the pooling."""
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.LeakyReLU(leak),
        nn.Conv2d(3, 3, (2, 3), padding=(1, 2)), nn.LeakyReLU(leak),
        nn.AvgPool2d(2), nn.Conv2d(3, 3, 2), nn.LeakyReLU(leak), nn.Flatten(), nn.Linear(18, 2),
    )  # fmt: skip


@pytest.mark.parametrize("how", [HE, BIASED], ids=["he", "biased"])
@pytest.mark.parametrize(
    ("net", "shape"),
    [(padded(0.0), (2, 5, 6)), (padded(0.3), (2, 5, 6)), (leaky(4), (2, 6, 7))],
    ids=["padded", "padded-leaky", "leaky"],
)
def test_covariances_are_those_of_all_pairs_of_pixels(
    net: nn.Module, shape: tuple[int, ...], how: Initialisation
) -> None:
    """A recursion that follows every pair, with windows as matrices."""
    (x0, x1), t = samples(*shape, paths=1), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    points = torch.lerp(x0, x1, t[:, None, None, None])
    found = moments_between(architecture(net.double(), how, shape), x0, x1, t[:, None])[0, ..., 0]
    assert torch.allclose(found, of_all_pairs(net, points, how), rtol=1e-9, atol=0)


# Against networks


def test_covariances_are_those_of_random_networks() -> None:
    """Over networks with many channels, of outputs and of slopes, the latter by forward mode."""
    shape, times, networks = (1, 8, 8), (0.0, 0.5, 1.0), 100
    x0, x1 = samples(*shape, paths=2)
    points = torch.cat([(1 - t) * x0 + t * x1 for t in times])
    ways = (x1 - x0).repeat(3, 1, 1, 1)
    products = []
    for seed in range(networks):
        net = vgg(3, shape=shape, outputs=60, width_factor=0.5, seed=seed, dtype=torch.float64)
        made = torch.stack(jvp(net, (points,), (ways,))).unflatten(1, (3, 2))
        products.append(torch.einsum("istc,jutc->ijsut", made, made) / 60)
    drawn = torch.stack(products).detach()  # (networks, 2, 2, 3, 3, P)
    mean, error = drawn.mean(0), drawn.std(0) / math.sqrt(networks)
    seen = architecture(net, HE, shape)
    t = torch.tensor(times, dtype=torch.float64)[:, None].expand(3, 2)
    limit = moments_between(seen, x0, x1, t)
    for s, u in [(0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2)]:
        for kind, (a, b) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
            size = (mean[a, a, s, s] * mean[b, b, u, u]).sqrt()
            bias = 0.03 * size  # of order 1 / channels
            apart = (mean[a, b, s, u] - limit[kind, s, u]).abs()
            assert (apart <= 4 * error[a, b, s, u] + bias).all(), (kind, s, u)


def signals() -> tuple[Tensor, Tensor]:
    return samples(1, 16, paths=2)


def images(side: int) -> tuple[Tensor, Tensor]:
    found = datasets.pairs(datasets.load("digits", shaped=True, side=side), count=2)
    return found.x0, found.x1


@pytest.mark.parametrize(
    ("make", "paths", "networks", "bias"),
    [
        (lambda shape, seed: vgg(3, shape=shape, width_factor=0.5, seed=seed), images(8), 16, 0.03),
        (lambda shape, seed: vgg(4, shape=shape, width_factor=0.5, seed=seed), signals(), 24, 0.03),
        (
            lambda shape, seed: resnet(10, shape=shape, width_factor=2, seed=seed),
            images(4),
            20,
            0.05,
        ),
        (
            lambda shape, seed: resnet(10, shape=shape, width_factor=2, seed=seed),
            signals(),
            20,
            0.05,
        ),
        (lambda shape, seed: leaky(60, seed), samples(2, 6, 7, paths=2), 40, 0.03),
    ],
    ids=["vgg", "vgg1", "resnet", "res1", "leaky"],
)
def test_networks_with_many_channels_do_as_predicted(
    make: Callable[[tuple[int, ...], int], nn.Module],
    paths: tuple[Tensor, Tensor],
    networks: int,
    bias: float,
) -> None:
    """Switches and gaps of each layer, and the mid-path deflection, within error and 1/width."""
    shape = tuple(paths[0].shape[1:])
    found: dict[str, list[Tensor]] = {"switches": [], "squares": [], "mid": []}
    for seed in range(networks):
        traced = trace(make(shape, seed).eval(), paths)
        layers = len(traced.layers)
        squares = traced.gaps.square().mean(dim=1)
        zero = torch.zeros(layers, dtype=torch.float64)
        found["switches"].append(zero.index_add(0, traced.layer, torch.ones_like(squares)) / 2)
        found["squares"].append(zero.index_add(0, traced.layer, squares) / 2)
        found["mid"].append(measures.mid_path_deflection(traced).square().mean()[None])
    predicted = at_initialisation(make(shape, 0).eval(), paths)
    assert predicted.layer_switches.shape == (2, layers)
    squares = predicted.layer_switches * predicted.layer_gap_deviation.square()
    assert torch.allclose(squares.sum(dim=1), predicted.quadratic_variation)
    limits = {
        "switches": predicted.layer_switches.mean(dim=0),
        "squares": squares.mean(dim=0),
        "mid": predicted.mid_path_deflection.square().mean()[None],
    }
    for name, rows in found.items():
        drawn = torch.stack(rows)
        error = drawn.std(dim=0) / math.sqrt(networks)
        share = bias if name == "switches" else 2 * bias
        apart = (drawn.mean(dim=0) - limits[name]).abs()
        assert (apart <= 4 * error + share * limits[name]).all(), (name, apart / limits[name])


def test_windows_that_pass_through_the_origin_are_counted() -> None:
    """All units of such a window switch at once; elsewhere nothing is special."""
    x0, x1 = samples(1, 8, 8, paths=1)
    for x, value in ((x0, -1.0), (x1, 2.0)):
        x[..., :3, :3] = 0
        x[..., 1, 1] = value  # the only entry that the window around pixel (0, 0) sees, and (0, 1)
    networks = 40
    found = []
    for seed in range(networks):
        traced = trace(vgg(3, shape=(1, 8, 8), width_factor=0.25, seed=seed), (x0, x1))
        found.append((traced.layer == 0).double().sum())
    drawn = torch.stack(found)
    predicted = at_initialisation(vgg(3, shape=(1, 8, 8), width_factor=0.25, seed=0), (x0, x1))
    error = drawn.std() / math.sqrt(networks)
    assert abs(drawn.mean() - predicted.layer_switches[0, 0]) < 4 * error


# Refusals


def ending(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))


def block(*branch: nn.Module) -> Residual:
    return Residual(nn.Sequential(*branch), 1.0)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (ending(nn.Conv2d(1, 4, 3), nn.Tanh()), r"its layer '1' is Tanh\(\)"),
        (ending(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2)), "its layer '1' is MaxPool2d"),
        (ending(nn.Conv2d(1, 4, 3), nn.PReLU()), "its layer '1' is PReLU"),
        (ending(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(2)), "'1' is AdaptiveAvgPool2d"),
        (ending(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2, padding=1)), "'1' is AvgPool2d"),
        (ending(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2, 1)), "without overlap .* '1' is AvgPool2d"),
        (ending(nn.Conv2d(1, 4, 3, dilation=2)), "its layer '0' is Conv2d"),
        (ending(nn.Sequential(nn.Conv2d(1, 4, 3, padding="same"))), r"its layer '0\.0' is Conv2d"),
        (ending(nn.Conv2d(1, 4, 3), nn.Dropout(0.1)), "'1' is Dropout.* in training mode; call"),
        (ending(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), "batch norm in eval mode.* layer '1'"),
        (ending(nn.Conv2d(3, 4, 3)), r"its layer '0', Conv2d.*takes 3 channels.*\(1, 8, 8\)"),
        (ending(nn.Conv1d(1, 4, 3)), r"its layer '0', Conv1d.*\(1, 8, 8\)"),
        (ending(nn.Conv2d(1, 4, 9)), "its layer '0', Conv2d"),
        (ending(nn.Conv2d(1, 4, 3), nn.AvgPool2d(7)), "its layer '1', AvgPool2d"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(6, 2)), r"'1', Linear.*\(4, 6, 6\)"),
        (ending(nn.ReLU()), "before each ReLU, but there is none before its layer '0'"),
        (ending(nn.Conv2d(1, 4, 3), nn.ReLU()), "there is none before its layer '2'"),
        (ending(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2)), "none before its layer '3'"),
        (nn.Conv2d(1, 4, 3), "must end with a Linear layer, but ends with its layer 'net'"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), "must have a ReLU"),
        (nn.Sequential(), "ends with nothing"),
        (resnet(10, shape=(1, 8, 8), seed=0), r"layer 'stage1\.0\.norm1' is not; call"),
        (ending(nn.Conv2d(1, 4, 3), block(nn.ReLU())), "of one shape, but its layer '1'"),
        (
            nn.Sequential(
                nn.Conv2d(1, 4, 3),
                block(nn.Conv2d(4, 4, 1, padding=3), nn.AvgPool2d(2)),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(144, 2),
            ),
            "no pooling, but its layer '1'",
        ),
        (ending(nn.Conv2d(1, 4, 3), block()), "what layers with weights make, .* its layer '1'"),
        (
            ending(nn.Conv2d(1, 4, 3), block(nn.BatchNorm2d(4))).eval(),
            "what layers with weights make, .* its layer '1'",
        ),
        (3, "net must be a torch.nn.Module, got int"),
    ],
)
def test_refuses_networks(net: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        at_initialisation(net, samples(1, 8, 8))


def test_refuses_batch_norm_that_has_seen_data() -> None:
    net = resnet(10, shape=(1, 8, 8), seed=0)
    net(samples(1, 8, 8)[0].float())
    with pytest.raises(InputError, match=r"layer 'stage1\.0\.norm1' is not"):
        at_initialisation(net.eval(), samples(1, 8, 8))


def test_refuses_paths() -> None:
    net = vgg(3, shape=(1, 8, 8), width_factor=0.1, seed=0)
    x0, x1 = samples(1, 8, 8)
    with pytest.raises(InputError, match="polylines of 2 segments"):
        at_initialisation(net, polyline(torch.cat([x0[:2], x1[:1]])))
    with pytest.raises(InputError, match="must not run through the origin"):
        at_initialisation(net, (x0, -x0))
    with pytest.raises(InputError, match=r"got samples of shape \(1, 1, 8, 8\)"):
        at_initialisation(net, (x0[:, None], x1[:, None]))
    biased = at_initialisation(net, (x0, -x0), BIASED)
    assert all(bool(getattr(biased, f.name).isfinite().all()) for f in fields(Prediction))
