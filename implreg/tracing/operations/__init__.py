"""Which functions of PyTorch are piecewise linear, and how each becomes operations."""

from implreg.tracing.operations import activations, arithmetic, layers, pooling, shapes
from implreg.tracing.operations.table import perform

__all__ = ["activations", "arithmetic", "layers", "perform", "pooling", "shapes"]
