"""The claims ledger: verdict rules at their boundaries, and what is read from chapters."""

import json
import math
import runpy
from statistics import NormalDist

import nbformat
import pytest
from implreg_book.evidence import claims, rules
from implreg_book.evidence.claims import CLAIMS, MIME, Outcome, Verdict
from implreg_book.evidence.statistics import Estimate, mean_interval, ratio
from IPython.core.formatters import DisplayFormatter

from implreg.errors import InputError


def between(low: float, high: float, n: int = 10) -> Estimate:
    return Estimate((low + high) / 2, low, high, n)


ONE_SEED = mean_interval([0.7])
NO_SEED = Estimate(math.nan, math.nan, math.nan, 0)


# ---------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.51, -0.49, Outcome.SUPPORTED),
        (-0.5, -0.4, Outcome.SUPPORTED),  # the interval is closed
        (-0.49, -0.01, Outcome.CORRECTED),
        (-0.9, -0.51, Outcome.CORRECTED),
        (-0.6, -0.5, Outcome.SUPPORTED),
        (-0.6, -0.5 - 1e-9, Outcome.CORRECTED),
        (-0.5 + 1e-9, -1e-9, Outcome.CORRECTED),
        (-0.6, -1e-9, Outcome.SUPPORTED),
        (-0.6, 0.0, Outcome.UNDECIDED),
        (0.0, 0.2, Outcome.UNDECIDED),
        (1e-9, 0.2, Outcome.NOT_SUPPORTED),
        (0.01, 0.2, Outcome.NOT_SUPPORTED),
    ],
)
@pytest.mark.parametrize("claim", ["C2", "C3"])
def test_width_exponent(claim, low, high, outcome):
    verdict = claims.width_exponent(claim, between(low, high), scope="here")
    assert (verdict.claim, verdict.outcome, verdict.scope) == (claim, outcome, "here")


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.5, 0.6, Outcome.SUPPORTED),
        (1.05, 1.1, Outcome.SUPPORTED),
        (1.05, 1.1 + 1e-9, Outcome.UNDECIDED),
        (1.05, 1.11, Outcome.UNDECIDED),
        (1.1, 1.2, Outcome.UNDECIDED),
        (1.1 + 1e-9, 1.2, Outcome.NOT_SUPPORTED),
        (1.11, 1.2, Outcome.NOT_SUPPORTED),
    ],
)
def test_no_growth(low, high, outcome):
    assert claims.no_growth(between(low, high), scope="").outcome is outcome
    assert claims.generalises({"true labels": between(low, high)}, scope="").outcome is outcome


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (1 / 1.1, 1.1, Outcome.SUPPORTED),
        (1 / 1.1 - 1e-9, 1.1, Outcome.UNDECIDED),
        (1 / 1.1, 1.1 + 1e-9, Outcome.UNDECIDED),
        (0.905, 1.0, Outcome.UNDECIDED),
        (1.01, 1.02, Outcome.SUPPORTED),  # not 1, but equal within the margin
        (0.84, 1.15, Outcome.UNDECIDED),  # contains 1, but too wide to tell
        (0.85, 0.95, Outcome.UNDECIDED),
        (0.8, 0.89, Outcome.NOT_SUPPORTED),
        (0.8, 1 / 1.1, Outcome.UNDECIDED),
        (0.8, 1 / 1.1 - 1e-9, Outcome.NOT_SUPPORTED),
        (1.1, 1.2, Outcome.UNDECIDED),
        (1.1 + 1e-9, 1.2, Outcome.NOT_SUPPORTED),
        (1.11, 1.2, Outcome.NOT_SUPPORTED),
    ],
)
def test_random_walk_bridge(low, high, outcome):
    assert claims.random_walk_bridge(between(low, high), scope="").outcome is outcome


@pytest.mark.parametrize(
    ("low", "high", "predicted", "outcome"),
    [
        (0.48, 0.52, 0.5, Outcome.CORRECTED),
        (0.40, 0.52, 0.5, Outcome.NOT_SUPPORTED),
        (0.48, 0.52, 0.7, Outcome.NOT_SUPPORTED),
        (0.5 / 1.1, 0.5 * 1.1, 0.5, Outcome.CORRECTED),
        (0.5 / 1.1 - 1e-9, 0.5, 0.5, Outcome.NOT_SUPPORTED),
        (0.5, 0.5 * 1.1 + 1e-9, 0.5, Outcome.NOT_SUPPORTED),
        (1.15, 1.25, 1.2, Outcome.CORRECTED),
        (0.89, 0.95, 1 / 1.1 + 1e-9, Outcome.UNDECIDED),  # theory predicts 1 within the margin
        (0.89, 0.95, 1 / 1.1 - 1e-9, Outcome.CORRECTED),
        (1.05, 1.15, 1.1 - 1e-9, Outcome.UNDECIDED),
        (1.05, 1.15, 1.1 + 1e-9, Outcome.CORRECTED),
        (0.93, 1.01, 0.95, Outcome.SUPPORTED),
        (0.92, 0.97, 0.89, Outcome.SUPPORTED),  # equal to both
        (0.84, 0.92, 0.88, Outcome.CORRECTED),
        (0.70, 0.95, 0.88, Outcome.UNDECIDED),
    ],
)
def test_a_ratio_that_theory_predicts_is_a_correction(low, high, predicted, outcome):
    verdict = claims.random_walk_bridge(between(low, high), scope="", predicted=predicted)
    assert verdict.outcome is outcome
    assert verdict.details == f"Theory predicts {predicted:.3g}."


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.1, 0.99, Outcome.SUPPORTED),
        (0.1, 1 - 1e-9, Outcome.SUPPORTED),
        (0.1, 1.0, Outcome.UNDECIDED),
        (1.0, 1.5, Outcome.UNDECIDED),
        (1 + 1e-9, 1.5, Outcome.NOT_SUPPORTED),
        (1.01, 1.5, Outcome.NOT_SUPPORTED),
    ],
)
def test_almost_straight(low, high, outcome):
    verdict = claims.almost_straight(between(low, high), scope="")
    assert (verdict.claim, verdict.outcome, verdict.details) == ("C6", outcome, "")


def test_almost_straight_shows_other_starts():
    verdict = claims.almost_straight(
        between(0.1, 0.2), others={"adversarial": between(0.3, 0.5)}, scope=""
    )
    assert (
        verdict.details
        == "The same ratio elsewhere: adversarial 0.400 [0.300,\N{NO-BREAK SPACE}0.500]."
    )


@pytest.mark.parametrize(
    "verdict",
    [
        claims.width_exponent("C3", ONE_SEED, scope=""),
        claims.no_growth(ONE_SEED, scope=""),
        claims.random_walk_bridge(ONE_SEED, scope=""),
        claims.almost_straight(ONE_SEED, scope=""),
        claims.other_starts({"deflection": {"a": ONE_SEED}}, scope=""),
        claims.tracks_generalisation({"deflection": ONE_SEED}, scope=""),
    ],
)
def test_one_seed_neither_supports_nor_contradicts_a_claim(verdict):
    assert verdict.outcome is Outcome.UNDECIDED


def test_tests_in_words_name_the_margins(monkeypatch):
    assert "lie below 1.1." in CLAIMS["C1"].test and "lies below 1.1." in CLAIMS["C4"].test
    assert "between 0.909 and 1.1;" in CLAIMS["C5"].test and "within 10 %" in CLAIMS["C5"].test
    assert "lies below 0.1:" in CLAIMS["C8"].test
    for name, value in {"SAME": 1.25, "WITHIN": "within 25 %", "WEAK": 0.2}.items():
        monkeypatch.setattr(rules, name, value)
    other = runpy.run_path(claims.__file__)["CLAIMS"]
    assert "lie below 1.25." in other["C1"].test and "lies below 1.25." in other["C4"].test
    assert "between 0.8 and 1.25;" in other["C5"].test and "within 25 %" in other["C5"].test
    assert "lies below 0.2:" in other["C8"].test


# ---------------------------------------------------------------- other starts

HIGH = between(1.2, 1.4)


def other_starts(**errors: Estimate) -> Verdict:
    """C7 with deflections that are all higher."""
    deflection = {start: between(2, 3) for start in errors}
    return claims.other_starts({"deflection": deflection, "test error": errors}, scope="")


def test_other_starts_are_worse_only_if_all_intervals_lie_above_one():
    supported = other_starts(a=HIGH, b=between(1.01, 1.2))
    assert supported.outcome is Outcome.SUPPORTED
    assert supported.effect == between(1.01, 1.2)  # the weakest of the four
    assert "test error from “b”" in supported.quantity

    assert other_starts(a=HIGH, b=between(1 + 1e-9, 1.2)).outcome is Outcome.SUPPORTED
    undecided = other_starts(a=HIGH, b=between(1.0, 1.2))
    assert undecided.outcome is Outcome.UNDECIDED
    assert "test error from “b”" in undecided.quantity


def test_a_quantity_other_than_the_error_can_decide():
    ratios = {"deflection": {"a": between(0.9, 1.1)}, "test error": {"a": HIGH}}
    verdict = claims.other_starts(ratios, scope="")
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.quantity.startswith("deflection from “a”")


def test_a_contradiction_must_hold_for_all_ratios_at_once():
    clear = ratio([0.50, 0.51, 0.49, 0.5], [1, 1, 1, 1])
    verdict = other_starts(a=HIGH, b=clear)
    assert verdict.outcome is Outcome.NOT_SUPPORTED
    assert verdict.effect == clear
    # Below 1 by itself, but not when looked for among four ratios.
    slight = ratio([0.92, 0.94, 0.97, 0.95], [1, 1, 1, 1])
    assert slight.high < 1
    assert claims.other_starts({"error": {"a": slight}}, scope="").outcome is Outcome.NOT_SUPPORTED
    assert other_starts(a=HIGH, b=slight).outcome is Outcome.UNDECIDED


def quantile(tests):
    """Student's, with two degrees of freedom, in closed form."""
    beyond = 0.025 / tests
    return (1 - 2 * beyond) / math.sqrt(2 * beyond * (1 - beyond))


@pytest.mark.parametrize("excess", [-0.01, 0.01])
def test_a_contradiction_counts_all_ratios_of_all_starts(excess):
    """Of three seeds: widened for four ratios the interval just reaches 1, or not."""
    middle, half = -0.1 * quantile(4) / quantile(1), 0.1 * (1 + excess)
    low = Estimate(*(math.exp(x) for x in (middle, middle - half, middle + half)), 3)
    outcome = Outcome.UNDECIDED if excess > 0 else Outcome.NOT_SUPPORTED
    assert other_starts(a=HIGH, b=low).outcome is outcome
    assert claims.other_starts({"error": {"b": low}}, scope="").outcome is Outcome.NOT_SUPPORTED


def test_of_several_contradictions_the_clearest_is_shown():
    clear, clearest = between(0.3, 0.5), between(0.4, 0.45)
    assert other_starts(a=clear, b=clearest, c=HIGH).effect == clearest
    assert other_starts(a=clearest, b=clear, c=HIGH).effect == clearest


def test_a_start_that_never_arrived_leaves_the_claim_undecided():
    verdict = other_starts(a=HIGH, b=NO_SEED)
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.effect.n == 0
    assert "b no seed" in verdict.details


def test_details_list_every_start():
    details = other_starts(a=HIGH, b=between(1.01, 1.2)).details
    assert details.count("a ") == details.count("b ") == 2
    assert "Ratios of test error: a 1.30 [1.20,\N{NO-BREAK SPACE}1.40], b " in details


@pytest.mark.parametrize("ratios", [{}, {"x": {}}, {"x": {"a": HIGH}, "y": {"b": HIGH}}])
def test_other_starts_refuses_what_it_cannot_compare(ratios):
    with pytest.raises(InputError, match="ratios must hold the same starts"):
        claims.other_starts(ratios, scope="")


# ---------------------------------------------------------------- generalisation


def tracks(**correlations: Estimate) -> Verdict:
    return claims.tracks_generalisation(correlations, scope="here")


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.01, 0.6, Outcome.SUPPORTED),
        (0.0, 0.6, Outcome.UNDECIDED),
        (-0.2, 0.2, Outcome.UNDECIDED),
        (-0.2, 0.1, Outcome.UNDECIDED),
        (-0.2, 0.1 + 1e-9, Outcome.UNDECIDED),
        (-0.2, 0.1 - 1e-9, Outcome.NOT_SUPPORTED),
        (1e-9, 0.6, Outcome.SUPPORTED),
        (-1e-9, 0.6, Outcome.UNDECIDED),
        (-0.05, 0.09, Outcome.NOT_SUPPORTED),  # close to no relation at all
        (0.01, 0.09, Outcome.NOT_SUPPORTED),  # a relation, but next to none
        (-0.9, -0.5, Outcome.NOT_SUPPORTED),
    ],
)
def test_one_measure_tracks_generalisation(low, high, outcome):
    verdict = tracks(deflection=between(low, high))
    assert (verdict.claim, verdict.outcome, verdict.scope) == ("C8", outcome, "here")
    assert verdict.effect == between(low, high)


def test_all_measures_must_track_generalisation():
    high, low = between(0.5, 0.7), between(0.1, 0.4)
    supported = tracks(deflection=high, fluctuation=low)
    assert supported.outcome is Outcome.SUPPORTED
    assert supported.effect == low and "of fluctuation with" in supported.quantity
    assert "deflection 0.600 [" in supported.details and "fluctuation 0.250 [" in supported.details
    assert tracks(a=high, b=between(-0.1, 0.4)).outcome is Outcome.UNDECIDED
    against = tracks(a=between(-0.1, 0.4), b=between(-0.6, -0.3), c=between(-0.9, -0.1))
    assert against.outcome is Outcome.NOT_SUPPORTED
    assert against.effect == between(-0.6, -0.3)  # ends lowest


def test_a_contradiction_by_a_measure_must_hold_for_all_at_once():
    slight = between(-0.3, 0.08)
    assert tracks(a=slight).outcome is Outcome.NOT_SUPPORTED
    assert tracks(a=slight, b=between(0.5, 0.7)).outcome is Outcome.UNDECIDED


@pytest.mark.parametrize("excess", [-0.01, 0.01])
def test_a_contradiction_counts_all_measures(excess):
    """On Fisher's scale: widened for three measures the interval just reaches 0.1, or not."""
    normal = NormalDist()
    factor = normal.inv_cdf(1 - 0.025 / 3) / normal.inv_cdf(0.975)
    middle, half = math.atanh(0.1) - 0.2 * factor, 0.2 * (1 + excess)
    low = Estimate(*(math.tanh(x) for x in (middle, middle - half, middle + half)), 30)
    high = between(0.5, 0.7)
    outcome = Outcome.UNDECIDED if excess > 0 else Outcome.NOT_SUPPORTED
    assert tracks(a=low, b=high, c=high).outcome is outcome
    assert tracks(a=low, b=high).outcome is Outcome.NOT_SUPPORTED
    assert tracks(a=low, b=high, c=high, d=high).outcome is Outcome.UNDECIDED


def test_a_measure_without_interval_leaves_the_claim_undecided():
    nan = Estimate(0.5, math.nan, math.nan, 30)
    verdict = tracks(a=between(0.5, 0.7), b=nan)
    assert verdict.outcome is Outcome.UNDECIDED and verdict.effect is nan
    # It hides no contradiction by another.
    assert tracks(a=nan, b=between(-0.7, -0.5)).outcome is Outcome.NOT_SUPPORTED


def test_correlations_count_configurations():
    text = tracks(a=between(0.5, 0.7, 30))._repr_mimebundle_()["text/plain"]
    assert "(95 % interval, 30 configurations); here." in text


@pytest.mark.parametrize("correlations", [{}, {"a": NO_SEED}, {"a": Estimate(1.2, 1, 1.3, 9)}])
def test_tracks_generalisation_refuses_what_is_no_correlation(correlations):
    with pytest.raises(InputError, match="correlations must hold numbers between -1 and 1"):
        claims.tracks_generalisation(correlations, scope="")


# ---------------------------------------------------------------- display and ledger


def test_verdict_shows_claim_test_outcome_and_numbers():
    verdict = claims.width_exponent("C2", between(-0.52, -0.48, 7), scope="digits <2 layers>")
    data, _ = DisplayFormatter().format(verdict)
    for kind in ("text/html", "text/markdown"):
        for words in (
            CLAIMS["C2"].statement,
            "supported",
            "[−0.520,\N{NO-BREAK SPACE}−0.480]",
            "7 seeds",
        ):
            assert words in data[kind]
    assert "claim-supported" in data["text/html"]
    assert "digits &lt;2 layers&gt;" in data["text/html"]
    assert "In full" not in data["text/html"]
    assert "In full" in other_starts(a=HIGH)._repr_mimebundle_()["text/html"]
    assert data[MIME]["effect"] == pytest.approx(-0.5)


def test_verdict_is_strict_json_even_without_an_interval():
    row = claims.no_growth(ONE_SEED, scope="").to_dict()
    assert json.loads(json.dumps(row, allow_nan=False))["low"] is None
    assert row["effect"] == 0.7


@pytest.fixture
def chapters(tmp_path):
    """A folder of executed notebooks, their cells run by a real IPython shell."""

    def save(name: str, *verdicts: Verdict) -> None:
        formatter = DisplayFormatter()
        cells = [nbformat.v4.new_markdown_cell("# Title", id="title")]
        for i, verdict in enumerate(verdicts):
            data, metadata = formatter.format(verdict)
            output = nbformat.v4.new_output("execute_result", data, metadata=metadata)
            stream = nbformat.v4.new_output("stream", text="noise")
            cells.append(nbformat.v4.new_code_cell("verdict", outputs=[stream, output], id=f"v{i}"))
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / f"{name}.ipynb")

    save("width", claims.width_exponent("C2", between(-0.52, -0.48), scope="a"),
         claims.no_growth(between(1, 1.2), scope="b"))  # fmt: skip
    save("sgd", claims.no_growth(ONE_SEED, scope="c"))
    save("anatomy")
    return tmp_path


def test_ledger_holds_every_verdict_and_every_claim(chapters):
    table = claims.ledger(chapters)
    assert table.id.tolist() == sorted(table.id)
    assert set(table.id) == set(CLAIMS)
    tested = table[table.chapter.notna()]
    assert list(zip(tested.id, tested.chapter, tested.verdict, strict=True)) == [
        ("C2", "width", "supported"),
        ("C4", "sgd", "undecided"),
        ("C4", "width", "undecided"),
    ]
    assert set(table[table.chapter.isna()].verdict) == {"not yet tested"}
    c2 = table[table.id == "C2"].iloc[0]
    assert (c2.low, c2.high, c2.seeds, c2.scope) == (-0.52, -0.48, 10, "a")
    assert table.low[table.chapter == "sgd"].isna().all()


def test_ledger_of_an_empty_folder_has_no_tested_claim(tmp_path):
    table = claims.ledger(tmp_path)
    assert table.id.tolist() == sorted(CLAIMS)
    assert set(table.verdict) == {"not yet tested"}


def test_ledger_refuses_a_folder_that_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"folder of executed notebooks.*run the other chapters"):
        claims.ledger(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b'{"cells": [1]}', b"\xff\xfe"])
def test_ledger_names_the_notebook_that_is_corrupt(chapters, content):
    (chapters / "sgd.ipynb").write_bytes(content)
    with pytest.raises(InputError, match=r"sgd\.ipynb cannot be read.*run that chapter again"):
        claims.ledger(chapters)


def test_generalises_needs_every_ratio_below_its_margin() -> None:
    low, wide, high = Estimate(0.9, 0.8, 1.0, 5), Estimate(1, 0.8, 1.3, 5), Estimate(2, 1.5, 2.5, 5)
    assert claims.generalises({"a": low}, scope="x").outcome == Outcome.SUPPORTED
    undecided = claims.generalises({"a": low, "b": wide}, scope="x")
    assert undecided.outcome == Outcome.UNDECIDED and undecided.effect == wide
    against = claims.generalises({"a": low, "b": high}, scope="x").of_figure("2 a")
    assert against.outcome == Outcome.NOT_SUPPORTED and against.to_dict()["figure"] == "2 a"
    nan = Estimate(1.0, math.nan, math.nan, 1)
    assert claims.generalises({"a": nan}, scope="x").outcome == Outcome.UNDECIDED
    with pytest.raises(InputError, match="at least one ratio"):
        claims.generalises({}, scope="x")


def test_generalises_shows_the_ratio_that_reaches_highest() -> None:
    wide, high, none = between(0.2, 1.05), between(1.0, 1.04), Estimate(1.0, math.nan, math.nan, 1)
    assert claims.generalises({"a": high, "b": wide}, scope="").effect == wide
    assert claims.generalises({"a": none, "b": wide}, scope="").effect is none
    mixed = claims.generalises({"a": between(1.2, 1.3), "b": none, "c": wide}, scope="")
    assert mixed.outcome is Outcome.NOT_SUPPORTED
