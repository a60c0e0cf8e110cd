"""Many runs of an experiment: in parallel, kept, with progress, resumed where they stopped.

A run is one call of an experiment's `run` with one frozen configuration; it returns a small tidy
table. `run_all` does a grid of them and keeps each as soon as it is done. A chapter is run in the
same way, see `implreg_book.press.execute`.
"""

import lazy_loader

# What only asks whether a run is kept need not wait for pandas and torch.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "grid": ["RunsFailed", "run_all"],
        "keys": ["code_version", "fingerprint"],
        "store": ["Store"],
        "report": ["LostWorkers"],
        "work": ["Failure"],
    },
)
