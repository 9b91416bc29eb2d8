"""What the cells of an executed notebook show, without what differs from run to run anyhow."""

import json
import re
from pathlib import Path
from typing import Any

# Addresses and processes in texts; ids of estimators in HTML; how long something took.
NOISE = re.compile(r"0x[0-9a-f]+|ipykernel_\d+/\d+|sk-[\w-]+|\d+\.\d+ ?(?:s|ms|µs)\b")
WIDGET = "application/vnd.jupyter.widget-view+json"  # an id of its own in every run


def code_cells(path: Path) -> list[dict[str, Any]]:
    """Give the code cells of a notebook."""
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def outputs(cell: dict[str, Any], noise: re.Pattern[str] = NOISE) -> list[dict[str, Any]]:
    """Give what a cell shows, in the same words whoever ran it, with a star for each noise."""
    found: list[dict[str, Any]] = json.loads(noise.sub("*", json.dumps(_joined(cell["outputs"]))))
    return found


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join what papermill keeps in pieces, and give what a carriage return has left."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        data = {kind: _text(each) for kind, each in output.get("data", {}).items() if kind != WIDGET}
        error = (output.get("ename"), output.get("evalue"), output.get("traceback"))
        one = {"type": output["output_type"], "data": data, "error": error, "name": output.get("name")}
        text = _text(output.get("text", ""))
        if joined and one["name"] and one["name"] == joined[-1]["name"]:
            joined[-1]["text"] += text
        else:
            joined.append(one | {"text": text})
    return [each | {"text": re.sub(r"[^\n]*\r(?=[^\n])", "", each["text"])} for each in joined]


def _text(content: Any) -> Any:
    return "".join(content) if isinstance(content, list) else content
