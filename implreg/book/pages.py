"""What the build adds to the book: generated pages, and what each chapter offers to take away."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nbformat
import yaml

from implreg.book.address import Address
from implreg.book.chapters import Chapter
from implreg.book.plan import Run
from implreg.book.provenance import label, machine

MADE = "book/made"  # generated parts of pages, which these include
WRITTEN = "book/notebooks/written"  # for download: chapters as their authors wrote them,
RAN = "book/notebooks/ran"  # and as they ran

# What `implreg.runs.results.describe` says of one grid.
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
    same = [
        f"{name.capitalize()}: {values[0]}"
        for name, values in told.items()
        if len(set(values)) == 1
    ]
    common = "".join(f" {text}." for text in same)
    columns = {
        "chapter": [f"{{doc}}`/book/{page.chapter.name}`" for page in pages],
        "last run (UTC)": [_when(page.run) for page in pages],
        "time": [_long(page.run["duration"]).replace(" ", NBSP) for page in pages],
        "results": [_results(page.executed) for page in pages],
    } | {name: values for name, values in told.items() if len(set(values)) > 1}
    columns["details"] = [f"{{ref}}`provenance <{label(page.chapter)}>`" for page in pages]
    total = sum(page.run["duration"] for page in pages)
    figures = sum(1 for page in pages for _ in _figures(page.staged))
    return "\n".join(
        [
            f"Chapters: {len(pages)}. Figures: {figures}. "
            f"Time of all runs: {_long(total)}.{common}",
            "",
            *_table(columns),
        ]
    )


def _results(executed: nbformat.NotebookNode) -> str:
    """Say whether a chapter computed its results or took stored ones, as its cells printed."""
    lines = [
        line
        for cell in executed.cells
        for output in cell.get("outputs", [])
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


def _when(run: Mapping[str, Any]) -> str:
    return f"{datetime.fromisoformat(run['date']).astimezone(UTC):%Y-%m-%d %H:%M}"


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
        values = _glued(page.staged)
        rows = []
        for cell, name, caption in found:
            short, paper = _short(caption, values)
            hidden = _HIDDEN & set(cell.metadata.get("tags", []))
            code = (
                f"{{download}}`notebook </{WRITTEN}/{page.chapter.source.name}>`"
                if hidden
                else f"{{ref}}`code <{_anchor(name)}>`"
            )
            run = f"{{ref}}`run <{label(page.chapter)}>`"
            rows.append((f"{{numref}}`{name}`", short, paper, f"{code},{NBSP}{run}"))
        number, shows, papers, how = zip(*rows, strict=True)
        columns = {"figure": number, "shows": shows}
        if any(papers):
            columns["of the paper"] = papers
        parts += [f"## {page.chapter.title}", "", *_table(columns | {"made by": how}), ""]
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


def _glued(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Return the values that a chapter glues into its prose, by name."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return {
        output.metadata.scrapbook.name: str(value).strip("'\"")
        for output in outputs
        if "scrapbook" in output.get("metadata", {})
        for kind, value in output.data.items()
        if kind.endswith("text/plain")
    }


def _anchor(figure: str) -> str:
    return f"code-{figure}"


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
    fields = {
        "title": f"{{{entry['title']}}}",
        "author": " and ".join(authors),
        "year": str(entry["year"]),
        "version": entry.get("version", ""),
        "note": f"commit {entry['commit']}" if "commit" in entry else "",
        "journal": entry.get("journal", ""),
        "eprint": _identifier(entry, "arXiv:"),
        "doi": _identifier(entry, "10."),
        "url": _link(entry),
    }
    if fields["eprint"]:
        fields["eprint"] = fields["eprint"].removeprefix("arXiv:")
        fields["archiveprefix"] = "arXiv"
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


def with_places(staged: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the page of a chapter with a place to link to before the code of each figure."""
    cells = []
    for cell in staged.cells:
        name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
        if name:
            place = _anchor(name)
            cells.append(nbformat.v4.new_markdown_cell(f"({place})=", id=place[:64]))
        cells.append(cell)
    page: nbformat.NotebookNode = nbformat.from_dict(staged)
    page.cells = cells
    return page


def complete(page: Page, address: Address) -> nbformat.NotebookNode:
    """Return the page of a chapter with places to link to its figures' code, and with downloads."""
    whole = with_places(page.staged)
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
    if address.binder:
        lines += [
            "",
            f"On other machines: [open it in Binder]({address.binder}{place}) or "
            f"[in Colab]({address.colab}{place}). Colab does not know the package: run this there "
            f"in a cell of its own before all others.",
            "",
            "```python",
            f'%pip install "implreg[book] @ git+{address.repository}@{address.branch}"',
            "```",
        ]
    return "\n".join(lines)


def for_download(executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook as it ran, without the second copy of each figure that print needs."""
    light: nbformat.NotebookNode = nbformat.from_dict(executed)
    for cell in light.cells:
        for output in cell.get("outputs", []):
            if "image/svg+xml" in output.get("data", {}):
                output.data.pop("image/png", None)
                output.metadata.pop("image/png", None)
    return light


def _table(columns: Mapping[str, Sequence[str]]) -> list[str]:
    head, rows = list(columns), zip(*columns.values(), strict=True)
    return [
        f"| {' | '.join(cells)} |"
        for cells in (head, ["---"] * len(head), *([_cell(x) for x in row] for row in rows))
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def made(pages: Sequence[Page], cff: str | None, address: Address) -> dict[str, str]:
    """Return the generated parts of pages by their names; `cff` is a CITATION.cff, if any."""
    parts = {"status": status(pages), "figures": figures(pages)}
    if cff is not None:
        parts["citation"] = citation(cff, pages, address)
    return {f"{MADE}/{name}.md": f"{text}\n" for name, text in parts.items()}
