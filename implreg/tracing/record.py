"""Tensors that tell a recorder what is done with them."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from implreg.errors import InputError
from implreg.tracing.kinds import Affine, Forbidden, Hinges, Operation, Shape, Windows
from implreg.tracing.maps import Mixing
from implreg.tracing.network import Network

Function = Callable[..., Any]
MaybeTensor = TypeVar("MaybeTensor", Tensor, Tensor | None)
BATCH = 2  # samples that the recorded run holds, so that no operation can take them for one
BATCH_STATISTICS = (
    "normalises by the statistics of the batch, so that no sample has a path of its own; call "
    "net.eval() (and keep track_running_stats=True)."
)

_NOT_FOLLOWED = (
    "writes into what it computed in a way that cannot be followed (out=, vmap, a view along the "
    "samples or of another shape); write into the tensor itself, or return a new one."
)
_SCRIPTED = "is TorchScript, whose operations cannot be read; use the module that was scripted."


class Refused(Exception):
    """Why an operation cannot be traced; `Recorder` adds where it stands."""


class Recorded(Tensor):
    """A tensor that tells its recorder what is done with it.

    `value` is the number of the program's value that it holds. A view of another tensor's entries
    knows what it is `of`, and the function that takes them. What says where another tensor is above
    zero knows that one as `above`.
    """

    value: int
    recorder: "Recorder"
    of: tuple["Recorded", Function | None] | None
    views: list["Recorded"]
    above: "Recorded | None"

    @classmethod
    def __torch_function__(
        cls, func: Function, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Recorded)]
        return given[0].recorder.call(func, args, kwargs, given)


def fixed(x: MaybeTensor) -> MaybeTensor:
    """A constant; to be differentiated only where gradients are asked for."""
    return x if x is None or torch.is_grad_enabled() else x.detach()


def plain(tree: Any) -> Any:
    """The same arguments with ordinary tensors in place of recorded ones."""
    with torch._C.DisableTorchFunctionSubclass():
        if isinstance(tree, Recorded):  # as most are
            return tree.as_subclass(Tensor)
        return tree_map_only(Recorded, lambda x: x.as_subclass(Tensor), tree)


def changes(func: Function, kwargs: Mapping[str, Any]) -> bool:
    """Whether a function changes its first argument."""
    name = getattr(func, "__name__", "")
    operators = ["__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__idiv__"]
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name in operators or kwargs.get("inplace") is True


def changed(func: Function) -> Function:
    """What an in-place function makes of its first argument, which stays as it is."""

    def call(first: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = first.clone()
        func(copy, *args, **kwargs)
        return copy

    return call


class Recorder:
    """Collects operations while a module runs.

    Args:
        perform: runs a function on recorded tensors and appends what it does, or raises `Refused`.
        shape: of one sample.
    """

    def __init__(self, perform: "Perform", shape: Shape) -> None:
        self.shape = shape
        self.operations: list[Operation | Forbidden] = []
        self._perform = perform
        self.running: list[tuple[str, nn.Module]] = []
        self._uses: Counter[str] = Counter()
        self._held: set[int] = set()
        self._made: list[tuple[Tensor, type, int]] = []  # what they were, and how often written to

    def wrap(self, data: Tensor, index: int) -> Recorded:
        """An ordinary tensor as value `index` of the program."""
        return self._adopted(plain(data).as_subclass(Tensor), index)

    def _adopted(self, tensor: Tensor, index: int) -> Recorded:
        self._made.append((tensor, type(tensor), writes(tensor)))
        tensor.__class__ = Recorded
        assert isinstance(tensor, Recorded)
        tensor.value, tensor.recorder, tensor.of, tensor.views = index, self, None, []
        tensor.above = None
        return tensor

    def add(self, operation: Operation, data: Tensor) -> Recorded:
        """Append an operation; `data` is its result for the recorded batch."""
        self.operations.append(operation)
        return self.wrap(data, len(self.operations))

    def becomes(self, tensor: Any, made: Tensor) -> Any:
        """Let `tensor` hold what was made, as after an operation in place, and return it.

        What is written into a view is written into the tensor that it is of, and shows in all its
        views.
        """
        if isinstance(tensor, Recorded) and not isinstance(made, Recorded):
            made = self.affine("fill", [tensor], torch.zeros_like, bias=made[0])
        if not isinstance(tensor, Tensor) or not isinstance(made, Recorded):
            return made
        if not isinstance(tensor, Recorded):
            if tensor._base is not None:
                raise InputError(
                    self.why("writes into a part of a constant; write whole[part] = ... instead.")
                )
            tensor = self._adopted(tensor, made.value)
        tensor.value = made.value
        if tensor.of is None:
            self._show(tensor)
            return tensor
        whole, view = tensor.of
        if view is None:
            raise InputError(self._lost(made) or self.why(_NOT_FOLLOWED))

        def write(x: Tensor, part: Tensor) -> Tensor:
            copy = x.clone(memory_format=torch.contiguous_format)  # what is a view stays one
            view(copy).copy_(part)
            return copy

        self.becomes(whole, self.affine("write", [whole, tensor], write))
        return tensor

    def _show(self, tensor: Recorded) -> None:
        parts, tensor.views = tensor.views, []
        for part in parts:
            assert part.of is not None and part.of[1] is not None
            part.value = self.affine("view", [tensor], part.of[1]).value
            tensor.views[-1] = part  # not the one that was just made
            self._show(part)

    def affine(
        self, text: str, inputs: Sequence[Recorded], linear: Callable[..., Tensor], *,
        bias: Tensor | None = None, form: Mixing | None = None,
        keeps: bool = False,
    ) -> Recorded:  # fmt: skip
        """Append an affine operation."""
        columns = None if form is None else form.columns
        if any(x.ndim == 0 or len(x) != BATCH for x in inputs):
            raise Refused("goes on with what has lost the first axis, that of the samples.")
        data = linear(*plain(inputs))
        data = data if bias is None else data + bias
        taken = tuple(x.value for x in inputs)
        made = Affine(self.name(text), text, taken, _one(data), linear, bias, columns, form, keeps)
        return self.shared(self.add(made, data), data, inputs[0], linear)

    def shared(self, made: Recorded, data: Tensor, x: Recorded, view: Function | None) -> Recorded:
        """Note that `made` is a `view` of x, if `data`, what it holds, has the entries of x."""
        one, other = (plain(a).untyped_storage().data_ptr() for a in (data, x))
        if one == other and made.of is None:
            made.of = x, view
            if view is not None:
                x.views.append(made)
        return made

    def hinges(
        self, text: str, x: Recorded, *, kinks: Sequence[tuple[float, float | Tensor]],
        slope: float | Tensor = 0.0, offset: float = 0.0,
    ) -> Recorded:  # fmt: skip
        """Append a piecewise linear function of every entry."""
        if bool(plain(x).isinf().any()):
            raise Refused("computes with infinite numbers, which only a maximum may; use others.")
        shape = tuple(x.shape[1:])
        made = Hinges(self.name(text), text, (x.value,), shape, offset, slope, tuple(kinks))
        return self.add(made, made.at(plain(x)))

    def windows(self, text: str, x: Recorded, data: Tensor, index: Tensor) -> Recorded:
        """Append a maximum over windows; what is always minus infinity is not among the entries."""
        never = plain(x).flatten(1)[:, index].isneginf().all(0)
        if bool(never.all(1).any()):
            raise Refused("has a window of minus infinity alone; give it a finite entry.")
        index = index.where(~never, index.gather(1, (~never).int().argmax(1, keepdim=True)))
        return self.add(Windows(self.name(text), text, (x.value,), _one(data), index), data)

    def forbidden(self, why: str, inputs: Sequence[Recorded], data: Tensor) -> Recorded:
        """Append what no output may depend on; `data` is its result for the recorded batch."""
        self.operations.append(Forbidden(why, tuple(x.value for x in inputs)))
        return self.shared(self.wrap(data, len(self.operations)), data, inputs[0], None)

    def says(self, above: Recorded, mask: Recorded, data: Tensor) -> Recorded:
        """A tensor that says, like `mask`, where `above` is above zero."""
        said = self.wrap(data, mask.value)
        said.above = self.wrap(plain(above).clone(), above.value)  # as it is now
        return said

    def name(self, text: str) -> str:
        """A name of its own for the operation: the module's, or the function's inside it."""
        path, module = self.running[-1]
        own = [name for name, _ in module.named_children() if name != "parametrizations"]
        leaf = type(module).__module__.startswith("torch.nn.") and not own
        function = text.split("(")[0].strip()
        name = path if leaf and path else f"{path}.{function}".lstrip(".")
        self._uses[name] += 1
        return name if self._uses[name] == 1 else f"{name}:{self._uses[name]}"

    def why(self, reason: object) -> str:
        """The sentence that refuses what the module that runs now does."""
        return f"net must be piecewise linear, but {self.where()} {reason}"

    def where(self) -> str:
        """The module that runs now, in words."""
        path, module = self.running[-1]
        return f"its layer {path!r} ({type(module).__name__})" if path else type(module).__name__

    def holds(self, x: Any) -> bool:
        """Whether x is a parameter or buffer of the module that runs."""
        return id(x) in self._held

    def call(self, func: Function, args: Any, kwargs: Any, given: list[Recorded]) -> Any:
        """Run a function of recorded tensors and note what it does."""
        in_place = changes(func, kwargs)
        why = next((why for x in given if (why := self._lost(x))), "")
        if not why:
            try:
                return self._perform(self, func, args, kwargs)
            except Refused as refused:
                why = self.why(refused)
        try:  # it may be that the output does not depend on it
            made = (changed(func) if in_place else func)(*plain(args), **plain(kwargs))
        except Exception:
            raise InputError(why) from None
        if not all(isinstance(x, Tensor) for x in tree_leaves(made)):
            try:  # a question about it, which may have an answer
                return self._perform(self, func, args, kwargs)
            except Refused as refused:
                raise InputError(self.why(refused)) from None
        if in_place:
            return self.becomes(args[0], self.forbidden(why, given, made))
        return tree_map(lambda x: self.forbidden(why, given, x), made)

    def _lost(self, x: Recorded) -> str:
        """Why no output may depend on x, where that is so, and x is not a choice either."""
        operation = self.operations[x.value - 1] if x.value and x.above is None else None
        return operation.why if isinstance(operation, Forbidden) else ""

    @contextlib.contextmanager
    def listening(self, net: Network) -> Iterator[None]:
        """Keep track of which module of a network is running."""

        def enter(module: nn.Module, _: Any) -> None:
            self._held = self._held or {id(x) for x in net.running.values()}
            self.running.append((net.names.get(module, ""), module))
            if isinstance(module, torch.jit.ScriptModule):
                raise InputError(self.why(_SCRIPTED))

        def leave(module: nn.Module, _: Any, __: Any) -> None:
            self.running.pop()

        handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
        try:
            yield
            if any(writes(plain(x)) != before for x, _, before in self._made):
                raise InputError(f"net must be piecewise linear, but it {_NOT_FOLLOWED}")
        finally:
            for handle in handles:
                handle.remove()
            for tensor, kind, _ in self._made:
                tensor.__dict__.clear()
                tensor.__class__ = kind


def writes(tensor: Tensor) -> int:
    """How often a tensor, or another of its entries, was written to; 0 where that is not known."""
    return 0 if tensor.is_inference() else tensor._version


def _one(data: Tensor) -> Shape:
    """Shape for one sample of a result for the recorded batch."""
    if data.ndim == 0 or len(data) != BATCH:
        raise Refused(
            "mixes the samples of a batch (the first axis must stay theirs); keep it apart."
        )
    return tuple(data.shape[1:])


Perform = Callable[[Recorder, Function, Sequence[Any], dict[str, Any]], Any]
