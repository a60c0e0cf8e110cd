"""``python -m implreg book``, ``run`` and ``list``: chapters and the site."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import nbformat
from filelock import FileLock, Timeout
from tabulate import tabulate

from implreg.errors import InputError, prepare_folder, write_whole, writing
from implreg_book.commands import options
from implreg_book.parameters.schema import Values
from implreg_book.press.address import find_address
from implreg_book.press.chapters import (
    CHAPTERS_PARAMETER,
    Book,
    Chapter,
    load_book,
)
from implreg_book.press.execute import Outcome, keep_runs, run_chapters
from implreg_book.press.notebook import ChapterError, check_output_file, run_chapter
from implreg_book.press.plan import Task, plan
from implreg_book.press.printed import check_latex
from implreg_book.press.site import SiteError, build_pdf, build_site, site_inputs, site_reasons
from implreg_book.runs.report import LostWorkers

_parameters = click.option(
    "-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter."
)


@click.command("list")
def list_chapters() -> None:
    """Show all chapters with their parameters, and all profiles."""
    book = load_book(Path())
    for chapter in book.chapters.values():
        click.echo(f"{chapter.name}: {chapter.title}")
        if cost := chapter.cost({}):
            click.echo(f"  {cost} of CPU time without stored results")
        rows = [
            (f"  {p.name}", p.type, repr(p.default), p.sentence, chapter.cost_of(p.name))
            for p in chapter.parameters.values()
        ]
        heads = ("  parameter", "type", "default", "meaning; what it may be", "one more takes")
        click.echo(tabulate(rows, heads, tablefmt="plain") if rows else "  (no parameters)")
        click.echo()
    click.echo(f"profiles: {', '.join(book.profiles)}")


@click.command()
@click.argument("chapter")
@_parameters
@options.profile
@options.results
@options.scheduler
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Notebook to write.")
@options.build_dir
@options.cell_timeout
def run(
    chapter: str,
    given: tuple[tuple[str, str], ...],
    profile: str,
    results: str,
    scheduler: str | None,
    output: Path | None,
    build_dir: Path,
    cell_timeout: float,
) -> None:
    """Run one CHAPTER with papermill and write its notebook."""
    book = load_book(Path())
    chosen = book.chapter(chapter)
    values = _values(book, chosen, profile, given)
    if chosen.reads_chapters:
        values = {CHAPTERS_PARAMETER: str(build_dir / "executed")} | values
    target = check_output_file(output or build_dir / "run" / chosen.source.name)
    failed = target.parent / "failed" / target.name
    running = target.with_suffix(".running.ipynb").resolve()
    keep_runs(build_dir / "runs")
    options.tell_kernels(scheduler, results, book.root)
    if cost := chosen.cost(values):
        click.echo(f"{chapter} takes about {cost} of CPU time where nothing is stored or kept.")
    start = time.monotonic()
    try:
        executed = run_chapter(
            chosen, values, running, failed.resolve(), label=chosen.name, cell_timeout=cell_timeout
        )
    except (ChapterError, KeyboardInterrupt) as error:
        left = f"\nIts notebook is {failed}." if failed.exists() else ""
        left += f"\n{target} was left as it is." if target.exists() else ""
        if isinstance(error, ChapterError):
            raise click.ClickException(f"chapter {chapter} failed: {error}{left}") from error
        click.echo(f"Chapter {chapter} was stopped.{left}", err=True)
        raise
    write_whole(target, nbformat.writes(executed).encode())
    click.echo(f"{target} was written in {time.monotonic() - start:.0f} s.")


@click.command()
@click.argument("chapters", nargs=-1)
@options.profile
@_parameters
@click.option("--force", is_flag=True, help="Run and build again even if nothing changed.")
@click.option("--why", is_flag=True, help="Only say what would be done, and why.")
@options.results
@options.scheduler
@click.option(
    "--repository",
    envvar="IMPLREG_REPOSITORY",
    metavar="URL",
    help="Repository that the buttons of the site lead to, https://github.com/owner/name.",
)
@click.option(
    "--address",
    envvar="IMPLREG_ADDRESS",
    metavar="URL",
    help="Where the site will be published; cards that show a link to it need it.",
)
@click.option("--pdf", is_flag=True, help="Also make one PDF of the book; needs xelatex.")
@options.build_dir
@options.cell_timeout
def book(
    chapters: tuple[str, ...],
    profile: str,
    given: tuple[tuple[str, str], ...],
    force: bool,
    why: bool,
    results: str,
    scheduler: str | None,
    repository: str | None,
    address: str | None,
    pdf: bool,
    build_dir: Path,
    cell_timeout: float,
) -> None:
    """Run all chapters and build the site; with CHAPTERS named, a preview of these alone."""
    made = load_book(Path())
    chosen = [made.chapter(name) for name in dict.fromkeys(chapters)] or [*made.chapters.values()]
    _check_given(given, chapters, chosen)
    values = {c.name: _values(made, c, profile, given) for c in chosen}
    where = find_address(made.config, repository, address)
    if pdf:
        check_latex()
    task = Task(made, chosen, build_dir, profile, values, where, bool(chapters), force)
    options.tell_kernels(scheduler, results, made.root, anew=not chapters and not why)
    if why:
        _explain(task)
        return
    prepare_folder(build_dir)
    with _alone(build_dir):
        outcomes = _run(task, fresh=results == "write", cell_timeout=cell_timeout)
        try:
            with writing(task.build):
                state = _build(task, outcomes)
                if pdf:
                    click.echo("making the PDF")
                    click.echo(f"The PDF is {build_pdf(task, outcomes)}")
        except (KeyboardInterrupt, OSError):
            click.echo(_kept(outcomes), err=True)
            raise
        except SiteError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"The site is {state}; open {task.site / 'index.html'}")


def _check_given(
    given: Sequence[tuple[str, str]], names: Sequence[str], chosen: Sequence[Chapter]
) -> None:
    """Refuse parameters that are not of the one chapter that is named."""
    if given and len(names) != 1:
        raise InputError(
            f"-p sets a parameter of one chapter, got {len(names)} chapters; name exactly one."
        )
    if CHAPTERS_PARAMETER in dict(given) and chosen[0].reads_chapters:
        raise InputError(
            f"parameter {CHAPTERS_PARAMETER} is set by the book itself; take it out, or use run."
        )


@contextmanager
def _alone(build: Path) -> Iterator[None]:
    """Let no other book be made in the folder at the same time; if one is, say so and wait."""
    lock = FileLock(build / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        click.echo(
            f"Another command makes a book in {build}; waiting until it has ended. To make this "
            f"one at once, stop it and name another folder with --build-dir.",
            err=True,
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _run(task: Task, *, fresh: bool, cell_timeout: float) -> list[Outcome]:
    """Run the chapters, with `fresh` all of them, and show what became of them.

    Raises:
        click.ClickException: not all have finished.
    """
    outcomes: list[Outcome] = []
    forced = replace(task, force=task.force or fresh)
    try:
        for outcome in run_chapters(
            forced, keep=not task.force, cell_timeout=cell_timeout, say=click.echo
        ):
            outcomes.append(outcome)
    except (KeyboardInterrupt, OSError):
        click.echo(_kept(outcomes), err=True)
        raise
    except LostWorkers as error:
        raise click.ClickException(f"{error}. {_kept(outcomes)}") from error
    names = list(task.book.chapters)
    outcomes.sort(key=lambda o: (o.chapter.reads_chapters, names.index(o.chapter.name)))
    rows = [(o.chapter.name, o.status, f"{o.seconds:.1f} s") for o in outcomes]
    table = tabulate(rows, headers=("chapter", "status", "time"), colalign=(*["left"] * 2, "right"))
    click.echo(f"\n{table}\n")
    unfinished = [outcome for outcome in outcomes if not outcome.text]
    for outcome in unfinished:
        click.echo(f"{outcome.chapter.name} {outcome.status}: {outcome.reason}", err=True)
        if outcome.notebook:
            click.echo(f"  Its notebook is {outcome.notebook}.", err=True)
    if unfinished:
        raise click.ClickException(
            "the site was not built, and the one before it was left as it is."
        )
    return outcomes


def _build(task: Task, outcomes: Sequence[Outcome]) -> str:
    """Build the site if anything in it has changed, and say in words what was done."""
    inputs = site_inputs(task, {o.chapter.name: o.run for o in outcomes if o.run})
    if not site_reasons(task, inputs, running=[]):
        return "unchanged"
    click.echo("building the site")
    start = time.monotonic()
    build_site(task, outcomes, inputs)
    return f"ready after {time.monotonic() - start:.0f} s"


def _explain(task: Task) -> None:
    """Say for each chapter, and for the site, whether it is made again and why."""
    runs, rows, running = {}, [], []
    for step in plan(task):
        name = step.chapter.name
        if step.kept is not None:
            runs[name] = step.kept
            date = datetime.fromisoformat(step.kept["date"]).astimezone()
            text = f"unchanged, ran {date:%Y-%m-%d %H:%M} in {step.kept['duration']:.0f} s"
        else:
            running.append(name)
            text = f"will run: {'; '.join(step.reasons)}"
        rows.append((name, text))
    reasons = site_reasons(task, site_inputs(task, runs), running)
    site = f"is unchanged; open {task.site / 'index.html'}"
    if reasons:
        site = f"will be built: {'; '.join(reasons)}."
    click.echo(f"{tabulate(rows, tablefmt='plain')}\n\nThe site {site}")


def _values(
    book: Book, chapter: Chapter, profile: str, given: tuple[tuple[str, str], ...]
) -> Values:
    typed: dict[str, Any] = {name: chapter.parse(name, text) for name, text in given}
    return book.values(chapter, profile, typed)


def _kept(outcomes: list[Outcome]) -> str:
    names = [outcome.chapter.name for outcome in outcomes if outcome.text]
    kept = f"the results of {', '.join(names)} are kept" if names else "no chapter had finished"
    return f"Stopped: {kept}; the same command goes on from there."
