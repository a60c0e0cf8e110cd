"""The commands of the book, which ``python -m implreg`` finds where this package is installed."""

# Where each is, and its line in the help; see `implreg.commands`.
COMMANDS = {
    "book": (
        "implreg_book.commands.book:book",
        "Run all chapters and build the site; with CHAPTERS named, a preview of these alone.",
    ),
    "list": (
        "implreg_book.commands.book:list_chapters",
        "Show all chapters with their parameters, and all profiles.",
    ),
    "run": (
        "implreg_book.commands.book:run",
        "Run one CHAPTER with papermill and write its notebook.",
    ),
    "runs": (
        "implreg_book.commands.runs:runs",
        "Show, delete and export the finished runs in a store.",
    ),
    "sweep": (
        "implreg_book.commands.sweep:sweep",
        "Run CHAPTER once for every combination of the values given with -p.",
    ),
}
