"""ONNX files, by way of the package onnx2torch, which implreg does not need itself."""

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from implreg.errors import InputError, explain_error

_OPSET = 17  # of the operations: onnx2torch knows few newer ones


def load_onnx(path: Path) -> nn.Module:
    """Return the module that onnx2torch makes of a file, for any number of samples at once.

    Raises:
        InputError: the packages are missing, or do not know an operation.
        Exception: whatever onnx raises where the file is damaged.
    """
    try:
        onnx, onnx2torch = map(importlib.import_module, ("onnx", "onnx2torch"))
    except Exception as error:  # RuntimeError if torchvision was built for another torch
        raise InputError(
            f"file must be of a kind that can be read here, got {path}, which takes onnx2torch, "
            f"but importing that raised {explain_error(error)}; pip install 'implreg[onnx]', with "
            f"the torchvision that belongs to your PyTorch."
        ) from error
    model = onnx.load(path)  # large weights lie in a second file beside it
    batch = (_sizes(model.graph.input[0]) or [0])[0]
    try:
        if any(x.version > _OPSET for x in model.opset_import if not x.domain):
            model = onnx.version_converter.convert_version(model, _OPSET)
        graph = onnx.shape_inference.infer_shapes(model).graph
        sizes = {x.name: _sizes(x) for x in (*graph.value_info, *graph.output)}
        same: dict[str, str] = {}  # weights among them, which onnx2torch knows by their own names
        for i, node in enumerate(model.graph.node):
            node.input[:] = [same.get(x, x) for x in node.input]
            if node.op_type == "Identity":
                same[node.output[0]] = node.input[0]
            # torch.fx writes names into code that it runs: a quote in one would end its string. By
            # its number each is the only one of its name; of two, onnx2torch drops the first.
            node.name = re.sub(r"\W", "_", f"{node.name or node.op_type}_{i}")
            first, *others = sizes.get(node.output[0]) or [0, 0]
            if node.op_type == "Reshape" and all(others) and first in (0, batch):
                # The same for as many samples as the export had; tracing takes two at once.
                shape = onnx.numpy_helper.from_array(np.array([-1, *others]), f"shape of node {i}")
                model.graph.initializer.append(shape)
                node.input[1] = shape.name
                del node.attribute[:]  # how to read a 0, of which there is none
        return onnx2torch.convert(model)  # type: ignore[no-any-return]
    except Exception as error:
        raise InputError(
            f"file must hold operations that onnx2torch knows, got {path} "
            f"({explain_error(error)[:200]}); export it with opset_version={_OPSET} and "
            f"dynamo=False, or save net.state_dict() and name the network."
        ) from error


def _sizes(value: Any) -> list[int]:
    """The shape that the file states, 0 for a size that it leaves open."""
    return [size.dim_value for size in value.type.tensor_type.shape.dim]
