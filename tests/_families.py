"""Tables of made-up networks in training, for the chapters on the three families."""

from collections.abc import Callable
from typing import Any

import pandas as pd

Measure = Callable[[str, int, str, bool], float]  # of family, size, kind, and whether at the end
FAMILIES = {"mlp": ("widths", "measure_at"), "vgg": ("convolutions", "conv_measure_at"),
            "resnet": ("depths", "conv_measure_at")}  # fmt: skip


def trained_networks(p: Any, error: float = 0.0, **measures: Measure) -> pd.DataFrame:
    """What `implreg_book.experiments.sgd.run` would return, of measures that are 1 unless given.

    Seeds differ by a thousandth, so that there are intervals.
    """
    rows = []
    for family, (sizes, epochs) in FAMILIES.items():
        for size in getattr(p, sizes):
            for epoch in getattr(p, epochs):
                for kind in p.kinds:
                    end = epoch == getattr(p, epochs)[-1]
                    shared = {"family": family, "size": size, "epoch": epoch, "kind": kind}
                    found = {name: m(family, size, kind, end) for name, m in measures.items()}
                    rows += [
                        shared | _usual(found, error if end else 0.9, 1 + 1e-3 * seed)
                        | {"seed": seed} for seed in range(p.seeds)
                    ]  # fmt: skip
    return pd.DataFrame(rows)


def _usual(found: dict[str, float], error: float, factor: float) -> dict[str, Any]:
    names = ("gap_deviation", "bridge_deviation", "deflection", "fluctuation", "edge_margin")
    raw = {name: found.get(name, 1.0) * factor for name in names}
    normalized = {
        f"normalized_{name}": found.get(f"normalized_{name}", raw[name])
        for name in ("gap_deviation", "bridge_deviation", "deflection")
    }
    share = found.get("leaves_prediction", 0.25)
    errors = {"train_error": error, "test_error": 0.2 * factor, "leaves_prediction": share}
    losses = {"train_loss": error + 0.1, "test_loss": 1.0, "diverged": False}
    return raw | normalized | errors | losses
