"""The look that all figures share, and what a notebook displays of them."""

import base64
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.artist import Artist

from implreg.errors import InputError

# Every colour once for light and once for dark pages, at least 3:1 against the page in both. A
# figure is drawn in the light ones; in the SVG each becomes a custom property with two values.
THEMED = {
    "ink": ("#24292f", "#e6edf3"),
    "muted": ("#6a737d", "#9aa5b1"),
    "category-1": ("#0072b2", "#56b4e9"),
    "category-2": ("#d55e00", "#ff8c42"),
    "category-3": ("#00805c", "#2fc49a"),
    "category-4": ("#a8457f", "#e58fc0"),
    "category-5": ("#8a6a00", "#f0d44a"),
    "category-6": ("#5f6b7a", "#b0bac5"),
    # Ordered groups: steps of viridis, away from the page as the group's number grows.
    "step-1": ("#20a386", "#3b82b0"),
    "step-2": ("#228b8d", "#249a9c"),
    "step-3": ("#2c738e", "#2ab187"),
    "step-4": ("#375a8c", "#4ec36b"),
    "step-5": ("#443a83", "#9bd93c"),
    "step-6": ("#440154", "#f1e51d"),
}
INK, MUTED = THEMED["ink"][0], THEMED["muted"][0]
CATEGORIES = [light for name, (light, _) in THEMED.items() if name.startswith("category")]
STEPS = [light for name, (light, _) in THEMED.items() if name.startswith("step")]
MARKERS = ["o", "s", "^", "D", "v", "P"]  # colour is never the only sign of a group
MINUS = "\N{MINUS SIGN}"
WIDTH = 6.6  # inches; at 350 pixels the text is still 9 pixels high

_TICKS: dict[str, Any] = {"labelsize": 11.5, "color": MUTED, "labelcolor": INK}
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 12,
    "mathtext.fontset": "dejavusans",
    "axes.labelsize": 12.5,
    "axes.titlesize": 12.5,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    **{f"{axis}tick.{key}": value for axis in "xy" for key, value in _TICKS.items()},
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": MUTED,
    "grid.alpha": 0.22,
    "lines.linewidth": 2.0,
    "lines.markersize": 5.5,
    "figure.facecolor": "none",
    "figure.dpi": 100,
    "svg.fonttype": "path",
    "svg.hashsalt": "implreg",  # the same drawing gives the same bytes
}


@contextmanager
def style() -> Iterator[None]:
    """The book's look for figures made by hand; matplotlib's own settings return afterwards.

    >>> from matplotlib import pyplot as plt
    >>> with style():
    ...     figure, panel = plt.subplots(figsize=(6, 3))
    ...     _ = panel.plot([0, 1], [1, 3])
    >>> show(figure, alt="A line from 1 to 3.").size
    (576, 288)
    """
    with mpl.rc_context(cast(Any, _STYLE)):  # its stubs list every key there is
        yield


def new_figure(height: float, *, width: float = WIDTH) -> mpl_figure.Figure:
    """An empty figure of the given size in inches that pyplot does not know of."""
    return mpl_figure.Figure(figsize=(width, height), layout="constrained")


def legend(fig: mpl_figure.Figure, handles: Sequence[Artist]) -> None:
    """Put a legend above the panels, in as few rows as its labels need, and make room for it."""
    letters = [len(str(handle.get_label())) + 7 for handle in handles]
    for rows in range(1, len(letters) + 1):
        columns = -(-len(letters) // rows)
        if sum(max(part) for part in np.array_split(letters, columns)) <= 68:
            break
    if letters:
        fig.set_figheight(fig.get_figheight() + 0.26 * rows)
        fig.legend(handles=handles, loc="outside upper left", ncols=columns)


@dataclass(frozen=True)
class Figure:
    """A finished figure; a notebook displays it.

    Attributes:
        svg: one drawing for light and dark pages, by `prefers-color-scheme`; no background.
        png: the light drawing on white, at twice the size, for print.
        alt: what the figure shows, in words and numbers.
        size: width and height in CSS pixels.
    """

    svg: str
    png: bytes
    alt: str
    size: tuple[int, int]

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        width, height = self.size
        data = {
            "text/plain": f"Figure: {self.alt}",
            "image/svg+xml": self.svg,
            "image/png": base64.b64encode(self.png).decode(),
        }
        metadata: dict[str, dict[str, Any]] = {
            "image/svg+xml": {"alt": self.alt},
            "image/png": {"alt": self.alt, "width": width, "height": height},
            "implreg": {"alt": self.alt},
        }
        return data, metadata


def show(fig: mpl_figure.Figure, *, alt: str) -> Figure:
    """Finish a matplotlib figure: what this returns, a notebook displays in light and dark.

    Args:
        fig: the figure; draw it within `style()` and in its colours, so that it has a dark version.
            If pyplot made it, pyplot forgets it.
        alt: what the figure shows, in words and numbers, for those who do not see it.

    Returns:
        The figure as SVG and as PNG; see `style` for an example.

    Raises:
        InputError: `fig` is no matplotlib figure, or `alt` is empty.
    """
    if not isinstance(fig, mpl_figure.Figure):
        raise InputError(
            f"fig must be a matplotlib figure, got {type(fig).__name__}; pass for example "
            f"the first result of plt.subplots()."
        )
    if not isinstance(alt, str) or not alt.strip():
        raise InputError(f"alt must be a sentence that says what the figure shows, got {alt!r}; "
                         f"write one.")  # fmt: skip
    width, height = fig.get_size_inches() * 96
    png, svg = io.BytesIO(), io.StringIO()
    with style():
        fig.savefig(png, format="png", dpi=192, facecolor="white", metadata={"Software": None})
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        fig.savefig(svg, format="svg", metadata=nothing)
    plt.close(fig)
    themed = _themed(svg.getvalue(), alt)
    return Figure(themed, png.getvalue(), alt, (round(width), round(height)))


def _themed(drawing: str, alt: str) -> str:
    """An SVG file as one element for light and dark pages, with `alt` as its title."""
    drawing = drawing[drawing.index("<svg") :]  # XML and DOCTYPE lines are for files alone
    for name, (light, _) in THEMED.items():
        drawing = drawing.replace(light, f"var(--{name})")
    # A hundredth of a point is invisible, and all further digits are half of the file.
    drawing = re.sub(
        r' d="[^"]*"',
        lambda path: re.sub(r"\d+\.\d{3,}", lambda x: f"{float(x[0]):.2f}", path[0]),
        drawing,
    )
    opening, rest = drawing.removeprefix("<svg").split(">", 1)
    return f'<svg class="implreg" role="img"{opening}><title>{escape(alt)}</title>{_css()}{rest}'


def variables(theme: int) -> str:
    """The colours as custom properties of CSS, for light (0) or dark pages (1)."""
    return "".join(f"--{name}:{pair[theme]};" for name, pair in THEMED.items())


def _css() -> str:
    # Inside a page of JupyterLab (a widget, not an image file) its theme decides, not the system's.
    light, dark = variables(0), variables(1)
    lab = '[data-jp-theme-light="{}"] svg.implreg{{{}}}'
    return (
        f"<style>svg.implreg{{fill:var(--ink);{light}}}"
        "svg.implreg:not(:root){max-width:100%;height:auto}"
        f"@media (prefers-color-scheme:dark){{svg.implreg{{{dark}}}}}"
        f"{lab.format('true', light)}{lab.format('false', dark)}</style>"
    )


def round_ticks(count: int) -> ticker.MaxNLocator:
    """At most `count` intervals between ticks at numbers that are easy to read."""
    return ticker.MaxNLocator(count, steps=[1, 2, 2.5, 5, 10])


def plain(label: str) -> str:
    """A label as text: mathematics without its markup."""
    return re.sub(r"[\\${}]", "", re.sub(r"\\(mathrm|mathit|text)\b", "", label))


def number(value: float) -> str:
    """Three digits that matter, for alt text and tick labels."""
    return (f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}").replace("-", MINUS)
