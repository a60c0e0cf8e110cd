"""Each benchmark runs with tiny sizes and prints its tables; nothing here looks at times."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
TABLES = {
    "architectures": ["Compared with the module itself", "resnet18", "Refused", "hardswish"],
    "trace_speed": [
        "trace against", "forward pass at the breakpoints", "layer-wise floor", "jvp", "regioncam",
        "one by one", "sampling at 1,001 points",
    ],
    "theory_speed": ["all predictions", "fluctuation", "d2K/dsdt", "autodiff", "apart"],
    "training_speed": ["train s", "Ensemble s", "speed-up", "8-64-64-10", "apart"],
    "runs_speed": ["processes, kept", "read back", "loky", "joblib", "speed-up"],
    "trace_memory": ["peak / bound", "256MB", "10 segments", "2,000 units"],
    "convolutional_paths": ["values apart", "resnet(10)", "vgg(3)"],
    "explorer_speed": ["redraw / frame", "95 % below", "redraw / ir.trace"],
}  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All benchmarks, started at once."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = {
        name: subprocess.Popen(
            [sys.executable, str(FOLDER / f"{name}.py"), "--quick"],
            cwd=tmp_path_factory.mktemp(name), env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for name in TABLES
    }  # fmt: skip
    yield started
    for process in started.values():
        process.kill()


@pytest.mark.parametrize("name", TABLES)
def test_benchmark_runs(name: str, running: dict[str, subprocess.Popen[str]]) -> None:
    out, errors = running[name].communicate()
    if name == "explorer_speed" and "Chromium and its driver are needed" in errors:
        assert os.environ.get("IMPLREG_REQUIRE_BROWSER") != "1", errors
        pytest.skip(errors.strip())
    if name == "architectures" and "timm and torchvision are needed" in errors:
        pytest.skip(errors.strip())
    assert running[name].returncode == 0, errors
    for words in TABLES[name]:
        assert words in out
    assert "NO" not in out.split()  # bounded and free traces have the same units


def test_every_benchmark_is_tested_and_says_how_to_read_it() -> None:
    scripts = {file.stem: file for file in FOLDER.glob("[!_]*.py")}
    assert scripts.keys() == TABLES.keys()
    for name, file in scripts.items():
        assert f"python benchmarks/{name}.py --quick" in file.read_text()
