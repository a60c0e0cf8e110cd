"""``python -m implreg sweep``: a chapter for every point of a grid of parameters."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import click
import nbformat

from implreg.errors import InputError, prepare_folder, writing
from implreg_book.commands import options
from implreg_book.press import sweep as sweeps
from implreg_book.press.chapters import Chapter, load_book
from implreg_book.press.execute import Shared, inherited, keep_runs
from implreg_book.press.plan import Step
from implreg_book.press.site import swap
from implreg_book.runs.work import Failure

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
    steps = sweeps.steps_of(book, chosen, book.values(chosen, profile, {}), grid, build_dir)
    target = output or build_dir / "sweeps" / chosen.name
    if target.exists() and not (target / _TABLE).exists():
        raise InputError(
            f"the output must be a new folder or that of an earlier sweep, got {target}, which has "
            f"no {_TABLE}; name another."
        )
    prepare_folder(target.parent)
    keep_runs(build_dir / "runs")
    click.echo(f"{chosen.name}: {len(steps):,} runs")
    shared = Shared({}, profile, cell_timeout, variables=None if scheduler else inherited())
    results = sweeps.run_sweep(steps, shared, build_dir, scheduler=scheduler, workers=workers)
    with writing(target):
        _write(chosen, list(grid), results, target)
    failed = [result.error for _, result in results if isinstance(result, Failure)]
    finished = len(steps) - len(failed)
    click.echo(f"{target} has the table of {finished:,} runs; open {target / 'index.html'}")
    if failed:
        raise click.ClickException(
            f"{len(failed):,} of {len(steps):,} runs failed, the first one with {failed[0]}; "
            f"index.html has all of them. The same command tries them again."
        )


def _write(
    chapter: Chapter,
    varied: Sequence[str],
    results: Sequence[tuple[Step, str | Failure]],
    target: Path,
) -> None:
    """Write all files of a sweep, and put them in the place of those of an earlier one."""
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    (new / "notebooks").mkdir(parents=True)
    failures = [(step, result) for step, result in results if isinstance(result, Failure)]
    finished = [
        (step, nbformat.reads(result, as_version=4))
        for step, result in results
        if isinstance(result, str)
    ]
    links = []
    for number, (step, executed) in enumerate(finished):
        links.append(f"notebooks/{sweeps.file_name(number, step.values, varied)}")
        nbformat.write(sweeps.merged(chapter, executed), new / links[-1])
    table = sweeps.table_of(finished, varied)
    table.to_csv(new / "table.csv", index=False)
    table.to_parquet(new / _TABLE, index=False)
    page = sweeps.page(chapter, table, links, failures)
    (new / "index.html").write_text(page, encoding="utf-8")
    swap(new, target)
