"""The command line ``python -m implreg``: every mistake of a user is answered in one sentence."""

import logging
from importlib import import_module

import click

from implreg.errors import InputError, explain_os_error

INTERRUPTED = 130
# Where each command is; imported when it is called, as most of them take seconds to import.
COMMANDS = {
    "book": "implreg.commands.book:book",
    "data": "implreg.commands.data:data",
    "list": "implreg.commands.book:list_chapters",
    "run": "implreg.commands.book:run",
    "runs": "implreg.commands.runs:runs",
    "sweep": "implreg.commands.sweep:sweep",
    "trace": "implreg.commands.trace:trace_command",
}


class _Commands(click.Group):
    """Those commands whose libraries are installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if isinstance(_load(name), click.Command)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = _load(cmd_name)
        if isinstance(found, str):
            raise click.ClickException(
                f"{cmd_name} needs {found}; install it with pip install 'implreg[book]'."
            )
        return found


def _load(name: str) -> click.Command | str:
    """The command called `name`, or the name of the library that it lacks."""
    module, _, attribute = COMMANDS[name].partition(":")
    try:
        return getattr(import_module(module), attribute)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "implreg":
            raise
        return error.name


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def cli() -> None:
    """Trace a network, or run the chapters of the book and build its site (needs implreg[book])."""


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
    except InputError as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    except OSError as error:
        click.echo(f"Error: {explain_os_error(error, '_build')}", err=True)
        return 1
    return code if isinstance(code, int) else 0
