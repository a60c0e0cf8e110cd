"""The panel of a chapter: its parameters as controls, and its figures, numbers and verdicts."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import anywidget
import ipywidgets as ipw

from implreg.errors import InputError
from implreg.widgets.bundle import KEEP_KEYS
from implreg_book.parameters.registry import profile_of, profiles
from implreg_book.parameters.schema import Parameters, Values, in_words
from implreg_book.settings import STORE
from implreg_book.widgets.controls import control, put

QUICK = 5  # CPU seconds up to which a chapter is drawn anew without being asked
_OWN = "(your own)"
_KEYS = f"""{KEEP_KEYS}
export default {{ render({{ el }}) {{
  const listen = () => {{
    const panel = el.closest(".implreg-panel");
    if (panel) keepKeys(panel);
    else requestAnimationFrame(listen);
  }};
  listen();
}} }};
"""


class _Keys(anywidget.AnyWidget):
    """Nothing to see: keys pressed in the panel that it is in are the panel's."""

    _esm = _KEYS


class Panel(ipw.VBox):  # type: ignore[misc]
    """Controls of all parameters of a chapter; what they change is drawn below them.

    Stored and kept runs are taken. If no other is needed, or they take no longer than `QUICK`
    seconds, moving a control draws at once; else the panel says what it costs and waits for *Run*.

    Attributes:
        controls: by name of the parameter; their values may be set.
        answer: what was last drawn: `prose`, `figures`, `tables` and `verdicts`.
    """

    def __init__(self, parameters: Parameters) -> None:
        """A panel that starts at these parameters; see `panel`."""
        self.chapter = parameters.chapter
        self.answer: dict[str, Any] = {}
        self._schema = type(parameters)
        self._process: subprocess.Popen[str] | None = None
        self._turn, self._asked = Lock(), 0
        made = {n: control(self.chapter, one) for n, one in self._schema.schema().items()}
        self.controls = {name: widget for name, (widget, _) in made.items()}
        self._read = {name: read for name, (_, read) in made.items()}
        names = [*profiles(self.chapter), _OWN]
        self.profile = ipw.Dropdown(options=names, description="profile")
        self.start = ipw.Button(description="Run", icon="play", button_style="primary")
        self.halt = ipw.Button(description="Stop", icon="stop", disabled=True)
        self.status = ipw.HTML("Move a control, or press <em>Run</em>.")
        self.progress = ipw.HTML()
        self.result = ipw.VBox()
        for name, value in parameters.values().items():
            put(self.controls[name], value)
        self.profile.value = profile_of(parameters) or _OWN
        grid = ipw.GridBox(
            list(self.controls.values()),
            layout={"grid_template_columns": "repeat(auto-fill, minmax(22em, 1fr))"},
        )
        bar = ipw.HBox([self.profile, self.start, self.halt])
        super().__init__([_Keys(), bar, self.status, self.progress, grid, self.result])
        self.add_class("implreg-panel")
        self.profile.observe(self._take_profile, "value")
        for widget in self.controls.values():
            widget.observe(self._moved, "value")
        self.start.on_click(lambda _: self.run())
        self.halt.on_click(lambda _: self.stop())

    @property
    def parameters(self) -> Parameters:
        """What the controls say.

        Raises:
            InputError: the chapter cannot have that.
        """
        return self._schema.of({name: read() for name, read in self._read.items()})

    def run(self) -> Thread:
        """Draw with what the controls say, whatever it costs; returns at once."""
        return self._ask(always=True)

    def stop(self) -> None:
        """Stop the runs, and what waits behind them; what has finished is kept."""
        self._asked += 1
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End the process that draws."""
        if self._process is not None:
            self._process.kill()
        super().close()

    def still(self) -> str:
        """The panel as HTML, for a page without a kernel."""
        values = {name: in_words(read()) for name, read in self._read.items()}
        rows = "".join(
            f'<div><dt><code>{name}</code></dt><dd title="{escape(one.sentence)}">'
            f"<b>{escape(values[name])}</b> <span>{escape(one.sentence)}</span></dd></div>"
            for name, one in self._schema.schema().items()
        )
        return f'<div class="parameter-panel"><dl>{rows}</dl></div>'

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        said = "; ".join(f"{name} = {in_words(read())}" for name, read in self._read.items())
        data |= {"text/plain": f"Parameters: {said}", "text/html": self.still()}
        return bundle

    def _take_profile(self, change: dict[str, Any]) -> None:
        if change["new"] == _OWN:
            return
        values = self._schema.of(profiles(self.chapter)[change["new"]]).values()
        for widget in self.controls.values():  # what is halfway is nobody's wish
            widget.unobserve(self._moved, "value")
        for name, value in values.items():
            put(self.controls[name], value)
        for widget in self.controls.values():
            widget.observe(self._moved, "value")
        self._moved(change)

    def _moved(self, _: object) -> None:
        try:
            self.profile.value = profile_of(self.parameters) or _OWN
        except InputError as error:
            self._asked += 1  # what is being drawn is not what the controls say
            self.status.value = self._told({"error": str(error)})
            return
        self._ask(always=False)

    def _ask(self, *, always: bool) -> Thread:
        self._asked += 1
        thread = Thread(target=self._draw, args=(self._asked, always), daemon=True)
        thread.start()
        return thread

    def _draw(self, asked: int, always: bool) -> None:
        with self._turn:
            if asked != self._asked:  # a later move has overtaken it
                return
            try:
                values = self.parameters.values()
                cost = self._request(values, draw=False)
                self.status.value = self._told(cost)
                if "error" in cost or not (always or cost["seconds"] <= QUICK):
                    return
                self.halt.disabled = False
                answer = self._request(values, draw=True)
            except InputError as error:
                answer = {"error": str(error)}
            self.halt.disabled, self.progress.value = True, ""
            if asked != self._asked and "stopped" not in answer:
                return
            self.status.value = self._told(answer)
            if "prose" in answer:
                self.result.children = [ipw.HTMLMath(part) for part in _parts(answer)]
                self.answer = answer

    def _told(self, answer: dict[str, Any]) -> str:
        for kind in ("error", "stopped"):
            if kind in answer:
                return f"<strong>{escape(answer[kind])}</strong>"
        if "prose" in answer:
            return "Drawn with what the controls say."
        if not answer["seconds"]:
            return "All runs are stored or kept; drawing."
        return f"Runs that are not there yet take about {answer['cost']} of CPU time."

    def _request(self, values: Values, *, draw: bool) -> dict[str, Any]:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "implreg_book.press.redraw"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=os.environ | {STORE: os.environ.get(STORE) or str(_store())},
            )
            Thread(target=self._watch, args=(process,), daemon=True).start()
        assert process.stdin is not None and process.stdout is not None
        request = {"chapter": self.chapter, "values": values, "draw": draw}
        print(json.dumps(request), file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            return {"error": "The process that draws has ended; press Run to start another."}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _watch(self, process: "subprocess.Popen[str]") -> None:
        """Show the last line of what the process says of its runs."""
        assert process.stderr is not None
        for line in process.stderr:  # carriage returns end lines, too
            if line.strip():
                self.progress.value = f"<pre>{escape(line.strip())}</pre>"


def panel(parameters: Parameters) -> Panel:
    """The panel of a chapter, to be displayed in its notebook.

    Args:
        parameters: of the chapter, such as `parameters.check` returns.
    """
    return Panel(parameters)


def _store() -> Path:
    """Where runs of a panel are kept: with the book's, if this is its folder."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "_toc.yml").is_file():
            return folder / "_build" / "runs"
    return Path(tempfile.mkdtemp(prefix="implreg-"))


def _parts(answer: dict[str, Any]) -> list[str]:
    """What was drawn, as pieces of HTML."""
    pictures = [
        f'<img src="data:image/svg+xml;base64,{one["svg"]}" alt="{escape(one["alt"])}">'
        for one in answer["figures"]
    ]
    return [answer["prose"], *answer["verdicts"], *pictures, *answer["tables"]]
