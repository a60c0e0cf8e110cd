"""The first page: what the other chapters have found, from their executed notebooks."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from implreg_book.evidence import claims
from implreg_book.evidence.claims import Outcome
from implreg_book.evidence.statistics import Estimate
from implreg_book.parameters.paper_in_ten_minutes import Parameters

_UNTESTED = "not yet tested"
_CHAPTER = re.compile(r"\{doc\}`([^`]+)`")
_HOLDS = (Outcome.SUPPORTED, Outcome.CORRECTED)
_FIGURES = {
    "1": ("Outputs and slopes along one path, a ResNet on ImageNet", ["photographs", "sgd"]),
    "2": ("Both estimates against width, at initialisation", ["width"]),
    "3": ("Both estimates against epoch, perceptrons", ["sgd"]),
    "4 a–c": ("Both estimates against switches, VGG-like networks", ["depth-at-initialisation"]),
    "4 d–f": ("Both estimates against epoch, VGG-like networks", ["sgd"]),
    "5 a–c": ("Both estimates against switches, ResNets", ["depth-at-initialisation"]),
    "5 d–f": ("Both estimates against epoch, ResNets", ["sgd"]),
    "6": ("Edge margin and fluctuation against epoch", ["margin"]),
}


@dataclass(frozen=True)
class Saying:
    """A sentence of the first page, and when it may stand there.

    Attributes:
        text: the sentence.
        chapters: that it is about; each must have run with the book's own parameters.
        needs: verdicts of these chapters that it rests on: chapter, claim, and outcomes.
    """

    text: str
    chapters: tuple[str, ...]
    needs: tuple[tuple[str, str, tuple[Outcome, ...]], ...] = ()


_SHORT = (
    Saying(
        "Between two samples of a class the output of a trained network stays close to a straight "
        "line, compared with its lead at the ends.",
        ("margin",),
        (("margin", "C6", _HOLDS),),
    ),
    Saying(
        "The picture of a random walk is exact for one hidden layer; deep networks bend less than "
        "it says, and ResNets do not follow it.",
        ("width", "depth", "depth-at-initialisation"),
        (
            ("width", "C5", (Outcome.SUPPORTED,)),
            ("depth", "C5", (Outcome.CORRECTED,)),
            ("depth-at-initialisation", "C5", (Outcome.CORRECTED, Outcome.NOT_SUPPORTED)),
        ),
    ),
    Saying(
        "The causes do not hold up as stated: gradient descent without any noise ends at paths as "
        "straight as those of SGD, and smaller initial weights than the usual ones make them "
        "straighter still.",
        ("optimiser", "start"),
        (("start", "C7", (Outcome.NOT_SUPPORTED,)),),
    ),
    Saying(
        "Straighter networks do tend to make fewer errors, though not where only the optimiser "
        "differs, and other measures say as much.",
        ("complexity", "optimiser"),
        (("complexity", "C8", (Outcome.SUPPORTED,)),),
    ),
)
_LIMITS = {
    "start": "Starts that have learnt something else first end more bent and with more errors "
    "({doc}`initialisation`). Among random starts the scale decides, not the shape of the "
    "distribution; weights smaller than usual make straighter paths than the usual ones, at the "
    "same test error ({doc}`start`).",
    "optimiser": "Gradient descent without any noise ends at paths as straight as those of SGD. "
    "How flat the minimum is changes a lot, how straight the function is hardly "
    "({doc}`optimiser`).",
    "architecture": "Depth bends, and so do skip connections from the usual start. Convolutions "
    "bend more than a perceptron with as many parameters and make fewer errors "
    "({doc}`architecture`).",
    "labels": "Random labels bend the paths several times over, at the same training loss. Weight "
    "decay and dropout straighten them, mixup does not, though it is said to reward straight lines "
    "({doc}`regularisation`).",
    "generalisation": "Measures of curvature go with the test error, clearly where networks learnt "
    "noise, moderately among those that all learnt the true labels, and not where only the "
    "optimiser differs. Other measures do as well, sharpness of the loss among them "
    "({doc}`complexity`).",
    "limit of wide networks": "In one dimension it is a smooth curve through the samples, not the "
    "straight lines between them, while the gradient gap deviation goes to zero "
    "({doc}`one-dimension`).",
    "other ground": "Between samples of two classes there is a bend that a random walk does not "
    "have; networks on Fourier features fluctuate many times as much ({doc}`where-it-fails`).",
}


@dataclass(frozen=True)
class Found:
    """What lies in the folder of executed chapters.

    Attributes:
        p: the parameters.
        ledger: see `implreg_book.evidence.claims.ledger`.
        notebooks: by chapter.
    """

    p: Parameters
    ledger: pd.DataFrame
    notebooks: dict[str, dict[str, Any]]

    @cached_property
    def titles(self) -> dict[str, str]:
        """Of the chapters that are there."""
        return {
            name: "".join(notebook["cells"][0]["source"]).splitlines()[0].lstrip("# ")
            for name, notebook in self.notebooks.items()
        }

    @property
    def verdicts(self) -> pd.DataFrame:
        """Those that chapters have given."""
        return self.ledger[self.ledger.verdict != _UNTESTED]

    def as_published(self, chapter: str) -> bool:
        """Whether a chapter has run, with the book's own parameters."""
        run = self.notebooks.get(chapter, {}).get("metadata", {}).get("implreg", {})
        return bool(run) and not run.get("set")

    def may_say(self, saying: Saying) -> bool:
        """Whether all that a sentence rests on is so."""
        if not all(map(self.as_published, saying.chapters)):
            return False
        for chapter, claim, outcomes in saying.needs:
            rows = self.ledger[(self.ledger.get("chapter") == chapter) & (self.ledger.id == claim)]
            if rows.empty or not rows.verdict.isin([str(o) for o in outcomes]).all():
                return False
        return True

    def link(self, chapter: str) -> str:
        """A link to a chapter's page."""
        return f'<a href="{chapter}.html">{self.titles[chapter]}</a>'


def folder_of(p: Parameters) -> Path:
    """Where the executed chapters are, whether one calls from the book's folder or from above."""
    named = Path(p.chapters)
    for start in (Path.cwd(), *Path.cwd().parents):
        if (start / "_toc.yml").is_file() and (start / named).is_dir():
            return start / named
    return named


def measure(p: Parameters) -> Found:
    """Read the executed chapters.

    Raises:
        InputError: there are none.
    """
    folder = folder_of(p)
    ledger = claims.ledger(folder)
    every = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.ipynb")}
    return Found(p, ledger, every)


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    counts = found.verdicts.verdict.value_counts()
    said = [saying.text for saying in _SHORT if found.may_say(saying)]
    chapters = found.notebooks.keys() - {found.p.chapter}
    other = [name for name in chapters if not found.as_published(name)]
    if other or not said:
        said.append("More is not said here, as chapters ran with other parameters or are missing.")
    return {
        "tested": int(found.verdicts.id.nunique()),
        "verdicts": len(found.verdicts),
        "counts": ", ".join(f"{n} {name}" for name, n in counts.items()) or "none",
        "short": " ".join(said),
    }


def limits(found: Found) -> dict[str, str]:
    """How far the story carries, to be displayed."""
    told = {
        name: text
        for name, text in _LIMITS.items()
        if all(map(found.as_published, _CHAPTER.findall(text)))
    }
    if not told:
        told = {"other parameters": "The chapters on this have run with them, or are missing."}

    def linked(link: Callable[[str], str]) -> list[tuple[str, str]]:
        return [
            (f"{name[0].upper()}{name[1:]}.", _CHAPTER.sub(lambda found: link(found[1]), text))
            for name, text in told.items()
        ]

    items = "".join(f"<li><em>{name}</em> {text}</li>" for name, text in linked(found.link))
    lines = [f"* *{name}* {text}" for name, text in linked(lambda chapter: found.titles[chapter])]
    return {
        "text/html": f"<ul>{items}</ul>",
        "text/markdown": "\n".join(lines),
        "text/plain": " ".join(told.values()),
    }


def claim_boxes(found: Found) -> Iterator[dict[str, str]]:
    """Each claim with what its tests say, to be displayed."""
    for claim, tests in found.ledger.groupby("id"):
        rows: list[tuple[str, str, list[str]]] = [("Test", claims.CLAIMS[str(claim)].test, [])]
        for outcome in Outcome:
            part = tests[tests.verdict == str(outcome)]
            if len(part):
                name = f"{outcome[0].upper()}{outcome[1:]} ({len(part)})"
                rows.append((name, _spread(part), list(dict.fromkeys(part.chapter))))
        if len(rows) == 1:
            rows.append(("Verdict", _UNTESTED, []))
        title = f"{claim}. {tests.statement.iloc[0]}"
        body = "".join(
            f"<dt>{name}</dt><dd>{escape(text)}{' In ' * bool(where)}"
            f"{', '.join(map(found.link, where))}</dd>"
            for name, text, where in rows
        )
        lines = [
            f"{name}: {text}"
            + (f" In {', '.join(found.titles[x] for x in where)}." if where else "")
            for name, text, where in rows
        ]
        yield {
            "text/html": f'<div class="claim"><p class="claim-title">{escape(title)}</p>'
            f"<dl>{body}</dl></div>",
            "text/markdown": f"**{title}**\n\n" + "\n\n".join(lines),
            "text/plain": title,
        }


def _spread(tests: pd.DataFrame) -> str:
    """The smallest and the largest effect of each tested quantity."""
    ranges = []
    for quantity, effects in tests.dropna(subset="effect").groupby("quantity").effect:
        ends = dict.fromkeys(f"{x:.3g}".replace("-", "−") for x in (effects.min(), effects.max()))
        ranges.append(f"{quantity}: {' to '.join(ends)}")
    return "; ".join(ranges) or "; ".join(dict.fromkeys(tests.details))


def figure_map(found: Found) -> pd.DataFrame:
    """Where each figure of the paper is, with links."""
    return pd.DataFrame(
        [
            {
                "figure": figure,
                "shows": shows,
                "chapter": ", ".join(found.link(n) for n in names if n in found.titles)
                or "not run",
                "verdicts": _on(found, figure) if found.titles.keys() & set(names) else "",
            }
            for figure, (shows, names) in _FIGURES.items()
        ]
    )


def _on(found: Found, figure: str) -> str:
    """What the tests say of a figure."""
    rows = found.verdicts[found.verdicts.figure.astype(str).str.startswith(figure)]
    said = [f"<strong>{v['id']}</strong> {v['verdict']}" for v in rows.to_dict("records")]
    return "<br>".join(dict.fromkeys(said)) or "none: one path"


def every_verdict(found: Found) -> str:
    """All verdicts in the order of the outcomes, in Markdown."""
    sections = []
    for outcome in Outcome:
        rows = found.verdicts[found.verdicts.verdict == str(outcome)].sort_values("id")
        lines = [_line(found, verdict) for verdict in rows.to_dict("records")]
        if lines:
            title = f"**{outcome[0].upper()}{outcome[1:]}** ({len(lines)})"
            sections.append(f"{title}\n\n" + "\n".join(lines))
    return "\n\n".join(sections) or "No chapter has been run."


def _line(found: Found, verdict: dict[Any, Any]) -> str:
    """One verdict as an item of a list."""
    figure = f", figure {verdict['figure']}" if verdict["figure"] else ""
    what = f"* **{verdict['id']}** ({found.titles[verdict['chapter']]}{figure}). "
    what += str(verdict["statement"])
    if verdict["verdict"] == Outcome.NOT_TESTED:
        return f"{what} {verdict['details']}; {verdict['scope']}."
    effect = Estimate(*(verdict[name] for name in ("effect", "low", "high", "seeds")))
    return (
        f"{what} Found: {verdict['quantity']}: {effect} ({verdict['seeds']:.0f} "
        f"{verdict['independent']}); {verdict['scope']}. {verdict['details']}"
    )
