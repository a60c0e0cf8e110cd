"""Exact piecewise-linear paths: a network and pairs of samples go in, a trace comes out."""

from implreg.tracing.result import Trace
from implreg.tracing.trace import trace

__all__ = ["Trace", "trace"]
