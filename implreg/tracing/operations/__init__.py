"""Which functions of PyTorch are piecewise linear, and how each becomes operations."""

from implreg.tracing.operations import (
    activations,
    arithmetic,
    choices,
    layers,
    orders,
    pooling,
    recurrent,
    shapes,
)
from implreg.tracing.operations.table import perform

__all__ = [
    "activations", "arithmetic", "choices", "layers", "orders", "perform", "pooling", "recurrent",
    "shapes",
]  # fmt: skip
