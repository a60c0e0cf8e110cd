"""An experiment for the tests of grids: its runs tell a log that they began, and go wrong if asked.

No test itself, as workers import it and should be there soon.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch


@dataclass(frozen=True)
class Log:
    """A file in which many processes write; no column of tables, which are the same without it."""

    path: str = os.devnull

    def write(self, word):
        with Path(self.path).open("a") as file:
            file.write(f"{word}\n")

    def words(self):
        path = Path(self.path)
        return path.read_text().split() if path.is_file() else []


@dataclass(frozen=True)
class Config:
    number: int
    seconds: float = 0.0
    does: str = ""
    log: Log = Log()
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Data:
    """What runs share; tells a log which processes have read it."""

    x: np.ndarray = field(default_factory=lambda: np.arange(3.0))
    weight: torch.Tensor = field(default_factory=lambda: torch.tensor([0.5, 2.0]))
    log: Log = Log()

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.log.write(os.getpid())


def run(config, data=None):
    config.log.write(config.number)
    time.sleep(config.seconds)
    tries = config.log.words().count(str(config.number))
    match config.does:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise ValueError("this number\nis no good")
        case "raise once" if tries == 1:
            raise ValueError("not yet")
        case "miss":
            raise OSError("the network is down")
        case "miss once" if tries == 1:
            raise OSError("the network is down")
        case "miss at second try" if tries == 2:
            raise OSError("the network is down")
        case "meet":
            meet(config)
        case "meet and kill":
            meet(config)
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            sys.exit(3)
        case "return a number":
            return 3
        case "return objects":
            return pd.DataFrame({"value": [object()]})
    scale = 1.0 if data is None else float(data.x.sum()) + data.weight.sum().item()
    return pd.DataFrame({
        "power": [1, 2],
        "value": [scale * config.number / 3, scale * (config.number / 3) ** 2],
        "name": ["first", "second"],
    })  # fmt: skip


def meet(config):
    """Wait until the next or last one is under way."""
    end = time.monotonic() + 300
    while str(config.number ^ 1) not in config.log.words():
        if time.monotonic() > end:
            raise ValueError("nobody came")


def where(config):
    """The process, and the GPU that it has."""
    time.sleep(config.seconds)
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return pd.DataFrame({"process": [os.getpid()], "gpu": [gpu]})
