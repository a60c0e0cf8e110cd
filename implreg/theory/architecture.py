"""What the theory must know of a network: its layers as rules for second moments."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from implreg.errors import InputError
from implreg.networks import Initialisation, Residual
from implreg.theory import kernels
from implreg.theory.kernels import Pair


@dataclass(frozen=True)
class Dense:
    """A linear layer with random weights.

    Attributes:
        width: number of its outputs.
        weight: variance of the weights times the number of inputs.
        bias: variance of the biases.
    """

    width: int
    weight: float
    bias: float

    def __call__(self, pair: Pair) -> Pair:
        """Second moments of its outputs from those of its inputs."""
        return kernels.dense(pair, self.weight, self.bias)


@dataclass(frozen=True)
class Activation:
    """A leaky ReLU: slope 1 above zero and `leak` below."""

    leak: float

    def __call__(self, pair: Pair) -> Pair:
        """Second moments of its outputs from those of its inputs."""
        return kernels.relu(pair, self.leak)


@dataclass(frozen=True)
class Block:
    """The sum of the input and `scale` times what a branch of layers makes of it."""

    branch: tuple["Layer", ...]
    scale: float

    def __call__(self, pair: Pair) -> Pair:
        """Second moments of its outputs from those of its inputs."""
        return kernels.added(pair, kernels.scaled(through(self.branch, pair), self.scale**2))


Layer = Dense | Activation | Block


def through(layers: Sequence[Layer], pair: Pair) -> Pair:
    """Second moments behind some layers."""
    for layer in layers:
        pair = layer(pair)
    return pair


@dataclass(frozen=True)
class Site:
    r"""A layer of activations.

    Attributes:
        width: number n of its units.
        gain: the variance of a pre-activation at a sample x is gain |x|^2 / d + offset.
        offset: see above.
        jump: of the slope of the activation at zero.
        onward: :math:`\sum_j E[(\partial f / \partial a_j)^2]` over its units, f an output.
    """

    width: int
    gain: float
    offset: float
    jump: float
    onward: float

    @property
    def strength(self) -> float:
        """How much its gaps, squared and summed, weigh in the outputs."""
        return self.onward * self.jump**2 * self.gain


@dataclass(frozen=True)
class Architecture:
    """A network as the theory sees it.

    Attributes:
        inputs: number d of entries of a sample.
        layers: the first and the last are `Dense`.
        sites: its layers of activations, in order.
        gain: the variance of the derivative of an output along a path is gain |D|^2 / d.
    """

    inputs: int
    layers: tuple[Layer, ...]
    sites: tuple[Site, ...]
    gain: float

    @property
    def first(self) -> Dense:
        """The first layer."""
        assert isinstance(self.layers[0], Dense)
        return self.layers[0]


def architecture(net: nn.Module, initialisation: Initialisation) -> Architecture:
    """Read the layers of a network; its weights are not looked at.

    Args:
        net: `nn.Sequential`, nested or not, of `Linear`, `ReLU`, `LeakyReLU` and
            `implreg.networks.Residual`, that begins and ends with `Linear`. What changes nothing
            (`Identity`, `Flatten`, `Dropout` in eval mode) is passed over.
        initialisation: the distribution that its weights were drawn from.

    Raises:
        InputError: any other module, named with its type; or an activation of something that is
            not Gaussian, such as another activation.
    """
    if not isinstance(net, nn.Module):
        raise InputError(
            f"net must be a torch.nn.Module of Linear and ReLU layers, got "
            f"{type(net).__name__}; pass for example implreg.mlp(64, 512, 10, seed=0)."
        )
    layers = _layers(net, "", initialisation)
    kinds = ", ".join(type(layer).__name__ for layer in layers) or "none"
    if len(layers) < 3 or not isinstance(layers[0], Dense) or not isinstance(layers[-1], Dense):
        raise InputError(
            f"net must begin and end with a Linear layer and have a ReLU between, but its layers "
            f"are: {kinds}; rearrange it."
        )
    layers[-1] = replace(layers[-1], weight=initialisation.sigma_o**2, bias=0.0)
    gain, _, sites = _sites(layers, 1.0, 0.0, 0)
    if not sites:
        raise InputError(f"net must have a ReLU, but its layers are: {kinds}; add one.")
    first = next(m for m in net.modules() if isinstance(m, nn.Linear))
    return Architecture(first.in_features, tuple(layers), tuple(sites), gain)


def _layers(module: nn.Module, name: str, initialisation: Initialisation) -> list[Layer]:
    if type(module) is nn.Sequential:
        found: list[Layer] = []
        for key, child in module.named_children():
            where = f"{name}.{key}" if name else key
            for layer in _layers(child, where, initialisation):
                if found and isinstance(found[-1], Activation) and not isinstance(layer, Dense):
                    raise InputError(
                        f"net must have a Linear layer before each activation and residual block, "
                        f"but there is none before its layer {where!r}; rearrange it."
                    )
                found.append(layer)
        return found
    if isinstance(module, nn.Linear):
        return [Dense(module.out_features, initialisation.sigma_w**2, initialisation.sigma_b**2)]
    if isinstance(module, nn.ReLU):
        return [Activation(0.0)]
    if isinstance(module, nn.LeakyReLU):
        return [Activation(module.negative_slope)]
    if isinstance(module, Residual):
        branch = _layers(module.branch, f"{name}.branch", initialisation)
        if not branch or not isinstance(branch[-1], Dense):
            raise InputError(
                f"net must have branches that end with a Linear layer, but that of {name!r} does "
                f"not; rearrange it."
            )
        return [Block(tuple(branch), module.scale)]
    if isinstance(module, nn.Identity | nn.Flatten) or (
        isinstance(module, nn.Dropout) and not module.training
    ):
        return []
    mode = " in training mode" if isinstance(module, nn.Dropout) else ""
    raise InputError(
        f"net may hold Linear, ReLU, LeakyReLU and Residual layers alone, but its layer "
        f"{name or 'net'!r} is {type(module).__name__}{mode}; "
        f"{'call net.eval()' if mode else 'replace it'}."
    )


def _sites(
    layers: Sequence[Layer], gain: float, offset: float, width: int
) -> tuple[float, float, list[Site]]:
    """Gain and offset behind the layers, and their sites, from those before them."""
    sites: list[Site] = []

    def passes(factor: float) -> None:
        """What the sites so far have sent on goes through a layer."""
        sites[:] = [replace(site, onward=factor * site.onward) for site in sites]

    for layer in layers:
        if isinstance(layer, Dense):
            gain, offset, width = (
                layer.weight * gain,
                layer.weight * offset + layer.bias,
                layer.width,
            )
            passes(layer.weight)
        elif isinstance(layer, Activation):
            kept = (1 + layer.leak**2) / 2
            passes(kept)
            sites.append(Site(width, gain, offset, 1 - layer.leak, 1.0))
            gain, offset = kept * gain, kept * offset
        else:
            inner_gain, inner_offset, inner = _sites(layer.branch, gain, offset, width)
            scale = layer.scale**2
            passes(1 + scale * inner_gain / gain)
            sites += [replace(site, onward=scale * site.onward) for site in inner]
            gain, offset = gain + scale * inner_gain, offset + scale * inner_offset
    return gain, offset, sites
