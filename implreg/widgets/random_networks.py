"""The random networks of the explorers: the same in Python and in the page's JavaScript."""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from implreg.checks import check_count, check_number

Words = NDArray[np.uint32]


def random_network(
    inputs: int, width: int, depth: int, *, scale: float = 1.0, seed: int = 0
) -> nn.Sequential:
    r"""A ReLU network with the weights that an explorer draws in the reader's browser.

    .. math:: W_{ij} \sim N(0, 2\,\mathrm{scale}^2 / n_\mathrm{in})

    in hidden layers, :math:`N(0, 1/n)` in the output layer, no biases. A weight depends on nothing
    but its seed, layer, unit and input: a wider network keeps the draws of the narrower one.

    Args:
        inputs: entries of a sample.
        width: units of every hidden layer.
        depth: number of hidden layers.
        scale: of the hidden weights; 1 is He initialisation.
        seed: of the weights, below 2^31.

    Returns:
        `nn.Sequential` of `Linear, ReLU, ..., Linear` with one output, float64.

    Raises:
        InputError: a number out of its range.

    >>> narrow, wide = (random_network(2, width, 1, seed=5) for width in (3, 4))
    >>> bool((narrow[0].weight == wide[0].weight[:3]).all())
    True
    """
    for name, size in (("inputs", inputs), ("width", width), ("depth", depth)):
        check_count(name, size)
    check_count("seed", seed, at_least=0)
    check_number("scale", scale, above=0)
    sizes = [inputs, *[width] * depth, 1]
    layers: list[nn.Module] = []
    for number, (n_in, n_out) in enumerate(pairwise(sizes)):
        layer = nn.Linear(n_in, n_out, dtype=torch.float64)
        size = scale * np.sqrt(2 / n_in) if number < depth else np.sqrt(1 / n_in)
        rows = mix_in(mix_in(mix_in(start(), seed), number), np.arange(n_out))
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(size * _normal(rows[:, None], n_in)))
            layer.bias.zero_()
        layers += [layer] if number == depth else [layer, nn.ReLU()]
    return nn.Sequential(*layers)


def _normal(rows: Words, count: int) -> NDArray[np.float64]:
    """Standard normal numbers, by Box and Muller, from the hashes of their rows."""
    place = mix_in(rows, np.arange(count))
    first, second = (mix_in(place, k).astype(np.float64) for k in (0, 1))
    drawn: NDArray[np.float64] = np.sqrt(-2 * np.log((first + 0.5) / 2**32)) * np.cos(
        2 * np.pi * second / 2**32
    )
    return drawn


def start() -> Words:
    """The hash into which nothing has been mixed."""
    return np.zeros(1, dtype=np.uint32)


def mix_in(hashed: Words, number: int | NDArray[np.int64]) -> Words:
    """Mix one more number, or each of several, into a hash."""
    added = (np.atleast_1d(np.asarray(number, dtype=np.uint64)) + 0x9E3779B9).astype(np.uint32)
    return _mix(hashed ^ _mix(added))


def _mix(x: Words) -> Words:
    """The finaliser of MurmurHash3: 32 bits in, 32 well mixed bits out."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))
