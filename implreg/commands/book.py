"""``python -m implreg book``, ``run`` and ``list``: chapters and the site."""

import os
import time
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

from implreg.book.chapters import CHAPTERS_PARAMETER, Book, Chapter, Values, load_book, parse_value
from implreg.book.execute import (
    CELL_TIMEOUT,
    ChapterError,
    Outcome,
    check_output_file,
    run_chapter,
    run_chapters,
)
from implreg.book.site import SiteError, build_site
from implreg.errors import InputError, prepare_folder
from implreg.runs import STORE

_build_dir = click.option(
    "--build-dir",
    type=click.Path(path_type=Path),
    default=Path("_build"),
    show_default=True,
    help="Folder of all results.",
)
_profile = click.option(
    "--profile", default="default", show_default=True, help="Named set of parameters."
)
_parameters = click.option(
    "-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter."
)
_cell_timeout = click.option(
    "--cell-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=CELL_TIMEOUT,
    show_default=True,
    help="Seconds that one cell may take.",
)


@click.command("list")
def list_chapters() -> None:
    """Show all chapters with their parameters, and all profiles."""
    book = load_book(Path())
    for chapter in book.chapters.values():
        click.echo(f"{chapter.name}: {chapter.title}")
        rows = [
            (f"  {p.name}", p.type, repr(p.default), p.help) for p in chapter.parameters.values()
        ]
        click.echo(tabulate(rows, tablefmt="plain") if rows else "  (no parameters)")
        click.echo()
    click.echo(f"profiles: {', '.join(book.profiles)}")


@click.command()
@click.argument("chapter")
@_parameters
@_profile
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Notebook to write.")
@_build_dir
@_cell_timeout
def run(
    chapter: str,
    given: tuple[tuple[str, str], ...],
    profile: str,
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
    _keep_runs(build_dir / "runs")
    start = time.monotonic()
    try:
        run_chapter(
            chosen,
            values,
            target.resolve(),
            root=book.root,
            label=chosen.name,
            cell_timeout=cell_timeout,
        )
    except ChapterError as error:
        raise click.ClickException(
            f"chapter {chapter} failed: {error}\nIts notebook is {target}."
        ) from error
    click.echo(f"{target} was written in {time.monotonic() - start:.0f} s.")


@click.command()
@click.argument("chapters", nargs=-1)
@_profile
@_parameters
@click.option("--force", is_flag=True, help="Run chapters again even if nothing changed.")
@_build_dir
@_cell_timeout
def book(
    chapters: tuple[str, ...],
    profile: str,
    given: tuple[tuple[str, str], ...],
    force: bool,
    build_dir: Path,
    cell_timeout: float,
) -> None:
    """Run all chapters and build the site; with CHAPTERS named, a preview of these alone."""
    book = load_book(Path())
    chosen = [book.chapter(name) for name in dict.fromkeys(chapters)] or list(
        book.chapters.values()
    )
    if given and len(chapters) != 1:
        raise InputError(
            f"-p sets a parameter of one chapter, got {len(chapters)} chapters; name exactly one."
        )
    if CHAPTERS_PARAMETER in dict(given) and chosen[0].reads_chapters:
        raise InputError(
            f"parameter {CHAPTERS_PARAMETER} is set by the book itself; take it out, or use run."
        )
    values = {c.name: _values(book, c, profile, given) for c in chosen}
    prepare_folder(build_dir)
    _keep_runs(None if force else build_dir / "runs")
    outcomes: list[Outcome] = []
    try:
        for outcome in run_chapters(
            book,
            chosen,
            build=build_dir,
            profile=profile,
            values=values,
            force=force,
            cell_timeout=cell_timeout,
            say=click.echo,
        ):
            outcomes.append(outcome)
        _summarise(outcomes)
        if not all(outcome.finished for outcome in outcomes):
            raise click.ClickException(
                "the site was not built, and the one before it was left as it is."
            )
        click.echo("building the site")
        start = time.monotonic()
        page = build_site(book, outcomes, build_dir, preview=bool(chapters))
    except (KeyboardInterrupt, OSError) as error:
        click.echo(_kept(outcomes), err=True)
        raise error
    except SiteError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"The site is ready after {time.monotonic() - start:.0f} s; open {page}")


def _keep_runs(folder: Path | None) -> None:
    """Let the chapters' kernels keep finished runs in `folder`, unless the user chose another."""
    if folder is not None:
        os.environ.setdefault(STORE, str(prepare_folder(folder).resolve()))
    else:
        os.environ.pop(STORE, None)


def _values(
    book: Book, chapter: Chapter, profile: str, given: tuple[tuple[str, str], ...]
) -> Values:
    typed: dict[str, Any] = {name: parse_value(chapter, name, text) for name, text in given}
    return book.values(chapter, profile, typed)


def _summarise(outcomes: list[Outcome]) -> None:
    rows = [(o.chapter.name, o.status, f"{o.seconds:.1f} s") for o in outcomes]
    click.echo()
    click.echo(
        tabulate(rows, headers=("chapter", "status", "time"), colalign=(*["left"] * 2, "right"))
    )
    click.echo()
    for outcome in outcomes:
        if not outcome.finished:
            click.echo(f"{outcome.chapter.name} {outcome.status}: {outcome.reason}", err=True)
            if outcome.notebook:
                click.echo(f"  Its notebook is {outcome.notebook}.", err=True)


def _kept(outcomes: list[Outcome]) -> str:
    names = [outcome.chapter.name for outcome in outcomes if outcome.finished]
    kept = f"the results of {', '.join(names)} are kept" if names else "no chapter had finished"
    return f"Stopped: {kept}; the same command goes on from there."
