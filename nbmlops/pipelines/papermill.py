"""The one file that talks to papermill: ``papermill --engine nbmlops IN OUT``.

Papermill sets the parameters and writes the output, as ever. The notebook is a tracked run and a job with a truthful
end, its cells run as `run` has them run, and it is not written twice for every cell.
"""

import atexit
import builtins
import json
import logging
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from papermill.engines import Engine
from papermill.iorw import write_ipynb

from nbmlops import errors
from nbmlops.pipelines import handed
from nbmlops.pipelines.notebook import ERROR_MARKER, Content, read
from nbmlops.pipelines.warm import client, place

_LOGGER = logging.getLogger("papermill")


class NbmlopsEngine(Engine):  # type: ignore[misc]
    """Papermill's engine ``nbmlops``."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str | None, output_path: str | None = None, **options: Any) -> Any:
        """Execute a notebook whose parameters papermill has set; give it with its outputs.

        Parameters
        ----------
        nb
            The notebook, a node of nbformat; its cells are replaced.
        kernel_name
            The kernel that papermill was asked for, or that the notebook names.
        output_path
            Where papermill will write it.
        options
            Papermill's other options; ``input_path`` and ``execution_timeout`` (seconds for a cell) count.
        """
        from nbformat import from_dict

        done, error = _executed(nb, kernel_name, options)
        nb.cells = [from_dict(cell) for cell in done["cells"] if ERROR_MARKER not in cell["metadata"].get("tags", ())]
        nb.metadata = from_dict({**done["metadata"], "papermill": {**done["metadata"]["papermill"], **_paths(nb)}})
        if error is not None and not _tells(nb):  # else papermill finds the error in the cell, and raises it
            if output_path:
                write_ipynb(nb, output_path)
            raise error
        return nb


def _executed(node: Any, kernel_name: str | None, options: dict[str, Any]) -> tuple[Content, BaseException | None]:
    content: Content = dict(node)
    if kernel_name:
        content["metadata"].setdefault("kernelspec", {})["name"] = kernel_name
    asked = {
        "source": str(Path(options.get("input_path") or "notebook.ipynb").resolve()),
        "content": content,
        "given": dict(content["metadata"]["papermill"].get("parameters", {})),
        "cell_s": options.get("execution_timeout"),
    }
    told = _warm(asked) or handed.executed(asked, _LOGGER.info)
    error = _error(told)
    if error and not told["output"]:
        raise error
    return read(Path(told["output"])), error


def _warm(asked: dict[str, Any]) -> dict[str, Any] | None:
    """Have the warm server execute it; None when there is none, or when it would not be as here."""
    if not place.is_wanted() or threading.current_thread() is not threading.main_thread():  # which alone gets signals
        return None
    with tempfile.TemporaryDirectory(prefix="nbmlops-") as folder:
        path = Path(folder, "run.json")
        path.write_text(json.dumps(asked))
        code = client.run([str(path)], handed.MAIN)
        if code is None:
            atexit.register(client.leave_one, dict(os.environ))
            return None
        if code:
            raise errors.KernelError(f"The process that ran the notebook ended with {code}.", "See it with: `jobs`")
        told: dict[str, Any] = json.loads(path.read_text())
        return told


def _error(told: dict[str, Any]) -> BaseException | None:
    """Build the error anew that ended a run."""
    if not told["error"]:
        return None
    kind = getattr(errors, told["error"], None)
    if kind:
        ours: BaseException = kind(told["message"], told["hint"])
        return ours
    return getattr(builtins, told["error"], RuntimeError)(told["message"])


def _tells(node: Any) -> bool:
    outputs = [output for cell in node.cells for output in cell.get("outputs", ())]
    return any(output["output_type"] == "error" for output in outputs)


def _paths(node: Any) -> dict[str, Any]:
    return {name: node.metadata["papermill"].get(name) for name in ("input_path", "output_path")}
