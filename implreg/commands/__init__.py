"""The command line ``python -m implreg``: every mistake of a user is answered in one sentence."""

import logging
from importlib import import_module
from importlib.metadata import entry_points

import click

from implreg.errors import InputError, explain_os_error

INTERRUPTED = 130
# Where each command is, and its line in the help; imported when it is called, as most of them take
# seconds to import. Another package adds its own by an entry point of the group `GROUP` that leads
# to such a mapping.
COMMANDS = {
    "data": ("implreg.commands.data:data", "Show the data sets and where they are found."),
    "read": (
        "implreg.commands.read:read_command",
        "Show what is read of the network in FILE: its operations, and how many units can switch.",
    ),
    "trace": (
        "implreg.commands.trace:trace_command",
        "Find every switch of the network in FILE along straight paths or along a polyline.",
    ),
}
GROUP = "implreg.commands"
# What the book adds; so that it can be said where these come from when it is not installed.
OF_THE_BOOK = ("book", "list", "run", "runs", "sweep")


class _Commands(click.Group):
    """The commands of this package, and of those that add to it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_known())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        known = _known()
        if cmd_name in known:
            return _load(cmd_name, known[cmd_name][0])
        if cmd_name in OF_THE_BOOK:
            raise click.ClickException(
                f"{cmd_name} needs the package of the book; install it from a checkout of the "
                f"project with pip install ./book."
            )
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lines of help that are known without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(_known().items())])


def _known() -> dict[str, tuple[str, str]]:
    """All commands that are installed: where each is, and its line of help."""
    known = dict(COMMANDS)
    for entry in entry_points(group=GROUP):
        known |= entry.load()
    return known


def _load(name: str, place: str) -> click.Command:
    module, _, attribute = place.partition(":")
    try:
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("implreg", "implreg_book"):
            raise
        raise click.ClickException(
            f"{name} needs {error.name}; install it with pip install {error.name}."
        ) from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def cli() -> None:
    """Trace a network; with the package of the book, run its chapters and build its site."""


def main() -> int:
    """Run the command line and return the exit code."""
    # What these log of a failure, and of the connection to a dead kernel, is in our one sentence.
    for name in ("papermill", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        code = cli.main(prog_name="python -m implreg", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except (InputError, OSError) as error:
        told = explain_os_error(error) if isinstance(error, OSError) else error
        click.echo(f"Error: {told}", err=True)
        return 1
    return code if isinstance(code, int) else 0
