"""Chapter "Depth": the theory of random networks of any depth, and random networks."""

import math
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler
from scipy import stats

from implreg.figures import Figure
from implreg.theory import slope_covariance
from implreg_book import figures
from implreg_book.chapters import depth_runs as runs
from implreg_book.chapters import protocols
from implreg_book.chapters.depth_runs import LIMIT, Found, grids, measure
from implreg_book.chapters.missing import nothing_to_draw
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.statistics import power_law, ratio
from implreg_book.parameters.depth import Parameters
from implreg_book.protocol import Aspects

__all__ = ["FIGURES", "TABLES", "Found", "grids", "measure", "numbers", "verdicts"]

_QUANTITIES = {
    "switches": "switches",
    "quadratic variation": "variation",
    "squared mid-path deflection": "deflection²",
    "slope product": "slopes",
    "squared chord deviation": "distance²",
    "squared fluctuation": "fluct.²",
}
_SILENT = "Networks of some group have no gap on these paths."
_SEEN = 3  # standard errors from which on a difference counts as seen


def protocol(p: Parameters) -> Aspects:
    """What these runs have of the aspects of a protocol."""
    return {
        "data sets": f"random directions in {p.inputs:,} dimensions",
        **protocols.of_perceptrons([p.width], p.networks, p.depths),
        **protocols.TRACED,
        "variants": tuple(name for name in runs.settings(p) if "," in name or "block" in name),
        "pairs": len(p.angles) * len(p.norms),
    }


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, bridge, at = found.p, found.bridge, found.at
    one = found.straightness(1)
    told: dict[str, object] = {
        "networks": f"{found.drawn(p.networks):,}",
        "narrow": p.narrow,
        "middle": p.middle,
        "deepest": found.deepest,
        "groups": p.groups,
        "settings": len(runs.settings(p)),
        "pairs": len(p.angles) * len(p.norms),
        "narrow-networks": f"{found.drawn(p.narrow_networks):,}",
        "narrow-order": f"{100 / p.narrow:.2g} %",
        "widths": ", ".join(map(str, p.widths)),
        "samples": found.samples,
        "norms": f"1 : {p.norms[0]:g}",
        "bridge-deepest": f"{bridge:.3f}",
        "bridge-predicted": f"{found.expected:.3f}",
        "straight-one": f"{float(one[at]):.3f}",
        "straight-deep": f"{float(found.straightness(found.deepest)[at]):.3f}",
        "straight-others": f" At an angle of {p.angles[0]:.2f} it is {float(one[0]):.3f}, at "
        f"{p.angles[-1]:.2f} it is {float(one[-1]):.3f}"
        f"{': nearer samples are joined by a straighter path' * bool(one[0] < one[-1])}."
        if len(one) > 1
        else "",
        "agree": words.by_ratio(
            bridge.map(lambda x: x / found.expected),
            same=f"theory and measurement of the bridge estimate agree {rules.WITHIN}",
            larger="the measured bridge estimate is larger than theory says",
            smaller="the measured bridge estimate is smaller than theory says",
            unclear="whether theory and measurement of the bridge estimate agree these networks do "
            "not decide",
        ),
    }
    return told | _scores(found) | _narrow(found) | _where(found)


def _scores(found: Found) -> dict[str, object]:
    """How far measured and predicted values lie apart."""
    checked = found.checked
    worst, count = checked.iloc[int(checked.z.abs().argmax())], len(checked)
    without = len(found.scores) - count
    told = {
        "scores": f"{count:,}",
        "without": f" ({without:,} more: no z, as all their networks are alike)" if without else "",
        "rms": f"{math.sqrt(checked.z.pow(2).mean()):.2f}",
        "worst": f"{worst.z:+.2f}".replace("-", "−"),
        "worst-where": f"{worst.quantity}, {worst.setting}, angle {worst.angle:.2f}, "
        f"norms 1 : {worst.norm:g}",
    }
    for bound in (2, 3):
        told[f"beyond-{bound}"] = f"{int((checked.z.abs() > bound).sum()):,}"
        told[f"beyond-{bound}-null"] = f"{2 * stats.norm.sf(bound) * count:.1f}"
    return dict(told)


def _narrow(found: Found) -> dict[str, object]:
    """Whether narrow networks tell the limit of wide ones from what they do."""
    largest = found.small[found.small.quantity == LIMIT].z.abs().max()
    seen = (
        "it is: the product of the slopes at the two ends is another one than in the limit of "
        "wide layers"
        if largest > _SEEN
        else "it may be, though these networks do not show it in the product of the slopes at the "
        "two ends"
    )
    return {"narrow-seen": f"{seen} (largest |z|: {_in_size(largest)})"}


def _where(found: Found) -> dict[str, object]:
    """Which gaps cancel in the deepest networks."""
    inside, across, _ = found.shares(found.deepest)
    ways: dict[str, Any] = {
        "above": "add up",
        "below": "cancel",
        "unclear": "neither clearly cancel nor add up",
    }
    return {
        "between": words.by_sign(across, **ways),
        "within": words.by_sign(inside, **ways),
    }


def narrow(found: Found) -> Styler:
    """Narrow networks beside theory, measured over predicted, with z."""
    rows = found.small
    cells = rows.assign(
        cell=[
            f"{m / expected:.3f} ({_signed(z)})"
            for m, expected, z in zip(rows["mean"], rows.predicted, rows.z, strict=True)
        ]
    )
    shown = cells.pivot(index="quantity", columns="angle", values="cell")
    shown = shown.reindex(["switches", "quadratic variation", LIMIT, runs.REFINED])
    shown.columns = [f"angle {angle:.2f}" for angle in shown.columns]
    return shown.reset_index().style.hide(axis="index")


def _signed(z: float) -> str:
    return "no z" if math.isnan(z) else f"{z:+.1f}".replace("-", "−")


def _in_size(z: float) -> str:
    return "none" if math.isnan(z) else f"{z:.1f}"


def scores(found: Found) -> Styler:
    """All settings beside theory: measured over predicted, with the largest z in size."""

    def cell(rows: pd.DataFrame) -> str:
        z = _in_size(rows.z.abs().max())
        if rows.quantity.iloc[0] == "slope product":  # its mean can be near 0
            return f"({z})"
        return f"{rows['mean'].sum() / rows.predicted.sum():.3f} ({z})"

    by = found.scores.groupby(["setting", "quantity"], sort=False)[list(found.scores.columns)]
    cells = (
        by.apply(cell)
        .unstack()
        .reindex(index=list(runs.settings(found.p)), columns=list(_QUANTITIES))
    )
    cells.columns = pd.Index(_QUANTITIES.values())
    return cells.reset_index().style.hide(axis="index")


def z_figure(found: Found) -> Figure:
    """Every z."""
    return figures.plot_z(found.checked, case="setting", by="quantity")


def _drawn(table: pd.DataFrame, x: str, y: str | list[str], **how: Any) -> Figure:
    """Lines against depth or width, if there are any."""
    if table.empty:
        return nothing_to_draw(_SILENT)
    return figures.plot_against(table, x, y, **how)


def ratio_figure(found: Found) -> Figure:
    """The bridge ratio against depth, by angle."""
    return _drawn(
        found.groups.dropna(subset="bridge"),
        "layers",
        "bridge",
        by="angle",
        theory=found.curves("bridge", lambda n: found.predicted(n).bridge_ratio),
        log="x",
        xlabel="hidden layers",
        ylabel=r"$\sigma_\mathrm{bridge} / \sigma_\mathrm{gap}$",
    )


def saturation_figure(found: Found) -> Figure:
    """What a random walk would bend beside what there is, against depth."""
    name, here = "root mean square", found.here.dropna(subset="bridge")
    delta = here["quadratic variation"] ** 0.5 / 2 / found.length
    kinds = {"gradient deflection": delta, "mid-path deflection": delta * here.bridge}
    sizes = []
    for kind, size in kinds.items():
        rows = here[["layers", "seed"]].assign(size=size)
        rows[name] = kind
        sizes.append(rows)
    lines = []
    for depth in found.depths:
        expected = found.predicted(depth)
        bends = (expected.deflection, expected.mid_path_deflection)
        for kind, bend in zip(kinds, bends, strict=True):
            expects = float(bend[found.at]) / found.length
            lines.append({"layers": depth, name: kind, "size": expects})
    return _drawn(
        pd.concat(sizes),
        "layers",
        "size",
        by=name,
        theory=pd.DataFrame(lines),
        log="xy",
        xlabel="hidden layers",
        ylabel="deflection per unit length",
    )


def where(found: Found) -> Styler:
    """Which pairs of gaps cancel, over the expected quadratic variation."""
    names = ("within layers", "between layers", "sum")
    rows = []
    for depth in found.p.depths:
        total = found.predicted(depth).quadratic_variation[found.at]
        net = runs.plain(found.p, 2, depth)
        first, last, both = (
            slope_covariance(net, found.pairs, s, t)[found.at] for s, t in runs.ENDS
        )
        expected = float((first + last - 2 * both) / total) - 1
        sums = (f"{one:+.2f}" for one in found.shares(depth))
        rows.append({"layers": depth} | dict(zip(names, sums, strict=True)))
        rows[-1]["sum by theory"] = f"{expected:+.2f}".replace("-", "−")
    return pd.DataFrame(rows).style.hide(axis="index")


def straight_figure(found: Found) -> Figure:
    """Distance from the chord over change, against depth, by angle."""
    return _drawn(
        found.groups.dropna(subset="bridge"),
        "layers",
        "straightness",
        by="angle",
        theory=found.curves("straightness", found.straightness),
        log="xy",
        xlabel="hidden layers",
        ylabel="distance from chord / change",
    )


def width_figure(found: Found) -> Figure:
    """Gap deviation and deflection against width."""
    p, names = found.p, ["gap_deviation", "deflection"]
    lines = []
    for width in p.widths:
        expected = found.predicted(p.middle, width)
        sizes = (expected.gap_deviation, expected.deflection)
        lines.append([width, *(float(size[found.at]) / found.length for size in sizes)])
    return _drawn(
        found.by_width,
        "width",
        names,
        theory=pd.DataFrame(lines, columns=["width", *names]),
        log="xy",
        ylabel=[f"{name.replace('_', ' ')} per unit length" for name in names],
    )


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the claims, by claim."""
    p, wider = found.p, found.by_width
    ends = [wider[wider.width == n].sort_values("seed").deflection for n in sorted(p.widths)]
    scope = (
        f"random networks with {p.middle} hidden layers of {min(p.widths)} to {max(p.widths)} "
        f"units, {found.samples}"
    )
    deepest = f"random networks with {found.deepest} hidden layers of {p.width} units"
    deepest = f"{deepest}, {found.samples}"
    silent = {claim: claims.not_tested(claim, _SILENT, scope=scope) for claim in ("C2", "C4")}
    judged = silent | {"C5": claims.not_tested("C5", _SILENT, scope=deepest)}
    if len(wider) == p.groups * len(p.widths):
        exponent = power_law(wider, "width", "gap_deviation")
        judged["C2"] = claims.width_exponent("C2", exponent, scope=scope)
        judged["C4"] = claims.no_growth(ratio(ends[-1], ends[0]), scope=scope)
    if found.bridge.n:
        judged["C5"] = claims.random_walk_bridge(
            found.bridge, predicted=found.expected, scope=deepest
        )
    return judged


FIGURES = {
    "z": z_figure,
    "ratio": ratio_figure,
    "saturation": saturation_figure,
    "straight": straight_figure,
    "width": width_figure,
}
TABLES = {"narrow": narrow, "scores": scores, "where": where}
