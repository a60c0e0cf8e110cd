"""Random acyclic networks: branches, joins, reuse, views, writing into them, dead ends."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from _traces import check
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from implreg.errors import InputError
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
            "write", "linear",
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
        (lambda h: h + h.sort(1).values, "calls sort"),
        (lambda h: h.clone().sigmoid_().add_(1.0), "calls sigmoid, which is not piecewise linear"),
        (lambda h: torch.where(h > 0, h, -h), "calls gt"),
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
        (lambda h: h if (h.clamp(0, 1) == 1).any() else -h, "calls bool"),
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
    check(net, paths())
    read(net, torch.zeros(4))
    assert type(net.kept) is Tensor and net.kept.tanh().shape == (2, 6)
    read(net, torch.zeros(4))


@pytest.mark.parametrize("times", [600])
def test_a_network_may_be_as_deep_as_it_likes(times: int) -> None:
    traced = check(Unrolled(times), paths(), points=501)
    assert len(traced.layers) == times and len(traced.t)
