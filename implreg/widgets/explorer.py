"""What all explorers share: one JavaScript source for notebooks and for pages without a kernel."""

from typing import Any, ClassVar

import anywidget

from implreg.figures import Figure
from implreg.widgets.bundle import styles

# How an executed notebook hands an explorer on to the book.
PAGE_TYPE = "application/vnd.implreg.explorer+json"


class Explorer(anywidget.AnyWidget):
    """A widget whose JavaScript needs no kernel.

    Displayed in a notebook it is live and in step with Python: every control is an attribute, to
    read, to set and to `observe`. The book takes its state from the executed notebook and mounts
    the same JavaScript on the page; on paper and without JavaScript its still picture is shown.
    """

    name: ClassVar[str]  # of its JavaScript module; subclasses set `_esm` from it
    _css = styles()

    def still(self) -> Figure:
        """A picture of the explorer as it is now."""
        raise NotImplementedError

    def page_state(self) -> dict[str, Any]:
        """What a page needs to show the explorer as it is now, as JSON can hold it."""
        base = anywidget.AnyWidget.class_trait_names(sync=True)
        return {
            name: getattr(self, name)
            for name in self.trait_names(sync=True)
            if name not in base and not name.startswith("_")
        }

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shown, metadata = self.still()._repr_mimebundle_()
        widget = super()._repr_mimebundle_(**kwargs)
        assert widget is not None  # it has a view
        page = {"explorer": self.name, "state": self.page_state()}
        # The still says in words what it shows, so its plain text replaces that of the widget.
        return {**widget[0], PAGE_TYPE: page, **shown}, metadata
