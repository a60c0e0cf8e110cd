"""The networks of the book and their random initialisations."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from implreg.checks import InputError, check_count, check_number


@dataclass(frozen=True)
class Initialisation:
    r"""A Gaussian initialisation of a multilayer perceptron.

    A layer with :math:`n_\mathrm{in}` inputs draws, independently,

    .. math::
        W_{ij} \sim N(0, \sigma_w^2 / n_\mathrm{in}), \qquad b_i \sim N(0, \sigma_b^2),

    and the output layer :math:`W_{ij} \sim N(0, \sigma_o^2 / n_L)` with zero biases. The defaults
    are He initialisation (He et al. 2015), which keeps the size of activations from layer to layer.

    Args:
        sigma_w: scale of the hidden weights; above 0.
        sigma_b: deviation of the hidden biases; at least 0.
        sigma_o: scale of the output weights; above 0.

    Raises:
        InputError: a scale that is not finite or outside its range.
    """

    sigma_w: float = math.sqrt(2)
    sigma_b: float = 0.0
    sigma_o: float = 1.0

    def __post_init__(self) -> None:
        check_number("sigma_w", self.sigma_w, above=0)
        check_number("sigma_b", self.sigma_b, at_least=0)
        check_number("sigma_o", self.sigma_o, above=0)


HE = Initialisation()


def mlp(
    *sizes: int,
    seed: int,
    initialisation: Initialisation = HE,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """A fully connected ReLU network with random weights.

    Args:
        sizes: inputs, the widths of the hidden layers, outputs; at least one hidden layer.
        seed: of the weights. They are drawn in float64, so that a seed gives the same network,
            up to rounding, in every `dtype`.
        initialisation: the distribution of the weights; He initialisation by default.
        dtype: of the parameters; `torch.float32` or `torch.float64`.

    Returns:
        `nn.Sequential` of `Linear, ReLU, ..., Linear`; it maps (N, inputs) to (N, outputs).

    Raises:
        InputError: fewer than three sizes, or a size or seed that is no whole number.

    >>> net = mlp(64, 512, 10, seed=0)
    >>> [tuple(p.shape) for p in net.parameters()]
    [(512, 64), (512,), (10, 512), (10,)]
    """
    if len(sizes) < 3:
        raise InputError(
            f"sizes must name inputs, at least one hidden width and outputs, got {sizes}; "
            f"write for example mlp(64, 512, 10, seed=0)."
        )
    for size in sizes:
        check_count("sizes", size)
    random = torch.Generator().manual_seed(check_count("seed", seed, at_least=0))

    def normal(*shape: int, deviation: float) -> Tensor:
        return deviation * torch.randn(*shape, generator=random, dtype=torch.float64)

    layers: list[nn.Module] = []
    last = len(sizes) - 2
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        scale = initialisation.sigma_o if i == last else initialisation.sigma_w
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(normal(n_out, n_in, deviation=scale / math.sqrt(n_in)))
            bias_deviation = 0.0 if i == last else initialisation.sigma_b
            linear.bias.copy_(normal(n_out, deviation=bias_deviation))
        layers += [linear] if i == last else [linear, nn.ReLU()]
    return nn.Sequential(*layers)


def linear_layers(net: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The linear layers of a Linear/ReLU stack, in order, with their qualified names.

    Accepts `nn.Sequential`, nested or not, of `Linear` and `ReLU` in turn that begins and ends
    with `Linear` (`Identity`, `Flatten` of flat input, and `Dropout` in eval mode change nothing
    and are passed over).

    Raises:
        InputError: any other module; the message names it and its type.
    """
    if not isinstance(net, nn.Module):
        raise InputError(
            f"net must be a torch.nn.Module of Linear and ReLU layers, got "
            f"{type(net).__name__}; pass for example implreg.mlp(64, 512, 10, seed=0)."
        )
    found: list[tuple[str, nn.Module]] = []
    for name, module in _leaves(net, ""):
        if isinstance(module, nn.Identity | nn.Flatten) or (
            isinstance(module, nn.Dropout) and not module.training
        ):
            continue
        if isinstance(module, nn.Dropout):
            raise InputError(
                f"net may hold Dropout in eval mode alone, but its layer {name!r} is Dropout in "
                f"training mode; call net.eval()."
            )
        if not isinstance(module, nn.Linear | nn.ReLU):
            raise InputError(
                f"net may hold Linear and ReLU layers alone, but its layer {name!r} is "
                f"{type(module).__name__}; replace it."
            )
        found.append((name, module))
    expected = [nn.Linear if i % 2 == 0 else nn.ReLU for i in range(len(found))]
    in_turn = all(isinstance(m, kind) for (_, m), kind in zip(found, expected, strict=True))
    if len(found) < 3 or len(found) % 2 == 0 or not in_turn:
        kinds = ", ".join(type(m).__name__ for _, m in found) or "none"
        raise InputError(
            f"net must be Linear and ReLU layers in turn, from Linear to Linear with a ReLU "
            f"between, but its layers are: {kinds}; rearrange it."
        )
    return [(name, m) for name, m in found if isinstance(m, nn.Linear)]


def _leaves(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    """Modules in the order in which a nested `Sequential` applies them."""
    if type(module) is not nn.Sequential:
        return [(prefix or type(module).__name__, module)]
    return [
        leaf
        for name, child in module.named_children()
        for leaf in _leaves(child, f"{prefix}.{name}" if prefix else name)
    ]
