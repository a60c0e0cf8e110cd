"""Recurrent layers with ReLU, step by step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from implreg.tracing.operations.linear import affine
from implreg.tracing.operations.table import constants_only, handles
from implreg.tracing.record import Recorded, Recorder, Refused

_LAST = (
    "returns its last states with the samples on the second axis, which cannot be followed; take "
    "them from the output, as output[:, -1]."
)


@handles("rnn_relu_cell")
def _cell(
    r: Recorder, input: Any, hx: Any, w_ih: Tensor, w_hh: Tensor,
    b_ih: Tensor | None = None, b_hh: Tensor | None = None,
) -> Recorded:  # fmt: skip
    constants_only(w_ih, w_hh, b_ih, b_hh)

    made = affine(
        r, "rnn", lambda x, h, v, w, b, c: functional.linear(x, v, b) + functional.linear(h, w, c),
        (input, hx, w_ih, w_hh, b_ih, b_hh), {},
    )  # fmt: skip
    return r.hinges("rnn", made, kinks=[(0.0, 1.0)])


@handles("rnn_relu")
def _rnn(
    r: Recorder, input: Any, hx: Any, weights: Sequence[Tensor], has_biases: bool, layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    if not batch_first:
        raise Refused("takes the samples on the second axis; use batch_first=True.")
    if isinstance(hx, Recorded):
        raise Refused("starts from states that it computes from its input; let it start from zero.")
    if dropout and train:
        raise Refused("is dropout in training mode, which is random; call net.eval().")
    directions, each = 1 + bidirectional, 4 if has_biases else 2
    output = input
    for layer in range(layers):
        found = []
        for direction in range(directions):
            number = layer * directions + direction
            own = weights[each * number : each * (number + 1)]
            state: Tensor = hx[number]
            states: list[Tensor] = []
            steps = range(input.shape[1])
            for i in reversed(steps) if direction else steps:
                state = _cell(r, output[:, i], state, *own)
                states.append(state)
            found.append(torch.stack(states[::-1] if direction else states, dim=1))
        output = torch.cat(found, dim=2)
    return output, r.forbidden(r.why(_LAST), [output], hx.clone())
