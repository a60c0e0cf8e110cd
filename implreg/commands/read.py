"""``python -m implreg read``: what is read of a network, before it is traced."""

from pathlib import Path

import click
import torch

from implreg.commands import options
from implreg.files import import_network, read_network
from implreg.tracing import read
from implreg.tracing.network import Output


@click.command("read")
@click.argument("file", type=click.Path(path_type=Path))
@options.network
@options.output
@click.option(
    "--shape",
    metavar="SIZES",
    callback=options.sizes,
    required=True,
    help="Shape of one sample, such as 64 or 3,224,224.",
)
def read_command(file: Path, network: str | None, output: Output, shape: tuple[int, ...]) -> None:
    """Show what is read of the network in FILE: its operations, and how many units can switch.

    FILE is as for trace. Each line is one operation: its number, those whose results it takes (0 is
    the sample), the shape of its result, and what it does. A network that cannot be traced exactly
    is refused with the layer and the reason.
    """
    net = read_network(file, None if network is None else import_network(network))
    click.echo(read(net, torch.zeros(shape), output=output))
