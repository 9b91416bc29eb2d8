"""``%mlops`` without ``%load_ext``: an IPython knows the magic from its start, and loads the rest at its first use.

Only the standard library is imported here: this runs in every IPython of an environment that has nbmlops.
"""

import os
import re
from collections.abc import Callable
from typing import Any

EXTENSION = "nbmlops"
_OURS = re.compile(r"\s*(?:[\w, ]+=\s*)?%%?mlops\b")
_LOADS = re.compile(r"\s*%load_ext\s+nbmlops\b")


def offer(shell: Any) -> None:
    """Offer ``%mlops`` in a shell, unless ``NBMLOPS_MAGIC=off`` or the extension is there already.

    Examples
    --------
    >>> import atexit, IPython
    >>> shell = IPython.InteractiveShell()
    >>> offer(shell)
    >>> type(shell.magics_manager.magics["cell"]["mlops"]).__name__
    'LazyMagic'
    >>> atexit.unregister(shell.atexit_operations)  # of an example, nothing is left to end
    """
    if os.environ.get("NBMLOPS_MAGIC") == "off" or _is_loaded(shell):
        return
    shell.magics_manager.register_lazy("mlops", EXTENSION)
    shell.input_transformers_cleanup.append(_before_a_cell(shell))
    shell.Completer.custom_matchers.append(_at_tab(shell))


def _before_a_cell(shell: Any) -> Callable[[list[str]], list[str]]:
    """Make what loads the extension before the first cell that uses it: so that cell is recorded and tracked, too."""

    def transform(lines: list[str]) -> list[str]:
        if _is_loaded(shell) or not any(map(_OURS.match, lines)) or any(map(_LOADS.match, lines)):
            return lines
        for added in _load(shell, shell.input_transformers_cleanup):
            lines = added(lines)
        return lines

    return transform


def _at_tab(shell: Any) -> Any:
    """Make IPython's matcher that loads the extension when the first of our lines is to be completed."""
    from IPython.core.completer import context_matcher

    @context_matcher(identifier="nbmlops.first_use", priority=100)
    def matcher(context: Any) -> dict[str, Any]:
        if _is_loaded(shell) or not _OURS.match(context.text_until_cursor):
            return {"completions": []}
        (added,) = _load(shell, shell.Completer.custom_matchers)
        return added(context)  # type: ignore[no-any-return]

    return matcher


def _load(shell: Any, hooks: list[Any]) -> list[Any]:
    """Load the extension; give what it has added to a list of hooks that IPython is walking through already."""
    known = len(hooks)
    shell.extension_manager.load_extension(EXTENSION)
    return hooks[known:]


def _is_loaded(shell: Any) -> bool:
    return EXTENSION in shell.extension_manager.loaded
