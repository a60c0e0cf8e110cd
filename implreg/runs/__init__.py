"""Many runs of an experiment: in parallel, kept, with progress, resumed where they stopped.

A run is one call of an experiment's `run` with one frozen configuration; it returns a small tidy
table. `run_all` does a grid of them and keeps each as soon as it is done.
"""

from implreg.runs.grid import Failure, RunsFailed, run_all
from implreg.runs.keys import code_version, fingerprint
from implreg.runs.store import Store
from implreg.runs.workers import LostWorkers
from implreg.settings import SCHEDULER, STORE

__all__ = [
    "SCHEDULER",
    "STORE",
    "Failure",
    "LostWorkers",
    "RunsFailed",
    "Store",
    "code_version",
    "fingerprint",
    "run_all",
]
