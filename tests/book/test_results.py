"""Results that come with the book: found by configuration, exact, whole, and still true."""

import json
import math
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
import pytest
import torch
from _processes import PROCESSES, small_files
from implreg_book.runs import Store, run_all
from implreg_book.runs.keys import Origin
from implreg_book.runs.results import Kept, canonical, read_results, record, write_results
from implreg_book.settings import RECORD, RESULTS, results_folder

from implreg.errors import InputError

BOOK = sorted((Path(__file__).parents[2] / "book" / "results").glob("*.parquet"))


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
    monkeypatch.setattr("implreg_book.runs.results.WORTH_KEEPING", 0.0)


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


def record_often(folder: str, first: int, ready: Any) -> None:
    """Record runs of one experiment, a few at a time, as soon as all others are ready, too."""
    os.environ[RECORD] = folder
    ready.wait()
    for seed in range(first, first + 5):
        record(Origin("x.run", "", {}, ""), [(Config("", seed), pd.DataFrame([{"a": 1}]), 99, "")])


def test_processes_that_record_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    ready = PROCESSES.Barrier(4)
    every = [
        PROCESSES.Process(target=record_often, args=(str(folder), first, ready))
        for first in range(0, 20, 5)
    ]
    for process in every:
        process.start()
    for process in every:
        process.join()
    assert [process.exitcode for process in every] == [0] * 4
    (file,) = folder.iterdir()  # and no lock, no part
    assert sorted(kept.config["seed"] for kept in read_results(file)) == list(range(20))


def test_short_grids_are_not_recorded(
    configs: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RECORD, str(tmp_path / "results"))
    run_all(run, configs, workers=1)
    assert not (tmp_path / "results").exists()


def test_results_that_their_disk_does_not_take_are_named_and_runs_are_kept(
    tmp_path: Path, worth: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RECORD, str(tmp_path / "results"))
    configs = [Config(str(tmp_path / "log"), seed, epochs=tuple(range(100))) for seed in range(16)]
    with ThreadPoolExecutor(1) as thread, small_files(6_000), pytest.raises(OSError) as caught:
        run_all(run, configs, store=tmp_path / "store", executor=thread)
    assert Path(caught.value.filename).parent == tmp_path / "results"
    assert not [*(tmp_path / "results").iterdir()]
    assert len(Store(tmp_path / "store").entries()) == 16


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

# Roundings, which differ between processors, grow in training: single gaps move, a prediction more
# or fewer is left. The size of a column, its root mean square, stays.
LOOSE = 0.25  # of the size
SHARE = 0.02  # of all samples or pairs
TIGHT = 1e-6  # of what is not trained, of each number
TRAINED = {"epoch", "phase", "target_loss", "loss", "reached"}  # columns that tell of training
TRAINING = {"sgd", "target_loss", "target_losses"}  # parameters that do
ORDERED = 1e-4  # of a ratio over few switches: rounding alone tells which of two came first


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


@pytest.mark.pages
@pytest.mark.parametrize("file", BOOK, ids=[file.stem for file in BOOK])
def test_a_random_sample_of_the_books_results_is_computed_again(file: Path) -> None:
    """One of the quickest quarter, another whenever the file is another."""
    module, name = file.stem.rsplit(".", 1)
    experiment = getattr(import_module(module), name)
    every = read_results(file)
    quick = sorted(every, key=lambda kept: kept.seconds)[: max(1, len(every) // 4)]
    kept = random.Random(file.read_bytes()).choice(quick)
    config = config_of(experiment, kept.config)
    assert canonical(asdict(config)) == canonical(json.loads(canonical(kept.config)))
    # Alone on all cores or one of many on one: in training, what another number of threads rounds
    # otherwise grows beyond all bounds. Which it was is not kept, but how many there are tells.
    cores = kept.origin["hardware"]["cores"]
    likely, other = (1, cores) if len(every) >= cores else (cores, 1)
    trained = not TRAINING.isdisjoint(kept.config) or not TRAINED.isdisjoint(kept.table)
    if trained and name == "windows":
        # What a stretch of a few switches holds is another for the least change of the network.
        again = on_threads(likely, experiment, config)
        named = ["way", "measure", "output", "phase"]
        assert again[named].equals(kept.table[named]) and list(again) == list(kept.table)
        return
    try:
        same(kept.table, on_threads(likely, experiment, config), trained)
    except AssertionError:
        same(kept.table, on_threads(other, experiment, config), trained)


def on_threads(threads: int, experiment: Any, config: Any) -> pd.DataFrame:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        return experiment(config)
    finally:
        torch.set_num_threads(before)


def same(kept: pd.DataFrame, again: pd.DataFrame, trained: bool) -> None:
    assert list(again) == list(kept) and len(again) == len(kept)
    for column, start in (("epoch", 0), ("phase", "before")):
        if column in again:
            assert_close(kept[kept[column] == start], again[again[column] == start])
    (assert_alike if trained else assert_close)(kept, again)


def assert_close(kept: pd.DataFrame, again: pd.DataFrame) -> None:
    """Every number is the same but for rounding."""
    for column in again:
        one, two = kept[column], again[column]
        if not pd.api.types.is_float_dtype(two):
            assert one.tolist() == two.tolist(), column
            continue
        scale = float(two[np.isfinite(two)].abs().max()) if np.isfinite(two).any() else 0.0
        tight = ORDERED if column.startswith("variance_ratio") else TIGHT
        np.testing.assert_allclose(one, two, rtol=tight, atol=tight * scale, err_msg=column)


def assert_alike(kept: pd.DataFrame, again: pd.DataFrame) -> None:
    """Names are the same, and numbers as large."""
    for column in again:
        if not pd.api.types.is_numeric_dtype(again[column]):
            assert kept[column].tolist() == again[column].tolist(), column
            continue
        one, two = (table[column].to_numpy(float) for table in (kept, again))
        fine = np.isfinite(two)  # or missing, or infinite as the loss of a diverged run
        assert np.array_equal(one[~fine], two[~fine], equal_nan=True), column
        share = column.endswith("_error") or column == "leaves_prediction"
        sizes = [math.sqrt(np.square(x[fine]).sum() / len(x)) for x in (one, two)]
        few = SHARE if share else 1e-12
        assert sizes[0] == pytest.approx(sizes[1], rel=LOOSE, abs=few), column


def test_the_books_results_are_small() -> None:
    assert sum(file.stat().st_size for file in BOOK) < 4_000_000
