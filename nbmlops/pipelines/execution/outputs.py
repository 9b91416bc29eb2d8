"""What a cell sends while it runs, made into the outputs of a notebook; pure.

The rules are those of Jupyter's message protocol: ``clear_output``, displays that are updated by their id, output
widgets that take what is shown inside them, and the state of widgets.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

Cell = dict[str, Any]
WIDGETS = "application/vnd.jupyter.widget-state+json"


class Outputs:
    """Collects the outputs of a notebook's cells.

    Parameters
    ----------
    cells
        The notebook's cells; the code cells among them get their outputs here.

    Examples
    --------
    >>> cells = [{"cell_type": "code", "outputs": []}]
    >>> outputs = Outputs(cells)
    >>> outputs.take(0, "stream", {"name": "stdout", "text": "1 of 2"})
    >>> outputs.take(0, "stream", {"name": "stdout", "text": " done"})
    >>> outputs.settle()
    >>> cells[0]["outputs"]
    [{'output_type': 'stream', 'name': 'stdout', 'text': '1 of 2 done'}]
    """

    def __init__(self, cells: list[Cell]) -> None:
        self._cells = cells
        self._to_clear: set[int] = set()
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._widgets: dict[str, dict[str, Any]] = {}
        self._buffers: dict[str, dict[str, Any]] = {}
        self._captured: dict[int, list[str]] = {}  # cell -> output widgets that are open in it, the inmost last

    def take(self, cell: int, kind: str, content: Mapping[str, Any]) -> None:
        """Take one message that a cell sent; what is no output is passed over."""
        if not 0 <= cell < len(self._cells):
            return
        if kind == "clear_output":
            self._clear(cell, wait=bool(content.get("wait")))
        elif kind.startswith("comm_"):
            self._take_widget(cell, kind, content)
        elif kind == "update_display_data":
            for shown in self._displays.get(_display_id(content), ()):
                shown.update(data=_bundle(content.get("data")), metadata=_mapping(content.get("metadata")))
        elif kind == "stream":
            self._write(cell, str(content["name"]), str(content["text"]))
        elif kind in _OUTPUTS:
            self._add(cell, kind, content)

    def settle(self) -> None:
        """Join the pieces of text, and drop what a carriage return has overwritten."""
        for outputs in [each.get("outputs", ()) for each in self._cells] + [
            state.get("outputs", ()) for state in self._widgets.values()
        ]:
            for output in outputs:
                if output.get("output_type") == "stream" and isinstance(output["text"], list):
                    output["text"] = _visible("".join(output["text"]))

    def widgets(self) -> dict[str, Any]:
        """Give the state of the notebook's widgets, as its metadata keeps it; empty without any."""
        states = {}
        for identity, state in self._widgets.items():
            own = {
                "model_name": state.get("_model_name"),
                "model_module": state.get("_model_module"),
                "model_module_version": state.get("_model_module_version"),
                "state": state,
            }
            buffers = list(self._buffers.get(identity, {}).values())
            states[identity] = own | ({"buffers": buffers} if buffers else {})
        return {WIDGETS: {"state": states, "version_major": 2, "version_minor": 0}} if states else {}

    def _place(self, cell: int) -> list[dict[str, Any]]:
        """Give the list that takes the cell's outputs now: the cell's, or that of an output widget."""
        if inmost := self._captured.get(cell):
            place: list[dict[str, Any]] = self._widgets[inmost[-1]].setdefault("outputs", [])
        else:
            place = self._cells[cell].setdefault("outputs", [])
        if cell in self._to_clear:
            self._to_clear.discard(cell)
            place.clear()
        return place

    def _write(self, cell: int, name: str, text: str) -> None:
        place = self._place(cell)
        last = place[-1] if place else {}
        if last.get("output_type") == "stream" and last["name"] == name and isinstance(last["text"], list):
            last["text"].append(text)
        else:
            place.append({"output_type": "stream", "name": name, "text": [text]})

    def _add(self, cell: int, kind: str, content: Mapping[str, Any]) -> None:
        output = {"output_type": kind} | {name: made(content.get(name)) for name, made in _OUTPUTS[kind].items()}
        self._place(cell).append(output)
        if identity := _display_id(content):
            self._displays.setdefault(identity, []).append(output)

    def _clear(self, cell: int, *, wait: bool) -> None:
        self._to_clear.discard(cell)
        if wait:
            self._to_clear.add(cell)
        else:
            self._place(cell).clear()

    def _take_widget(self, cell: int, kind: str, content: Mapping[str, Any]) -> None:
        identity, data = str(content["comm_id"]), content.get("data") or {}
        state = data.get("state")
        if not isinstance(state, dict) or (kind != "comm_open" and identity not in self._widgets):
            return
        own = self._widgets.setdefault(identity, {})
        own.update(state)
        for path, buffer in zip(data.get("buffer_paths") or (), content.get("buffers") or (), strict=False):
            kept = {"data": buffer, "encoding": "base64", "path": path}
            self._buffers.setdefault(identity, {})[json.dumps(path)] = kept
        if own.get("_model_name") == "OutputModel" and "msg_id" in state:
            self._capture(cell, identity, is_open=bool(state["msg_id"]))

    def _capture(self, cell: int, identity: str, *, is_open: bool) -> None:
        inmost = self._captured.setdefault(cell, [])
        if is_open:
            inmost.append(identity)
        elif identity in inmost:
            inmost.remove(identity)


def strict(content: Any) -> Any:
    """Give JSON in which no number is infinite or none: such ones become null, as a browser would make them."""
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, dict):
        return {key: strict(value) for key, value in content.items()}
    if isinstance(content, list):
        return [strict(value) for value in content]
    return content


def _visible(text: str) -> str:
    """Give of each line what stands behind its last carriage return, but for those at its end."""
    if "\r" not in text:
        return text
    lines = []
    for line in text.split("\n"):
        body = line.rstrip("\r")
        lines.append(body.rpartition("\r")[2] + line[len(body) :])
    return "\n".join(lines)


def _display_id(content: Mapping[str, Any]) -> str:
    return str((content.get("transient") or {}).get("display_id") or "")


def _bundle(data: Any) -> dict[str, Any]:
    """Give what is shown as the format of notebooks wants it: texts, and anything where the kind is JSON's."""
    return {kind: each if _is_free(kind) else _text(each) for kind, each in _mapping(data).items()}


def _is_free(kind: str) -> bool:
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "".join(value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _lines(value: Any) -> list[str]:
    return [_text(each) for each in value] if isinstance(value, list) else [_text(value)]


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


_OUTPUTS: dict[str, dict[str, Callable[[Any], Any]]] = {  # what each holds, made as the format of notebooks wants it
    "display_data": {"data": _bundle, "metadata": _mapping},
    "execute_result": {"data": _bundle, "metadata": _mapping, "execution_count": _count},
    "error": {"ename": _text, "evalue": _text, "traceback": _lines},
}
