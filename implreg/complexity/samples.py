"""Measures at samples."""

import math

import torch
from torch import Tensor

from implreg.checks import check_count, check_number
from implreg.complexity.jacobians import Net, in_parts, jacobian_at, program_of
from implreg.errors import InputError
from implreg.tracing.kinds import Hinges


def gradient_norm(net: Net, x: Tensor) -> Tensor:
    r"""Norm of the input gradient at each sample, :math:`\|J(x)\|_F`, (N,).

    With one output it is the norm of the gradient.

    Args:
        net: a module in eval mode that `implreg.read` takes, or its program.
        x: samples, (N, *input).

    Returns:
        (N,), float64, in units of the outputs per unit of the inputs.

    Raises:
        InputError: a network that cannot be read, or samples of another shape than it takes.

    Source: Volhejn and Lampert (2021), whose published program takes the norm of the whole Jacobian
    where there are several outputs. Novak et al. (2018) use `sensitivity` instead.

    >>> from torch import nn
    >>> net = nn.Linear(2, 1)
    >>> _ = net.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
    >>> gradient_norm(net, torch.zeros(1, 2)).tolist()
    [5.0]
    """
    program = program_of(net, x)
    jacobians = (jacobian_at(program, part)[1] for part in in_parts(program, x))
    return torch.cat([jacobian.norm(dim=(1, 2)) for jacobian in jacobians])


def sensitivity(net: Net, x: Tensor) -> Tensor:
    r"""Jacobian norm of the class probabilities, :math:`\|\partial_x \mathrm{softmax} f(x)\|_F`.

    Args:
        net: a module in eval mode that `implreg.read` takes, or its program; two or more outputs.
        x: samples, (N, *input).

    Returns:
        (N,), float64.

    Raises:
        InputError: as `gradient_norm`; a network with a single output, which is no class.

    Source: Novak et al. (2018), the input-output Jacobian of the probabilities, at test samples.

    >>> from torch import nn
    >>> net = nn.Linear(1, 2)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0], [-1.0]])), net.bias.data.zero_()
    >>> sensitivity(net, torch.zeros(1, 1)).tolist()  # of 1 / (1 + exp(-2x)) and its complement
    [0.707...]
    """
    program = program_of(net, x)
    if program.size(program.output) < 2:
        raise InputError("net must have two or more outputs, one per class, got one; use such.")
    norms = []
    for part in in_parts(program, x):
        logits, jacobian = jacobian_at(program, part)
        p = logits.softmax(dim=1)[..., None]
        norms.append((p * (jacobian - (p * jacobian).sum(1, keepdim=True))).norm(dim=(1, 2)))
    return torch.cat(norms)


def local_complexity(
    net: Net, x: Tensor, *, radius: float, directions: int = 20, seed: int = 0
) -> Tensor:
    r"""Hidden units that switch within a small cross-polytope about each sample, (N,).

    Its vertices are :math:`x \pm r e_k` for P random orthonormal directions :math:`e_k`, the same
    for all samples. A unit counts if its pre-activation has not the same sign at all vertices; in
    the first layer these are the units whose hyperplane meets the polytope, deeper down an
    approximation of it. Pooling by maxima is not counted.

    Args:
        net: a module in eval mode that `implreg.read` takes, or its program.
        x: samples, (N, *input).
        radius: r, in units of the samples.
        directions: P, at most the number of entries of a sample.
        seed: of the directions.

    Returns:
        Numbers of units, (N,), float64.

    Raises:
        InputError: as `gradient_norm`; an argument out of its range.

    Source: Humayun et al. (2024) and their published program.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.fill_(1.0), net[0].bias.data.copy_(torch.tensor([0.0, -2.0]))
    >>> local_complexity(net, torch.tensor([[0.5], [1.0], [1.5]]), radius=0.75, directions=1)
    tensor([1., 0., 1.], dtype=torch.float64)
    """
    program = program_of(net, x)
    check_number("radius", radius, above=0)
    size = math.prod(program.input_shape)
    if check_count("directions", directions) > size:
        raise InputError(
            f"directions must be at most {size}, the number of entries of a sample, got "
            f"{directions}; lower it."
        )
    random = torch.Generator().manual_seed(check_count("seed", seed, at_least=0))
    normal = torch.randn(size, directions, generator=random, dtype=torch.float64)
    frame = radius * torch.linalg.qr(normal).Q.T.to(program.device, program.dtype)
    offsets = torch.cat([frame, -frame]).reshape(-1, *program.input_shape)
    counts = []
    with torch.no_grad():
        for part in in_parts(program, x, each=len(offsets)):
            values = program.values((part[:, None] + offsets).flatten(0, 1))
            count = torch.zeros(len(part), dtype=torch.float64, device=part.device)
            for operation in program.operations:
                if isinstance(operation, Hinges):
                    z = values[operation.inputs[0]].reshape(len(part), len(offsets), -1)
                    low, high = z.amin(1), z.amax(1)
                    for at, _ in operation.kinks:
                        count += ((low <= at) & (high > at)).sum(1)
            counts.append(count)
    return torch.cat(counts)
