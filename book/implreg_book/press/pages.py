"""What the build adds to the book: generated pages, and what each chapter offers to take away."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nbformat
import yaml

from implreg_book.press.address import Address
from implreg_book.press.chapters import Chapter
from implreg_book.press.notebook import glued, outputs_of
from implreg_book.press.plan import Run
from implreg_book.press.provenance import code_label, label, machine, table

MADE = "book/made"  # generated parts of pages, which these include
WRITTEN = "book/notebooks/written"  # for download: chapters as their authors wrote them,
RAN = "book/notebooks/ran"  # and as they ran

# What `implreg_book.runs.results.describe` says of one grid.
_STORED = re.compile(r"([\d,]+) of ([\d,]+) runs came with the book: .* computed (\S+)( to (\S+))?")
_EDITED = "has been edited since"
_PAPER = re.compile(r"Figures? (\d[^.,]*?) of the paper[^.]*\.\s*")
NBSP = "\N{NO-BREAK SPACE}"
_HIDDEN = {"remove-input", "remove-cell"}


@dataclass(frozen=True)
class Page:
    """A finished chapter: as written, as it ran, as a page of the book, and what it remembers."""

    chapter: Chapter
    executed: nbformat.NotebookNode
    staged: nbformat.NotebookNode
    run: Run


# How the book was made


def status(pages: Sequence[Page]) -> str:
    """Return for each chapter when it last ran, how long, on what and with which results."""
    told = {
        "machine": [machine(page.run) for page in pages],
        "profile": [page.run["profile"] for page in pages],
        "commit": [f"`{page.run['commit']}`" for page in pages],
    }
    # What is the same for all chapters is said once.
    same = {name: told.pop(name)[0] for name in [*told] if len(set(told[name])) == 1}
    common = "".join(f" {name.capitalize()}: {value}." for name, value in same.items())
    columns = {
        "chapter": [f"{{doc}}`/book/{page.chapter.name}`" for page in pages],
        "last run (UTC)": [
            f"{datetime.fromisoformat(page.run['date']).astimezone(UTC):%Y-%m-%d %H:%M}"
            for page in pages
        ],
        "time": [_long(page.run["duration"]).replace(" ", NBSP) for page in pages],
        "results": [_results(page.executed) for page in pages],
        **told,
        "details": [f"{{ref}}`provenance <{label(page.chapter)}>`" for page in pages],
    }
    total = sum(page.run["duration"] for page in pages)
    figures = sum(1 for page in pages for _ in _figures(page.staged))
    return "\n".join(
        [
            f"Chapters: {len(pages)}. Figures: {figures}. "
            f"Time of all runs: {_long(total)}.{common}",
            "",
            *table(list(columns), zip(*columns.values(), strict=True)),
        ]
    )


def _results(executed: nbformat.NotebookNode) -> str:
    """Say whether a chapter computed its results or took stored ones, as its cells printed."""
    lines = [
        line
        for output in outputs_of(executed)
        if output.get("name") == "stdout"
        for line in str(output.text).splitlines()
    ]
    found = [match for line in lines if (match := _STORED.search(line))]
    if not found:
        return "computed"
    stored, total = (sum(int(m[i].replace(",", "")) for m in found) for i in (1, 2))
    dates = sorted(date for m in found for date in (m[3], m[5]) if date)
    share = "" if stored == total else f" ({stored:,} of {total:,} runs)"
    edited = "; code edited since" if any(_EDITED in match.string for match in found) else ""
    return f"stored{share}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}{edited}"


def _long(seconds: float) -> str:
    """Return a duration in words.

    >>> _long(6.92), _long(75.2), _long(4000)
    ('6.9 s', '1 min 15 s', '1 h 7 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {round(minutes % 60 + rest / 60)} min"


# All figures


def figures(pages: Sequence[Page]) -> str:
    """Return an index of all figures, chapter by chapter, with links to code and run."""
    parts = []
    for page in pages:
        found = list(_figures(page.staged))
        if not found:
            continue
        values = {name: text.strip("'\"") for name, text in glued(page.staged).items()}
        rows: list[tuple[str, ...]] = []
        for cell, name, caption in found:
            short, paper = _short(caption, values)
            hidden = _HIDDEN & set(cell.metadata.get("tags", []))
            code = (
                f"{{download}}`notebook </{WRITTEN}/{page.chapter.source.name}>`"
                if hidden
                else f"{{ref}}`code <{code_label(name)}>`"
            )
            run = f"{{ref}}`run <{label(page.chapter)}>`"
            rows.append((f"{{numref}}`{name}`", short, paper, f"{code},{NBSP}{run}"))
        head = ["figure", "shows", "of the paper", "made by"]
        if not any(paper for _, _, paper, _ in rows):
            head.remove("of the paper")
            rows = [(number, shows, how) for number, shows, _, how in rows]
        parts += [f"## {page.chapter.title}", "", *table(head, rows), ""]
    return "\n".join(parts)


def _figures(
    notebook: nbformat.NotebookNode,
) -> Iterator[tuple[nbformat.NotebookNode, str, str]]:
    """Yield the cell, the name and the caption of each figure."""
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "name" in figure and "caption" in figure:
            yield cell, figure["name"], figure["caption"]


def _short(caption: str, glued: Mapping[str, str]) -> tuple[str, str]:
    """Return what a caption says first, and which figure of the paper it says to reproduce."""
    paper = _PAPER.match(caption)
    rest = caption[paper.end() :] if paper else caption
    sentence = re.split(r"(?<=\.)\s+(?=[A-Z])", rest, maxsplit=1)[0]
    # The chapter's own values are not known under their names on other pages.
    sentence = re.sub(
        r"\{glue:\w*\}`([^`]+)`", lambda m: glued.get(m[1].split(":")[0], "…"), sentence
    )
    return sentence, paper[1] if paper else ""


# How to cite


def citation(cff: str, pages: Sequence[Page], address: Address) -> str:
    """Return the text and BibTeX forms of a CITATION.cff and of the works that it refers to.

    The book has no year of its own, since it is made anew again and again: that of its latest run
    is meant.
    """
    own = yaml.safe_load(cff)
    latest = max((page.run for page in pages), key=lambda run: str(run["date"]))
    own["url"] = address.site or address.repository or own.get("url", "")
    entries = [own | {"year": latest["date"][:4], "commit": latest["commit"]}]
    entries += own.get("references", [])
    return "\n\n".join(f"{_text(entry)}\n\n```bibtex\n{_bibtex(entry)}\n```" for entry in entries)


def _text(entry: Mapping[str, Any]) -> str:
    names = [_name(author, initials=True) for author in entry["authors"]]
    link = _link(entry)
    version = f" Version {entry['version']}" if "version" in entry else ""
    version += f", commit `{entry['commit']}`" if "commit" in entry else ""
    journal = f" {entry['journal']}, {_identifier(entry, '')}" if "journal" in entry else ""
    return (
        f"{', '.join(names)} ({entry['year']}). *{entry['title']}*.{version}{journal}."
        + f" <{link}>" * bool(link)
    )


def _bibtex(entry: Mapping[str, Any]) -> str:
    authors = [_name(author, initials=False) for author in entry["authors"]]
    eprint = _identifier(entry, "arXiv:").removeprefix("arXiv:")
    fields = {
        "title": f"{{{entry['title']}}}",
        "author": " and ".join(authors),
        "year": str(entry["year"]),
        "version": entry.get("version", ""),
        "note": f"commit {entry['commit']}" if "commit" in entry else "",
        "journal": entry.get("journal", ""),
        "eprint": eprint,
        "archiveprefix": "arXiv" * bool(eprint),
        "doi": _identifier(entry, "10."),
        "url": _link(entry),
    }
    kind = "software" if entry["type"] == "software" else "article"
    first = entry["authors"][0]
    key = str(first.get("family-names", "implreg")).lower() + str(entry["year"])
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _name(author: Mapping[str, str], *, initials: bool) -> str:
    if "name" in author:
        return author["name"] if initials else f"{{{author['name']}}}"
    given = author["given-names"]
    return f"{author['family-names']}, {given[0] + '.' if initials else given}"


def _identifier(entry: Mapping[str, Any], start: str) -> str:
    values = [str(one["value"]) for one in entry.get("identifiers", [])]
    return next((value for value in values if value.startswith(start)), "")


def _link(entry: Mapping[str, Any]) -> str:
    return str(entry.get("url") or entry.get("repository-code") or "")


# What a chapter offers


def complete(page: Page, address: Address) -> nbformat.NotebookNode:
    """Return the page of a chapter with its downloads."""
    whole: nbformat.NotebookNode = nbformat.from_dict(page.staged)
    downloads = _downloads(page.chapter, address)
    whole.cells.append(nbformat.v4.new_markdown_cell(downloads, id="downloads"))
    return whole


def _downloads(chapter: Chapter, address: Address) -> str:
    file = chapter.source.name
    lines = [
        f"This chapter as a notebook: {{download}}`as written </{WRITTEN}/{file}>`, without "
        f"outputs, and {{download}}`as it ran </{RAN}/{file}>`, with all of them."
    ]
    place = f"{chapter.source.parent.name}/{file}"
    source = f"{address.repository}@{address.branch}"
    if address.binder:
        lines += [
            "",
            f"On other machines: [open it in Binder]({address.binder}{place}) or "
            f"[in Colab]({address.colab}{place}). Colab does not know the package: run this there "
            f"in a cell of its own before all others.",
            "",
            "```python",
            f'%pip install "implreg @ git+{source}" '
            f'"implreg-book @ git+{source}#subdirectory=book"',
            "```",
        ]
    return "\n".join(lines)


def made(pages: Sequence[Page], cff: str | None, address: Address) -> dict[str, str]:
    """Return the generated parts of pages by their names; `cff` is a CITATION.cff, if any."""
    parts = {"status": status(pages), "figures": figures(pages)}
    if cff is not None:
        parts["citation"] = citation(cff, pages, address)
    return {f"{MADE}/{name}.md": f"{text}\n" for name, text in parts.items()}
