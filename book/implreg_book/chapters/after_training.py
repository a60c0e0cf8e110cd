"""Chapter "After training": what it says and draws. Its runs are in `trained`."""

import numpy as np
import pandas as pd
import torch

from implreg import theory
from implreg.figures.display import CATEGORIES, INK, MUTED, Figure, new_figure, show, style
from implreg_book import figures
from implreg_book.chapters.trained import Found, grids, groups, measure, network, protocol, root
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.statistics import Estimate, mean_interval, power_law, ratio
from implreg_book.parameters.schema import listed

__all__ = ["Found", "grids", "measure", "protocol"]

_MEASURES = {"mid_path_deflection": "mid", "chord_deviation": "chord", "fluctuation": "fluct"}
_PHASES = ("before", "after")
_UNTRAINED = (
    f"the trained networks keep on average more than {100 * rules.UNTRAINED:g} % of the loss of "
    "the output 0"
)


def numbers(found: Found) -> dict[str, object]:
    """What the prose says, by name."""
    p, widest = found.p, max(found.p.widths)
    return {
        "depth": words.some(p.depth, "hidden layer"),
        "widest": f"{widest:,}",
        "samples": f"{p.train:,}",
        "dataset": p.dataset,
        "networks": words.some(p.networks, "network"),
        "pairs": words.some(p.pairs, "pair"),
        "moment-networks": words.some(p.moment_networks, "network"),
        "moment-width": f"{p.moment_width:,}",
        "stable-width": f"{p.stable_width:,}",
        "wide": f"{min(p.wide):,} to {max(p.wide):,}",
        **_path(found),
        **_compared(found),
        **_errors(found),
        **_bounds(found),
        **_judged(found),
    }


def _path(found: Found) -> dict[str, object]:
    """What the figure of one path shows."""
    mean, _ = _along(found, "after")
    return {
        "shown": words.some(found.curves.network.nunique(), "network"),
        "inside": f"{_inside(found, 'after'):.0f} %",
        "ends": f"{mean[0]:.2f} and {mean[-1]:.2f}",
        "middle": f"{mean[len(mean) // 2]:.2f}",
    }


def _compared(found: Found) -> dict[str, object]:
    """The measures of the widest networks, over theory and over those before training."""
    told: dict[str, object] = {}
    before, after = (found.at(phase, max(found.p.widths)) for phase in _PHASES)
    for name, short in _MEASURES.items():
        expected = found.expected["after"][name]
        one = mean_interval(after[name] ** 2).map(root)
        if name == "fluctuation":
            one = mean_interval(after[name])
        told[f"{short}-ratio"] = f"{one.map((1 / expected).__mul__):.3f}"
        told[f"{short}-change"] = f"{ratio(after[name], before[name]):.2f}"
        told[f"{short}-theory"] = f"{expected / found.expected['before'][name]:.2f}"
    return told


def _errors(found: Found) -> dict[str, object]:
    """How the error of theory falls with width."""
    (outputs, wide), (bend, wide_bend) = found.errors()
    near = {
        "outputs": _closer(outputs, wide, -0.5),
        "mid-path deflection": _closer(bend, wide_bend, -0.25),
    }
    closer = listed([name for name, nearer in near.items() if nearer])
    units = f"{min(found.p.wide):,} to {max(found.p.wide):,} units"
    return {
        "course": _course(outputs),
        "course-bend": _course(bend),
        "exponent": f"{outputs:.2f}",
        "exponent-bend": f"{bend:.2f}",
        "exponent-wide": f"{wide:.2f}",
        "exponent-bend-wide": f"{wide_bend:.2f}",
        "closer": f", to which networks with one hidden layer of {units} come closer for the "
        f"{closer}"
        if closer
        else "",
        "accident": "That the second is smaller in size is no accident."
        if bend.low > outputs.high
        else "In size the second should be the smaller one.",
    }


def _course(power: Estimate) -> str:
    return words.by_sign(
        power, below="falls", above="rises", unclear="neither clearly falls nor rises"
    )


def _closer(power: Estimate, wide: Estimate, limit: float) -> bool:
    """Whether all of one interval lies nearer to a limit than all of another."""
    return max(abs(x - limit) for x in (wide.low, wide.high)) < min(
        abs(x - limit) for x in (power.low, power.high)
    )


def _bounds(found: Found) -> dict[str, object]:
    """What the bounds by the kernel and by the step come to."""
    p = found.p
    rows = found.stable[np.isfinite(found.stable.loss)]
    if rows.empty:
        return {"bounds": "With all of these steps training diverged; there is nothing to bound."}
    kernel, step = (rows[f"{of}_bound"] / rows.weighted_variation for of in ("kernel", "step"))
    holds = ((kernel >= 1) & (rows.step_bound >= rows.kernel_bound)).sum()
    large, small = (
        rows[rows.step == share].set_index("seed").kernel_bound
        for share in (max(p.shares), min(p.shares))
    )
    both = pd.concat([large, small], axis=1, keys=["large", "small"], join="inner")
    flatter = len(both) and rules.smaller(ratio(both.large, both.small))
    jump = (
        " What they do is to be seen in the rows: a step beyond the initial limit throws the "
        "network out of its starting point until it finds a flatter one."
    )
    return {
        "bounds": f"Both inequalities hold in {holds} of {words.some(len(rows), 'network')}. The "
        f"first bound is {kernel.min():.1f} to {kernel.max():.1f} times the sum itself, the second "
        f"{step.min():.0f} to {step.max():.0f} times: the step bounds the largest eigenvalue over "
        "all samples and outputs, of which the two ends are a small part. So the theorem explains "
        "why large steps can straighten paths, and does not explain by how much they do."
        + jump
        * bool(flatter and max(p.shares) > 1)
    }


def _judged(found: Found) -> dict[str, object]:
    """What training has done at finite width, for the claims about it."""
    p = found.p
    if not found.trained:
        return {"finite": f"The claims are not tested here: {_UNTRAINED}."}
    narrow, wide = min(p.widths), max(p.widths)
    kept = {n: found.kept(n, "quadratic_variation") for n in (narrow, wide)}
    bridge, predicted = found.bridge()
    power = power_law(found.after, "width", "gap_deviation")
    grows = words.by_ratio(
        found.growth(),
        larger="grows with width, towards its limit",
        smaller="falls with width",
        same=f"is the same at all widths {rules.WITHIN}",
        unclear="may or may not change with width",
    )
    falls = words.by_sign(
        power, of=-0.5, above="more slowly than", below="faster than", unclear="about as"
    )
    falls = (
        f"fall {falls} width to the power −1/2"
        if rules.smaller(power, 0)
        else "do not clearly fall"
    )
    return {
        "finite": f"Here {kept[narrow]:.2f} times the quadratic variation is left at {narrow:,} "
        f"units, and {kept[wide]:.2f} times at {wide:,}. The gradient deflection of trained "
        f"networks {grows}, and single gaps {falls}. The bridge estimate is {bridge:.2f} times the "
        f"gap deviation, where theory says {predicted:.2f}.",
    }


def _along(found: Found, phase: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread by theory of the output of the class, along the first path."""
    trained, output = found.theory[phase], int(found.known.paths.y0[0])
    points = len(trained.t)
    spread = torch.diagonal(trained.covariance[0])[:points].clamp(min=0).sqrt()
    return trained.mean[0, :points, output].numpy(), spread.numpy()


def _inside(found: Found, phase: str) -> float:
    """How much of their way networks are within two deviations of theory, in per cent."""
    mean, spread = _along(found, phase)
    line, t = found.curves[found.curves.phase == phase], found.theory[phase].t.numpy()
    away = np.abs(line.value - np.interp(line.t, t, mean))
    return 100 * float((away < 2 * np.interp(line.t, t, spread) + 1e-9).mean())


def path_figure(found: Found) -> Figure:
    """An output along one path, over what theory says of it."""
    canvas = new_figure(3.4)
    with style():
        panels = canvas.subplots(1, 2, sharey=True)
        for panel, phase, letter in zip(panels, _PHASES, "ab", strict=True):
            mean, spread = _along(found, phase)
            t = found.theory[phase].t
            panel.fill_between(
                t, mean - 2 * spread, mean + 2 * spread, color=MUTED, alpha=0.22, linewidth=0
            )
            panel.plot(t, mean, "--", color=INK, linewidth=1.6)
            lines = found.curves[found.curves.phase == phase].groupby("network")
            for colour, (_, line) in zip(CATEGORIES, lines, strict=False):
                panel.plot(line.t, line.value, color=colour, linewidth=1.3)
            panel.set_title(f"{letter}  {phase} training", loc="left", fontweight="bold")
            panel.set_xlabel("position t on the path")
        panels[0].set_ylabel("output of the class")
    mean, _ = _along(found, "after")
    before, after = (_inside(found, phase) for phase in _PHASES)
    return show(
        canvas,
        alt="The output of the class of both samples along one path, for "
        f"{words.some(found.curves.network.nunique(), 'network')} with {max(found.p.widths):,} "
        f"units per layer. Panel a, before training: {before:.0f} % of the way within two standard "
        f"deviations of theory. Panel b, after training: by theory the mean starts at "
        f"{mean[0]:.2f}, passes "
        f"{mean[len(mean) // 2]:.2f} in the middle and ends at {mean[-1]:.2f}; {after:.0f} % of "
        "the way within the band.",
    )


def width_figure(found: Found) -> Figure:
    """Three measures before and after training against width."""
    widths = (min(found.p.widths), max(found.p.widths))
    lines = [
        {"width": width, "networks": f"{phase} training"} | values
        for phase, values in found.expected.items()
        for width in widths
    ]
    return figures.plot_against(
        found.table.assign(networks=found.table.phase + " training"),
        "width",
        list(_MEASURES),
        by="networks",
        theory=pd.DataFrame(lines),
        log="x",
        ylabel=["mid-path deflection", "distance from the chord", "fluctuation"],
    )


def error_figure(found: Found) -> Figure:
    """The error of theory, network by network, against width."""
    names = {"error": "outputs", "deflection_error": "mid-path deflection"}
    errors = found.after.rename(columns=names).melt(
        ["width", "seed"], list(names.values()), "error of", "relative error"
    )
    return figures.plot_against(errors, "width", "relative error", by="error of", log="xy")


def time_figure(found: Found) -> Figure:
    """Two measures against the number of steps."""
    return figures.plot_against(
        found.course,
        "steps",
        ["mid_path_deflection", "chord_deviation"],
        theory=found.moments.drop(columns="fluctuation"),
        log="x",
        xlabel="steps of gradient descent",
        ylabel=["mid-path deflection", "distance from the chord"],
    )


def variation_table(found: Found) -> pd.DataFrame:
    """What training leaves of the kinks, by width."""
    columns = {
        "quadratic_variation": "quadratic variation",
        "gap_deviation": "gradient gap deviation",
    }
    rows = [
        {"width": width} | {name: f"{found.kept(width, of):.3f}" for of, name in columns.items()}
        for width in found.p.widths
    ]
    return pd.DataFrame(rows).set_index("width")


def bridge_table(found: Found) -> pd.DataFrame:
    """Spreads in the middle of the path by theory, over that before training."""
    before, after, known = found.theory["before"], found.theory["after"], found.known
    points = len(after.t)
    config = groups(found.p, min(found.p.widths), 1)[0]
    half, how = torch.tensor([0.5]), config.initialisation
    free, left = (
        torch.diagonal(of.covariance, dim1=1, dim2=2)[:, points // 2].clamp(min=0).sqrt()
        for of in (before, after)
    )
    mean = after.mean[:, :points]
    pinned = theory.pinned_deviation(network(config, known), known.paths, half, how)
    spreads = {
        "before training": _rms(free),
        "distance from the chord before training": found.expected["before"]["chord_deviation"],
        "both ends pinned, nothing else": _rms(pinned),
        "trained, chance": _rms(left),
        "trained, distance of the mean from its chord": _rms(
            mean[:, points // 2] - (mean[:, 0] + mean[:, -1]) / 2
        ),
    }
    over = {name: f"{spread / _rms(free):.3f}" for name, spread in spreads.items()}
    table = pd.DataFrame({"over the spread before training": over})
    return table.rename_axis("in the middle of the path")


def _rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


def stable_table(found: Found) -> pd.DataFrame:
    """Networks trained with other steps, and the bounds of their gaps."""
    columns = {
        "sharpness": ("sharpness", ".3g"),
        "sum of gaps": ("weighted_variation", ".3g"),
        "bound by the kernel": ("kernel_bound", ".3g"),
        "bound by the step": ("step_bound", ",.0f"),
    }
    rows = {}
    for share, part in found.stable.groupby("step"):
        finite = part[np.isfinite(part.loss)]
        rows[f"{share:g}"] = {
            "diverged": f"{len(part) - len(finite)} of {len(part)}",
            "largest loss": f"{finite.loss.max():.0e}" if len(finite) else "—",
        } | {
            name: f"{mean_interval(finite[column]):{digits}}" if len(finite) else "—"
            for name, (column, digits) in columns.items()
        }
    return pd.DataFrame(rows).T.rename_axis("step")


def verdicts(found: Found) -> dict[str, Verdict]:
    """What follows for the claims, by claim."""
    p = found.p
    narrow, wide = min(p.widths), max(p.widths)
    where = f"{p.dataset}, {p.train} samples, {words.some(p.depth, 'hidden layer')} of"
    scope = (
        f"{where} {narrow:,} to {wide:,} units, squared loss, gradient descent with steps scaled "
        "as in the limit"
    )
    at_widest = f"{where} {wide:,} units, after training"
    if not found.trained:
        return {
            claim: claims.not_tested(claim, _UNTRAINED, scope=at_widest if claim == "C5" else scope)
            for claim in ("C3", "C4", "C5")
        }
    bridge, predicted = found.bridge()
    exponent = power_law(found.after, "width", "gap_deviation")
    return {
        "C3": claims.width_exponent("C3", exponent, scope=scope),
        "C4": claims.no_growth(found.growth(), scope=scope),
        "C5": claims.random_walk_bridge(bridge, predicted=predicted, scope=at_widest),
    }


FIGURES = {
    "path": path_figure,
    "width": width_figure,
    "error": error_figure,
    "time": time_figure,
}
TABLES = {"variation": variation_table, "bridge": bridge_table, "stable": stable_table}
