"""What runs of the chapters have of the aspects in `implreg_book.protocol`, from their settings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from implreg.training import SGD
from implreg_book.experiments.ablations import REFERENCE
from implreg_book.experiments.families import FILLS, Network
from implreg_book.parameters.common import DATASETS
from implreg_book.parameters.schema import listed
from implreg_book.protocol import (
    CROSS_ENTROPY,
    FIGURES,
    HE,
    LANCZOS,
    ONE_CLASS,
    PER_STEP,
    PERCEPTRON,
    PLAIN,
    RESNET,
    STANDARDISED,
    TWO_CLASSES,
    UNIT,
    VGG,
    Aspects,
    Value,
    dropped,
    filled,
    in_words,
)

FAMILIES = {"mlp": PERCEPTRON, "vgg": VGG, "resnet": RESNET}
KINDS = {
    "same": ONE_CLASS,
    "different": TWO_CLASSES,
    "random": "of any classes",
    "train-test": f"{ONE_CLASS}, one a test sample",
    "nearest": f"{ONE_CLASS}, the nearest",
    "farthest": f"{ONE_CLASS}, the farthest",
}
OWN = "none, and outputs of the same network before training"
# Of paths that are traced.
TRACED: Aspects = {
    "positions": "every breakpoint",
    "gaps": "one for each switch",
    "seam": None,
    "normaliser": None,
    "outputs": "all",
    "averages": "root mean squares",
    "error bars": "95 % interval over networks",
    "precision": "double",
}


def of_data(sides: Mapping[str, int], train: int = 0) -> Aspects:
    """Data sets and what is done to them.

    Args:
        sides: pixels to which their images are resized, by data set; 0 leaves them.
        train: how many training samples; 0 for all.
    """
    own = [DATASETS[name] for name in sides]
    resized = [side not in (0, size.side) for size, side in zip(own, sides.values(), strict=True)]
    return {
        "data sets": tuple(sides),
        "training samples": _one(train or size.train for size in own),
        "pixels to a side": _one(
            side or size.side for size, side in zip(own, sides.values(), strict=True)
        ),
        "resizing": LANCZOS if any(resized) else None,
        "preprocessing": STANDARDISED,
        "pixels constant in training": "0 in the test set",
    }


def of_pairs(count: int, kinds: Sequence[str] = ("same",)) -> Aspects:
    """Pairs of samples of a data set.

    Args:
        count: of each kind, for a network.
        kinds: of `KINDS`.
    """
    return {
        "pairs": count,
        "pairs are": "other ones for each network",
        "pairs are drawn": "samples uniform, without replacement",
        "classes of a pair": tuple(KINDS[kind] for kind in kinds),
    }


def of_perceptrons(sizes: Sequence[int], count: int, layers: Sequence[int] = (1,)) -> Aspects:
    """Perceptrons at the usual random start.

    Args:
        sizes: units of each hidden layer.
        count: networks of each size.
        layers: numbers of hidden layers.
    """
    deep = f"perceptrons, {in_words(tuple(layers))} hidden layers"
    return of_networks([Network("mlp", size) for size in sizes], count) | {
        "networks": PERCEPTRON if tuple(layers) == (1,) else deep
    }


def of_networks(networks: Sequence[Network], count: int, datasets: Iterable[str] = ()) -> Aspects:
    """Networks of one family.

    Args:
        networks: one of each size.
        count: how many of each.
        datasets: what they take; convolutions of signals have windows along one axis.
    """
    one = networks[0]
    signals = [name for name in datasets if one.family != "mlp" and not DATASETS[name].images]
    along = f", along one axis for {listed(signals)}" if signals else ""
    how: dict[str, Any] = dict(FILLS[one.statistics])
    norm = filled(**how) if how else "mean 0, variance 1"
    return {
        "networks": f"{FAMILIES[one.family]}{along}",
        "sizes": tuple(network.size for network in networks),
        "channels, times the program's": one.width_factor,
        "networks of each size": count,
        "variants": None,
        "hidden weights": HE,
        "output weights": UNIT,
        "dropout": dropped(FAMILIES[one.family], one.dropout),
        "batch norm before training": norm if one.family == "resnet" else None,
    }


def of_training(sgd: SGD, measured: Value = None) -> Aspects:
    """Plain SGD.

    Args:
        sgd: its settings.
        measured: after which epochs; by default the last.
    """
    warm = bool(sgd.warmup_epochs)
    return {
        "loss": CROSS_ENTROPY,
        "optimiser": PLAIN,
        "learning rate": sgd.learning_rate,
        "samples per step": sgd.batch,
        "epochs": sgd.epochs,
        "warm-up, epochs": sgd.warmup_epochs,
        "warm-up from": sgd.warmup_from if warm else None,
        "warm-up rises": PER_STEP if warm else None,
        "measured after epochs": measured or (sgd.epochs,),
    }


def of_trained(
    config: Any, sgd: SGD, measured: Value = None, kinds: Sequence[str] = ("same",)
) -> Aspects:
    """Data, pairs, training and measures of networks that are trained and traced.

    Args:
        config: what has the data set, its training samples and the number of pairs, and may have
            pixels to which images are resized.
        sgd: how they train.
        measured: after which epochs; by default the last.
        kinds: of pairs.
    """
    return {
        **of_data({config.dataset: getattr(config, "side", 0)}, config.train),
        **of_pairs(config.pairs, kinds),
        **of_training(sgd, measured),
        **TRACED,
    }


def of_descent(loss: str, samples: int, steps: int, rate: Value) -> Aspects:
    """Gradient descent with all samples in each step, which is then an epoch.

    Args:
        loss: that falls.
        samples: how many.
        steps: how many, at most.
        rate: learning rate.
    """
    return of_training(SGD(epochs=steps, batch=samples, warmup_epochs=0)) | {
        "loss": loss,
        "optimiser": "gradient descent",
        "learning rate": rate,
    }


def of_targets(
    config: Any, sgd: SGD, sizes: Sequence[int], count: int, variants: Iterable[str], kind: str
) -> Aspects:
    """Perceptrons that train to the same losses.

    Args:
        config: as of `of_trained`; it has the losses too.
        sgd: how they train.
        sizes: units of each hidden layer of the reference.
        count: networks of each variant.
        variants: what is not as in the reference.
        kind: of pairs.
    """
    losses = in_words(tuple(config.target_losses))
    return {
        **of_perceptrons(sizes, count),
        **of_trained(config, sgd, f"when the training loss is {losses}", [kind]),
        "variants": tuple(variants) or None,
        "normaliser": OWN,
    }


def of_ablation(configs: Iterable[Any]) -> Aspects:
    """Networks that train to the same losses, of which all but the reference are variants.

    Args:
        configs: all of them, see `implreg_book.experiments.ablations.Config`.
    """
    every = list(configs)
    usual = [config for config in every if config.condition == REFERENCE]
    one, others = usual[0], dict.fromkeys(c.condition for c in every if c.condition != REFERENCE)
    return of_targets(one, one.recipe, one.network.widths, len(usual), others, "same")


def beside(figure: str, aspects: Aspects) -> Aspects:
    """Those that a figure has too, of a page that does not reproduce it."""
    return {aspect: value for aspect, value in aspects.items() if aspect in FIGURES[figure]}


def _one(values: Iterable[Value]) -> Value:
    """What all are, or else all of them."""
    every = tuple(values)
    return every[0] if len(set(every)) == 1 else every
