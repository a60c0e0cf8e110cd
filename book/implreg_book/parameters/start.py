"""Parameters of the chapter "Scale and distribution of the start"."""

from dataclasses import dataclass

from implreg_book.parameters import common
from implreg_book.parameters.schema import parameter

_SCALES: common.Rules = common.SCALE | {"order": "distinct", "most": 6}


@dataclass(frozen=True, kw_only=True)
class Parameters(common.Ablation):
    """Networks whose weights start otherwise."""

    chapter = "start"
    seconds = 410

    scales: tuple[float, ...] = parameter((0.1, 0.3, 3.0, 10.0), "of the hidden weights", **_SCALES)
    distributions: tuple[str, ...] = parameter(
        ("uniform", "orthogonal"),
        "of all weights",
        choices=("uniform", "orthogonal"),
        order="distinct",
    )
    biases: tuple[float, ...] = parameter((0.5, 2.0), "deviations of the hidden biases", **_SCALES)
    output_scales: tuple[float, ...] = parameter(
        (0.3, 3.0, 10.0), "fixed factors of the outputs", **_SCALES
    )

    def together(self) -> None:
        """Refuse, besides what the data do, the scale that the reference has."""
        super().together()
        for name in ("scales", "output_scales"):
            self.require(name, 1.0 not in getattr(self, name), "not hold 1, which is the reference")
