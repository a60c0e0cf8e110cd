"""Exact piecewise-linear paths: a network and pairs of samples go in, a trace comes out."""

from implreg.tracing.certificate import Certificate
from implreg.tracing.paths import Pairs, Paths, Polyline, polyline
from implreg.tracing.program import Program
from implreg.tracing.read import read
from implreg.tracing.refine import Part
from implreg.tracing.result import Trace
from implreg.tracing.trace import Interrupted, stream, trace

__all__ = [
    "Certificate",
    "Interrupted",
    "Pairs",
    "Part",
    "Paths",
    "Polyline",
    "Program",
    "Trace",
    "polyline",
    "read",
    "stream",
    "trace",
]
