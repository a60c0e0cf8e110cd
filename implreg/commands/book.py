"""``python -m implreg book``, ``run`` and ``list``: chapters and the site."""

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate

from implreg.book.address import Address, find_address
from implreg.book.chapters import CHAPTERS_PARAMETER, Book, Chapter, Values, load_book, parse_value
from implreg.book.execute import (
    ChapterError,
    Outcome,
    check_output_file,
    keep_runs,
    run_chapter,
    run_chapters,
)
from implreg.book.plan import Step, plan
from implreg.book.printed import check_latex
from implreg.book.site import (
    SiteError,
    build_pdf,
    build_site,
    site_folder,
    site_inputs,
    site_reasons,
)
from implreg.commands import options
from implreg.errors import InputError, prepare_folder
from implreg.settings import SCHEDULER

_parameters = click.option(
    "-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter."
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
    keep_runs(build_dir / "runs")
    _use(scheduler)
    options.use_results(results, book.root)
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
    preview = bool(chapters)
    where = find_address(book.config, repository, address)
    if pdf:
        check_latex()
    options.use_results(results, book.root, anew=not preview and not why)
    if why:
        steps = plan(book, chosen, build=build_dir, profile=profile, values=values, force=force)
        _explain(book, list(steps), build_dir, where, preview=preview, force=force)
        return
    prepare_folder(build_dir)
    _use(scheduler)
    outcomes: list[Outcome] = []
    try:
        for outcome in run_chapters(
            book,
            chosen,
            build=build_dir,
            profile=profile,
            values=values,
            force=force or results == "write",
            keep=not force,
            cell_timeout=cell_timeout,
            say=click.echo,
        ):
            outcomes.append(outcome)
        _summarise(outcomes)
        if not all(outcome.finished for outcome in outcomes):
            raise click.ClickException(
                "the site was not built, and the one before it was left as it is."
            )
        runs = {outcome.chapter.name: outcome.run for outcome in outcomes if outcome.run}
        made = [outcome.chapter for outcome in outcomes]
        inputs = site_inputs(book, made, runs, address=where, preview=preview)
        if site_reasons(inputs, build_dir, preview=preview, force=force, running=[]):
            click.echo("building the site")
            start = time.monotonic()
            build_site(book, outcomes, inputs, build_dir, preview=preview)
            state = f"ready after {time.monotonic() - start:.0f} s"
        else:
            state = "unchanged"
        if pdf:
            click.echo("making the PDF")
            click.echo(f"The PDF is {build_pdf(book, outcomes, where, build_dir, preview=preview)}")
    except (KeyboardInterrupt, OSError) as error:
        click.echo(_kept(outcomes), err=True)
        raise error
    except SiteError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"The site is {state}; open {site_folder(build_dir, preview=preview) / 'index.html'}"
    )


def _use(scheduler: str | None) -> None:
    """Let the chapters' kernels hand their runs to `scheduler`."""
    if scheduler:
        os.environ[SCHEDULER] = scheduler


def _explain(
    book: Book, steps: list[Step], build: Path, address: Address, *, preview: bool, force: bool
) -> None:
    """Say for each chapter, and for the site, whether it is made again and why."""
    runs, rows = {}, []
    for step in steps:
        if step.kept is not None:
            runs[step.chapter.name] = run = step.kept
            date = datetime.fromisoformat(run["date"]).astimezone()
            text = f"unchanged, ran {date:%Y-%m-%d %H:%M} in {run['duration']:.0f} s"
        else:
            text = f"will run: {'; '.join(step.reasons)}"
        rows.append((step.chapter.name, text))
    click.echo(tabulate(rows, tablefmt="plain"))
    click.echo()
    reasons = site_reasons(
        site_inputs(book, [step.chapter for step in steps], runs, address=address, preview=preview),
        build,
        preview=preview,
        force=force,
        running=[step.chapter.name for step in steps if step.kept is None],
    )
    if reasons:
        click.echo(f"The site will be built: {'; '.join(reasons)}.")
    else:
        page = site_folder(build, preview=preview) / "index.html"
        click.echo(f"The site is unchanged; open {page}")


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
