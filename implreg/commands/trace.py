"""``python -m implreg trace``."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from click.core import ParameterSource
from torch import nn

import implreg
from implreg import measures
from implreg.commands import INTERRUPTED, options
from implreg.datasets import KINDS, ORIGINS
from implreg.errors import prepare_folder, writing
from implreg.figures import Figure, plot_path, plot_samples
from implreg.files import import_network, read_network, read_paths
from implreg.sampled import PLAIN, PROGRAM, sample
from implreg.tracing import Pairs, Paths, Trace
from implreg.tracing.network import Output

_FILES = ("trace.npz", "switches.csv", "samples.npz", "path.svg", "path.png")
_OF_DATA = ("kind", "count", "seed", "shape")  # options that say what to draw from --data
_PATH = click.Path(path_type=Path)
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


@click.command("trace", epilog=_EPILOG, context_settings={"show_default": True})
@click.argument("file", type=_PATH)
@options.network
@options.output
@click.option(
    "--paths",
    type=_PATH,
    help="File (.npz, .safetensors, .pt) with x0 and x1, or points of a polyline.",
)
@click.option("--closed", is_flag=True, help="Join the last of the points to the first.")
@click.option("--data", type=click.Choice(list(ORIGINS)), help="Data set to draw pairs from.")
@click.option("--kind", type=click.Choice(KINDS), default="same", help="Classes of a pair.")
@click.option("--count", type=click.IntRange(min=1), default=128, help="Number of pairs.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the draw.")
@click.option(
    "--shape", metavar="SIZES", callback=options.sizes, help="Shape of one sample, such as 1,28,28."
)
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    help="Precision of the computation.",
)
@click.option(
    "--points",
    type=click.IntRange(min=3),
    metavar="N",
    help="Sample each path at N evenly spaced positions instead of following it exactly.",
)
@click.option(
    "--outputs", metavar="NUMBERS", callback=options.places,
    help="Which outputs to keep, from 0, such as 281,285 of a thousand.",
)  # fmt: skip
@click.option("--memory", metavar="SIZE", help="What the working set may take, such as 512MB.")
@click.option("--out", type=_PATH, default=Path("trace"), help="Folder of the results.")
@click.option("--plot", type=click.IntRange(min=0), default=0, help="Path to draw, counted from 0.")
@click.pass_context
def trace_command(
    ctx: click.Context,
    file: Path,
    network: str | None,
    output: Output,
    paths: Path | None,
    closed: bool,
    data: str | None,
    kind: str,
    count: int,
    seed: int,
    shape: tuple[int, ...] | None,
    dtype: str,
    points: int | None,
    outputs: tuple[int, ...] | None,
    memory: str | None,
    out: Path,
    plot: int,
) -> None:
    """Find every switch of the network in FILE along straight paths or along a polyline.

    FILE is a whole network from torch.save (.pt, .pth, .ckpt), ONNX (.onnx, with the packages of
    pip install 'implreg[onnx]'), or a state dict (.pt, .pth, .ckpt, .safetensors), which needs
    --network. Nothing that it contains is run. The paths are those of --paths, or join pairs of
    samples of --data.

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
    _check(ctx)
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
    prepare_folder(out)  # before hours of work, not after
    read = time.monotonic()
    how: dict[str, Any] = {"dtype": getattr(torch, dtype), "output": output, "memory": memory}
    try:
        if points is None:
            found = _follow(net, lines, number, plot, how | {"outputs": outputs})
        else:
            found = _sample(net, lines, number, points, plot, how)
    except ArithmeticError as error:
        raise click.ClickException(str(error)) from error
    done = time.monotonic()
    files = _replace_results(out, found.write) if found.write else []
    written = time.monotonic()
    if told := found.tell():
        click.echo(
            f"{told}: reading {read - start:.1f} s, {found.doing} {done - read:.1f} s, "
            f"writing {written - done:.1f} s"
        )
    if files:
        click.echo(f"{out} has {', '.join(files)}")
    if found.stopped:
        click.echo(found.stopped, err=True)
        ctx.exit(INTERRUPTED)


class _Found(NamedTuple):
    """What came out of the paths, and how to write and tell it."""

    doing: str
    write: Callable[[Path], None] | None
    tell: Callable[[], str]
    stopped: str = ""  # what Ctrl-C has left


def _check(ctx: click.Context) -> None:
    """Refuse options that do not go together."""
    asked = ctx.params
    if (asked["paths"] is None) == (asked["data"] is None):
        raise click.UsageError("give the paths with either --paths or --data.")
    given = [x for x in _OF_DATA if ctx.get_parameter_source(x) is not ParameterSource.DEFAULT]
    if given and asked["data"] is None:
        raise click.UsageError(f"--{given[0]} is for --data; leave it out with --paths.")
    if asked["closed"] and asked["paths"] is None:
        raise click.UsageError("--closed is for the points of --paths; leave it out with --data.")
    if asked["closed"] and asked["points"] is not None:
        raise click.UsageError(
            "--closed is for polylines, which --points cannot sample; leave it out."
        )
    if asked["outputs"] is not None and asked["points"] is not None:
        raise click.UsageError("--outputs is for exact paths; leave it out with --points.")


def _follow(net: nn.Module, lines: Paths, number: int, plot: int, how: dict[str, Any]) -> _Found:
    """Trace the paths."""
    click.echo(f"tracing {_counted(number)}", err=True)
    stop: implreg.Interrupted | None = None
    trace: Trace | None
    try:
        trace = implreg.trace(net, lines, **how)
        table = trace.to_table()
    except implreg.Interrupted as interruption:
        stop, trace, table = interruption, interruption.partial, interruption.table

    def write(part: Path) -> None:
        table.to_csv(part / "switches.csv", index=False)
        if trace is not None:
            trace.save(part / "trace.npz")
        if trace is not None and plot < len(trace):
            _write_figure(plot_path(trace[plot]), part)

    def tell() -> str:
        if trace is None:
            return ""
        measured = _measured(trace, lines if stop is None else None)
        rows = [f"{measure.replace('_', ' '):<22}{x:.6g}" for measure, x in measured.items()]
        return "\n".join([*rows, "", f"{_counted(len(trace))} with {len(trace.t):,} switches"])

    nothing = trace is None and table.empty
    stopped = "" if stop is None else _stopped(stop, number)
    return _Found("tracing", None if nothing else write, tell, stopped)


def _sample(
    net: nn.Module, lines: Paths, number: int, points: int, plot: int, how: dict[str, Any]
) -> _Found:
    """Sample the paths."""
    click.echo(f"sampling {_counted(number)} at {points:,} positions", err=True)
    samples = sample(net, lines, points=points, **how)

    def write(part: Path) -> None:
        names = ("t", "values", "slopes", "slopes_with_offsets", "counts", "lengths")
        np.savez(part / "samples.npz", **{name: getattr(samples, name).numpy() for name in names})
        _write_figure(plot_samples(samples, samples.values, plot), part)

    def tell() -> str:
        program, plain = (
            samples.estimate(traits).per_unit_length().summary() for traits in (PROGRAM, PLAIN)
        )
        rows = [f"{'per unit length':<22}{'program':>14}{'no traits':>14}"]
        for measure, x in program.items():
            rows.append(f"{measure.replace('_', ' '):<22}{x:>14.6g}{plain[measure]:>14.6g}")
        switches = f"{int(samples.counts.sum()):,} switches between them"
        told = f"{_counted(number)} sampled at {points:,} positions, with {switches}"
        return "\n".join([*rows, "", told])

    return _Found("sampling", write, tell)


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


def _stopped(stop: implreg.Interrupted, number: int) -> str:
    """What Ctrl-C has left."""
    finished = 0 if stop.partial is None else len(stop.partial)
    told = f"Stopped: {finished:,} of {_counted(number)} finished"
    if stop.reached:
        told += f", and the switches of the next one up to t = {stop.reached:.4g}, in switches.csv"
    return f"{told}."


def _measured(trace: Trace, lines: object) -> dict[str, float]:
    """All measures, the edge margin among them where the outputs are those of the labels."""
    if isinstance(lines, Pairs):
        classes = 1 + int(max(lines.y0.max(), lines.y1.max()))
        if trace.outputs is None and trace.ends.shape[1] >= max(classes, 2):
            return measures.summary(trace, lines)
    return measures.summary(trace)


def _write_figure(figure: Figure, part: Path) -> None:
    """Write a figure into the folder `part`, for screens and for print."""
    (part / "path.svg").write_text(figure.svg, encoding="utf-8")
    (part / "path.png").write_bytes(figure.png)


def _replace_results(out: Path, write: Callable[[Path], None]) -> list[str]:
    """Replace the results in `out` by what `write` writes into the folder that it is given."""
    with writing(out), tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as folder:
        part = Path(folder)
        write(part)
        for name in _FILES:
            (out / name).unlink(missing_ok=True)  # of an earlier trace
        names = [name for name in _FILES if (part / name).exists()]
        for name in names:
            os.replace(part / name, out / name)
        return names


def _counted(number: int) -> str:
    """Return such as "128 paths"."""
    return f"{number:,} path{'' if number == 1 else 's'}"
