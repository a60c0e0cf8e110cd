"""Random acyclic networks: branches, joins, reuse, views, writing into them, dead ends."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from _traces import check, drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from implreg.errors import InputError
from implreg.sampled import sampled
from implreg.tracing import read, trace

WIDTHS = (1, 3, 5)


class Acyclic(nn.Module):
    """Each step makes a value from earlier ones; the output reads some of them, and not all.

    Args:
        seed: of the operations and of the weights.
        steps: how many.
        inputs: entries of a sample.
    """

    def __init__(self, seed: int, steps: int, inputs: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self._choice, self._weights = random.Random(seed), torch.Generator().manual_seed(seed)
        self.steps: list[Callable[[list[Tensor]], Tensor]] = []
        sizes = [inputs]
        for _ in range(steps):
            step, size = self._step(sizes)
            self.steps.append(step)
            sizes.append(size)
        self.read = self._choice.sample(range(1, steps + 1), min(steps, 2))
        self.out = nn.ModuleList(self._linear(sizes[i], 2) for i in self.read)

    def _linear(self, n_in: int, n_out: int) -> nn.Linear:
        layer = nn.Linear(n_in, n_out, dtype=torch.float64)
        for parameter in layer.parameters():
            parameter.data.normal_(generator=self._weights)
        return layer

    def _step(self, sizes: list[int]) -> tuple[Callable[[list[Tensor]], Tensor], int]:
        pick = self._choice
        i = pick.randrange(len(sizes))
        n = sizes[i]
        same = [j for j, size in enumerate(sizes) if size == n]
        j, k = pick.choice(same), pick.randrange(len(sizes))
        cut = pick.randrange(n)
        layer = self._linear(n, pick.choice(WIDTHS))
        fixed = layer.weight.detach()
        match pick.choice((
            "layer", "layer", "relu", "relu", "kin", "join", "cat", "view", "move", "write",
            "write", "linear", "idiom",
        )):  # fmt: skip
            case "layer":
                self.layers.append(layer)
                return lambda v: layer(v[i]), layer.out_features
            case "relu":
                return pick.choice([
                    lambda v: v[i].relu(),
                    lambda v: (v[i] + 0.1).relu_(),
                    lambda v: nn.functional.relu(v[i].flip(1)),
                ]), n  # fmt: skip
            case "kin":
                return pick.choice([
                    lambda v: nn.functional.leaky_relu(v[i], 0.2),
                    lambda v: v[i].abs(),
                    lambda v: v[i].clamp(-0.7, 0.9),
                    lambda v: nn.functional.hardtanh(0.5 * v[i]),
                ]), n  # fmt: skip
            case "join":
                return pick.choice([
                    lambda v: v[i] + v[j],
                    lambda v: v[i] - 0.5 * v[j],
                    lambda v: torch.maximum(v[i], v[j]),
                    lambda v: torch.minimum(v[i], v[j] + 0.3),
                ]), n  # fmt: skip
            case "cat" if n + sizes[k] < 12:
                return lambda v: torch.cat([v[i], v[k]], 1), n + sizes[k]
            case "view":
                return lambda v: v[i][:, cut:], n - cut
            case "write":

                def write(v: list[Tensor]) -> Tensor:
                    part = v[i][:, cut:]
                    match where:
                        case 0:
                            part.relu_()
                        case 1:
                            part.mul_(0.5).add_(v[j][:, : n - cut].clone())  # of what it overlaps
                        case 2:
                            v[i][:, cut] = v[j][:, 0]
                        case 3:
                            v[i][..., [cut]] = 0.2
                        case _:
                            made = torch.zeros(len(part), n, dtype=part.dtype)
                            made[:, : n - cut] = part
                            part.clamp_(-0.5, 0.8)
                            return made
                    return v[j].view_as(v[j])

                where = pick.randrange(5)
                return write, n
            case "idiom":
                return pick.choice([
                    lambda v: torch.where(v[i] > v[j], v[i], v[j]),
                    lambda v: torch.where(v[i] < 0.2, 0.3 * v[i] - 0.06, v[i] - 0.2),
                    lambda v: v[i] * (v[i] >= 0) - (v[j] - 0.1) * (v[j] < 0.1).double(),
                    lambda v: v[i].masked_fill(v[i] < -0.5, -0.5),
                    lambda v: v[i].sort(1, descending=True)[0],
                    lambda v: v[i].max(1, keepdim=True)[0] + v[i].median(1, True).values + v[j],
                    lambda v: v[i].norm(1, 1, True) - v[j].topk(1).values + v[i],
                ]), n  # fmt: skip
            case "linear":
                return pick.choice([
                    lambda v: torch.einsum("bi,ji->bj", v[i], fixed),
                    lambda v: torch.bmm(fixed.expand(len(v[i]), -1, -1), v[i][..., None])[..., 0],
                    lambda v: v[i].roll(1, 1).cumsum(1)[:, [0] * len(fixed)],
                    lambda v: v[i].new_ones(len(v[i]), len(fixed)).index_add(
                        1, torch.arange(n) % len(fixed), v[i]),
                ]), len(fixed)  # fmt: skip
        return pick.choice([
            lambda v: 2 * v[i].flip(1),
            lambda v: -v[i].view(-1, 1, n).transpose(1, 2).flatten(1),
            lambda v: v[i].mean(1, keepdim=True).expand(-1, n).clone(),
        ]), n  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        values = [x.clone()]  # some steps write
        for step in self.steps:
            values.append(step(values))
        return sum(out(values[i]) for out, i in zip(self.out, self.read))


def paths() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    x0, x1 = torch.randn(2, 2, 4, generator=random, dtype=torch.float64)
    return x0, x1


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 25))
def test_any_acyclic_network_is_traced(seed: int, steps: int) -> None:
    check(Acyclic(seed, steps), paths(), points=501)


class AcyclicMaps(nn.Module):
    """The same for maps: convolutions, pools, branches, parts; the output reads two values.

    Args:
        seed: of the operations and of the weights.
        steps: how many.
        sample: shape of a sample.
    """

    def __init__(self, seed: int, steps: int, sample: tuple[int, int, int]) -> None:
        super().__init__()
        self._choice, self._weights = random.Random(seed), torch.Generator().manual_seed(seed)
        self.steps: list[Callable[[list[Tensor]], Tensor]] = []
        values = [torch.zeros(1, *sample, dtype=torch.float64)]
        for _ in range(steps):
            self.steps.append(self._step(values))
            values.append(self.steps[-1](values))
        self.read = self._choice.sample(range(1, steps + 1), min(steps, 2))
        self.out = [self._drawn(nn.Linear(values[i][0].numel(), 2)) for i in self.read]

    def _drawn(self, layer: nn.Module) -> nn.Module:
        for parameter in layer.double().requires_grad_(False).parameters():
            parameter.normal_(generator=self._weights).mul_((parameter[0].numel() + 1) ** -0.5)
        return layer

    def _step(self, values: list[Tensor]) -> Callable[[list[Tensor]], Tensor]:
        pick, shapes = self._choice, [x.shape[1:] for x in values]
        i = pick.randrange(max(0, len(values) - 3), len(values))
        (c, *sizes), n = shapes[i], pick.choice((1, 2, 3))
        same = pick.choice([j for j, shape in enumerate(shapes) if shape == shapes[i]])
        beside = pick.choice([j for j, shape in enumerate(shapes) if shape[1:] == shapes[i][1:]])
        match pick.choice(("mix", "mix", "hinge", "hinge", "pool", "join", "resize", "part")):
            case "mix":
                how = [
                    {}, {}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"kernel_size": 1},
                    {"groups": c, "out_channels": c}, {"padding_mode": "circular"},
                ]  # fmt: skip
                how = {"in_channels": c, "out_channels": n, "kernel_size": 3, "padding": 1} | (
                    pick.choice(how)
                )
                layer = self._drawn(nn.Conv2d(**how))
                return lambda v: layer(v[i])
            case "hinge":
                return pick.choice([
                    lambda v: v[i].relu(),
                    lambda v: nn.functional.leaky_relu(v[i], 0.2),
                    lambda v: nn.functional.relu6(8 * v[i]),
                    lambda v: v[i].clamp(-0.4, 0.6),
                    lambda v: v[i].abs(),
                ])  # fmt: skip
            case "pool" if min(sizes) > 3:
                return pick.choice([
                    lambda v: nn.functional.max_pool2d(v[i], 2),
                    lambda v: nn.functional.max_pool2d(v[i], 3, 1, 1),
                    lambda v: nn.functional.max_pool2d(v[i], 3, 2, 1, ceil_mode=True),
                    lambda v: nn.functional.avg_pool2d(v[i], 2, 1),
                    lambda v: nn.functional.avg_pool2d(v[i], 3, 2, 1),
                ])  # fmt: skip
            case "resize" if max(sizes) < 9:
                up = self._drawn(nn.ConvTranspose2d(c, n, 2, stride=2))
                return pick.choice([
                    lambda v: up(v[i]),
                    lambda v: nn.functional.interpolate(v[i], scale_factor=2),
                    lambda v: nn.functional.pad(v[i], (1, 0, 1, 2)),
                ])  # fmt: skip
            case "part":
                return pick.choice([
                    lambda v: v[i][:, :1],
                    lambda v: v[i][..., : max(1, sizes[1] - 1)],
                    lambda v: v[i].flip(2),
                    lambda v: v[i].roll(1, 3),
                    lambda v: v[i].mean((2, 3), keepdim=True) + v[i],
                    lambda v: v[i].transpose(2, 3),
                ])  # fmt: skip
        return pick.choice([
            lambda v: v[i] + v[same],
            lambda v: torch.maximum(v[i], v[same]),
            lambda v: torch.cat([v[i], v[beside]], 1)[:, -3:],
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step in self.steps:
            values.append(step(values))
        return sum(out(values[i].flatten(1)) for out, i in zip(self.out, self.read))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 12))
def test_any_acyclic_network_of_maps_is_traced(seed: int, steps: int) -> None:
    """On patches and with whole values."""
    sample = (2, 8, 7)
    x0, x1 = drawn(0, 2, 1, *sample)
    check(AcyclicMaps(seed, steps, sample), (x0, x1), points=301)


class Towers(nn.Module):
    """Two towers that meet behind their activations."""

    def __init__(self) -> None:
        super().__init__()
        self.l, self.r, self.l2, self.r2 = (
            nn.Linear(n, m, dtype=torch.float64) for n, m in ((4, 6), (4, 6), (6, 3), (6, 3))
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.l(x).relu(), self.r(x).relu()
        return self.l2(left) + self.r2(right)


class Unread(nn.Module):
    """Units, a head and what is noted that the output does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.other = (nn.Linear(n, 6, dtype=torch.float64) for n in (4, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        self.noted = (h - 1).relu(), h.softmax(1), h.mean(), h.sort(1).values, h * h, h[h > 0.3]
        h.clone().sigmoid_().add_(1.0)
        copy = h.clone()
        copy[:, 0] = copy[:, 1] ** 2
        h = h.relu()
        self.other(h).relu()
        return self.head(h)


class Unrolled(nn.Module):
    """One layer again and again."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.layer, self.times = nn.Linear(4, 4, dtype=torch.float64), times
        nn.init.orthogonal_(self.layer.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(self.times):
            h = self.layer(h).relu() + 0.1 * x
        return h


def test_a_layer_stands_right_behind_the_activation_that_it_alone_reads() -> None:
    torch.manual_seed(0)
    program = read(Towers(), torch.zeros(4))
    assert [o.name for o in program.operations] == ["l", "relu", "l2", "r", "relu:2", "r2", "add"]
    assert sorted(program.followers) == [1, 4]
    assert len(check(Towers(), paths()).t)


def test_a_program_is_traced_in_whatever_order_it_comes() -> None:
    torch.manual_seed(0)
    program = read(Towers(), torch.zeros(4))
    first, relu, l2, r, relu2, r2, add = program.operations
    inputs = (
        (first, (0,)),
        (relu, (1,)),
        (r, (0,)),
        (relu2, (3,)),
        (l2, (2,)),
        (r2, (4,)),
        (add, (5, 6)),
    )
    other = replace(program, operations=tuple(replace(o, inputs=taken) for o, taken in inputs))
    one, two = trace(program, paths()), trace(other, paths())
    torch.testing.assert_close(one.t, two.t, rtol=0, atol=1e-14)
    torch.testing.assert_close(one.slopes, two.slopes, rtol=0, atol=1e-13)
    assert not other.followers and len(one.t)


def test_what_the_output_does_not_depend_on_has_no_switches() -> None:
    torch.manual_seed(0)
    net = Unread()
    assert [o.name for o in read(net, torch.zeros(4)).operations] == ["body", "relu:2", "head"]
    traced = check(net, paths())
    assert len(traced.t) and traced.layers == ("relu:2",)
    assert bool((traced.gaps != 0).any(dim=1).all())


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda h: h.softmax(1), "calls softmax, which is not piecewise linear"),
        (lambda h: h - h.mean(), "reduces its input over all axes|first axis"),
        (lambda h: h + h.sort(1).indices, "uses indices"),
        (lambda h: h.clone().sigmoid_().add_(1.0), "calls sigmoid, which is not piecewise linear"),
        (lambda h: torch.where(h > 0, 1.0, -h), "chooses between"),
        (lambda h: _written(h, h**2), "calls pow"),
        (lambda h: _written(h[:, 1:], h.exp()[:, 1:]) + h[:, :1].expand(-1, 5), "fails on one"),
        (lambda h: _written(h[:, 1:], h.exp()[:, 1:])[:, [0] * 6], "calls exp"),
        (lambda h: torch.tensor(float(h.sum())) + h, "calls item"),
        (lambda h: h.exp().no_such_thing(), "AttributeError"),
        (lambda h: (h * h, h)[0], "multiplies two branches"),
    ],
)
def test_what_the_output_does_depend_on_is_refused_for_the_first_reason(
    function: Callable[[Tensor], Tensor], told: str
) -> None:
    class Uses(Unread):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            return self.head(function(self.body(x)))

    with pytest.raises(InputError, match=told):
        trace(Uses(), paths())


def _written(whole: Tensor, part: Tensor) -> Tensor:
    whole[:, 0] = part[:, 1]
    return whole


def _doubled(v: Tensor) -> Tensor:
    constant = torch.full((6,), 2.0, dtype=v.dtype)
    made = v * constant
    constant.zero_()
    return made + 1


# Writing into h by other names of it: followed, or refused, never forgotten.
WRITES: list[Callable[[Tensor], object]] = [
    lambda h: h.view(-1).clamp_(max=0.3),
    lambda h: h.T.clamp_(max=0.3),
    lambda h: h.data.clamp_(max=0.3),
    lambda h: h.detach().clamp_(max=0.3),
    lambda h: h[None].clamp_(max=0.3),
    lambda h: h[0].clamp_(max=0.3),
    lambda h: [row.clamp_(max=0.3) for row in h],
    lambda h: h.as_strided(h.shape, h.stride()).clamp_(max=0.3),
    lambda h: h.as_subclass(Tensor).clamp_(max=0.3),
    lambda h: torch.vmap(lambda row: row.clamp_(max=0.3))(h),
    lambda h: torch.clamp(h, max=0.3, out=h),
    lambda h: torch.neg(h, out=h),
    lambda h: [part.clamp_(max=0.3) for part in h.chunk(2, 1)],
    lambda h: h.unflatten(1, (2, 3))[:, 1].T.clamp_(max=0.3),
    lambda h: h[:, 1:].unsqueeze(2).transpose(1, 2)[..., :2].clamp_(max=0.3),
]


@pytest.mark.parametrize("write", WRITES)
def test_what_is_written_by_another_name_is_not_forgotten(
    write: Callable[[Tensor], object],
) -> None:
    torch.manual_seed(0)

    class Writes(Unread):
        def forward(self, x: Tensor) -> Tensor:
            h = self.body(x)
            write(h)
            return self.head(h.relu())

    net, (x0, x1) = Writes(), paths()
    try:
        traced = trace(net, (x0, x1))
    except InputError as refusal:
        assert "views" not in str(refusal) or "fault" not in str(refusal)
        return
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    for i in range(2):
        with torch.no_grad():
            own = net(torch.lerp(x0[i], x1[i], t[:, None]))
        torch.testing.assert_close(traced.at(t, i), own)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda h: h.clamp(0, 1).masked_fill(h.clamp(0, 1) == 1, 0.0), "calls eq"),
        (lambda h: h.clamp(0, 1) * (h.clamp(0, 1) != 1), "calls ne"),
        (lambda h: torch.where(h.isclose(h.new_tensor(0.5)), h, 2 * h), "calls isclose"),
        (lambda h: torch.where(torch.isin(h, h.new_tensor([0.3])), h, 2 * h), "calls isin"),
        (lambda h: h if (h.clamp(0, 1) == 1).any() else -h, "decides by"),
        (lambda h: h.view(-1, 1).relu().view(-1, 6), "first axis"),
        (lambda h: h.unsqueeze_(1)[:, 0], "whose result has another shape"),
        (lambda h: _written(h.new_zeros(len(h), 9)[:, :6], h), "part of a constant|copy"),
    ],
)
def test_functions_that_only_seem_constant_or_linear_are_refused(
    function: Callable[[Tensor], Tensor], told: str
) -> None:
    class Uses(Unread):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(function(self.body(x)))

    with pytest.raises(InputError, match=told):
        trace(Uses(), paths())


def test_constants_count_as_they_were_and_nothing_recorded_stays() -> None:
    class Keeps(Unread):
        def forward(self, x: Tensor) -> Tensor:
            self.kept = self.body(x).relu()
            return self.head(_doubled(self.kept))

    net = Keeps()
    read(net, torch.zeros(4))
    assert not hasattr(net, "kept")
    check(net, paths())
    assert type(net.kept) is Tensor and net.kept.tanh().shape == (2_001, 6)
    read(net, torch.zeros(4))


@pytest.mark.parametrize("times", [600])
def test_a_network_may_be_as_deep_as_it_likes(times: int) -> None:
    traced = check(Unrolled(times), paths(), points=501)
    assert len(traced.layers) == times and len(traced.t)


class Several(nn.Module):
    """Two heads, one of them smooth, and what a forward pass leaves behind."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        self.head, self.smooth = nn.Linear(6, 3), nn.Linear(6, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.log: list[Tensor] = []

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        h = self.body(x)
        self.log.append(h)
        self.mean = h.mean()
        return self.head(h), self.smooth(h).softmax(1)


class Pair(Several):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(x)


class Named(Several):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        head, smooth = self.heads(x)
        return {"body": head, "classes": smooth}


class Goes(Several):
    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return self.head(h) if h.sum() > 0 else h


@pytest.mark.parametrize(
    ("kind", "output", "inner"),
    [
        (Pair, 0, "head"),
        (Pair, -2, "head"),
        (Pair, "0", "head"),  # as the command line gives it
        (Pair, "smooth", "smooth"),
        (Pair, "body.0", "body.0"),
        (Named, "body", "head"),  # a key before a module
        (Named, "head", "head"),
        (Goes, "body", "body"),  # what comes behind it is not asked for
    ],
)
def test_the_output_that_is_asked_for_is_traced(
    kind: type[Several], output: int | str, inner: str
) -> None:
    net = kind()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    asked = trace(net, paths(), output=output)
    alone = nn.Sequential() if inner.startswith("body") else nn.Sequential(net.body)
    alone.append(net.get_submodule(inner))
    expected = trace(alone, paths())
    assert torch.equal(asked.t, expected.t) and torch.equal(asked.slopes, expected.slopes)
    points = sampled(net, paths(), points=9, output=output)
    assert points.switches.tolist() == sampled(alone, paths(), points=9).switches.tolist()
    assert not net.log and not hasattr(net, "mean")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(x.dtype == torch.float32 for x in net.parameters())


@pytest.mark.parametrize(
    ("kind", "output", "told"),
    [
        (Pair, None, r"must return one tensor, got 2 outputs; choose one by output=0 to output=1"),
        (Named, None, r"the outputs of a dict; choose one by output='body' or output='classes'"),
        (Pair, 2, r"output must be .*, got 2, but net returns 2 outputs; choose one by output=0"),
        (Named, 0, r"output must be .*, got 0, but net returns the outputs of a dict"),
        (Named, "tail", r"got 'tail', but net returns the outputs of a dict"),
        (Pair, "head.0", r"got 'head\.0', but net returns 2 outputs"),
        (Pair, True, r"output must be an index, a key, or the name .*, got True; pass"),
        (Pair, 1.5, r"output must be an index, a key, or the name .*, got 1\.5; pass"),
        (Pair, 1, r"calls softmax, which is not piecewise linear"),
        (Goes, None, r"decides by what it computes"),
        (Towers, 0, r"got 0, but net returns one tensor; leave output out"),
    ],
)
def test_an_output_that_there_is_not_is_refused(
    kind: type[nn.Module], output: object, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        trace(kind(), paths(), output=output)  # type: ignore[arg-type]


def test_an_output_is_as_it_was_before_it_is_written_to() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)).double()
    asked = trace(net, paths(), output="0")
    torch.testing.assert_close(asked.ends, net[0](paths()[1]).detach())


def test_a_program_has_its_output_already() -> None:
    program = read(Pair(), torch.zeros(4), output=0)
    assert trace(program, paths()).slopes.shape[1] == 3
    with pytest.raises(InputError, match="output must be left out where net is a program, got 0"):
        trace(program, paths(), output=0)


def _pruned(net: nn.Sequential) -> nn.Sequential:
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    nn.utils.weight_norm(net[2])
    return net


def _parametrised(net: nn.Sequential) -> nn.Sequential:
    parametrizations.weight_norm(net[0])
    parametrizations.spectral_norm(net[2])
    return net.eval()


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("change", [_pruned, _parametrised, torch.compile, nn.DataParallel])
def test_float32_modules_of_any_make_are_cast_and_stay(change: Callable[..., nn.Module]) -> None:
    net = change(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)))
    before = {id(x) for x in (*net.parameters(), *net.buffers())}
    inside = getattr(net, "_orig_mod", net)
    held = [{name: id(value) for name, value in vars(x).items()} for x in inside.modules()]
    traced = trace(net, paths())
    assert {id(x) for x in (*net.parameters(), *net.buffers())} == before
    for module, attributes in zip(inside.modules(), held, strict=True):
        assert {name: id(value) for name, value in vars(module).items()} == attributes
    x = torch.cat(paths())
    own = inside(x.float()).double()
    found = torch.cat([traced.values[traced.first_pieces], traced.ends])
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)
    assert not any("_orig_mod" in name for name in traced.layers)
