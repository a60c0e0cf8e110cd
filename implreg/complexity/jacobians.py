"""Networks as programs, and their derivatives by the input: what the measures share."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from implreg.errors import InputError
from implreg.tracing import Program, read
from implreg.tracing.kinds import Affine
from implreg.tracing.memory import chunk_bytes

Net = nn.Module | Program


def program_of(net: Net, x: Tensor) -> Program:
    """The network as a program, which takes samples such as x."""
    program = net if isinstance(net, Program) else read(net, x[0])
    if tuple(x.shape[1:]) != program.input_shape:
        raise InputError(
            f"x must hold samples of shape {program.input_shape}, got {tuple(x.shape[1:])}; "
            f"reshape them."
        )
    return program


def rows_at_once(program: Program, each: int = 1) -> int:
    """How many samples are taken at once, such that one array of a layer stays small."""
    widest = max(program.size(v) for v in range(len(program.operations) + 1))
    return max(1, chunk_bytes(program.device) // (program.dtype.itemsize * widest * each))


def in_parts(program: Program, x: Tensor, each: int = 1) -> Iterator[Tensor]:
    """The samples in parts that are taken at once, in the program's type."""
    yield from x.detach().to(program.dtype).split(rows_at_once(program, each))


def jacobian_at(program: Program, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (N, C) and their derivatives by the inputs (N, C, entries)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        outputs = program.values(x)[program.output].flatten(1)
        rows = [
            torch.autograd.grad(column.sum(), x, retain_graph=True)[0].flatten(1)
            for column in outputs.unbind(1)
        ]
    return outputs.detach(), torch.stack(rows, dim=1)


def normal_of(program: Program, x: Tensor, site: int, unit: Tensor) -> Tensor:
    """Derivative of one pre-activation of each sample by the inputs, (N, *input)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = program.values(x)[program.operations[site].inputs[0]].flatten(1)
        return torch.autograd.grad(z.gather(1, unit[:, None]).sum(), x)[0]


def linear_part(program: Program, source: int, target: int) -> Tensor:
    """The linear map from one value to a later one, all other values zero, (source, target)."""
    size = program.size(source)
    rows = torch.eye(size, dtype=program.dtype, device=program.device)
    found = {source: rows.reshape(size, *program.shape(source))}
    for i, operation in enumerate(program.operations[:target]):
        if isinstance(operation, Affine) and found.keys() & {*operation.inputs}:
            taken = [
                found[v] if v in found else rows.new_zeros(size, *program.shape(v))
                for v in operation.inputs
            ]
            found[i + 1] = operation.linear(*taken).reshape(size, *operation.shape)
    made = found.get(target)
    return rows.new_zeros(size, program.size(target)) if made is None else made.flatten(1)
