"""Many runs: order, store, resumption."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from implreg import runs
from implreg.errors import InputError


@dataclass(frozen=True)
class Config:
    number: int
    log: str
    name: str = "a"
    ignored: tuple[int, ...] = (1, 2)


def square(config: Config) -> pd.DataFrame:
    with Path(config.log).open("a") as log:
        log.write(f"{config.number}\n")
    return pd.DataFrame({"square": [config.number**2] * 2})


def test_rows_come_in_the_order_of_the_configurations(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    table = runs.run_all(square, [Config(n, log) for n in (3, 1, 2)])
    assert table.square.tolist() == [9, 9, 1, 1, 4, 4]
    assert table.number.tolist() == [3, 3, 1, 1, 2, 2]
    assert set(table.columns) == {"square", "number", "log", "name"}


def test_kept_runs_are_not_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runs.STORE, str(tmp_path / "store"))
    log = tmp_path / "log"
    first = runs.run_all(square, [Config(n, str(log)) for n in (1, 2)])
    again = runs.run_all(square, [Config(n, str(log)) for n in (1, 2, 3)])
    assert again[:4].equals(first)
    assert sorted(log.read_text().split()) == ["1", "2", "3"]
    monkeypatch.setattr(runs, "code_version", lambda: "another version of the package")
    runs.run_all(square, [Config(1, str(log))])
    assert sorted(log.read_text().split()) == ["1", "1", "2", "3"]


def test_damaged_entries_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(runs.STORE, str(tmp_path / "store"))
    log = tmp_path / "log"
    first = runs.run_all(square, [Config(1, str(log))])
    (entry,) = (tmp_path / "store").rglob("output.pkl")
    entry.write_bytes(entry.read_bytes()[:40])
    again = runs.run_all(square, [Config(1, str(log))])
    assert again.equals(first)
    assert log.read_text().split() == ["1", "1"]


def test_interrupted_runs_are_resumed(tmp_path: Path) -> None:
    """A real process, killed in the middle of its runs."""
    script = tmp_path / "grid.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from dataclasses import dataclass
            from pathlib import Path
            import pandas as pd
            from implreg import runs

            @dataclass(frozen=True)
            class Config:
                number: int

            def slow(config):
                with Path("log").open("a") as log:
                    log.write(f"{config.number}\\n")
                time.sleep(0.2)
                return pd.DataFrame({"twice": [2 * config.number]})
            """
        )
    )
    main = (
        "import grid; configs = [grid.Config(n) for n in range(12)]; "
        "print(grid.runs.run_all(grid.slow, configs).twice.sum())"
    )
    log = tmp_path / "log"
    environment = os.environ | {runs.STORE: str(tmp_path / "store"), "PYTHONPATH": str(tmp_path)}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", main], cwd=tmp_path, env=environment,
                                stdout=subprocess.PIPE, text=True,
                                start_new_session=True)  # fmt: skip

    process = start()
    while not log.exists() or len(log.read_text().split()) < 7:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert start().communicate()[0].split() == [str(2 * sum(range(12)))]
    begun = [int(line) for line in log.read_text().split()]
    assert set(begun) == set(range(12))
    workers = 2 * (os.cpu_count() or 1)  # joblib hands out tasks ahead of time
    assert len(begun) <= 12 + workers


def test_refuses_an_empty_grid() -> None:
    with pytest.raises(InputError, match="configs must hold at least one"):
        runs.run_all(square, [])
