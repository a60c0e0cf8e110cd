"""Tracing on patches of maps: the same as with whole values, in whatever chunks."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from _traces import Net, alike, drawn, each_way, switched
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from implreg.tracing import Trace, memory, patched, plan, read, stream, trace
from implreg.tracing.maps import Channelwise, Mixing, channelwise
from implreg.tracing.windows import find_wins


def conv(n_in: int, n_out: int, size: int = 3, **how: Any) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, **({"padding": size // 2} | how))


def normed(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    nn.init.normal_(layer.weight)  # of both signs
    nn.init.normal_(layer.bias, std=0.3)
    nn.init.normal_(layer.running_mean, std=0.2)
    nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return layer


def residual(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x).relu()
    x = (m.b(m.a(x).relu()) + x).relu()
    return m.head((m.d(m.c(x).relu()) + m.short(x)).relu().mean((2, 3)))


def preactivation(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    x = m.b(m.n2(m.a(m.n1(x).relu())).relu()) + x
    return m.head(x.mean((2, 3)))


def densely(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x).relu()
    x = torch.cat([x, m.a(x).relu()], 1)
    return m.head(torch.cat([m.b(x).relu(), x], 1).flatten(1))


def inverted(m: Any, x: Tensor) -> Tensor:
    x = functional.relu6(3 * m.n(m.stem(x)))
    x = x + m.project(functional.relu6(m.depthwise(functional.relu6(4 * m.expand(x)))))
    return m.head(x.mean((2, 3)))


def shifted(m: Any, x: Tensor) -> Tensor:
    x = m.a(x)  # which is read again, as it was
    return m.head((m.b((x + 1.0).relu()) + x).relu().flatten(1))


def parts(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x).relu()
    padded = functional.pad(x[:, :2, 4:-2, 4:], (0, 6, 1, 1))[:, :, :8, :15]
    return m.head((m.a(x[:, 1:3, ::2, 1:]) + padded).relu().flatten(1))


def inception(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x).relu()
    x = torch.cat([functional.max_pool2d(x, 3, 2, 1), functional.avg_pool2d(x, 2)], 1)
    x = m.a(x).relu()
    pooled = functional.max_pool2d(x, 2, 1)  # one window less than places
    return m.head((m.b(functional.max_pool2d(pooled, 2)).relu() + m.c(x).relu()).flatten(1))


def narrowed(m: Any, x: Tensor) -> Tensor:
    shift = torch.tensor([-6, -3, 0, 1, 2, 3]).to(x).view(6, 1, 1)
    x = functional.relu6(m.depthwise(m.stem(x).relu()) - shift)  # most channels rest at 0 or 6
    return m.head(functional.relu6(m.project(x)).mean((2, 3)))


NETS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "residual": ((1, 16, 16), lambda: Net(
        residual, stem=conv(1, 4), a=conv(4, 4), b=conv(4, 4), c=conv(4, 6, stride=2), d=conv(6, 6),
        short=conv(4, 6, 1, stride=2), head=nn.Linear(6, 3))),
    "preactivation": ((1, 16, 16), lambda: Net(
        preactivation, stem=conv(1, 4), n1=normed(4), n2=normed(4), a=conv(4, 4), b=conv(4, 4),
        head=nn.Linear(4, 3))),
    "densely": ((1, 12, 12), lambda: Net(
        densely, stem=conv(1, 4), a=conv(4, 3), b=conv(7, 5), head=nn.Linear(12 * 144, 3))),
    "inverted": ((3, 24, 24), lambda: Net(
        inverted, stem=conv(3, 6, stride=2), n=normed(6), expand=conv(6, 8, 1),
        depthwise=conv(8, 8, groups=8), project=conv(8, 6, 1), head=nn.Linear(6, 3))),
    "inception": ((1, 16, 16), lambda: Net(
        inception, stem=conv(1, 4), a=conv(8, 4), b=conv(4, 3, 2, padding=1),
        c=conv(4, 3, stride=2), head=nn.Linear(48, 3))),
    "narrowed": ((2, 14, 14), lambda: Net(
        narrowed, stem=conv(2, 6), depthwise=conv(6, 6, groups=6), project=conv(6, 4),
        head=nn.Linear(4, 3))),
    "shifted": (
        (1, 12, 12),
        lambda: Net(shifted, a=conv(1, 4), b=conv(4, 4), head=nn.Linear(4 * 144, 3)),
    ),
    "parts": ((1, 16, 16), lambda: Net(
        parts, stem=conv(1, 4), a=conv(2, 2), head=nn.Linear(2 * 8 * 15, 3))),
    "groups": ((1, 12, 12), lambda: nn.Sequential(
        conv(1, 4), nn.ReLU(), conv(4, 8, groups=4), nn.ReLU(), nn.ChannelShuffle(4),
        conv(8, 6, groups=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))),
    "transposed": ((1, 12, 12), lambda: nn.Sequential(
        conv(1, 4, stride=2), nn.ReLU(),
        nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1, padding=1, groups=2), nn.ReLU(),
        nn.ConvTranspose2d(4, 4, 2, groups=4, dilation=2), nn.ReLU(), nn.Flatten(),
        nn.LazyLinear(3))),
    "upsampled": ((1, 12, 12), lambda: nn.Sequential(
        conv(1, 4, stride=2), nn.ReLU(), nn.Upsample(scale_factor=2), conv(4, 4), nn.ReLU(),
        nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))),
    "pooled": ((1, 20, 20), lambda: nn.Sequential(
        conv(1, 4), nn.ReLU(), nn.AvgPool2d(3, 2, 1, count_include_pad=False, ceil_mode=True),
        conv(4, 4), nn.ReLU(), nn.MaxPool2d(3, 2, 1), conv(4, 4), nn.LeakyReLU(0.1),
        nn.MaxPool2d((2, 1)), nn.Flatten(), nn.LazyLinear(3))),
    "kinks": ((1, 16, 16), lambda: nn.Sequential(
        conv(1, 4), nn.PReLU(4), conv(4, 4), nn.Hardtanh(-0.5, 0.5), nn.MaxPool2d(2),
        conv(4, 4, dilation=2, padding=2), nn.Softshrink(0.1), nn.Flatten(), nn.LazyLinear(3))),
    "sizes": ((1, 14, 14), lambda: Net(
        lambda m, x: m.head(functional.max_pool2d(
            m.b(functional.max_pool2d(m.a(x).abs(), 2)).abs(), 3, 1).flatten(1)),
        a=conv(1, 4), b=conv(4, 4), head=nn.LazyLinear(3))),
    "normed": ((1, 12, 12), lambda: nn.Sequential(
        conv(1, 6), nn.ReLU(), normed(6), nn.MaxPool2d(2, 1), conv(6, 4), nn.ReLU(), normed(4),
        nn.Flatten(), nn.LazyLinear(20), nn.ReLU(), nn.LazyLinear(3))),
    "signals": ((2, 40), lambda: nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(4, 4, 5, padding=2, padding_mode="circular"), nn.ReLU(), nn.Flatten(),
        nn.LazyLinear(3))),
    "volumes": ((1, 8, 8, 8), lambda: nn.Sequential(
        nn.Conv3d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(3, 3, 3, padding=1),
        nn.ReLU(), nn.AvgPool3d(2), nn.Flatten(), nn.LazyLinear(3))),
    "unpadded": ((1, 30, 24), lambda: nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Conv2d(4, 4, 2, stride=2, bias=False),
        nn.ReLU(), nn.Flatten(), nn.LazyLinear(20), nn.ReLU(), nn.LazyLinear(3))),
    "maps": ((1, 10, 8), lambda: nn.Sequential(conv(1, 4), nn.ReLU(), conv(4, 2), nn.ReLU())),
    "global": ((1, 8, 8), lambda: nn.Sequential(
        conv(1, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Linear(4, 3))),
    "reflected": ((1, 12, 12), lambda: nn.Sequential(
        nn.ReflectionPad2d(1), conv(1, 4, padding=0), nn.ReLU(), nn.ReflectionPad2d((1, 2, 1, 0)),
        conv(4, 4, padding=0), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))),
    "crossed": ((1, 12, 12), lambda: Net(
        lambda m, x: m.head(m.b(m.a(x).relu().transpose(2, 3)).relu().flatten(1)),
        a=conv(1, 4), b=conv(4, 3), head=nn.LazyLinear(3))),
    "separable": ((1, 14, 14), lambda: nn.Sequential(
        conv(1, 4), nn.ReLU(), nn.Conv2d(4, 4, (1, 5), padding=(0, 2)),
        nn.Conv2d(4, 5, (5, 1), stride=(2, 1)), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))),
}  # fmt: skip


def made(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network with drawn weights and biases, in float64."""
    shape, make = NETS[name]
    torch.manual_seed(0)
    net = make().double().eval()
    with torch.no_grad():
        net(torch.zeros(1, *shape, dtype=torch.float64))
        for layer in net.modules():
            weight = getattr(layer, "weight", None)
            if isinstance(weight, Tensor) and weight.ndim > 1:
                nn.init.kaiming_normal_(weight)
                if layer.bias is not None:
                    nn.init.normal_(layer.bias, std=0.1)
    return net, shape


def ends(shape: tuple[int, ...], paths: int = 2) -> tuple[Tensor, Tensor]:
    x = drawn(7, 2 * paths, *shape)
    return x[:paths], x[paths:]


@pytest.mark.parametrize("name", NETS)
def test_same_as_with_whole_values(name: str) -> None:
    net, shape = made(name)
    one, other = each_way(net, ends(shape))
    alike(one, other)
    assert min(one.switches.tolist()) > 50


@pytest.mark.parametrize("name", NETS)
def test_count_does_not_depend_on_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of paths, of time, and of pieces."""
    net, shape = made(name)
    both = ends(shape)
    expected, _ = each_way(net, both)
    monkeypatch.setattr(memory, "_CHUNK", {"cpu": 2**19})
    for most in (2**21, 2**19):
        monkeypatch.setattr(memory, "_PATCHES", most)
        alike(next(each_way(net, both)), expected)
    alike([*each_way(net, both)][1], expected)


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(sorted(NETS)), st.integers(0, 2**32), st.integers(18, 24),
    st.sampled_from([torch.float64, torch.float32]), st.sampled_from([1.0, 0.1, 1e-3]),
)  # fmt: skip
def test_any_path_in_any_chunks(
    name: str, seed: int, power: int, dtype: torch.dtype, share: float
) -> None:
    net, shape = made(name)
    x0, x1 = drawn(seed, 2, 1, *shape).to(dtype)
    both = x0, torch.lerp(x0, x1, share)
    with pytest.MonkeyPatch.context() as patch:
        whole, _ = each_way(net.to(dtype), both, dtype=dtype)
        patch.setattr(memory, "_PATCHES", 2**power)
        found, _ = each_way(net, both, dtype=dtype)
    if dtype == torch.float64:
        alike(found, whole)
    else:  # of thousands of switches rounding decides on a few
        one, other = (Counter(switched(x)) for x in (found, whole))
        assert ((one - other) + (other - one)).total() <= 2 + 0.005 * len(whole.t)


def test_units_that_switch_at_a_border_between_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all switch at once, half way, is where the path is halved."""
    net = nn.Sequential(
        conv(1, 6, bias=False), nn.ReLU(), conv(6, 6, bias=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(6 * 144, 3, bias=False),
    ).double()  # fmt: skip
    x = drawn(0, 1, 1, 12, 12)
    expected = trace(net, (-x, x))
    assert len(expected.t) > 6 * 144 and (expected.t - 0.5).abs().max() < 1e-12
    monkeypatch.setattr(memory, "_PATCHES", 2**16)
    for found in each_way(net, (-x, x)):
        assert switched(found) == switched(expected)


def pooled_twice() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(1, 6), nn.ReLU(), nn.MaxPool2d(2, 1), conv(6, 6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.LazyLinear(2),
    ).double()  # fmt: skip
    net(torch.zeros(1, 1, 20, 20, dtype=torch.float64))
    return net.requires_grad_(False)


@pytest.mark.parametrize("seed", [3, 5, 6])
def test_windows_all_of_which_tie_at_one_time(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-way the image is black and maps are constant; a pool switches once, if its winner does.

    The times of switches before it are off by rounding over differences of slopes, which is more
    than rounding of t.
    """
    net = pooled_twice()
    x = drawn(seed, 1, 1, 20, 20)
    expected, other = each_way(net, (-x, x))
    alike(expected, other, near=1e-9)
    near = (expected.t - 0.5).abs() < 1e-8
    for layer, depth in ((1, 2), (3, 5)):
        maps = net[:depth](torch.cat([-1e-8 * x, 1e-8 * x]))
        stride = net[depth].stride
        entries = functional.unfold(maps.flatten(0, 1)[:, None], 2, stride=stride)
        before, after = (entries >= entries.amax(1, keepdim=True) - 1e-15).view(
            2, -1, *entries.shape[1:]
        )
        switches = ~(before & after).any(1)
        unit = expected.unit[near & (expected.layer == layer)]
        assert sorted(unit.tolist()) == switches.flatten().nonzero().flatten().tolist()
    monkeypatch.setattr(memory, "_PATCHES", 2**19)
    assert switched(trace(net, (-x, x))) == switched(expected)


def test_paths_that_take_chunks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long path cut in time, and short ones that go together."""
    net, shape = made("separable")
    x = drawn(3, 12, *shape)
    for size, seed in ((1.5, 0), (2.5, 1), (3.0, 2)):
        random = torch.Generator().manual_seed(seed)
        sizes = 10 ** (size * torch.rand(12, 1, 1, 1, generator=random, dtype=torch.float64))
        both = (x * sizes)[:6], (x * sizes)[6:]
        monkeypatch.undo()
        expected, _ = each_way(net, both)
        for most in (2**17, 2**18, 2**19):
            monkeypatch.setattr(memory, "_PATCHES", most)
            alike(next(each_way(net, both)), expected)


def test_large_windows_are_taken_in_pieces_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(conv(1, 4), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()).double()
    both, sizes = (drawn(0, 1, 1, 20, 20), drawn(1, 1, 1, 20, 20)), []
    expected = next(each_way(net, both))

    def watched(slopes: Tensor, *others: Any) -> Any:
        sizes.append(slopes.numel())
        return find_wins(slopes, *others)

    monkeypatch.setattr(patched, "find_wins", watched)
    monkeypatch.setattr(memory, "_PATCHES", 2**22)
    alike(next(each_way(net, both)), expected)
    assert 0 < max(sizes) <= 2**22 / 6 / 8  # bytes, of so many arrays


@pytest.mark.parametrize("size", [10, 1e3, 1e5])
def test_long_paths_of_clipped_units(size: float) -> None:
    """Entries that rest at a bound tie exactly; a pool switches where none wins on both sides."""
    torch.manual_seed(0)
    net = nn.Sequential(conv(1, 3), nn.ReLU6(), nn.MaxPool2d(2), nn.MaxPool2d(2, 1), nn.Flatten())
    net = net.double().requires_grad_(False)
    x0, x1 = drawn(0, 2, 1, 1, 12, 12) * size
    lines = (functional.unfold(net[0](x).transpose(0, 1), 2, stride=2) for x in (x0, x1))
    start, end = (line.transpose(1, 2).reshape(-1, 4, 1) for line in lines)
    way, count = end - start, 0
    for z, s in zip(start, way):
        bounds = torch.cat([(c - z) / s for c in (0, 6)]).flatten()
        a, b = torch.combinations(torch.arange(4)).T
        meets = ((z[b] - z[a]) / (s[a] - s[b])).flatten()
        t = torch.cat([bounds, meets, torch.tensor([0.0, 1.0], dtype=torch.float64)])
        t = t[(t >= 0) & (t <= 1)].sort().values
        middle = z + s * ((t[:-1] + t[1:]) / 2)
        clipped = middle.clamp(0, 6)
        wins = clipped == clipped.amax(0)
        count += int((~(wins[:, :-1] & wins[:, 1:]).any(0)).sum())
    for found in each_way(net, (x0, x1)):
        assert int((found.layer == 1).sum()) == count


def test_black_pixels_tie_and_do_not_switch() -> None:
    """Windows over a constant background have entries that are equal all along."""
    net, shape = made("pooled")
    x0, x1 = ends(shape)
    x0[..., 6:, :] = x1[..., 6:, :] = 0
    one, other = each_way(net, (x0, x1))
    alike(one, other)


def test_certificate_and_derivatives() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(1, 3), nn.ReLU(), nn.MaxPool2d(2), conv(3, 2), nn.LeakyReLU(0.2), nn.Flatten(),
        nn.Linear(18, 2),
    ).double()  # fmt: skip
    found = next(each_way(net, ends((1, 6, 6), paths=1)))
    assert len(found.t) > 30 and found.certify().holds
    again = found.replay(net)
    assert torch.allclose(again.t, found.t, atol=1e-12)
    assert torch.allclose(again.slopes, found.slopes, atol=1e-9)


def test_memory_is_bounded() -> None:
    """A path whose patches do not fit comes in chunks of time, and its count is the same."""
    net, shape = made("residual")
    both = ends(shape, paths=1)
    expected = trace(net, both)
    found = trace(net, both, memory="4MB")
    assert switched(found) == switched(expected)


def test_only_some_outputs() -> None:
    net, shape = made("unpadded")
    both = ends(shape)
    whole = trace(net, both)
    for outputs in ([2], [2, 0], [1, 1], []):
        for found in each_way(net, both, outputs=outputs):
            assert torch.allclose(found.slopes, whole.slopes[:, outputs], atol=1e-12)
            assert torch.allclose(found.ends, whole.ends[:, outputs], atol=1e-12)
            assert switched(found) == switched(whole)
            assert found.replay(net).gaps.shape == (len(whole.t), len(outputs))


def test_a_map_is_told_by_trying() -> None:
    """Whatever is the same for all channels, axis by axis; and nothing else is."""
    like = torch.zeros((), dtype=torch.float64)
    shape = (3, 8, 6)
    x = drawn(0, 2, *shape)
    random = drawn(1, *shape)

    def found(f: Callable[[Tensor], Tensor]) -> Channelwise | None:
        return channelwise(f, [shape], 0, tuple(f(x).shape[1:]), like)

    for same in (
        lambda x: x * random, lambda x: functional.avg_pool2d(x, 3, 2, 1), lambda x: x.flip(2),
        lambda x: x.roll(2, 3), lambda x: x[:, [2, 0, 0], 1::2], lambda x: x.mean((2, 3)),
        lambda x: functional.interpolate(x, scale_factor=1.5, mode="bilinear"),
    ):  # fmt: skip
        form = found(same)
        assert form is not None
        places = x[:, np.maximum(form.channels, 0)] if len(form.channels) else x
        for matrix in form.along:
            places = torch.tensordot(places, matrix, dims=([2], [1]))
        expected = same(x).reshape(2, len(form.channels), -1)
        assert torch.allclose(places.flatten(2) * form.gain, expected, atol=1e-13)
    for other in (
        lambda x: x.transpose(2, 3), lambda x: x.cumsum(1), lambda x: x - x.roll(1, 2),
        lambda x: functional.conv2d(x, random[:, None, :3, :3].expand(-1, 3, -1, -1)),
        lambda x: x * random + x.flip(2),
    ):  # fmt: skip
        assert found(other) is None


def test_what_is_done_on_patches() -> None:
    """As far as the maps go, unless so little is to be done that whole values are quicker."""
    net, shape = made("unpadded")
    assert read(net, torch.zeros(shape)).plan.position == 0
    net, shape = made("pooled")
    sample = torch.zeros(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_WORTH", 0)
        program = read(net, sample)
        assert program.plan.position == program.sites[-2]  # where patches fill the map
    dense = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    assert read(dense, torch.zeros(8)).plan.position == 0
    assert isinstance(program.operations[0].form, Mixing)  # type: ignore[union-attr]


def test_progress_is_told_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one path come one after another, and together they are the path."""
    net, shape = made("residual")
    both = ends(shape, paths=1)
    expected: Trace = trace(net, both)
    monkeypatch.setattr(memory, "_PATCHES", 2**18)
    monkeypatch.setattr(plan, "_WORTH", 0)
    found = list(stream(net, both))
    assert len(found) > 4
    start = torch.cat([part.start for part in found])
    assert torch.equal(start, start.sort().values) and len(start) == len(expected.t) + 1
    assert sum(len(part.finished) for part in found) == 1


@pytest.mark.parametrize(
    "layer",
    [
        conv(3, 5, 2, stride=2, padding=1), conv(6, 6, groups=6, dilation=2, padding=2),
        conv(6, 2, 1), nn.Conv1d(3, 4, 3, padding=1), nn.Conv3d(2, 3, (1, 2, 3), padding=(0, 1, 1)),
        nn.ConvTranspose2d(3, 4, 3, stride=2, output_padding=1),
        nn.ConvTranspose2d(4, 4, 2, groups=4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("side", [1, 3])
def test_small_maps_by_products_over_all_rows(layer: nn.Conv2d, side: int) -> None:
    """The same as PyTorch's convolution, whatever is the quicker."""
    layer = layer.double().requires_grad_(False)
    x = drawn(0, 4, layer.in_channels, *[side] * (layer.weight.ndim - 2))
    program = read(nn.Sequential(layer, nn.ReLU()), x[0])
    form = program.operations[0].form
    made = form.whole(x) + program.operations[0].bias
    assert torch.allclose(made, layer(x), rtol=0, atol=1e-14)
    assert form.whole(x[:0]).shape == layer(x)[:0].shape
