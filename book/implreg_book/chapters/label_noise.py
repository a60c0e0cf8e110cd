"""The section of "During SGD" on errors: networks of growing width and labels with noise."""

import pandas as pd

from implreg.figures import Figure
from implreg.training import SGD
from implreg_book import figures
from implreg_book.chapters.families import drawn, paired
from implreg_book.evidence import claims, rules, words
from implreg_book.evidence.claims import Verdict
from implreg_book.evidence.rules import Outcome
from implreg_book.evidence.statistics import NONE, Estimate, mean_interval
from implreg_book.experiments import generalisation
from implreg_book.experiments.families import Network
from implreg_book.parameters.schema import listed
from implreg_book.parameters.sgd import Parameters
from implreg_book.runs.grids import Grid

_FITS = 0.01  # training error up to which samples count as fitted


def grid(p: Parameters) -> Grid:
    """Perceptrons of each width and share of noise, the longest runs first."""
    sgd = SGD(p.noise_rate, p.noise_epochs, p.batch, p.warmup_epochs)
    configs = [
        generalisation.Config(
            p.dataset, p.noise_train, Network("mlp", n), tuple(range(p.seeds)), sgd, noise
        )
        for n in sorted(p.noise_widths, reverse=True)
        for noise in p.noises
    ]
    return Grid(generalisation.run, configs, "widths and noises")


def fits_from(p: Parameters, noisy: pd.DataFrame, noise: float) -> int | None:
    """The narrowest width from which on every seed fits its samples, None if there is none."""
    narrowest = None
    for width in sorted(p.noise_widths, reverse=True):
        errors = _errors(noisy, noise, width).train_error
        if len(errors) < p.seeds or errors.max() > _FITS:
            break
        narrowest = width
    return narrowest


def error_ratio(p: Parameters, noisy: pd.DataFrame, noise: float) -> Estimate:
    """Test error of the widest networks over that of the narrowest that fit, by seed."""
    narrow, wide = fits_from(p, noisy, noise), max(p.noise_widths)
    if narrow is None or narrow == wide:
        return NONE
    return paired(*(_errors(noisy, noise, width).test_error for width in (wide, narrow)))


def cost(p: Parameters, noisy: pd.DataFrame) -> str:
    """What the most noise costs, compared with the least, in a sentence; "" if there is one."""
    if len(p.noises) < 2:
        return ""
    widths = sorted(p.noise_widths)
    tests = {
        width: [_errors(noisy, noise, width).test_error for noise in (p.noises[-1], p.noises[0])]
        for width in widths
    }
    ratios = [ratio for ratio in (paired(*test) for test in tests.values()) if ratio.n > 1]
    (high, low), (high_narrow, low_narrow) = tests[widths[-1]], tests[widths[0]]
    change = ((high - low) - (high_narrow - low_narrow)).dropna()
    if not ratios or not len(change):
        return "What noise in the labels costs, these networks do not say."
    count = words.how_many(sum(map(rules.larger, ratios)), len(ratios), "widths")
    more = words.by_sign(
        mean_interval(change),
        below="more width does not add to it",
        above="more width adds to it",
        unclear="whether more width adds to it is open",
    )
    return f"Noise in the labels clearly costs accuracy at {count}; {more}."


def numbers(p: Parameters, noisy: pd.DataFrame) -> dict[str, object]:
    """What the section says, by name."""
    fits = {noise: fits_from(p, noisy, noise) for noise in p.noises}
    fitted = [f"{n:,} units ({100 * noise:g} %)" for noise, n in fits.items() if n]
    misses = [f"{100 * noise:g} %" for noise, n in fits.items() if not n]
    noise_too = ", noise included" * any(noise and n for noise, n in fits.items())
    sentences = [
        f"From {listed(fitted)} on, all seeds fit their samples{noise_too}." if fitted else "",
        f"With {listed(misses)} random labels not all of the widest fit their samples."
        if misses
        else "",
    ]
    ratios = [
        f"{name}: {value:.2f}" if value.n else f"{name}: none to compare"
        for name, value in _ratios(p, noisy).items()
    ]
    return {
        "noises": listed([f"{100 * noise:g} %" for noise in p.noises]),
        "noise-train": f"{p.noise_train:,}",
        "noise-epochs": p.noise_epochs,
        "noise-diverged": int(noisy.diverged.sum()),
        "noise-networks": len(noisy),
        "fits": " ".join(filter(None, sentences)),
        "error-ratios": "; ".join(ratios),
        "noise-cost": cost(p, noisy),
    }


def figure(noisy: pd.DataFrame) -> Figure:
    """Training and test error against width."""
    left = noisy[~noisy.diverged]
    left = left.assign(labels=[f"{100 * noise:g} % random" for noise in left.noise])
    return drawn(
        left,
        lambda: figures.plot_against(
            left,
            "size",
            ["train_error", "test_error"],
            by="labels",
            log="x",
            xlabel="width n",
            ylabel=["training error", "test error"],
        ),
    )


def verdict(p: Parameters, noisy: pd.DataFrame) -> Verdict:
    """C1, not tested if at some share of noise no two widths fit, unless another contradicts it."""
    scope = (
        f"{p.dataset}, {p.noise_train:,} training samples, one hidden layer of up to "
        f"{max(p.noise_widths):,} units, {words.some(p.noise_epochs, 'epoch')} of SGD"
    )
    ratios = _ratios(p, noisy)
    there = {name: ratio for name, ratio in ratios.items() if ratio.n}
    found = claims.generalises(there, scope=scope) if there else None
    if found and (there == ratios or found.outcome is Outcome.NOT_SUPPORTED):
        return found
    missing = listed([name for name in ratios if name not in there])
    return claims.not_tested("C1", f"no two widths that fit {missing}", scope=scope)


def _errors(noisy: pd.DataFrame, noise: float, width: int) -> pd.DataFrame:
    """The networks of one width and share of noise that have not diverged, by seed."""
    rows = noisy[~noisy.diverged & (noisy.noise == noise) & (noisy["size"] == width)]
    # If all have diverged, the table has no such columns.
    return rows.set_index("seed").sort_index().reindex(columns=["train_error", "test_error"])


def _ratios(p: Parameters, noisy: pd.DataFrame) -> dict[str, Estimate]:
    return {f"{100 * n:g} % random labels": error_ratio(p, noisy, n) for n in p.noises}
