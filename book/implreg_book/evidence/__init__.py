"""From tables to verdicts: statistics, comparisons, hypotheses, and the ledger of claims."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules={"claims", "comparisons", "correlation", "hypotheses", "rules", "statistics"},
)
