"""How far rounding leaves the values of a program from the true ones."""

import torch
from torch import Tensor

from implreg.tracing.kinds import Affine, Hinges
from implreg.tracing.program import Program

_DRAWS = 3  # of random factors
_FAR = 64  # times as far as that, what is not reached


def roughness(program: Program, *points: Tensor, output: bool = False) -> dict[int, Tensor]:
    r"""How far off the values of a program typically are, near some points.

    A sum :math:`z = \sum_j w_j a_j` is off by the root of :math:`\sum_j w_j^2 (e_j^2 + (\varepsilon
    A_j)^2)`, where a_j is off by e_j and A_j is its size, that of a unit as if it were on. It is
    the deviation of the same sum with normal factors, which are drawn (with random signs two terms
    of one size would often cancel). So it goes by the terms of each entry, and by nothing else: a
    unit may be as small as it likes.

    Args:
        program: what a network does.
        points: samples, (N, *input_shape) each; what is larger at one of them counts.
        output: go on to the output.

    Returns:
        For every value that a switching operation reads, and the output if it is asked for,
        (N, *shape).
    """
    x = torch.cat(points)
    random = torch.Generator(x.device).manual_seed(0)
    count, eps = len(points[0]), torch.finfo(x.dtype).eps
    read = {program.operations[i].inputs[0] for i in program.sites}
    wanted = read | {program.output} if output else read

    def largest(a: Tensor) -> Tensor:
        return a.view(len(points), count, *a.shape[1:]).amax(dim=0)

    # Each value, at all points; its size, and how far it is off.
    known: dict[int, tuple[Tensor, ...]] = {0: (x, largest(x.abs()), torch.zeros_like(points[0]))}
    for i, operation in enumerate(program.operations[: max(wanted, default=0)]):
        values, sizes, errors = zip(*(known[v] for v in operation.inputs), strict=True)
        if isinstance(operation, Affine):
            stacked = []
            for value, a, e in zip(values, sizes, errors, strict=True):
                # The same for all samples, so that none depends on the others.
                factors = a.new_empty(_DRAWS, 1, *a.shape[1:]).normal_(generator=random)
                terms = factors * torch.stack([a, torch.hypot(eps * a, e)])[:, None]
                stacked.append(torch.cat([value, terms.flatten(0, 2)]))
            every = operation.linear(*stacked)
            made, drawn = every[: len(x)], every[len(x) :]
            drawn = drawn.reshape(2, _DRAWS, count, *operation.shape)
            most = drawn.abs().amax(1, keepdim=True)  # so that no square is beyond all bounds
            size, error = (drawn / most.where(most > 0, 1)).square().mean(1).sqrt() * most[:, 0]
            bias = x.new_zeros(()) if operation.bias is None else operation.bias
            made, size, error = made + bias, size + bias.abs(), error + eps * bias.abs()
        elif isinstance(operation, Hinges):
            ((z,), (e,)) = values, errors
            made, e = operation.at(z), e.repeat(len(points), *[1] * (e.ndim - 1))
            # As if it were on, unless it is far from that, compared with how the layer changes.
            all_along = z.reshape(len(points), count, -1)
            reach = _FAR * (all_along.amax(0) - all_along.amin(0)).amax(1)
            reach = reach.repeat(len(points)).view(-1, *[1] * (z.ndim - 1))
            size = largest(made.abs().maximum(operation.at(-z.clamp(-reach, reach)).abs()))
            off = (operation.at(z + e) - made).abs().maximum((made - operation.at(z - e)).abs())
            # What goes flat between two of the points is off there by what it was off before.
            crosses = torch.zeros_like(all_along[0], dtype=torch.bool)
            for at, _ in operation.kinks:
                crosses |= (all_along > at).any(0) & (all_along <= at).any(0)
            steep = e[:count] * operation.steepest
            error = torch.where(crosses.view_as(steep), largest(off).maximum(steep), largest(off))
        else:
            entries, a, e = (x[0].flatten(1)[:, operation.index] for x in (values, sizes, errors))
            made, best = entries.max(-1, keepdim=True)
            # What never comes near the largest has no say, however large it is.
            within = _FAR * a.repeat(len(points), 1, 1).gather(-1, best)
            near = (entries >= made - within).view(len(points), *a.shape).any(0)
            made, size, error = (x.amax(-1) for x in (entries, a * near, e * near))
        known[i + 1] = tuple(a.reshape(len(a), *operation.shape) for a in (made, size, error))
        for value in {*operation.inputs} - wanted:
            if program.last_use[value] == i:
                del known[value]
    return {v: known[v][2] + eps * known[v][1] for v in wanted}
