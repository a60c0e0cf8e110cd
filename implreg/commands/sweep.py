"""``python -m implreg sweep``: a chapter for every point of a grid of parameters."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import click
import nbformat
import pandas as pd

from implreg.book import sweep as sweeps
from implreg.book.chapters import Chapter, load_book
from implreg.book.execute import keep_runs
from implreg.book.site import swap
from implreg.book.sweep import NOTEBOOK, Point
from implreg.commands import options
from implreg.errors import InputError, prepare_folder
from implreg.runs import Failure, RunsFailed, run_all

_TABLE = "table.parquet"


@click.command()
@click.argument("chapter")
@click.option(
    "-p",
    "given",
    nargs=2,
    multiple=True,
    metavar="NAME VALUES",
    help="Values of a parameter: 64,128,256, or 0:10 for 0 to 9.",
)
@options.profile
@options.scheduler
@click.option("--workers", type=int, help="Chapters at once on this machine; by default the cores.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write.")
@options.build_dir
@options.cell_timeout
def sweep(
    chapter: str,
    given: tuple[tuple[str, str], ...],
    profile: str,
    scheduler: str | None,
    workers: int | None,
    output: Path | None,
    build_dir: Path,
    cell_timeout: float,
) -> None:
    """Run CHAPTER once for every combination of the values given with -p.

    The folder --output (by default _build/sweeps/CHAPTER) receives every notebook, one table of the
    parameters and of all numbers that the chapter glues (table.csv, table.parquet), and an
    index.html. Runs are kept in _build/runs: after an interruption, the same command goes on from
    there, and one with more values runs only what is new.
    """
    book = load_book(Path())
    chosen = book.chapter(chapter)
    grid = sweeps.parse_grid(chosen, given)
    points, code = sweeps.points(chosen, book.values(chosen, profile, {}), grid, cell_timeout)
    target = output or build_dir / "sweeps" / chosen.name
    if target.exists() and not (target / _TABLE).exists():
        raise InputError(
            f"the output must be a new folder or that of an earlier sweep, got {target}, which has "
            f"no {_TABLE}; name another."
        )
    prepare_folder(target.parent)
    keep_runs(build_dir / "runs")
    click.echo(f"{chosen.name}: {len(points):,} runs")
    failures: Sequence[Failure] = ()
    try:
        rows = run_all(
            sweeps.run, points, data=code, label=chosen.name, executor=scheduler, workers=workers
        )
    except RunsFailed as error:
        rows, failures = error.table, error.failures
    failed = {failure.config for failure in failures}
    done = [point for point in points if point not in failed]
    _write(chosen, done, list(grid), rows, failures, target)
    click.echo(f"{target} has the table of {len(done):,} runs; open {target / 'index.html'}")
    if failures:
        first = failures[0]
        raise click.ClickException(
            f"{len(failures):,} of {len(points):,} runs failed, the first one with {first.error}; "
            f"index.html has all of them. The same command tries them again."
        )


def _write(
    chapter: Chapter,
    points: Sequence[Point],
    varied: Sequence[str],
    rows: pd.DataFrame,
    failures: Sequence[Failure],
    target: Path,
) -> None:
    """Write all files of a sweep, and put them in the place of those of an earlier one."""
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    (new / "notebooks").mkdir(parents=True)
    links = []
    for number, (point, text) in enumerate(zip(points, rows.get(NOTEBOOK, ()), strict=True)):
        executed = nbformat.reads(text, as_version=4)
        links.append(f"notebooks/{sweeps.file_name(number, point, varied)}")
        nbformat.write(sweeps.merged(chapter, executed), new / links[-1])
    table = sweeps.table_of(points, varied, rows)
    table.to_csv(new / "table.csv", index=False)
    table.to_parquet(new / _TABLE, index=False)
    page = sweeps.page(chapter, table, links, failures)
    (new / "index.html").write_text(page, encoding="utf-8")
    swap(new, target)
