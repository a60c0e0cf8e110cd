"""What the chapters on ablations change: names of conditions, and how each differs."""

from collections.abc import Sequence
from typing import Any

from implreg_book.experiments.ablations import Config
from implreg_book.experiments.variants import equal_width, parameters

Conditions = dict[str, dict[str, Any]]


def starts(
    reference: Config,
    *,
    scales: Sequence[float] = (0.1, 0.3, 3.0, 10.0),
    distributions: Sequence[str] = ("uniform", "orthogonal"),
    biases: Sequence[float] = (0.5, 2.0),
    output_scales: Sequence[float] = (0.3, 3.0, 10.0),
) -> Conditions:
    """Chapter "Initialisation": other weights before the first step.

    With an output scale the learning rate is divided by its square, so that the outputs begin to
    move as fast.

    Args:
        reference: the usual configuration.
        scales: of the hidden weights.
        distributions: of all weights.
        biases: deviations of the hidden biases.
        output_scales: fixed factors of the outputs.
    """
    rate = reference.recipe.learning_rate
    return {
        **{f"scale {s:g}": {"start": {"scale": s}} for s in scales},
        **{name: {"start": {"distribution": name}} for name in distributions},
        **{f"biases {s:g}": {"start": {"sigma_b": s}} for s in biases},
        **{
            f"output scale {s:g}": {
                "start": {"output_scale": s},
                "recipe": {"learning_rate": rate / s**2},
            }
            for s in output_scales
        },
    }


def optimisers(
    reference: Config,
    *,
    steps: Sequence[float] = (0.02, 0.3, 1.0),
    batches: Sequence[int] = (8, 32),
    descent_steps: Sequence[float] = (0.1, 0.5),
    momenta: Sequence[float] = (0.9,),
    adam_steps: Sequence[float] = (0.001, 0.01),
    label_noises: Sequence[float] = (0.05,),
) -> Conditions:
    """Chapter "Optimiser": other ways down the same loss.

    Args:
        reference: the usual configuration, of plain SGD.
        steps: step sizes (learning rates) of SGD.
        batches: samples per step.
        descent_steps: step sizes of gradient descent, that is, with all samples in each batch.
        momenta: of SGD, once with the step of the reference and once with that step times
            1 - momentum, which moves as far in the long run.
        adam_steps: step sizes of Adam.
        label_noises: shares of labels that every step replaces at random. Such networks keep some
            doubt and never get below some loss, so that they train for a quarter of the epochs.
    """
    rate = reference.recipe.learning_rate
    return {
        **{f"step {s:g}": {"recipe": {"learning_rate": s}} for s in steps},
        **{f"batch {n}": {"recipe": {"batch": n}} for n in batches},
        **{
            f"descent, step {s:g}": {"recipe": {"batch": reference.train, "learning_rate": s}}
            for s in descent_steps
        },
        **{
            f"momentum {m:g}, step {s:.3g}": {"recipe": {"momentum": m, "learning_rate": s}}
            for m in momenta
            for s in ((1 - m) * rate, rate)
        },
        **{
            f"Adam, step {s:g}": {"recipe": {"optimiser": "adam", "learning_rate": s}}
            for s in adam_steps
        },
        **{
            f"label noise {100 * s:g} %": {
                "recipe": {"label_noise": s, "epochs": max(1, reference.recipe.epochs // 4)}
            }
            for s in label_noises
        },
    }


def architectures(
    reference: Config,
    *,
    depths: Sequence[int] = (2, 3, 5, 8),
    leaks: Sequence[float] = (0.1, 0.5),
    deep: int = 5,
    channels: Sequence[int] = (8, 16),
) -> Conditions:
    """Chapter "Architecture": other networks, perceptrons with as many parameters.

    Args:
        reference: the usual configuration, with one hidden layer.
        depths: numbers of hidden layers.
        leaks: slopes of the activations below zero.
        deep: hidden layers of the perceptrons with skip connections and with batch norm.
        channels: of the convolutional network.
    """
    data = reference.data()
    count = parameters(reference.network, data.shape, data.classes)

    def layers(depth: int) -> tuple[int, ...]:
        return (equal_width(depth, count, data.shape, data.classes),) * depth

    changes: dict[str, dict[str, Any]] = {
        **{f"depth {depth}": {"widths": layers(depth)} for depth in depths},
        f"depth {deep}, skip": {"widths": layers(deep), "skip": True},
        f"depth {deep}, batch norm": {"widths": layers(deep), "batch_norm": True},
        "batch norm": {"batch_norm": True},
        **{f"leak {leak:g}": {"leak": leak} for leak in leaks},
        "convolutions": {"family": "conv", "widths": tuple(channels)},
    }
    return {name: {"network": change} for name, change in changes.items()}


def regularisers(
    reference: Config,
    *,
    random_labels: Sequence[float] = (0.1, 0.3, 1.0),
    weight_decays: Sequence[float] = (0.001, 0.003),
    dropouts: Sequence[float] = (0.2, 0.5),
    mixups: Sequence[float] = (0.2, 1.0),
    input_noises: Sequence[float] = (0.3, 1.0),
    shifts: Sequence[int] = (1,),
    cap: int = 450,
) -> Conditions:
    """Chapter "Labels and explicit regularisation": other labels, and penalties and noise.

    Args:
        reference: the usual configuration, without any of it.
        random_labels: shares of the training labels that are random.
        weight_decays: factors of half the squared norm of the weights.
        dropouts: shares of units left out.
        mixups: parameters of the beta distribution.
        input_noises: deviations of noise on every feature.
        shifts: the most pixels by which images are shifted.
        cap: epochs after which training stops at the latest, as a penalty or noise can keep the
            loss from ever falling far.
    """
    found: Conditions = {
        **{f"random labels {100 * s:g} %": {"random_labels": s} for s in random_labels},
        **{f"weight decay {s:g}": {"recipe": {"weight_decay": s}} for s in weight_decays},
        **{f"dropout {s:g}": {"network": {"dropout": s}} for s in dropouts},
        **{f"mixup {s:g}": {"recipe": {"mixup": s}} for s in mixups},
        **{f"input noise {s:g}": {"recipe": {"input_noise": s}} for s in input_noises},
        **{f"shifts {n}": {"recipe": {"shift": n}} for n in shifts},
    }
    return {
        name: change | {"recipe": change.get("recipe", {}) | {"epochs": cap}}
        for name, change in found.items()
    }


def widths(
    reference: Config,
    *,
    widths: Sequence[int] = (4, 8, 16, 32, 64, 128, 256, 512),
    random_labels: Sequence[float] = (0.2, 0.6),
) -> Conditions:
    """Chapter "Complexity measures": wider and wider networks on noisy labels (double descent).

    Args:
        reference: the usual configuration, with one hidden layer.
        widths: numbers of hidden units.
        random_labels: shares of the training labels that are random.
    """
    return {
        f"width {n}, {100 * share:g} % random labels": {
            "network": {"widths": (n,)},
            "random_labels": share,
        }
        for share in random_labels
        for n in widths
    }
