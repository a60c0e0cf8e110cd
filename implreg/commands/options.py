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
    if value is None:
        return None
    if not all(size.isdecimal() and int(size) for size in value.split(",")):
        raise click.BadParameter(
            f"must be whole numbers above 0 with commas between them, such as 1,28,28, got {value}."
        )
    return tuple(int(size) for size in value.split(","))


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> list[int] | None:
    """Callback of an option such as ``281,285``."""
    if value is None:
        return None
    if not all(number.isdecimal() for number in value.split(",")):
        raise click.BadParameter(
            f"must be whole numbers with commas between them, such as 281,285, got {value}."
        )
    return [int(number) for number in value.split(",")]
