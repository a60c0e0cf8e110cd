r"""The output along a path as a Gaussian process, in the limit of wide layers (T4 to T7)."""

import torch
from torch import Tensor, nn

from implreg.checks import check_count, check_positions
from implreg.networks import HE, Initialisation
from implreg.theory.finite_width import correction
from implreg.theory.layers import Architecture, through
from implreg.theory.lines import Lines, Straight, lines

_ENTRIES = 2**22  # numbers in one array of a batch of paths


def slope_covariance(
    net: nn.Module, paths: Straight, s: Tensor, t: Tensor, initialisation: Initialisation = HE, *,
    corrected: bool = False,
) -> Tensor:  # fmt: skip
    r"""Covariance of the slopes at times s and t, :math:`\partial_s \partial_t K_f(s, t)` (T4).

    Args:
        net: gives the layers, see `implreg.theory.at_initialisation`.
        paths: P straight paths, as in `implreg.trace`.
        s: times in [0, 1], of a shape that broadcasts with (P,), such as (P,) or (T, 1).
        t: likewise.
        initialisation: the distribution that the weights were drawn from.
        corrected: add the term of order 1/width, see `implreg.theory.finite_width`; for ReLU layers
            without biases alone.

    Returns:
        Of one output and per unit of t; (..., P), float64.

    Raises:
        InputError: as `at_initialisation`; a time outside [0, 1]; a correction that is not known.

    Source: theorem T4 of the book. At one time it is sigma_o^2 |D|^2 / d:

    >>> import implreg as ir
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> now = torch.tensor([0.3])
    >>> round(slope_covariance(ir.mlp(4, 100, 1, seed=0), (x0, x1), now, now).item(), 9)
    2.0
    """
    return _covariances(net, paths, s, t, initialisation, corrected)[1]


def output_covariance(
    net: nn.Module, paths: Straight, s: Tensor, t: Tensor, initialisation: Initialisation = HE, *,
    corrected: bool = False,
) -> Tensor:  # fmt: skip
    r"""Covariance of one output at times s and t, :math:`K_f(s, t)`.

    .. math:: K_{l+1} = \sqrt{K_l(s, s) K_l(t, t)} \, \kappa(\rho_l), \qquad
        K_f = \tfrac12 \sigma_o^2 K_{L+1}

    with the arc-cosine kernel :math:`\kappa` and the correlation :math:`\rho_l` of layer l.

    Args:
        net: gives the layers, see `implreg.theory.at_initialisation`.
        paths: P straight paths, as in `implreg.trace`.
        s: times in [0, 1], of a shape that broadcasts with (P,), such as (P,) or (T, 1).
        t: likewise.
        initialisation: the distribution that the weights were drawn from.
        corrected: add the term of order 1/width, see `slope_covariance`.

    Returns:
        (..., P), float64.

    Raises:
        InputError: as `slope_covariance`.

    Source: Cho and Saul (2009); theorem T4 of the book.

    >>> import implreg as ir
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> now = torch.zeros(1)
    >>> round(output_covariance(ir.mlp(4, 100, 1, seed=0), (x0, x1), now, now).item(), 9)
    1.0
    """
    return _covariances(net, paths, s, t, initialisation, corrected)[0]


def _covariances(
    net: nn.Module, paths: Straight, s: Tensor, t: Tensor, how: Initialisation, corrected: bool
) -> tuple[Tensor, Tensor]:
    """Of an output and of its slope, see `slope_covariance`."""
    seen, path = lines(net, paths, how)
    s, t = check_positions("s", s.double()), check_positions("t", t.double())
    first = path.first_layer(seen, s, t)
    limit = through(seen.layers[1:], first)
    if not corrected:
        return limit.k, limit.dsdt
    outputs, slopes = correction(seen, first, limit.size)
    return limit.k + outputs, limit.dsdt + slopes


def chord_deviation(
    net: nn.Module, paths: Straight, t: Tensor, initialisation: Initialisation = HE
) -> Tensor:
    r"""How far an output lies from the straight line between its ends, root mean square (T7).

    .. math::
        \sqrt{E\bigl[ (\varphi(t) - (1-t)\,\varphi(0) - t\,\varphi(1))^2 \bigr]}

    Divided by the root of :math:`E[(\varphi(1) - \varphi(0))^2]` it says how straight "almost
    straight" is.

    Args:
        net: gives the layers.
        paths: as in `implreg.trace`.
        t: times in [0, 1], (T,).
        initialisation: the distribution that the weights were drawn from.

    Returns:
        (P, T), float64. Below 1e-8 of the output's own size it is lost in rounding.

    Raises:
        InputError: as `at_initialisation`, or a time outside [0, 1].

    >>> import implreg as ir
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> found = chord_deviation(ir.mlp(4, 100, 1, seed=0), (x0, x1), torch.tensor([0.5]))
    >>> from math import isclose, pi, sqrt
    >>> right, half = 1 / pi, (1 + 3 * pi / 4) / sqrt(2) / pi  # kappa at the angles
    >>> isclose(found.item() ** 2, 1 + right / 2 - sqrt(2) * half)
    True
    """
    t = t.double()[:, None]
    own, to_start, to_end, start, end, both = _with_ends(net, paths, t, initialisation)
    chord = (1 - t) ** 2 * start + t**2 * end + 2 * t * (1 - t) * both
    square = own + chord - 2 * ((1 - t) * to_start + t * to_end)
    return square.clamp(min=0).sqrt().T


def pinned_deviation(
    net: nn.Module, paths: Straight, t: Tensor, initialisation: Initialisation = HE
) -> Tensor:
    r"""Spread of an output whose values at both ends of the path are known: the bridge.

    .. math::
        \sqrt{\operatorname{Var}\bigl( \varphi(t) \mid \varphi(0), \varphi(1) \bigr)}

    Args:
        net: gives the layers.
        paths: as in `implreg.trace`.
        t: times in [0, 1], (T,).
        initialisation: the distribution that the weights were drawn from.

    Returns:
        (P, T), float64, the same whatever the known values are.

    Raises:
        InputError: as `at_initialisation`, or a time outside [0, 1].

    >>> import implreg as ir
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> net, t = ir.mlp(4, 100, 1, seed=0), torch.tensor([0.0, 0.5, 1.0])
    >>> pinned, free = (f(net, (x0, x1), t)[0] for f in (pinned_deviation, chord_deviation))
    >>> bool(pinned[1] < free[1]), pinned[[0, 2]].round(decimals=6).tolist()
    (True, [0.0, 0.0])
    """
    t = t.double()[:, None]
    own, to_start, to_end, start, end, both = _with_ends(net, paths, t, initialisation)
    known = end * to_start**2 - 2 * both * to_start * to_end + start * to_end**2
    square = own - known / (start * end - both**2)
    return square.clamp(min=0).sqrt().T


def _with_ends(
    net: nn.Module, paths: Straight, t: Tensor, initialisation: Initialisation
) -> list[Tensor]:
    """An output's variance at times t (T, 1), its covariance with start and end; those of the ends.

    Returns:
        Three tensors (T, P), and three (P,): variances of start and end, and their covariance.
    """
    seen, path = lines(net, paths, initialisation)
    check_positions("t", t)
    times = ((t, t), (0.0, t), (t, 1.0), (0.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    return [path.outputs(seen, a, b).k for a, b in times]


def fluctuation(
    net: nn.Module, paths: Straight, initialisation: Initialisation = HE, *, points: int = 33,
    draws: int = 1000, seed: int = 0,
) -> Tensor:  # fmt: skip
    r"""Draws of the largest distance of an output from its chord.

    The limiting process is drawn at points of the path that the first layer sees under evenly
    spaced angles. Between them it is almost smooth, so that the largest distance there falls short
    of the largest of all by a share of the order of 1 / points^2. The mean of the draws is the
    expected fluctuation.

    Args:
        net: gives the layers.
        paths: as in `implreg.trace`.
        initialisation: the distribution that the weights were drawn from.
        points: of the grid, both ends included, at least 3.
        draws: their number.
        seed: of the draws, which all paths share.

    Returns:
        (P, draws), float64. Below 1e-6 of the output's own size they are lost in rounding.

    Raises:
        InputError: as `at_initialisation`, or a number out of its range.

    Source: theorems T4 and T7 of the book.

    >>> import implreg as ir
    >>> x0, x1 = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[0, 2.0, 0, 0]])
    >>> drawn = fluctuation(ir.mlp(4, 100, 1, seed=0), (x0, x1), draws=50)
    >>> drawn.shape, bool((drawn > 0).all())
    (torch.Size([1, 50]), True)
    """
    check_count("points", points, at_least=3)
    check_count("draws", draws)
    seen, path = lines(net, paths, initialisation)
    random = torch.Generator().manual_seed(check_count("seed", seed, at_least=0))
    normal = torch.randn(draws, points - 2, generator=random, dtype=torch.float64)
    batch = max(1, _ENTRIES // max(points**2, draws * points))
    found = []
    for some in path.batches(batch):
        root = symmetric_root(_chord_covariance(seen, some, points))
        found.append((normal @ root).abs().amax(dim=2))
    return torch.cat(found)


def symmetric_root(covariance: Tensor) -> Tensor:
    """The symmetric square roots of covariances, (P, n, n); unlike others it is unique."""
    values, vectors = torch.linalg.eigh(covariance)
    return torch.matmul(vectors * values.clamp(min=0).sqrt()[:, None], vectors.mT)


def _chord_covariance(seen: Architecture, path: Lines, points: int) -> Tensor:
    """Covariance of the distance from the chord at the inner points of a grid, (P, T-2, T-2)."""
    grid = _grid(seen, path, points)
    k = path.outputs(seen, grid[:, None], grid).k.permute(2, 0, 1)
    inner = grid[1:-1].T
    from_chord = torch.eye(points, dtype=torch.float64)[1:-1].repeat(len(k), 1, 1)
    from_chord[:, :, 0] = inner - 1
    from_chord[:, :, -1] = -inner
    return from_chord @ k @ from_chord.mT


def _grid(seen: Architecture, path: Lines, points: int) -> Tensor:
    """Times at which the first layer sees the path under evenly spaced angles, (T, P)."""
    height = path.heights(seen)[:, 0]
    start, end = (torch.atan2(path.at(t), height) for t in (0.0, 1.0))
    share = torch.linspace(0, 1, points, dtype=torch.float64)[:, None]
    t = 0.5 + (height * (start + share * (end - start)).tan() - path.middle) / path.speed
    t[0], t[-1] = 0, 1
    return t
