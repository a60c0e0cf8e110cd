"""From the layers of a torch network to those that the theory knows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch import nn

from implreg.errors import InputError
from implreg.networks import Initialisation, PreActivationBlock, Residual
from implreg.theory.convolution.layers import (
    Block,
    Convolution,
    Flat,
    Layer,
    Network,
    Pool,
    Rectifier,
    Scale,
)
from implreg.theory.convolution.pixels import Grid, Space


@dataclass(frozen=True)
class _State:
    """What a layer is given: the shape of a sample, and whether its entries are Gaussian."""

    channels: int
    space: Space
    axes: int  # of space: 2 for images, 1 for signals, 0 for what dense layers take
    gaussian: bool


class _Maker(Protocol):
    """Makes a layer, given the pairs of pixels behind it."""

    def __call__(self, *, after: Grid) -> Layer: ...


_KNOWN = (
    "Conv1d, Conv2d, Linear, ReLU, AvgPool1d, AvgPool2d, AdaptiveAvgPool1d, AdaptiveAvgPool2d, "
    "Flatten, BatchNorm1d, BatchNorm2d and the blocks of implreg.networks"
)


def read(net: nn.Module, sample: tuple[int, ...], initialisation: Initialisation) -> Network:
    """Read the layers of a network; its weights are not looked at.

    Args:
        net: see `convolutional`.
        sample: shape of a sample.
        initialisation: the distribution that its weights were drawn from.

    Raises:
        InputError: see `convolutional`.
    """
    if not isinstance(net, nn.Module):
        raise InputError(
            f"net must be a torch.nn.Module, got {type(net).__name__}; pass for example "
            f"implreg.vgg(3, seed=0)."
        )
    if len(sample) > 3:
        raise InputError(
            f"paths must be of samples (channels, height, width), (channels, length) or (d,), got "
            f"samples of shape {sample}; reshape them."
        )
    axes = len(sample) - 1
    height, width = (1, 1, *sample[1:])[-2:]
    reader = _Reader(initialisation)
    state, makers = reader.layers(net, "", _State(sample[0], (height, width), axes, gaussian=False))
    last = makers[-1] if makers else None
    if not (isinstance(last, partial) and last.func is Convolution and state.axes == 0):
        raise InputError(f"net must end with a Linear layer, but ends with {reader.last}; add one.")
    makers[-1] = partial(last, weight=initialisation.sigma_o**2, bias=0.0)
    layers, _ = _made(makers, Grid((1, 1)))
    network = Network.of(layers, state.channels)
    if not network.sites:
        raise InputError("net must have a ReLU, but has none; add one.")
    return network


def _made(makers: Sequence[_Maker], after: Grid) -> tuple[tuple[Layer, ...], Grid]:
    """Layers, from the last one on, and the pairs of pixels that the first one needs."""
    layers: list[Layer] = []
    for maker in reversed(makers):
        layers.append(maker(after=after))
        after = layers[-1].before
    return tuple(reversed(layers)), after


@dataclass
class _Reader:
    """Reads modules one after the other; `last` says which one was read last."""

    initialisation: Initialisation
    last: str = "nothing"

    def layers(self, module: nn.Module, name: str, state: _State) -> tuple[_State, list[_Maker]]:
        """How to make the layers of a module, and what it hands on."""
        if type(module) is nn.Sequential:
            makers: list[_Maker] = []
            for key, child in module.named_children():
                state, more = self.layers(child, f"{name}.{key}" if name else key, state)
                makers += more
            return state, makers
        self.last = f"its layer {name or 'net'!r}, {type(module).__name__}"
        if isinstance(module, nn.Identity) or (
            isinstance(module, nn.Dropout) and not module.training
        ):
            return state, []
        if isinstance(module, nn.Linear):
            return self._dense(module, name, state)
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            return self._convolution(module, name, state)
        if isinstance(module, nn.ReLU):
            if not state.gaussian:
                raise InputError(
                    f"net must have a layer with weights before each ReLU, but there is none "
                    f"before its layer {name or 'net'!r}; rearrange it."
                )
            channels = state.channels
            return _State(channels, state.space, state.axes, gaussian=False), [
                partial(Rectifier, channels)
            ]
        if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            pixels = math.prod(state.space)
            flat = _State(state.channels * pixels, (1, 1), 0, state.gaussian and pixels == 1)
            return flat, [partial(Flat, state.space)]
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return state, [partial(Scale, self._norm(module, name))]
        if isinstance(module, PreActivationBlock):
            return self._pre_activation(module, name, state)
        if isinstance(module, Residual):
            return self._residual(module, name, state)
        pool = self._pool(module, name, state)
        if pool is not None:
            return pool
        mode = " in training mode" if isinstance(module, nn.Dropout) else ""
        raise InputError(
            f"net may hold {_KNOWN} alone, but its layer {name or 'net'!r} is {module}{mode}; "
            f"{'call net.eval()' if mode else 'replace it'}."
        )

    def _dense(self, module: nn.Linear, name: str, state: _State) -> tuple[_State, list[_Maker]]:
        if state.axes or state.channels != module.in_features:
            raise _misfit(name, module, f"{module.in_features} numbers", state)
        one = (1, 1)
        maker = self._weights(module, (module.in_features, module.out_features))
        maker = partial(maker, window=one, stride=one, padding=(0, 0), space=one)
        return _State(module.out_features, one, 0, gaussian=True), [maker]

    def _convolution(
        self, module: nn.Conv1d | nn.Conv2d, name: str, state: _State
    ) -> tuple[_State, list[_Maker]]:
        if (
            module.groups != 1
            or set(module.dilation) != {1}
            or isinstance(module.padding, str)
            or (module.padding_mode != "zeros" and any(module.padding))
        ):
            raise InputError(
                f"net may hold convolutions with numbers of zeros as padding and without groups "
                f"and dilation alone, but its layer {name or 'net'!r} is {module}; replace it."
            )
        window, stride = _two(module.kernel_size, 1), _two(module.stride, 1)
        padding = _two(module.padding, 0)
        axes = len(module.kernel_size)
        sizes = [
            n + 2 * pad - wide for n, pad, wide in zip(state.space, padding, window, strict=True)
        ]
        if axes != state.axes or state.channels != module.in_channels or min(sizes) < 0:
            raise _misfit(name, module, f"{module.in_channels} channels", state)
        maker = self._weights(module, (module.in_channels, module.out_channels))
        maker = partial(maker, window=window, stride=stride, padding=padding, space=state.space)
        space = (sizes[0] // stride[0] + 1, sizes[1] // stride[1] + 1)
        after = _State(module.out_channels, space, axes, gaussian=True)
        return after, [maker]

    def _weights(
        self, module: nn.Linear | nn.Conv1d | nn.Conv2d, channels: tuple[int, int]
    ) -> partial[Convolution]:
        bias = 0.0 if module.bias is None else self.initialisation.sigma_b**2
        return partial(
            Convolution, weight=self.initialisation.sigma_w**2, bias=bias, channels=channels
        )

    def _norm(self, module: nn.BatchNorm1d | nn.BatchNorm2d, name: str) -> float:
        """The factor on variances of a batch norm that has not seen data."""
        fresh = module.running_mean is not None and not module.training
        for values, at_first in (
            (module.running_mean, 0), (module.running_var, 1), (module.weight, 1), (module.bias, 0),
        ):  # fmt: skip
            fresh = fresh and (values is None or bool((values == at_first).all()))
        if not fresh:
            raise InputError(
                f"net must have batch norm in eval mode and as it begins, with means and shifts 0 "
                f"and variances and scales 1, but its layer {name or 'net'!r} is not; call "
                f"net.eval() on a network that has not seen data."
            )
        return 1 / (1 + module.eps)

    def _pre_activation(
        self, module: PreActivationBlock, name: str, state: _State
    ) -> tuple[_State, list[_Maker]]:
        def read(*names: str, given: _State) -> tuple[_State, list[_Maker]]:
            makers: list[_Maker] = []
            for part in names:
                given, more = self.layers(getattr(module, part), f"{name}.{part}", given)
                makers += more
            return given, makers

        active, head = read("norm1", "relu1", given=state)
        after, branch = read("convolution1", "norm2", "relu2", "convolution2", given=active)
        kept, shortcut = state, None
        if module.shortcut is not None:
            kept, shortcut = read("shortcut", given=active)
        return self._block(name, (kept, after), partial(_block, name, head, branch, shortcut, 1.0))

    def _residual(self, module: Residual, name: str, state: _State) -> tuple[_State, list[_Maker]]:
        after, branch = self.layers(module.branch, f"{name}.branch", state)
        return self._block(
            name, (state, after), partial(_block, name, [], branch, None, module.scale)
        )

    def _block(
        self, name: str, routes: tuple[_State, _State], maker: _Maker
    ) -> tuple[_State, list[_Maker]]:
        if routes[0] != routes[1] or not routes[1].gaussian:
            raise InputError(
                f"net must have blocks that add what layers with weights make, of one shape, but "
                f"its layer {name or 'net'!r} is another; rearrange it."
            )
        return routes[1], [maker]

    def _pool(
        self, module: nn.Module, name: str, state: _State
    ) -> tuple[_State, list[_Maker]] | None:
        """As `layers`, for pooling of a kind that is known."""
        if isinstance(module, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):
            axes = 1 if isinstance(module, nn.AdaptiveAvgPool1d) else 2
            if module.output_size not in (1, (1,), (1, 1)):
                return None
            window = stride = state.space
        elif isinstance(module, nn.AvgPool1d | nn.AvgPool2d):
            axes = 1 if isinstance(module, nn.AvgPool1d) else 2
            divisor = getattr(module, "divisor_override", None)
            if module.padding not in (0, (0,), (0, 0)) or module.ceil_mode or divisor is not None:
                return None
            window, stride = _two(module.kernel_size, 1, axes), _two(module.stride, 1, axes)
        else:
            return None
        sizes = [n - wide for n, wide in zip(state.space, window, strict=True)]
        if axes != state.axes or min(sizes) < 0:
            raise _misfit(name, module, "larger ones", state)
        space = (sizes[0] // stride[0] + 1, sizes[1] // stride[1] + 1)
        after = _State(state.channels, space, axes, state.gaussian)
        return after, [partial(Pool, window=window, stride=stride, space=state.space)]


def _block(
    name: str,
    head: Sequence[_Maker],
    branch: Sequence[_Maker],
    shortcut: Sequence[_Maker] | None,
    scale: float,
    *,
    after: Grid,
) -> Block:
    made, active = _made(branch, after)
    kept = None if shortcut is None else _made(shortcut, after)
    begun, before = _made(head, active)
    if (before if kept is None else active) != (after if kept is None else kept[1]):
        raise InputError(
            f"net must have blocks with the same strides on both routes and no pooling, but its "
            f"layer {name or 'net'!r} is another; replace it."
        )
    return Block(begun, made, None if kept is None else kept[0], scale, before)


def _two(sizes: int | tuple[int, ...], other: int, axes: int = 0) -> Space:
    """Sizes down and across; for signals `other` down."""
    if isinstance(sizes, int):
        sizes = (sizes,) * axes
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (other, sizes[0])


def _misfit(name: str, module: nn.Module, wanted: str, state: _State) -> InputError:
    given = (state.channels, *state.space[2 - state.axes :])
    return InputError(
        f"paths must be of samples that fit net, but its layer {name or 'net'!r}, {module}, which "
        f"takes {wanted}, is given {given}; pass samples of another shape."
    )
