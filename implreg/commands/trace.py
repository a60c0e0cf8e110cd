"""``python -m implreg trace``."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from click.core import ParameterSource
from torch import Tensor, nn

import implreg
from implreg import measures
from implreg.commands import INTERRUPTED
from implreg.datasets import KINDS, ORIGINS, Pairs
from implreg.errors import explain_os_error, prepare_folder
from implreg.figures import Figure, plot_samples
from implreg.files import import_network, read_network, read_paths
from implreg.sampled import Samples, sample
from implreg.tracing import Paths, Program, Trace
from implreg.tracing.paths import segments
from implreg.tracing.read import prepared, record
from implreg.tracing.trace import memory_bytes, progress_bar

_OF_DATA = ("kind", "count", "seed", "shape")  # options that say what to draw from --data
_FILES = ("trace.npz", "switches.csv", "samples.npz", "path.svg", "path.png")
_CHUNK = 2**28  # bytes of the outputs' forward pass, where --memory allows more
_COMPARED = 8  # positions at which the outputs are compared with those of the program
_MISMATCH = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative; rounding stays far below
_EPILOG = """
Figure 1 of Kubo et al. (2019) for two images and a network of torchvision (which implreg does not
need itself), with the weights' own transforms:

\b
  import numpy as np, torch
  from PIL import Image
  from torchvision.models import ResNet101_Weights, resnet101
\b
  weights = ResNet101_Weights.IMAGENET1K_V1
  prepare = weights.transforms()
  x0, x1 = (prepare(Image.open(f).convert("RGB")) for f in ("a.jpg", "b.jpg"))
  np.savez("pairs.npz", x0=x0[None].numpy(), x1=x1[None].numpy())
  torch.save(resnet101(weights=weights).state_dict(), "resnet101.pth")

\b
  python -m implreg trace resnet101.pth --network torchvision.models:resnet101 \\
      --paths pairs.npz --points 1000 --out figure1
"""


def _sizes(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not all(size.isdecimal() and int(size) for size in value.split(",")):
        raise click.BadParameter(
            f"must be whole numbers above 0 with commas between them, such as 1,28,28, got {value}."
        )
    return tuple(int(size) for size in value.split(","))


@click.command("trace", epilog=_EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--network",
    metavar="MODULE:CALLABLE",
    help="Function that builds the network of a state dict, such as models:build.",
)
@click.option(
    "--paths",
    type=click.Path(path_type=Path),
    help="File (.npz, .safetensors, .pt) with x0 and x1, or points of a polyline.",
)
@click.option("--closed", is_flag=True, help="Join the last of the points to the first.")
@click.option("--data", type=click.Choice(list(ORIGINS)), help="Data set to draw pairs from.")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="same",
    show_default=True,
    help="Classes of a pair.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Number of pairs.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draw."
)
@click.option(
    "--shape", metavar="SIZES", callback=_sizes, help="Shape of one sample, such as 1,28,28."
)
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    show_default=True,
    help="Precision of the computation.",
)
@click.option(
    "--points",
    type=click.IntRange(min=3),
    metavar="N",
    help="Sample each path at N evenly spaced positions instead of following it exactly.",
)
@click.option("--memory", metavar="SIZE", help="What the working set may take, such as 512MB.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("trace"),
    show_default=True,
    help="Folder of the results.",
)
@click.option(
    "--plot",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Path to draw, counted from 0.",
)
@click.pass_context
def trace_command(
    ctx: click.Context,
    file: Path,
    network: str | None,
    paths: Path | None,
    closed: bool,
    data: str | None,
    kind: str,
    count: int,
    seed: int,
    shape: tuple[int, ...] | None,
    dtype: str,
    points: int | None,
    memory: str | None,
    out: Path,
    plot: int,
) -> None:
    """Find every switch of the network in FILE along straight paths or along a polyline.

    FILE is a whole network from torch.save (.pt, .pth) or a state dict (.pt, .pth, .safetensors),
    which needs --network. Nothing that it contains is run. The paths are those of --paths, or join
    pairs of samples of --data.

    The folder --out receives trace.npz (implreg.Trace.load reads it), switches.csv, and the path
    --plot as path.svg and path.png. After Ctrl-C it receives the paths that were finished, and in
    switches.csv also the switches that were found on the next one.

    A large network switches millions of times on one path, and following it takes too long. With
    --points N, straight paths are sampled at N positions: switches in one interval merge. --out
    then receives samples.npz (t, values, slopes, slopes_with_offsets, counts, lengths) and the path
    --plot, and the estimates are printed twice: as the released program of Kubo et al. (2019)
    computes them ("released"), and without its index and bias traits ("corrected", see
    implreg.sampled). After Ctrl-C nothing is written.
    """
    if (paths is None) == (data is None):
        raise click.UsageError("give the paths with either --paths or --data.")
    given = [x for x in _OF_DATA if ctx.get_parameter_source(x) is not ParameterSource.DEFAULT]
    if given and data is None:
        raise click.UsageError(f"--{given[0]} is for --data; leave it out with --paths.")
    if closed and paths is None:
        raise click.UsageError("--closed is for the points of --paths; leave it out with --data.")
    if closed and points is not None:
        raise click.UsageError(
            "--closed is for polylines, which --points cannot sample; leave it out."
        )

    start = time.monotonic()
    net = read_network(file, None if network is None else import_network(network))
    if paths is not None:
        lines, number = _read(paths, closed, straight=points is not None)
    else:
        assert data is not None
        lines = _drawn(data, kind, count, seed, shape)
        number = len(lines)
    if plot >= number:
        raise click.UsageError(
            f"--plot must be a path from 0 to {number - 1}, got {plot}; choose one of these."
        )

    try:
        prepare_folder(out)  # before hours of work, not after
    except OSError as error:
        raise click.ClickException(explain_os_error(error, out)) from error

    if points is not None:
        _sampled(net, lines, points, getattr(torch, dtype), memory, out, plot, start)
        return
    read = time.monotonic()
    click.echo(f"tracing {_paths(number)}", err=True)
    stop: implreg.Interrupted | None = None
    trace: Trace | None
    try:
        trace = implreg.trace(net, lines, dtype=getattr(torch, dtype), memory=memory)
        table = trace.to_table()
    except implreg.Interrupted as interruption:
        stop, trace, table = interruption, interruption.partial, interruption.table
    except ArithmeticError as error:
        raise click.ClickException(str(error)) from error

    traced = time.monotonic()
    files = _write(trace, table, out, plot)
    written = time.monotonic()
    if trace is not None:
        for measure, value in _measured(trace, lines if stop is None else None).items():
            click.echo(f"{measure.replace('_', ' '):<22}{value:.6g}")
        click.echo(
            f"\n{_paths(len(trace))} with {len(trace.t):,} switches: reading {read - start:.1f} s, "
            f"tracing {traced - read:.1f} s, writing {written - traced:.1f} s"
        )
    if files:
        click.echo(f"{out} has {', '.join(files)}")
    if stop is not None:
        click.echo(_stopped(stop, number), err=True)
        ctx.exit(INTERRUPTED)


def _read(paths: Path, closed: bool, straight: bool) -> tuple[Any, int]:
    """Paths of a file as `implreg.trace` takes them, and how many they are."""
    read = read_paths(paths)
    if not isinstance(read, tuple):
        if straight:
            raise click.UsageError(
                f"--points samples straight paths, but {paths} holds points of a polyline; save "
                f"the two ends of each segment as x0 and x1."
            )
        return implreg.polyline(read, closed=closed), 1
    if closed:
        raise click.UsageError(
            f"--closed is for points, but {paths} holds x0 and x1; leave it out."
        )
    return read, len(read[0])


def _drawn(data: str, kind: str, count: int, seed: int, shape: tuple[int, ...] | None) -> Pairs:
    drawn = implreg.pairs(implreg.load(data), kind=kind, count=count, seed=seed)
    if shape is None:
        return drawn
    features = drawn.x0.shape[1]
    if prod(shape) != features:
        raise click.UsageError(
            f"--shape must have the {features} features of {data}, got "
            f"{','.join(map(str, shape))} with {prod(shape)}; choose other sizes."
        )
    return replace(drawn, x0=drawn.x0.reshape(-1, *shape), x1=drawn.x1.reshape(-1, *shape))


def _write(trace: Trace | None, table: pd.DataFrame, out: Path, plot: int) -> list[str]:
    """Write what there is into `out`, all of it or nothing, and return the names of the files."""
    if trace is None and table.empty:
        return []

    def write(part: Path) -> None:
        table.to_csv(part / "switches.csv", index=False)
        if trace is not None:
            trace.save(part / "trace.npz")
        if trace is not None and plot < len(trace):
            _write_figure(trace[plot].plot(), part)

    return _replace(out, write)


def _write_figure(figure: Figure, part: Path) -> None:
    (part / "path.svg").write_text(figure.svg, encoding="utf-8")
    (part / "path.png").write_bytes(figure.png)


def _replace(out: Path, write: Callable[[Path], None]) -> list[str]:
    """Replace the results in `out` by what `write` writes into the folder that it is given."""
    try:
        with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as folder:
            part = Path(folder)
            write(part)
            for name in _FILES:
                (out / name).unlink(missing_ok=True)  # of an earlier trace
            names = [name for name in _FILES if (part / name).exists()]
            for name in names:
                os.replace(part / name, out / name)
            return names
    except OSError as error:
        error.filename = None  # of a file that is gone by now
        raise click.ClickException(explain_os_error(error, out)) from error


def _sampled(
    net: nn.Module,
    lines: Paths,
    points: int,
    dtype: torch.dtype,
    memory: str | None,
    out: Path,
    plot: int,
    start: float,
) -> None:
    """Sample the paths, write and print what comes out."""
    read = time.monotonic()
    x0, x1, _ = segments(lines, dtype)
    click.echo(f"sampling {_paths(len(x0))} at {points:,} positions", err=True)
    own, _ = prepared(net, dtype)
    program = record(own, x0[0])
    samples = sample(program, (x0, x1), points=points, dtype=dtype, memory=memory)
    values = _outputs(own, program, x0, x1, samples.t, memory)
    done = time.monotonic()

    def write(part: Path) -> None:
        arrays = {
            name: getattr(samples, name).numpy()
            for name in ("t", "slopes", "slopes_with_offsets", "counts", "lengths")
        }
        np.savez(part / "samples.npz", values=values.numpy(), **arrays)
        _write_figure(plot_samples(samples, values, plot), part)

    files = _replace(out, write)
    written = time.monotonic()
    click.echo(_estimates(samples))
    click.echo(
        f"\n{_paths(len(x0))} sampled at {points:,} positions, with {int(samples.counts.sum()):,} "
        f"switches between them: reading {read - start:.1f} s, sampling {done - read:.1f} s, "
        f"writing {written - done:.1f} s"
    )
    click.echo(f"{out} has {', '.join(files)}")


def _estimates(samples: Samples) -> str:
    """The table of both estimators, slopes per unit length of the path."""
    released = samples.estimate(index="released", biases=True).per_unit_length().summary()
    corrected = samples.estimate(index="corrected", biases=False).per_unit_length().summary()
    rows = [f"{'per unit length':<22}{'released':>14}{'corrected':>14}"]
    rows += [
        f"{measure.replace('_', ' '):<22}{value:>14.6g}{corrected[measure]:>14.6g}"
        for measure, value in released.items()
    ]
    return "\n".join(rows)


def _outputs(
    net: nn.Module, program: Program, x0: Tensor, x1: Tensor, t: Tensor, memory: str | None
) -> Tensor:
    """The network's own outputs at positions t of every path, (P, T, C)."""
    widest = max(program.size(v) for v in range(len(program.operations) + 1))
    limit = min(_CHUNK, memory_bytes(memory, x0.device))
    chunk = max(1, limit // (8 * widest * x0.element_size()))  # convolutions copy their input
    along = t.view(-1, *[1] * (x0.ndim - 1))
    made = []
    with (
        torch.no_grad(),
        progress_bar(len(x0) * len(t), None, desc="outputs", unit="position") as bar,
    ):
        for start, end in zip(x0, x1, strict=True):
            for s in along.split(chunk):
                made.append(net((1 - s) * start + s * end).reshape(len(s), -1))
                bar.update(len(s))
        values = torch.cat(made)
        at = torch.linspace(0, len(values) - 1, _COMPARED).long().unique()
        for row in at.tolist():
            path, s = row // len(t), along[row % len(t)]
            point = ((1 - s) * x0[path] + s * x1[path])[None]
            off = (program.values(point)[program.output].flatten() - values[row]).abs().max()
            if not off <= _MISMATCH[values.dtype] * values.abs().max():
                raise click.ClickException(
                    f"the samples belong to outputs {float(off):.3g} away from the network's own, "
                    f"so that no number of them can be trusted; look for random numbers or state "
                    f"that changes from call to call in the network."
                )
    return values.view(len(x0), len(t), -1)


def _stopped(stop: implreg.Interrupted, number: int) -> str:
    """What Ctrl-C has left."""
    finished = 0 if stop.partial is None else len(stop.partial)
    told = f"Stopped: {finished:,} of {_paths(number)} finished"
    if stop.reached:
        told += f", and the switches of the next one up to t = {stop.reached:.4g}, in switches.csv"
    return f"{told}."


def _measured(trace: Trace, lines: object) -> dict[str, float]:
    """All measures, the edge margin among them where the outputs are those of the labels."""
    if isinstance(lines, Pairs):
        classes = 1 + int(max(lines.y0.max(), lines.y1.max()))
        if trace.ends.shape[1] >= max(classes, 2):
            return measures.summary(trace, lines)
    return measures.summary(trace)


def _paths(number: int) -> str:
    return f"{number:,} path{'' if number == 1 else 's'}"
