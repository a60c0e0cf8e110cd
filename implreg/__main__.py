"""``python -m implreg``: the book's command line."""

import sys

try:
    from implreg.book.commands import main
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] == "implreg":
        raise
    sys.exit(f"Error: the book needs {error.name}; install it with pip install 'implreg[book]'.")

sys.exit(main())
