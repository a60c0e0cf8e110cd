"""The command `trace`: what it writes and says, in this process and in real ones."""

import importlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from _processes import as_in_a_terminal, wait_until
from torch import nn

import implreg
from implreg import commands
from implreg.commands import OF_THE_BOOK
from implreg.figures import plot_path, plot_samples
from implreg.files import read_network
from implreg.measures import summary
from implreg.sampled import PLAIN, Samples, sample

# As torchvision's: strides, batch norm, overlapping max pooling, a shortcut, many outputs.
RESIDUAL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.pool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(8, 200)

    def forward(self, x):
        x = self.stem(x)
        out = self.norm(self.conv(x))
        out += x
        return self.fc(torch.flatten(self.pool(self.relu(out)), 1))

def build():
    torch.manual_seed(0)
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return net.eval()
"""
# A network that gives other outputs from its third call on.
MOODS = """
import implreg, torch
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * torch.rand(())

def build():
    return Net(*implreg.mlp(3, 20, 2, seed=0))
"""

ROOT = Path(__file__).resolve().parents[2]
FILES = ["path.png", "path.svg", "switches.csv", "trace.npz"]


class Done(NamedTuple):
    """How a call of the command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with networks and paths, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.save(implreg.mlp(64, 20, 20, 10, seed=0), "digits.pt")
    net = implreg.mlp(3, 20, 2, seed=0)
    torch.save(net, "small.pt")
    torch.save(net.state_dict(), "state.pt")
    Path("networks_of_a_user.py").write_text(
        "import implreg\ndef build(): return implreg.mlp(3, 20, 2, seed=1)\n"
    )
    random = np.random.default_rng(0)
    np.savez("paths.npz", x0=random.normal(size=(3, 3)), x1=random.normal(size=(3, 3)))
    np.savez("points.npz", points=random.normal(size=(4, 3)))
    return tmp_path


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Call the command line in this process."""

    def run(words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["implreg", *words.split()])
        code = commands.main()
        return Done(code, *capfd.readouterr())

    return run


def environment() -> dict[str, str]:
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def process(words: str, **options: Any) -> Done:
    """Call the command line in a process of its own."""
    program = [sys.executable, "-m", "implreg", *words.split()]
    done = subprocess.run(program, capture_output=True, text=True, env=environment(), **options)
    return Done(done.returncode, done.stdout, done.stderr)


def results(out: str = "trace") -> list[str]:
    return sorted(path.name for path in Path(out).iterdir())


def paths() -> tuple[torch.Tensor, torch.Tensor]:
    with np.load("paths.npz") as arrays:
        return torch.from_numpy(arrays["x0"]), torch.from_numpy(arrays["x1"])


def test_a_network_along_pairs_of_a_data_set(folder: Path) -> None:
    done = process("trace digits.pt --data digits --kind different --count 5 --seed 3 --plot 4")
    assert done.code == 0, done.err
    assert results() == FILES
    drawn = implreg.pairs(implreg.load("digits"), kind="different", count=5, seed=3)
    expected = implreg.trace(implreg.mlp(64, 20, 20, 10, seed=0), drawn)
    kept = implreg.Trace.load(Path("trace/trace.npz"))
    for name in ("t", "gaps"):  # another process may have other threads, which round differently
        torch.testing.assert_close(getattr(kept, name), getattr(expected, name), rtol=0, atol=1e-12)
    assert len(pd.read_csv("trace/switches.csv")) == len(expected.t)
    assert ElementTree.parse("trace/path.svg").getroot().tag.endswith("svg")
    assert Path("trace/path.svg").read_text("utf-8") == plot_path(kept[4]).svg
    assert Path("trace/path.png").read_bytes().startswith(b"\x89PNG")
    for name, value in summary(expected, drawn).items():
        assert re.search(rf"^{name.replace('_', ' ')} +{value:.6g}$", done.out, re.MULTILINE)
    assert f"5 paths with {len(expected.t):,} switches: reading" in done.out
    assert "trace has trace.npz, switches.csv, path.svg, path.png" in done.out
    assert "tracing 5 paths" in done.err and "Traceback" not in done.err


def test_a_state_dict_along_paths_of_a_file(folder: Path) -> None:
    words = "trace state.pt --network networks_of_a_user:build --paths paths.npz --out a/b"
    done = process(f"{words} --memory 64MB")
    assert done.code == 0, done.err
    assert results("a/b") == FILES
    expected = implreg.trace(implreg.mlp(3, 20, 2, seed=0), paths())
    assert torch.equal(implreg.Trace.load(Path("a/b/trace.npz")).t, expected.t)
    assert "edge margin" not in done.out


@pytest.mark.parametrize("closed", [False, True])
def test_a_polyline_open_and_closed(folder: Path, call: Callable[..., Done], closed: bool) -> None:
    done = call("trace small.pt --paths points.npz" + " --closed" * closed)
    assert done.code == 0, done.err
    with np.load("points.npz") as arrays:
        points = torch.from_numpy(arrays["points"])
    line = implreg.polyline(points, closed=closed)
    expected = implreg.trace(implreg.mlp(3, 20, 2, seed=0), line)
    assert torch.equal(implreg.Trace.load(Path("trace/trace.npz")).t, expected.t)
    assert "1 path with" in done.out


def test_some_outputs_of_many(folder: Path, call: Callable[..., Done]) -> None:
    torch.save(implreg.mlp(64, 20, 10, seed=0), "ten.pt")
    done = call("trace ten.pt --data digits --count 2 --outputs 7,1")
    assert done.code == 0, done.err
    found = implreg.Trace.load(Path("trace/trace.npz"))
    assert found.outputs == (7, 1) and found.gaps.shape[1] == 2
    assert "edge margin" not in done.out and "gap deviation" in done.out
    done = call("trace ten.pt --data digits --outputs 7,10")
    assert done.code == 1 and "outputs must be a list of whole numbers from 0 to 9" in done.err


def test_samples_take_the_shape_that_a_convolution_needs(
    folder: Path, call: Callable[..., Done]
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))
    torch.save(net, "conv.pt")
    done = call("trace conv.pt --data digits --shape 1,8,8 --count 2 --dtype float32")
    assert done.code == 0, done.err
    assert len(implreg.Trace.load(Path("trace/trace.npz"))) == 2


# Sampled


def printed(samples: Samples) -> list[tuple[str, ...]]:
    """Rows of the table: name, the released program's estimate, the one without its traits."""
    released = samples.estimate().per_unit_length().summary()
    corrected = samples.estimate(PLAIN).per_unit_length().summary()
    return [
        (name.replace("_", " "), f"{value:.6g}", f"{corrected[name]:.6g}")
        for name, value in released.items()
    ]


def test_a_network_is_sampled_at_some_positions(folder: Path, call: Callable[..., Done]) -> None:
    words = "trace small.pt --paths paths.npz --plot 1"
    assert call(words).code == 0
    done = call(f"{words} --points 50")
    assert done.code == 0, done.err
    assert results() == ["path.png", "path.svg", "samples.npz"]  # the exact trace is replaced
    net = implreg.mlp(3, 20, 2, seed=0)
    x0, x1 = paths()
    expected = sample(net, (x0, x1), points=50)
    with np.load("trace/samples.npz") as kept:
        for name in ("t", "slopes", "slopes_with_offsets", "counts", "lengths"):
            assert np.array_equal(kept[name], getattr(expected, name)), name
        values = kept["values"]
    t = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None, None]
    own = net.double()((1 - t) * x0 + t * x1).transpose(0, 1)
    np.testing.assert_allclose(values, own.detach(), rtol=0, atol=1e-12)
    rows = [tuple(re.split(r"  +", line)) for line in done.out.splitlines()[1:7]]
    assert rows == printed(expected)
    assert rows[5][1] != rows[5][2]  # the two estimators differ here
    assert "sampling 3 paths at 50 positions" in done.err
    assert f"at 50 positions, with {int(expected.counts.sum())} switches" in done.out
    drawn = Path("trace/path.svg").read_text("utf-8")
    assert drawn == plot_samples(expected, torch.from_numpy(values), 1).svg
    assert "sampled at 50 positions" in drawn


def test_a_residual_network_of_many_outputs_is_sampled_in_little_memory(folder: Path) -> None:
    Path("residual.py").write_text(RESIDUAL)
    sys.path.insert(0, str(folder))
    try:
        net = importlib.import_module("residual").build()
    finally:
        sys.path.remove(str(folder))
    torch.save(net.state_dict(), "residual.pth")
    random = np.random.default_rng(0)
    x0, x1 = random.normal(size=(2, 1, 3, 16, 16))
    np.savez("images.npz", x0=x0, x1=x1)
    words = "trace residual.pth --network residual:build --paths images.npz --points 30"
    done = process(f"{words} --memory 8MB --out few")
    assert done.code == 0, done.err
    assert results("few") == ["path.png", "path.svg", "samples.npz"]
    ends = torch.from_numpy(x0), torch.from_numpy(x1)
    expected = sample(net, ends, points=30, memory="8MB")
    with np.load("few/samples.npz") as kept:
        assert np.array_equal(kept["counts"], expected.counts)
        np.testing.assert_allclose(kept["slopes"], expected.slopes, rtol=0, atol=1e-10)
        t = torch.linspace(0, 1, 30, dtype=torch.float64).view(-1, 1, 1, 1)
        own = net.double()((1 - t) * ends[0] + t * ends[1])
        np.testing.assert_allclose(kept["values"][0], own.detach(), rtol=0, atol=1e-10)
    assert Path("few/path.svg").stat().st_size < 200_000  # not a line for each of 200 outputs
    told = process(f"{words} --memory 1kB")
    assert told.code == 1 and told.err.splitlines()[-1].startswith("Error: memory must be at least")


def test_pairs_of_a_data_set_are_sampled(folder: Path, call: Callable[..., Done]) -> None:
    done = call("trace digits.pt --data digits --count 4 --seed 2 --points 20 --dtype float32")
    assert done.code == 0, done.err
    drawn = implreg.pairs(implreg.load("digits"), kind="same", count=4, seed=2)
    net = implreg.mlp(64, 20, 20, 10, seed=0)
    expected = sample(net, drawn, points=20, dtype=torch.float32)
    with np.load("trace/samples.npz") as kept:
        assert np.array_equal(kept["counts"], expected.counts)
        assert kept["slopes"].dtype == np.float32


def test_samples_of_a_network_that_changes_are_refused(folder: Path) -> None:
    Path("moods.py").write_text(MOODS)
    torch.save(implreg.mlp(3, 20, 2, seed=0).state_dict(), "moods.pt")
    done = process("trace moods.pt --network moods:build --paths paths.npz --points 9")
    assert done.code == 1
    assert "away from the network's own" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert results() == []


# Without and with the book


def without_the_book(words: str) -> Done:
    """A call where neither the book nor any library of its is installed."""
    code = (
        "import runpy, sys\n"
        "for name in ('papermill', 'implreg_book', 'distributed', 'sphinx', 'anywidget'):\n"
        "    sys.modules[name] = None\n"
        "import importlib.metadata as metadata\n"
        "metadata.entry_points = lambda **_: ()\n"
        "runpy.run_module('implreg')"
    )
    program = [sys.executable, "-c", code, *words.split()]
    done = subprocess.run(program, capture_output=True, text=True, env=environment())
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("points", ["", " --points 9"])
def test_an_inner_module_is_traced_by_its_name(
    folder: Path, call: Callable[..., Done], points: str
) -> None:
    done = call("trace small.pt --paths paths.npz --output 1" + points)
    assert done.code == 0, done.err
    with np.load(f"trace/{'samples' if points else 'trace'}.npz") as held:
        assert held["slopes"].shape[-1] == 20  # units of the hidden layer
    assert "20  relu" in call("read small.pt --shape 3 --output 1").out
    done = call("trace small.pt --paths paths.npz --output tail" + points)
    assert done.code != 0 and "got 'tail', but net returns one tensor" in done.err


def test_the_instrument_needs_nothing_of_the_book(folder: Path) -> None:
    done = without_the_book("trace small.pt --paths paths.npz")
    assert done.code == 0, done.err
    assert results() == FILES
    listed = without_the_book("--help")
    assert listed.code == 0
    assert re.findall(r"^  (\w+)  ", listed.out, re.MULTILINE) == ["data", "read", "trace"]
    for name in OF_THE_BOOK:
        needed = without_the_book(name)
        assert needed.code == 1
        assert needed.err == (
            f"Error: {name} needs the package of the book; install it from a checkout of the "
            f"project with pip install ./book.\n"
        )
    unknown = without_the_book("nothing")
    assert unknown.code == 2 and "No such command 'nothing'" in unknown.err


def test_the_book_adds_its_commands(call: Callable[..., Done]) -> None:
    book = pytest.importorskip("implreg_book.commands", reason="needs the book: pip install ./book")
    done = call("--help")
    names = re.findall(r"^  (\w+)  ", done.out, re.MULTILINE)
    assert names == sorted([*commands.COMMANDS, *book.COMMANDS])
    assert sorted(OF_THE_BOOK) == sorted(book.COMMANDS)


def test_lines_of_help_are_those_of_the_commands() -> None:
    book = pytest.importorskip("implreg_book.commands", reason="needs the book: pip install ./book")
    for name, (place, line) in (commands.COMMANDS | book.COMMANDS).items():
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        assert command.name == name
        assert " ".join(command.help.split("\n\n")[0].split()) == line


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom implreg.commands import main\nsys.argv[1:] = ['--help']\nmain()\n"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'papermill'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_read_shows_the_operations(folder: Path, call: Callable[..., Done]) -> None:
    done = call("read small.pt --shape 3")
    assert done.code == 0, done.err
    assert done.out == f"{implreg.read(read_network(Path('small.pt')), torch.zeros(3))}\n"
    for words, told in (
        ("read small.pt", "Missing option '--shape'"),
        ("read small.pt --shape 3,x", "must be whole numbers above 0"),
        ("read small.pt --shape 4", "net must take the samples, but fails on one of shape (4,)"),
        ("read nowhere.pt --shape 3", "nowhere.pt"),
    ):
        done = call(words)
        assert done.code in (1, 2) and told in done.err.splitlines()[-1], done.err


# Mistakes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "Missing argument 'FILE'"),
        ("small.pt", "give the paths with either --paths or --data."),
        ("small.pt --paths paths.npz --data digits", "give the paths with either"),
        ("small.pt --data cifar", "'cifar' is not one of 'digits'"),
        ("small.pt --data digits --kind some", "'some' is not one of 'same'"),
        ("small.pt --data digits --count 0", "0 is not in the range x>=1"),
        ("small.pt --data digits --seed x", "'x' is not a valid integer"),
        ("small.pt --data digits --dtype half", "'half' is not one of 'float64'"),
        ("small.pt --data digits --shape 8x8", "must be whole numbers above 0 with commas"),
        ("small.pt --data digits --shape 1,0,64", "must be whole numbers above 0"),
        ("small.pt --data digits --shape 1,28,28", "--shape must have the 64 features of digits"),
        ("small.pt --data digits --closed", "--closed is for the points of --paths"),
        ("small.pt --paths paths.npz --closed", "--closed is for points, but paths.npz holds x0"),
        ("small.pt --paths paths.npz --count 128", "--count is for --data"),
        ("small.pt --paths paths.npz --plot 3", "--plot must be a path from 0 to 2, got 3"),
        ("small.pt --paths points.npz --plot 1", "--plot must be a path from 0 to 0, got 1"),
        ("small.pt --paths paths.npz --plto 3", "No such option"),
        ("small.pt --paths paths.npz --points 2", "2 is not in the range x>=3"),
        ("small.pt --paths paths.npz --points many", "'many' is not a valid integer"),
        ("small.pt --paths points.npz --points 9", "points.npz holds points of a polyline"),
        ("small.pt --paths points.npz --points 9 --closed", "--closed is for polylines, which"),
        ("small.pt --paths paths.npz --outputs 1,x", "must be whole numbers with commas"),
        ("small.pt --paths paths.npz --points 9 --outputs 1", "--outputs is for exact paths"),
        ("small.pt --paths paths.npz --points 9 --plot 3", "--plot must be a path from 0 to 2"),
    ],
)
def test_wrong_usage_is_one_sentence(
    folder: Path, call: Callable[..., Done], words: str, told: str
) -> None:
    done = call(f"trace {words}")
    assert done.code == 2
    (sentence,) = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert told in sentence
    assert not Path("trace").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("none.pt --paths paths.npz", "got none.pt (No such file or directory)"),
        ("paths.npz --paths paths.npz", "got paths.npz; save it in such a format"),
        ("state.pt --paths paths.npz", "on the command line: --network module:callable"),
        ("state.pt --network build --paths paths.npz", "must have the form package.module:"),
        ("small.pt --network networks_of_a_user:build --paths paths.npz", "must be left out"),
        ("state.pt --network networks_of_a_user:none --paths paths.npz", "has no none; check"),
        ("small.pt --paths none.npz", "got none.npz (No such file or directory)"),
        ("small.pt --paths small.pt", "must hold either x0 and x1"),
        ("digits.pt --paths paths.npz", "64"),
        ("small.pt --paths paths.npz --out small.pt", "small.pt could not be written (Not a dir"),
        ("small.pt --paths paths.npz --memory lots", "memory"),
        ("digits.pt --paths paths.npz --points 9", "64"),
        ("small.pt --paths paths.npz --points 9 --memory 1kB", "memory must be at least"),
        ("digits.pt --data digits --count 9999999", "count must be at most"),
    ],
)
def test_wrong_input_is_one_sentence(
    folder: Path, call: Callable[..., Done], words: str, told: str
) -> None:
    done = call(f"trace {words}")
    assert done.code == 1
    *before, sentence = done.err.splitlines()
    assert sentence.startswith("Error: ") and told in sentence
    assert all(line.startswith(("tracing ", "sampling ")) for line in before)
    assert not Path("trace").exists() or results() == []


def test_a_trace_that_cannot_be_trusted_is_one_sentence(
    folder: Path, call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise ArithmeticError("the trace ends 3 away from the network's own output.")

    monkeypatch.setattr(implreg, "trace", wrong)
    done = call("trace small.pt --paths paths.npz")
    assert done.code == 1
    assert done.err.endswith("Error: the trace ends 3 away from the network's own output.\n")


def test_a_disk_that_takes_no_more_is_one_sentence(folder: Path) -> None:
    assert process("trace small.pt --paths paths.npz").code == 0
    before = Path("trace/trace.npz").read_bytes()
    done = process(
        "trace digits.pt --data digits",
        # The nearest to a full disk that needs no rights: no file above 20 kB.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert done.code == 1
    assert done.err.splitlines()[-1] == (
        "Error: trace could not be written (File too large); choose another folder."
    )
    assert "Traceback" not in done.err
    assert results() == FILES  # of the trace before, whole
    assert Path("trace/trace.npz").read_bytes() == before


# Ctrl-C


def interrupt(
    monkeypatch: pytest.MonkeyPatch, partial: implreg.Trace | None, table: pd.DataFrame
) -> None:
    """Let the next trace end as Ctrl-C ends it."""

    def trace(*_: object, **__: object) -> None:
        reached = 0.0 if table.empty else float(table["t"].iloc[-1])
        raise implreg.Interrupted(partial, table, reached)

    monkeypatch.setattr(implreg, "trace", trace)


def test_ctrl_c_keeps_what_was_found(
    folder: Path, call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    x0, x1 = paths()
    net = implreg.mlp(3, 20, 2, seed=0)
    partial, table = implreg.trace(net, (x0[:2], x1[:2])), implreg.trace(net, (x0, x1)).to_table()
    Path("trace").mkdir()
    Path("trace/path.svg").write_text("of an earlier trace")
    interrupt(monkeypatch, partial, table[:-1])
    done = call("trace small.pt --paths paths.npz --plot 2")
    assert done.code == 130
    told = "Stopped: 2 of 3 paths finished, and the switches of the next one up to t = 0."
    assert told in done.err
    assert "2 paths with" in done.out and "trace has trace.npz, switches.csv" in done.out
    assert results() == ["switches.csv", "trace.npz"]
    assert len(implreg.Trace.load(Path("trace/trace.npz"))) == 2
    assert len(pd.read_csv("trace/switches.csv")) == len(table) - 1

    interrupt(monkeypatch, None, table[:2])
    done = call("trace small.pt --paths paths.npz")
    assert done.code == 130
    assert "Stopped: 0 of 3 paths finished, and the switches of the next one" in done.err
    assert results() == ["switches.csv"]


def test_ctrl_c_before_the_first_switch_leaves_what_was_there(
    folder: Path, call: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("trace small.pt --paths paths.npz").code == 0
    interrupt(monkeypatch, None, pd.DataFrame())
    done = call("trace small.pt --paths paths.npz")
    assert done.code == 130
    assert done.err.endswith("Stopped: 0 of 3 paths finished.\n")
    assert results() == FILES


def test_ctrl_c_stops_a_real_process(folder: Path) -> None:
    torch.save(implreg.mlp(64, 256, 256, 10, seed=0), "wide.pt")
    words = "trace wide.pt --data digits --kind random --count 100000 --memory 32MB"
    running = subprocess.Popen(
        [sys.executable, "-m", "implreg", *words.split()],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=as_in_a_terminal,
    )
    assert running.stderr is not None
    assert running.stderr.readline() == "tracing 100,000 paths\n"
    work = psutil.Process(running.pid).cpu_times
    enough = work().user + 1
    wait_until(lambda: work().user > enough)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=600)
    assert running.returncode == 130
    assert "Traceback" not in err
    (finished,) = re.findall(r"Stopped: ([\d,]+) of 100,000 paths finished", err)
    kept = implreg.Trace.load(Path("trace/trace.npz"))
    assert len(kept) == int(finished.replace(",", "")) > 0
    assert len(pd.read_csv("trace/switches.csv")) >= len(kept.t)
