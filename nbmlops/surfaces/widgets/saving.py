"""What a saved notebook keeps of a view: the card beside it, which needs no kernel. Called by the Jupyter server."""

from collections.abc import Iterator, Mapping
from typing import Any

VIEW = "application/vnd.jupyter.widget-view+json"
MARK = {"nbmlops": {"is_view": True}}  # metadata of an output with a view of ours


def keep_cards(model: Mapping[str, Any], **_: Any) -> None:
    """Leave the views out of a notebook that is saved: a hook of the Jupyter server's contents manager.

    An output keeps its card. The view alone would be an error message as soon as its kernel is gone. Outputs of
    others, also their widgets, stay as they are.

    Examples
    --------
    >>> output = {"data": {"text/html": "<b>card</b>", VIEW: {"model_id": "1"}}, "metadata": MARK}
    >>> keep_cards({"type": "notebook", "content": {"cells": [{"outputs": [output]}]}})
    >>> output
    {'data': {'text/html': '<b>card</b>'}, 'metadata': {}}
    """
    for output in _outputs(model.get("content")):
        if output.get("metadata", {}).get("nbmlops") == MARK["nbmlops"]:
            output["metadata"] = {name: value for name, value in output["metadata"].items() if name != "nbmlops"}
            output["data"].pop(VIEW, None)


def _outputs(notebook: Any) -> Iterator[dict[str, Any]]:
    """Give the outputs with data of what may be a notebook."""
    cells = notebook.get("cells", ()) if isinstance(notebook, Mapping) else ()
    for cell in cells:
        yield from (output for output in cell.get("outputs", ()) if "data" in output)
