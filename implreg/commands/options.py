"""What several commands of the instrument ask for."""

import click

network = click.option(
    "--network",
    metavar="MODULE:CALLABLE",
    help="Function that builds the network of a state dict, such as models:build.",
)

output = click.option(
    "--output",
    metavar="NAME",
    help="Which output: a module in the network by its name, or one of several by index or key.",
)


def sizes(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Callback of an option such as ``1,28,28``."""
    return _numbers(value, 1, "whole numbers above 0", "1,28,28")


def places(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Callback of an option such as ``281,285``, counted from 0."""
    return _numbers(value, 0, "whole numbers", "281,285")


def _numbers(value: str | None, least: int, kind: str, example: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not all(number.isdecimal() and int(number) >= least for number in value.split(",")):
        raise click.BadParameter(
            f"must be {kind} with commas between them, such as {example}, got {value}."
        )
    return tuple(int(number) for number in value.split(","))
