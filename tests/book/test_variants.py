"""Networks of the ablations: what is drawn, what is built, and that it can be traced."""

import math

import pytest
import torch
from implreg_book.experiments.variants import Start, Variant, equal_width, parameters
from torch import nn

import implreg as ir
from implreg.errors import InputError

IMAGE, SIGNAL = (1, 8, 8), (2, 12)
VARIANTS = [
    Variant(),
    Variant(widths=(7, 9)),
    Variant(widths=(9, 9, 9), skip=True),
    Variant(widths=(9, 9), batch_norm=True, leak=0.2),
    Variant(widths=(9, 9), skip=True, batch_norm=True, dropout=0.3),
    Variant("conv", (3, 5)),
    Variant("conv", (3, 3), skip=True),
    Variant("conv", (3, 5), batch_norm=True, dropout=0.2),
    Variant(start=Start(output_scale=3.0, sigma_b=0.5)),
]


@pytest.mark.parametrize("shape", [IMAGE, SIGNAL])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_is_a_network_that_can_be_traced(variant, shape):
    net = variant.build(shape, 4, seed=0, dtype=torch.float64)
    random = torch.Generator().manual_seed(0)
    ends = tuple(torch.randn(2, 3, *shape, generator=random, dtype=torch.float64))
    found = ir.trace(net, ends)
    torch.testing.assert_close(found.ends, net(ends[1]).detach(), rtol=1e-9, atol=1e-9)
    hidden = sum(isinstance(m, nn.ReLU | nn.LeakyReLU) for m in net.modules())
    assert hidden == len(variant.widths) == len(found.layers)
    assert not net.training


@pytest.mark.parametrize("distribution", ["gaussian", "uniform", "orthogonal"])
@pytest.mark.parametrize("shape", [(900, 300), (300, 900)])
def test_all_distributions_have_he_s_second_moment(distribution, shape):
    rows, columns = shape
    start = Start(distribution, scale=0.5, sigma_b=0.2)
    net = Variant(widths=(rows,), start=start).build((columns,), 2, seed=0)
    weight, bias = (p.detach().double() for p in list(net.parameters())[:2])
    assert float(weight.square().mean()) == pytest.approx(0.25 * 2 / columns, rel=0.02)
    assert float(bias.std()) == pytest.approx(0.2, rel=0.15)
    output = list(net.parameters())[2].detach().double()
    assert float(output.square().mean()) == pytest.approx(1 / rows, rel=0.12)


def test_uniform_weights_are_bounded_and_orthogonal_ones_orthogonal():
    uniform = next(Variant(start=Start("uniform")).build((64,), 2, seed=0).parameters())
    assert float(uniform.abs().max()) <= math.sqrt(6 / 64)
    for n in (32, 256):
        w = next(
            Variant(widths=(n,), start=Start("orthogonal")).build((64,), 2, seed=0).parameters()
        )
        gram = w @ w.T if n < 64 else w.T @ w
        torch.testing.assert_close(gram, gram[0, 0] * torch.eye(min(n, 64)), rtol=1e-4, atol=1e-5)


def test_the_usual_start_has_the_moments_of_the_book_s_other_networks():
    ours = Variant(widths=(400, 400)).build((300,), 100, seed=0)
    other = ir.mlp(300, 400, 400, 100, seed=0)
    for a, b in zip(ours.parameters(), other.parameters()):
        assert float(a.square().mean()) == pytest.approx(float(b.square().mean()), rel=0.03)


def test_scale_and_output_scale_multiply_the_outputs():
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    usual = Variant().build(IMAGE, 4, seed=1)(x)
    for start in (Start(scale=3.0), Start(output_scale=3.0)):
        torch.testing.assert_close(Variant(start=start).build(IMAGE, 4, seed=1)(x), 3 * usual)


def test_skip_connections_add_the_input_of_a_hidden_layer():
    net = Variant(widths=(9, 9), skip=True).build((5,), 4, seed=0)
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    first, second, output = (m for m in net.modules() if isinstance(m, nn.Linear))
    made = first(x)
    made = made + second(made.relu())
    torch.testing.assert_close(net(x), output(made.relu()))


def test_a_seed_gives_the_same_network():
    one, two, other = (Variant().build(IMAGE, 4, seed=s) for s in (0, 0, 1))
    x = torch.ones(1, *IMAGE)
    assert torch.equal(one(x), two(x))
    assert not torch.equal(one(x), other(x))


@pytest.mark.parametrize("depth", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [500, 20_000, 123_456])
def test_equal_width_is_the_largest_within_the_count(depth, count):
    width = equal_width(depth, count, IMAGE, 10)
    assert parameters(Variant(widths=(width,) * depth), IMAGE, 10) <= max(count, 0) or width == 1
    assert parameters(Variant(widths=(width + 1,) * depth), IMAGE, 10) > count


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Variant("transformer"), "family must be one of mlp, conv"),
        (lambda: Variant(widths=()), "widths must name at least one hidden layer"),
        (lambda: Variant(widths=(0,)), "widths must be"),
        (lambda: Variant(widths=(4, 5), skip=True), "widths must be equal with skip connections"),
        (lambda: Variant(leak=1.0), "leak must be a share below 1"),
        (lambda: Variant(dropout=-0.1), "dropout must be"),
        (lambda: Start("sparse"), "distribution must be one of gaussian"),
        (lambda: Start(scale=0.0), "scale must be"),
        (lambda: Start(sigma_b=-1.0), "sigma_b must be"),
        (lambda: Start(output_scale=float("inf")), "output_scale must be"),
        (lambda: equal_width(0, 100, IMAGE, 10), "depth must be"),
    ],
)
def test_bad_variants_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
