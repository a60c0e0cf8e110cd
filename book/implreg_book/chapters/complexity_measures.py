"""The measures of the chapter "Complexity measures", and one network for which they are known."""

import math
from collections.abc import Mapping

import pandas as pd

MEASURES = {
    "gap_deviation": "gradient gap deviation",
    "deflection": "gradient deflection",
    "total_variation": "total variation of the slope",
    "fluctuation": "fluctuation",
    "straightness": "fluctuation / edge margin",
    "switches": "switches",
    "gradient_norm": "gradient norm",
    "sensitivity": "Jacobian norm",
    "function_path_length": "function path length",
    "gradient_path_length": "gradient path length",
    "weight_product": "weight product",
    "deviation_from_affine": "deviation from affine",
    "region_density": "density of regions",
    "local_complexity": "local complexity",
    "parameter_norm": "norm of the weights",
    "distance": "distance from the start",
    "frobenius_product": "product of norms",
    "spectral_product": "product of spectral norms",
    "sharpness": "sharpness",
}
PAPER = ("gap_deviation", "deflection", "total_variation", "fluctuation")
# Of how paths bend; the others are about something else.
BENDS = (
    *PAPER,
    "straightness",
    "switches",
    "gradient_path_length",
    "deviation_from_affine",
)
WITHIN = (
    "deflection",
    "total_variation",
    "fluctuation",
    "straightness",
    "sensitivity",
    "deviation_from_affine",
    "distance",
    "sharpness",
)
_BY_HAND = {
    "switches": 1,
    "gap_deviation": 3,
    "deflection": 1.5,
    "quadratic_variation": 9,
    "total_variation": 3,
    "fluctuation": 1.5,
    "gradient_norm": 3,
    "function_path_length": 3,
    "gradient_path_length": 3,
    "weight_product": 3,
    "deviation_from_affine": 0.75,
    "region_density": 1,
    "local_complexity": 1,
    "parameter_norm": math.sqrt(10),
    "distance": math.sqrt(10),
    "frobenius_product": 3,
    "spectral_product": 3,
}


def by_hand(computed: Mapping[str, float]) -> pd.DataFrame:
    """Measures of the network of the check beside what they are."""
    names = [name.replace("_", " ") for name in _BY_HAND]
    rows = [(x, computed[name]) for name, x in _BY_HAND.items()]
    return pd.DataFrame(rows, names, ["by hand", "computed"]).map("{:.6g}".format)
