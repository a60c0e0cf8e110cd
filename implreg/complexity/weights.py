"""Measures of the weights."""

import math

import torch
from torch import Tensor, nn

from implreg.checks import check_choice
from implreg.complexity.jacobians import Net, linear_part, program_of
from implreg.errors import InputError
from implreg.tracing.kinds import Hinges


def weight_product(net: Net, sample: Tensor) -> float:
    r"""Weight product of a network with one hidden layer, :math:`\sum_i \|w_i\| \, \|v_i\|`.

    :math:`w_i` are the weights into hidden unit i and :math:`v_i` those out of it. It is the sum
    over hidden units of the jump of the Jacobian where the unit switches, and that is how it is
    computed: batch norm counts as part of the weights, a leaky ReLU with slope a contributes
    (1 - a) times, and every position of a convolution is a unit.

    Args:
        net: a module in eval mode that `implreg.read` takes, with one layer of activations; or its
            program.
        sample: an input, (*input), without a batch axis.

    Raises:
        InputError: more or fewer layers of activations, or pooling by maxima: a unit of a deeper
            layer has no single jump.

    Source: Volhejn and Lampert (2021) for one output, :math:`\sum_i \|w_i\| |v_i|`; the norm of
    :math:`v_i` for several outputs and the rest above are our reading.

    >>> import implreg as ir
    >>> net = ir.mlp(3, 8, 2, seed=0)
    >>> product = (net[0].weight.norm(dim=1) * net[2].weight.norm(dim=0)).sum().item()
    >>> math.isclose(weight_product(net, torch.zeros(3)), product, rel_tol=1e-6)
    True
    """
    program = program_of(net, sample[None])
    sites = [program.operations[i] for i in program.sites]
    hinge = sites[0] if len(sites) == 1 else None
    if not isinstance(hinge, Hinges):
        raise InputError(
            f"net must have one layer of activations for its weight product, got {len(sites)} "
            f"layers that switch; use another measure."
        )
    taken, made = hinge.inputs[0], program.sites[0] + 1
    w = linear_part(program, 0, taken).norm(dim=0)
    v = linear_part(program, made, program.output).norm(dim=1)
    jump = torch.zeros(hinge.shape, dtype=program.dtype, device=program.device)
    for _, change in hinge.kinks:
        jump += change.abs() if isinstance(change, Tensor) else abs(change)
    return float((w * v * jump.flatten()).sum())


def parameter_norm(net: nn.Module) -> float:
    r"""Norm of all parameters together, :math:`\|\theta\|_2`; buffers such as means do not count.

    Args:
        net: any module.

    >>> net = nn.Linear(2, 1)
    >>> _ = net.weight.data.copy_(torch.tensor([[2.0, 1.0]])), net.bias.data.fill_(2.0)
    >>> parameter_norm(net)
    3.0
    """
    return math.sqrt(sum(float(p.detach().double().square().sum()) for p in net.parameters()))


def distance(net: nn.Module, initial: nn.Module) -> float:
    r"""How far training has moved the parameters, :math:`\|\theta - \theta_0\|_2`.

    Args:
        net: any module.
        initial: a module with the same parameters, those at initialisation.

    Raises:
        InputError: networks with different parameters.

    Source: Nagarajan and Kolter (2019).

    >>> import implreg as ir
    >>> distance(ir.mlp(3, 9, 1, seed=0), ir.mlp(3, 9, 1, seed=0))
    0.0
    """
    now, then = dict(net.named_parameters()), dict(initial.named_parameters())
    if {k: p.shape for k, p in now.items()} != {k: p.shape for k, p in then.items()}:
        raise InputError(
            "initial must have the same parameters as net, but names or shapes differ; pass the "
            "network that training began with."
        )
    squares = [(p.detach().double() - then[k].detach().double()).square() for k, p in now.items()]
    return math.sqrt(sum(float(x.sum()) for x in squares))


def norm_product(net: nn.Module, norm: str) -> float:
    r"""Product of the norms of all weights with two axes or more, :math:`\prod_l \|W_l\|`.

    A kernel of a convolution counts as the matrix (output channels) x (all other entries); its
    spectral norm is then not that of the convolution. Biases and batch norm do not count.

    Args:
        net: any module.
        norm: "frobenius" or "spectral", the largest singular value.

    Raises:
        InputError: another norm.

    Source: Neyshabur et al. (2015) and Bartlett et al. (2017), where these products bound the
    complexity of a network.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.diag(torch.tensor([3.0, 4.0])))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 0.0]]))
    >>> norm_product(net, "frobenius"), norm_product(net, "spectral")
    (10.0, 8.0)
    """
    check_choice("norm", norm, ("frobenius", "spectral"))
    order = "fro" if norm == "frobenius" else 2
    weights = (p.detach().double().flatten(1) for p in net.parameters() if p.ndim > 1)
    return math.prod(float(torch.linalg.matrix_norm(w, order)) for w in weights)
