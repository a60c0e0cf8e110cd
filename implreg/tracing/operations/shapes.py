"""Reshaping, which moves no entry; and questions about shapes."""

from typing import Any

import torch

from implreg.tracing.operations.table import HANDLERS, Handler, first_axis_moved
from implreg.tracing.record import BATCH, Recorded, Recorder, Refused, plain


def _reshaped(name: str) -> Handler:
    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Recorded:
        data = getattr(torch.Tensor, name)(plain(input), *plain(args), **plain(kw))
        if data.dtype != input.dtype:
            raise Refused(f"reads the bits of its input as {data.dtype}; leave them as they are.")
        if data.ndim == 0 or len(data) != BATCH:
            first_axis_moved()
        shape = tuple(data.shape[1:])
        return r.affine(name, [input], lambda x: x.reshape(len(x), *shape), keeps=True)

    return handle


for _name in ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as",
              "reshape_as"):  # fmt: skip
    HANDLERS[_name] = _reshaped(_name)


def _question(name: str) -> Handler:
    def handle(r: Recorder, input: Recorded, *args: Any, **kw: Any) -> Any:
        return getattr(plain(input), name)(*args, **kw)

    return handle


for _name in (
    "size", "dim", "numel", "ndimension", "nelement", "stride", "is_contiguous",
    "is_floating_point", "is_complex", "get_device", "__len__", "__hash__", "__repr__",
    "__format__", "__str__",
):  # fmt: skip
    HANDLERS[_name.strip("_")] = _question(_name)
