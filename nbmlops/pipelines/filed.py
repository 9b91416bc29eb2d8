"""Parameters that are given in a file: JSON, TOML or YAML, read without the traps of their types."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbmlops.errors import NotFoundError, UsageError, nearest
from nbmlops.pipelines.values import DEEPEST, Number, Plain, Quoted, RefusedError, unique


def from_file(path: Path) -> dict[str, Any]:
    r"""Read parameters by name from a file: ``.json``, ``.toml``, ``.yaml`` or ``.yml``.

    Values of JSON and TOML have the types that the file gives them. YAML's scalars without quotes are
    text that the declared type reads, so that ``no`` is no bool and ``0123`` no octal number where text
    is declared; where nothing is declared, what JSON knows (``3``, ``true``, ``null``) is that.

    Raises
    ------
    NotFoundError
        There is no such file; the hint names the nearest of its folder.
    UsageError
        It cannot be read, and where: ill-formed, a name twice, no object of names, another ending;
        YAML with aliases or tags.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "march.yaml"
    >>> _ = path.write_text("month: 3\ncode: 0123\n")
    >>> from_file(path)
    {'month': '3', 'code': '0123'}
    """
    try:
        reader = _READERS[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path} holds no parameters by its ending.", f"There are: {', '.join(_READERS)}.") from None
    try:
        given = reader(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as exc:
        beside = [each.name for each in path.parent.glob("*") if each.suffix in _READERS]
        raise NotFoundError(f"There is no file {path}.", nearest(path.name, beside)) from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path} is not UTF-8 text.") from exc
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}.") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{path.name}{_where(exc)}.") from None  # the cause quotes the file, which may hold secrets
    if not isinstance(given, dict):
        raise UsageError(f"{path.name} must hold parameters by name, not {_noun(given)}.")
    return {name: Quoted(value) if type(value) is str else value for name, value in given.items()}


def _where(exc: Exception) -> str:
    """Word what is wrong with a file, and in which line."""
    if isinstance(exc, json.JSONDecodeError):
        return f", line {exc.lineno}: it is no JSON: {exc.msg}"
    if isinstance(exc, RecursionError):
        return ": it is nested too deeply"
    return str(exc) if str(exc).startswith((",", ":")) else f": {str(exc).rstrip('.')}"


def _noun(value: Any) -> str:
    return {list: "a list", type(None): "nothing"}.get(type(value), f"a single {type(value).__name__.lower()}")


def _json(text: str) -> Any:
    return json.loads(text, parse_float=Number, object_pairs_hook=unique)


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text, parse_float=Number)
    except tomllib.TOMLDecodeError as exc:  # which ends "(at line 2, column 5)" or "(at end of document)"
        line = re.search(r"\(at line (\d+), ", str(exc))
        number = line[1] if line else text.rstrip().count("\n") + 1
        raise RefusedError(f", line {number}: it is no TOML: {str(exc).partition(' (at ')[0]}") from None


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise UsageError("YAML needs PyYAML, which is not installed.", "Install pyyaml, or use JSON or TOML.") from None
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise RefusedError(f"{f', line {mark.line + 1}' if mark else ''}: it is no YAML: {exc.problem}") from None
    except yaml.YAMLError as exc:
        raise RefusedError(f": it is no YAML: {str(exc).partition(chr(10))[0]}") from None
    return None if node is None else _Nodes(yaml).value(node, 0)


class _Nodes:
    """Turns YAML's nodes into values: no tag, alias or name twice, and scalars without a type."""

    def __init__(self, yaml: Any) -> None:
        self._yaml = yaml
        self._seen: set[int] = set()

    def value(self, node: Any, depth: int) -> Any:
        """Give a node's value."""
        if id(node) in self._seen or depth > DEEPEST:
            raise self._refused(node, "aliases are not read" if depth <= DEEPEST else "it is nested too deeply")
        if node.tag not in _UNTAGGED:
            raise self._refused(node, f"the tag {node.tag} is not read")
        self._seen.add(id(node))
        if isinstance(node, self._yaml.ScalarNode):
            return Quoted(node.value) if node.style else Plain(node.value)
        if isinstance(node, self._yaml.SequenceNode):
            return [self.value(each, depth + 1) for each in node.value]
        return dict(self._pairs(node, depth + 1))

    def _pairs(self, node: Any, depth: int) -> Iterator[tuple[str, Any]]:
        names = set()
        for key, item in node.value:
            if not isinstance(key, self._yaml.ScalarNode) or key.value in names:
                raise self._refused(
                    key, "a name is text" if not hasattr(key, "style") else f"{key.value!r} is in it twice"
                )
            names.add(key.value)
            yield str(key.value), self.value(item, depth)

    @staticmethod
    def _refused(node: Any, why: str) -> RefusedError:
        return RefusedError(f", line {node.start_mark.line + 1}: {why}")


_UNTAGGED = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}
_READERS: dict[str, Callable[[str], Any]] = {".json": _json, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
