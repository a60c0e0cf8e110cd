"""The picture that stands beside a link to the site: its title and a figure of the book."""

import base64
import io
import textwrap

import nbformat

SIZE = (1200, 630)  # pixels, what those who show such cards ask for
DPI = 100


def first_picture(notebooks: list[nbformat.NotebookNode]) -> bytes | None:
    """Return the first figure of these notebooks as PNG, None if there is none."""
    for notebook in notebooks:
        for cell in notebook.cells:
            if "figure" in cell.metadata.get("mystnb", {}):
                for output in cell.outputs:
                    if "image/png" in output.get("data", {}):
                        return base64.b64decode(output.data["image/png"])
    return None


def draw_card(title: str, author: str, picture: bytes) -> bytes:
    """Return the card as PNG: words on the left, the `picture` on the right."""
    # Matplotlib takes half a second to import, which a call that builds nothing need not wait for.
    from matplotlib import image
    from matplotlib.patches import Rectangle

    from implreg.figures.display import CATEGORIES, INK, MUTED, new_figure, style

    width, height = (pixels / DPI for pixels in SIZE)
    png = io.BytesIO()
    with style():
        fig = new_figure(height, width=width)
        fig.set_layout_engine("none")
        pixels = image.imread(io.BytesIO(picture), format="png")
        area = fig.add_axes((0.42, 0.06, 0.55, 0.88))
        area.imshow(pixels, interpolation="antialiased")
        area.set_axis_off()
        fig.add_artist(Rectangle((0, 0), 0.014, 1, color=CATEGORIES[0]))
        words = "\n".join(textwrap.wrap(title, 16))
        fig.text(0.045, 0.62, words, size=28, weight="bold", color=INK, va="center")
        fig.text(0.045, 0.12, author, size=16, color=MUTED, va="center")
        fig.savefig(png, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return png.getvalue()
