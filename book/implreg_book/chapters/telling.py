"""Numbers on their way into the prose of a chapter."""

from collections.abc import Mapping

from myst_nb import glue


def tell(chapter: str, numbers: Mapping[str, object]) -> None:
    """Let the prose of `chapter` have numbers and words, as ``{glue:text}`chapter-name```."""
    for name, value in numbers.items():
        glue(f"{chapter}-{name}", value, display=False)
