"""Chapter "From one photograph to another": what tables of long paths say, in numbers and words."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import nn

from implreg.figures import Figure, show, style
from implreg.figures.display import CATEGORIES, MUTED
from implreg.figures.display import number as digits
from implreg_book.chapters.missing import NOT_TESTED
from implreg_book.evidence.statistics import NONE, Estimate, mean_interval
from implreg_book.experiments.imagenet import MobileNetV2
from implreg_book.parameters.photographs import Parameters
from implreg_book.protocol import LANCZOS, STANDARDISED, TWO_CLASSES, Aspects

WEIGHTS = {"imagenet": "trained on ImageNet", "random": "with random weights"}
_WALK = "that of a random walk with the same gaps"
_THREE = ["exact", "low", "high"]
_LABELS = {  # the classes of ImageNet that the photographs are taken for
    483: "castle", 522: "croquet ball", 599: "honeycomb", 641: "maraca", 644: "matchstick",
    663: "monastery", 698: "palace", 716: "picket fence", 832: "stupa", 949: "strawberry",
    985: "daisy", 988: "acorn", 994: "stinkhorn",
}  # fmt: skip
_CLOTHES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip


def protocol(p: Parameters) -> Aspects:
    """What the large path has of the aspects of a protocol."""
    photographs = p.network == "imagenet"
    return {
        "data sets": "photographs of scikit-learn" if photographs else "fashion-mnist",
        "pixels to a side": p.side,
        "resizing": "bicubic, 8 bits" if photographs else LANCZOS,
        "preprocessing": "a mean colour subtracted, divided by deviations"
        if photographs
        else STANDARDISED,
        "networks": f"MobileNetV2, {WEIGHTS[p.network]}",
        "networks of each size": 1,
        "pairs": 1,
        "classes of a pair": (TWO_CLASSES,),
        "positions": p.points,
        "gaps": f"exact in {p.windows:,} windows of about {p.switches:,} switches",
        "normaliser": None,
        "outputs": "all",
        "x axis": "position t",
        "precision": "single; exact ones double",
    }


def label(network: str, output: int) -> str:
    """The name of an output.

    >>> label("imagenet", 599), label("imagenet", 0), label("here", 8), label("random", 8)
    ('honeycomb', 'class 0', 'bag', 'class 8')
    """
    labels = {"imagenet": _LABELS, "here": dict(enumerate(_CLOTHES))}.get(network, {})
    return labels.get(output, f"class {output}")


def number(table: pd.DataFrame, measure: str, way: str = "exact", output: int = -1) -> float:
    """The one number of a measure."""
    (found,) = _rows(table, measure, way, output).number
    return float(found)


def by_output(table: pd.DataFrame, measure: str, way: str = "exact") -> pd.Series:
    """A measure of every output, by output."""
    rows = table[(table.measure == measure) & (table.way == way) & (table.output >= 0)]
    return rows.set_index("output").number.astype(float)


def pooled(table: pd.DataFrame, measure: str, way: str, outputs: Iterable[int]) -> float:
    """Root mean square of a measure over some outputs."""
    return float(by_output(table, measure, way)[list(outputs)].pow(2).mean() ** 0.5)


def curve(table: pd.DataFrame, measure: str, output: int) -> pd.Series:
    """A measure along the path, by position."""
    return _rows(table, measure, "program", output).set_index("at").number.astype(float)


def tops(table: pd.DataFrame, count: int = 2) -> tuple[dict[int, float], dict[int, float]]:
    """The largest outputs at both ends, each with its probability, the largest first."""
    values = table[table.measure == "value"]
    found = []
    for at in (0.0, 1.0):
        logits = values[values["at"] == at].set_index("output").number.astype(float)
        shares = np.exp(logits - logits.max())
        found.append((shares / shares.sum()).nlargest(count).to_dict())
    return found[0], found[1]


def pictures(table: pd.DataFrame) -> list[np.ndarray]:
    """Start, what is half-way, and end, (rows, columns, channels), from 0 to 1."""
    ends = []
    for way in ("start", "end"):
        pixels = table[(table.measure == "pixel") & (table.way == way)]
        channels = pixels.sort_values(["at", "output"]).number.to_numpy(float)
        side = round((len(channels) / pixels.output.nunique()) ** 0.5)
        ends.append(channels.reshape(side, side, -1) / 255)
    return [ends[0], (ends[0] + ends[1]) / 2, ends[1]]


def straight(table: pd.DataFrame, way: str = "program", share: float = 0.5) -> pd.Series:
    """Of each output whether it stays nearer to its chord than a share of how far its ends are."""
    off, rise = by_output(table, "fluctuation", way), by_output(table, "rise", way).abs()
    return off < share * rise


def per_window(windows: pd.DataFrame) -> pd.DataFrame:
    """One row for each window: its start, length, switches, sum of squared gaps, and density."""
    rows = windows[(windows.way == "exact") & (windows.output == -1)]
    wide = rows.pivot(index="at", columns="measure", values="number")
    return wide.assign(density=wide.switches / wide.length)


def switches(windows: pd.DataFrame) -> Estimate:
    """How many the whole path has, from windows spread evenly over it."""
    return mean_interval(per_window(windows).density).map(lambda x: max(x, 0.0))


def gap_deviation(windows: pd.DataFrame) -> Estimate:
    """The root mean square gap of all windows; the interval is a jackknife's over windows.

    There is none if fewer than two windows hold a switch.
    """
    found = per_window(windows)
    return _jackknife(found.squares, found.switches).map(np.sqrt)


def variance_ratios(windows: pd.DataFrame) -> dict[int, Estimate]:
    """By lag from 2 the ratio of variances in windows, see `implreg.measures.variance_ratio`."""
    found = per_window(windows)
    size = found.squares / found.switches
    ratios = {}
    for way, rows in windows[windows.measure == "variance"].groupby("way", sort=False):
        own, lag = rows.set_index("at").number, int(str(way).split()[1])
        if lag > 1 and own.notna().all():  # some windows may be too short for a lag
            ratios[lag] = _jackknife(own, size)
    return ratios


def _jackknife(above: pd.Series, below: pd.Series) -> Estimate:
    """The ratio of two sums over windows, if that of all but one always exists."""
    a, b, n = above.to_numpy(float), below.to_numpy(float), len(above)
    if not (b.sum() - b > 0).all():
        return NONE
    whole = a.sum() / b.sum()
    without = (a.sum() - a) / (b.sum() - b)
    found = mean_interval(n * whole - (n - 1) * without)
    half = (found.high - found.low) / 2
    return Estimate(whole, max(whole - half, 0.0), whole + half, n)


def chance(whole: pd.DataFrame) -> pd.DataFrame:
    """What depends on the order of the gaps, beside a band that 95 % of random orders stay in.

    Of the variance ratios it is one band: that many stay in it at all lags together. Its width is a
    multiple of the standard deviation of the logarithm at each lag.

    Columns `measure`, `at`, `exact`, `low`, `middle`, `high`.
    """
    rows = whole[whole.output == -1]
    found = []
    for measure in ("variance_ratio", "bend", "fluctuation"):
        own = rows[(rows.measure == measure) & (rows["at"] != 1)]  # at lag 1 all are the same
        if own.empty:
            continue
        logs = own.assign(log=np.log(own.number.where(own.number > 0))).pivot(
            index="way", columns="at", values="log"
        )
        mixed = logs.drop(index="exact")
        middle, spread = mixed.mean(), mixed.std()
        reach = float(((mixed - middle).abs() / spread).max(axis=1).quantile(0.95))
        band = {"low": middle - reach * spread, "middle": middle, "high": middle + reach * spread}
        told = pd.DataFrame({"exact": logs.loc["exact"], **band}).transform(np.exp)
        found.append(told.rename_axis("at").reset_index().assign(measure=measure))
    return pd.concat(found, ignore_index=True)


def against(value: float, low: float, high: float) -> str:
    """Where a number lies relative to what chance makes.

    >>> against(1.0, 2.0, 3.0), against(2.5, 2.0, 3.0), against(4.0, 2.0, 3.0)
    ('below', 'within', 'above')
    """
    return "below" if value < low else "above" if value > high else "within"


def verdict(found: pd.DataFrame, *, brief: bool = False) -> str:
    """Where the variance ratios leave the band of random orders, in words.

    Args:
        found: of `chance`, of one path.
        brief: whether to leave out at which lags.
    """
    ratios = found[found.measure == "variance_ratio"].dropna()
    runs: list[tuple[str, list[str]]] = []  # of lags next to one another
    for lag, *three in ratios[["at", *_THREE]].to_numpy(float).tolist():
        word = against(*three)
        if not runs or runs[-1][0] != word:
            runs.append((word, []))
        runs[-1][1].append(f"{lag:,.0f}")
    out = [(word, lags) for word, lags in runs if word != "within"]
    if not out:
        return f"not told apart from {_WALK}" if runs else NOT_TESTED
    if brief:
        words = list(dict.fromkeys(word for word, _ in out))
        return f"{'first ' * (len(words) > 1)}{', then '.join(words)} {_WALK}"
    told = []
    for i, (word, lags) in enumerate(out):
        where = f"at {lags[0]}" if len(lags) == 1 else f"from {lags[0]} to {lags[-1]}"
        told.append(f"{word} {'it' if i else _WALK} {where} switches")
    return ", ".join(told)


def merging(exact: Estimate, merged: float) -> str:
    """What merging does to the gap deviation, in words, if both are known.

    >>> one = Estimate(1.0, 0.9, 1.1, 9)
    >>> merging(one, 0.5), merging(one, 1.05)
    ('their gaps undo one another in part', 'no difference from uncorrelated gaps is shown')
    """
    if not exact.n or not np.isfinite(merged):
        return NOT_TESTED
    words = {"below": "their gaps undo one another in part", "above": "their gaps add up"}
    where = against(merged, exact.low, exact.high)
    return words.get(where, "no difference from uncorrelated gaps is shown")


def scales() -> list[str]:
    """How small the maps of each layer of MobileNetV2 are that can switch, against the image."""
    scale, found = 1, []
    for module in MobileNetV2().modules():
        if isinstance(module, nn.Conv2d):
            scale *= module.stride[0]
        elif isinstance(module, nn.ReLU6):
            found.append(f"1/{scale}")
    return found


def by_group(table: pd.DataFrame, groups: Sequence[str]) -> pd.DataFrame:
    """Shares of switches and of squared gaps, of groups of layers that are named layer by layer."""
    rows = table[table.way.str.startswith("layer ")]
    layer = rows.way.str.removeprefix("layer ").astype(int)
    named = rows.assign(group=[groups[i] for i in layer])
    sums = named.groupby(["group", "measure"], sort=False).number.sum().unstack()
    return sums / sums.sum()


def named_at_ends(panel: Axes, curves: Mapping[str, pd.Series]) -> None:
    """Write the name of each curve behind its end, in its colour, none over another."""
    low, high = panel.get_ylim()
    colour = dict(zip(curves, CATEGORIES, strict=False))
    at = -np.inf
    for name, seen in sorted(curves.items(), key=lambda item: float(item[1].iloc[-1])):
        at = max(at + 0.09 * (high - low), float(seen.iloc[-1]))
        panel.annotate(name, (1.01, at), xycoords=("axes fraction", "data"), color=colour[name],
                       va="center", fontsize=11)  # fmt: skip


def described(table: pd.DataFrame, names: Mapping[int, str]) -> str:
    """The alternative text of figure 1."""
    off, steep = by_output(table, "fluctuation", "program"), table[table.measure == "slope"].number
    told = []
    for output, name in names.items():
        first, last = curve(table, "value", output).iloc[[0, -1]]
        told.append(
            f"{name} goes from {digits(first)} to {digits(last)}, at most {digits(off[output])} "
            f"from its chord"
        )
    return (
        f"Two images and their mean; below, values and slopes of {len(off):,} outputs along the "
        f"path between them, {len(names)} of them in colour. {'; '.join(told)}. Slopes lie between "
        f"{digits(steep.min())} and {digits(steep.max())}."
    )


def figure_1(table: pd.DataFrame, names: Mapping[int, str]) -> Figure:
    """Both ends and half-way, the values and the slopes of all outputs."""
    faint = 0.2 if table.output.nunique() > 100 else 0.6
    with style():
        fig = plt.figure(figsize=(6.6, 7.6), layout="constrained")
        grid = fig.add_gridspec(3, 3, height_ratios=[1.1, 2, 2])
        for i, picture in enumerate(pictures(table)):
            panel = fig.add_subplot(grid[0, i])
            panel.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="none")
            panel.set_title(f"t = {(0, 0.5, 1)[i]:g}")
            panel.axis("off")
        for i, (measure, words) in enumerate(
            {"value": "output", "slope": "slope per length"}.items()
        ):
            panel = fig.add_subplot(grid[i + 1, :], ylabel=words, xlabel=("", "position t")[i])
            panel.set_title("ab"[i], loc="left", fontweight="bold")
            for output, line in table[table.measure == measure].groupby("output"):
                if output not in names:
                    panel.plot(line["at"], line.number, color=MUTED, linewidth=0.5, alpha=faint,
                               rasterized=True)  # fmt: skip
            curves = {name: curve(table, measure, output) for output, name in names.items()}
            for seen, colour in zip(curves.values(), CATEGORIES, strict=False):
                panel.plot(seen.index, seen, color=colour, linewidth=1.5)
            named_at_ends(panel, curves)
    return show(fig, alt=described(table, names))


def shown(found: pd.DataFrame, measure: str, at: float = 0.0) -> str:
    """One row of `chance` in words."""
    rows = found[(found.measure == measure) & (found["at"] == at)].dropna()
    if rows.empty:
        return NOT_TESTED
    ((exact, low, high),) = rows[_THREE].to_numpy(float).tolist()
    return f"{exact:.3g}, {against(exact, low, high)} the {low:.3g} to {high:.3g} of random orders"


def straightness(near: pd.Series) -> str:
    """Whether most outputs stay near their chords, in words.

    >>> [straightness(pd.Series(near)) for near in ([True, True, False], [True, False])]
    ['most are nearly straight', 'half are nearly straight']
    """
    if near.mean() == 0.5:
        return "half are nearly straight"
    return f"most are {'' if near.mean() > 0.5 else 'not '}nearly straight"


def _rows(table: pd.DataFrame, measure: str, way: str, output: int) -> pd.DataFrame:
    return table[(table.measure == measure) & (table.way == way) & (table.output == output)]
