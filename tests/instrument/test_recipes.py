"""Training by a recipe: plain SGD within it, other optimisers, noise and regularisation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from implreg.errors import InputError
from implreg.networks import mlp
from implreg.training import SGD, Diverged, Recipe, train
from implreg.training.recipes import disturbed


@pytest.fixture
def samples() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=random, dtype=torch.float64)
    return x, torch.randint(3, (50,), generator=random)


def trained(samples, recipe, *, net=None, seed=0):
    net = net or mlp(6, 16, 3, seed=0, dtype=torch.float64)
    list(train(net, *samples, recipe, seed=seed))
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def by_hand(samples, step):
    """The weights after full-batch steps, each `step(parameters, gradients, state)`."""
    net = mlp(6, 16, 3, seed=0, dtype=torch.float64)
    state = {}
    for _ in range(4):
        loss = nn.functional.cross_entropy(net(samples[0]), samples[1])
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            step(list(net.parameters()), gradients, state)
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_with_defaults_it_is_plain_sgd_bit_for_bit(samples):
    net = mlp(6, 16, 3, seed=0, dtype=torch.float64)
    list(train(net, *samples, SGD(0.1, 5, 16, 2), seed=3))
    expected = torch.cat([p.detach().flatten() for p in net.parameters()])
    assert torch.equal(trained(samples, Recipe(0.1, 5, 16, 2), seed=3), expected)


def test_dropout_is_that_of_plain_sgd(samples):
    def net():
        return nn.Sequential(mlp(6, 16, 3, seed=0, dtype=torch.float64)[0], nn.Dropout(0.5),
                             nn.Linear(16, 3, dtype=torch.float64))  # fmt: skip

    torch.manual_seed(0)
    one = net()
    torch.manual_seed(0)
    two = net()
    list(train(one, *samples, SGD(0.1, 3, 16, 0), seed=1))
    list(train(two, *samples, Recipe(0.1, 3, 16, 0), seed=1))
    for a, b in zip(one.parameters(), two.parameters()):
        assert torch.equal(a, b)


def test_momentum_is_polyaks(samples):
    def step(parameters, gradients, state):
        for i, (p, g) in enumerate(zip(parameters, gradients)):
            state[i] = 0.5 * state.get(i, 0) + g
            p -= 0.2 * state[i]

    found = trained(samples, Recipe(0.2, 4, 50, 0, momentum=0.5))
    torch.testing.assert_close(found, by_hand(samples, step))


def test_weight_decay_is_the_gradient_of_half_the_squared_norm(samples):
    def step(parameters, gradients, _):
        for p, g in zip(parameters, gradients):
            p -= 0.2 * (g + 0.1 * p)

    found = trained(samples, Recipe(0.2, 4, 50, 0, weight_decay=0.1))
    torch.testing.assert_close(found, by_hand(samples, step))


def test_adam_with_decoupled_decay(samples):
    def step(parameters, gradients, state):
        k = state["k"] = state.get("k", 0) + 1
        for i, (p, g) in enumerate(zip(parameters, gradients)):
            m, v = state.get(i, (0, 0))
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            state[i] = m, v
            p *= 1 - 0.01 * 0.1
            p -= 0.01 * (m / (1 - 0.9**k)) / ((v / (1 - 0.999**k)).sqrt() + 1e-8)

    found = trained(samples, Recipe(0.01, 4, 50, 0, optimiser="adam", weight_decay=0.1))
    torch.testing.assert_close(found, by_hand(samples, step))


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"label_noise": 0.3},
        {"mixup": 0.5},
        {"input_noise": 0.2},
        {"label_noise": 0.3, "mixup": 1.0},
    ],
)
def test_a_training_depends_on_its_seed_alone(samples, what):
    recipe = Recipe(0.1, 3, 16, 0, **what)
    first = trained(samples, recipe, seed=5)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(trained(samples, recipe, seed=5), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(trained(samples, recipe, seed=6), first)


def test_label_noise_replaces_that_share_of_labels():
    torch.manual_seed(0)
    y = torch.zeros(20_000, dtype=torch.int64)
    x = torch.zeros(20_000, 1)
    _, noisy = disturbed(x, y, 4, Recipe(label_noise=0.4))
    share = float((noisy != y).double().mean())  # a quarter is replaced by itself
    assert share == pytest.approx(0.3, abs=0.015)
    assert noisy.unique().tolist() == [0, 1, 2, 3]


def test_input_noise_has_the_deviation_asked_for():
    torch.manual_seed(0)
    x = torch.ones(100, 300, dtype=torch.float64)
    noisy, _ = disturbed(x, torch.zeros(100, dtype=torch.int64), 2, Recipe(input_noise=0.5))
    assert float((noisy - x).mean()) == pytest.approx(0, abs=0.02)
    assert float((noisy - x).std()) == pytest.approx(0.5, rel=0.02)


def test_mixup_averages_samples_and_labels_alike():
    torch.manual_seed(0)
    y = torch.arange(5)
    x = torch.eye(5, dtype=torch.float64)  # so that a mixed sample tells its shares
    mixed, shares = disturbed(x, y, 5, Recipe(mixup=1.0))
    torch.testing.assert_close(mixed, shares)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(5, dtype=torch.float64))
    assert (shares < 1).any()


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0])
def test_mixup_shares_have_the_moments_of_the_beta_distribution(alpha):
    torch.manual_seed(0)
    x = torch.zeros(20_000, 1)
    y = torch.zeros(20_000, dtype=torch.int64)
    y[:10_000] = 1
    x[:10_000] = 1
    mixed, _ = disturbed(x, y, 2, Recipe(mixup=alpha))
    # x = share or 1 - share where two classes meet (half of all), else 0 or 1.
    spread = float((mixed * (1 - mixed)).mean())
    assert spread == pytest.approx(alpha / (2 * alpha + 1) / 2 / 2, rel=0.08, abs=5e-4)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_shares_are_one_half_on_average(alpha):
    """A sample of class 1 among as many of class 0 becomes 3/4 on average, in x and in y."""
    n = 20_000
    y = (torch.arange(n) < n // 2).long()
    mixed, shares = disturbed(y[:, None].double(), y, 2, Recipe(mixup=alpha))
    own = mixed[: n // 2, 0]
    assert abs(own.mean() - 0.75) < 5 * own.std() / len(own) ** 0.5
    torch.testing.assert_close(mixed[:, 0], shares[:, 1])


@pytest.mark.parametrize("most", [1, 3])
def test_all_shifts_are_equally_likely(most):
    """Where a single pixel of 20,000 images goes, along both axes."""
    n, middle = 20_000, 4
    x = torch.zeros(n, 1, 9, 9)
    x[:, :, middle, middle] = 1
    moved, _ = disturbed(x, torch.zeros(n, dtype=torch.int64), 2, Recipe(shift=most))
    places = moved[:, 0].nonzero()[:, 1:] - middle
    cells = (2 * most + 1) ** 2
    counts = torch.zeros(2 * most + 1, 2 * most + 1).index_put_(
        tuple((places + most).T), torch.ones(n), accumulate=True
    )
    error = (1 / cells * (1 - 1 / cells) / n) ** 0.5
    assert (counts / n - 1 / cells).abs().max() < 5 * error


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(0, 2**31))
def test_shifts_move_every_image_as_a_whole(most, seed):
    torch.manual_seed(seed)
    x = 1 + torch.rand(4, 2, 5, 4)
    moved, _ = disturbed(x, torch.zeros(4, dtype=torch.int64), 2, Recipe(shift=most))
    for image, found in zip(x, moved):
        candidates = []
        for down in range(-most, most + 1):
            for right in range(-most, most + 1):
                by_index = torch.zeros_like(image)
                for i in range(5):
                    for j in range(4):
                        if 0 <= i - down < 5 and 0 <= j - right < 4:
                            by_index[:, i, j] = image[:, i - down, j - right]
                candidates.append(by_index)
        assert any(torch.equal(found, candidate) for candidate in candidates)


def test_a_diverging_training_says_so(samples):
    with pytest.raises(Diverged, match="lower learning_rate"):
        trained(samples, Recipe(1e9, 20, 16, 0, momentum=0.9))


def test_flat_samples_cannot_be_shifted(samples):
    with pytest.raises(InputError, match=r"x must hold images .* shaped=True"):
        trained(samples, Recipe(0.1, 1, 16, 0, shift=1))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"optimiser": "lion"}, "optimiser must be one of sgd, adam"),
        ({"momentum": 1.0}, "momentum must be a share below 1"),
        ({"momentum": 0.9, "optimiser": "adam"}, "momentum must be 0 with adam"),
        ({"weight_decay": -1.0}, "weight_decay must be"),
        ({"label_noise": 1.0}, "label_noise must be a share below 1"),
        ({"mixup": float("nan")}, "mixup must be"),
        ({"mixup": 0.001}, "mixup must be 0 or at least 0.01"),
        ({"input_noise": -0.1}, "input_noise must be"),
        ({"shift": -1}, "shift must be"),
        ({"learning_rate": 0.0}, "learning_rate must be"),
    ],
)
def test_recipe_refuses(what, message):
    with pytest.raises(InputError, match=message):
        Recipe(**what)
