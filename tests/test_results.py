"""Results that come with the book: found by configuration, exact, whole, and still true."""

import json
import random
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
import pytest
import torch

from implreg.errors import InputError
from implreg.runs import run_all
from implreg.runs.results import Kept, canonical, read_results, write_results
from implreg.settings import RECORD, RESULTS, results_folder

BOOK = sorted((Path(__file__).parent.parent / "book" / "results").glob("*.parquet"))


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Config:
    log: str
    seed: int
    inner: Inner = Inner()
    epochs: tuple[int, ...] = (0, 1)


def run(config: Config) -> pd.DataFrame:
    with open(config.log, "a", encoding="utf-8") as file:
        file.write("x")
    odd = {"late": True} if config.seed % 2 else {}
    return pd.DataFrame([{"epoch": e, "value": config.seed / 3 + e} | odd for e in config.epochs])


@pytest.fixture
def worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("implreg.runs.results.WORTH_KEEPING", 0.0)


@pytest.fixture
def configs(tmp_path: Path) -> list[Config]:
    return [Config(str(tmp_path / "log"), seed) for seed in range(3)]


def runs(configs: list[Config]) -> int:
    return len(Path(configs[0].log).read_text())


def test_written_results_are_used_whatever_the_code(
    worth: None,
    configs: list[Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "results"
    monkeypatch.setenv(RECORD, str(folder))
    first = run_all(run, configs, workers=1, store=tmp_path / "store")
    assert "came with the book" not in capsys.readouterr().out
    monkeypatch.delenv(RECORD)
    monkeypatch.setenv(RESULTS, str(folder))
    more = Config(configs[0].log, 7)
    again = run_all(run, [*configs, more], workers=1)
    pd.testing.assert_frame_equal(
        again[again.seed < 7].reset_index(drop=True), first, check_exact=True
    )
    assert runs(configs) == 4
    told = capsys.readouterr().out
    assert "3 of 4 runs came with the book" in told and "edited since" not in told
    (file,) = folder.glob("*.parquet")
    kept = read_results(file)
    write_results(file, [Kept(k.config, k.table, k.seconds, k.date, k.origin | {"code": "other"})
                         for k in kept])  # fmt: skip
    run_all(run, configs, workers=1)
    assert runs(configs) == 4
    assert "edited since" in capsys.readouterr().out
    monkeypatch.setenv(RESULTS, "")
    run_all(run, configs, workers=1)
    assert runs(configs) == 7


def test_results_are_merged_by_configuration(
    worth: None, configs: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results"
    monkeypatch.setenv(RECORD, str(folder))
    run_all(run, configs[:2], workers=1)
    run_all(run, configs[1:], workers=1)
    (file,) = folder.glob("*.parquet")
    assert [k.config["seed"] for k in read_results(file)] == [0, 1, 2]
    assert file.stem == f"{__name__}.run"
    readable = pd.read_parquet(file)
    assert {"seed", "epoch", "value"} <= set(readable)
    monkeypatch.delenv(RECORD)
    monkeypatch.setenv(RESULTS, str(folder))
    assert results_folder() == folder


def test_short_grids_are_not_recorded(
    configs: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RECORD, str(tmp_path / "results"))
    run_all(run, configs, workers=1)
    assert not (tmp_path / "results").exists()


def test_every_type_comes_back(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "whole": np.array([1, 2**53], dtype=np.int64),
            "real": [0.1, np.nan],
            "flag": [True, False],
            "word": ["a", "b"],
        }
    )
    other = pd.DataFrame({"real": [1 / 3], "new": [np.float32(0.1)]})
    kept = [
        Kept({"seed": 0, "epochs": [0, 1]}, table, 1.5, "2026-01-01T00:00:00+00:00", {"code": "a"}),
        Kept({"seed": 1, "epochs": [0]}, other, 2.5, "2026-01-02T00:00:00+00:00", {"code": "b"}),
    ]
    write_results(tmp_path / "x.run.parquet", kept)
    back = read_results(tmp_path / "x.run.parquet")
    for one, two in zip(kept, back, strict=True):
        pd.testing.assert_frame_equal(one.table, two.table, check_exact=True)
        assert (one.config, one.seconds, one.date, one.origin) == (
            two.config, two.seconds, two.date, two.origin
        )  # fmt: skip


def test_a_damaged_file_is_told(
    worth: None, configs: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RECORD, str(tmp_path))
    run_all(run, configs, workers=1)
    monkeypatch.delenv(RECORD)
    (file,) = tmp_path.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    monkeypatch.setenv(RESULTS, str(tmp_path))
    with pytest.raises(InputError, match=r"is damaged .* --results ignore"):
        run_all(run, configs, workers=1)


# ---------------------------------------------------------------- those of the book

LOOSE = 0.1  # root mean square, of trained networks, whose rounding differs between processors
TIGHT = 1e-6


def config_of(experiment: Any, told: dict[str, Any]) -> Any:
    """The configuration that a mapping was made from."""
    kind = next(iter(get_type_hints(experiment).values()))  # of the first parameter

    def built(kind: Any, value: Any) -> Any:
        if isinstance(value, dict):
            hints = get_type_hints(kind)
            return kind(**{name: built(hints[name], v) for name, v in value.items()})
        if isinstance(value, list):
            return tuple(built(kind.__args__[0], v) for v in value)
        return value

    return built(kind, told)


@pytest.mark.parametrize("file", BOOK, ids=[file.stem for file in BOOK])
def test_a_random_sample_of_the_books_results_is_computed_again(file: Path) -> None:
    """Other runs every day, so that in time all are seen; those that take seconds, not minutes."""
    module, name = file.stem.rsplit(".", 1)
    experiment = getattr(import_module(module), name)
    every = read_results(file)
    quick = sorted(every, key=lambda kept: kept.seconds)[: max(1, len(every) // 4)]
    seed = pd.Timestamp.now("UTC").strftime("%Y-%m-%d")
    kept = random.Random(f"{seed} {file.stem}").choice(quick)
    config = config_of(experiment, kept.config)
    assert canonical(asdict(config)) == canonical(json.loads(canonical(kept.config)))
    # Alone on all cores or one of many on one: in training, what another number of threads rounds
    # otherwise grows beyond all bounds. Which it was is not kept.
    try:
        same(kept.table, on_threads(1, experiment, config))
    except AssertionError:
        same(kept.table, on_threads(kept.origin["hardware"]["cores"], experiment, config))


def on_threads(threads: int, experiment: Any, config: Any) -> pd.DataFrame:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        return experiment(config)
    finally:
        torch.set_num_threads(before)


def same(kept: pd.DataFrame, again: pd.DataFrame) -> None:
    assert list(again) == list(kept) and len(again) == len(kept)
    trained = "epoch" in again or "target_loss" in again or "loss" in again
    for column in again:
        one, two = kept[column], again[column]
        number = pd.api.types.is_numeric_dtype(two) and not pd.api.types.is_bool_dtype(two)
        if not number or (not trained and pd.api.types.is_integer_dtype(two)):
            assert one.tolist() == two.tolist(), column
            continue
        one, two = one.to_numpy(float), two.to_numpy(float)
        scale = float(np.nanmax(np.abs(two))) if np.isfinite(two).any() else 0.0
        if trained:
            fine = np.isfinite(two)  # or missing, or infinite as the loss of a diverged run
            assert np.array_equal(one[~fine], two[~fine], equal_nan=True), column
            off, size = (float(np.square(x[fine]).sum()) for x in (one - two, two))
            assert off <= LOOSE**2 * size + 1e-12, column
        else:
            np.testing.assert_allclose(one, two, rtol=TIGHT, atol=TIGHT * scale, err_msg=column)


def test_the_books_results_are_small() -> None:
    assert sum(file.stat().st_size for file in BOOK) < 3_000_000
