"""What stands behind a step: its code in parts with digests, its parameters, and the results that it is known to give.

Notebooks and modules are read and parsed, never imported or run. What was read is kept for as long as the file stays
as it is, so that hundreds of unchanged steps cost little more than a look at the disk each.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import json
import re
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, get_origin

from nbmlops.errors import NotFoundError, UsageError, nearest
from nbmlops.pipelines import contract
from nbmlops.pipelines import notebook as nb
from nbmlops.pipelines.contract import Parameter
from nbmlops.pipelines.flow.declared import Pipeline, Step
from nbmlops.pipelines.flow.problems import Problem
from nbmlops.strict_json import dumps
from nbmlops.verb import load
from nbmlops.vocabulary import VERBS

OF_EVERY_NOTEBOOK = {"run_id": "str", "output": "str"}  # results that a notebook's run gives by itself
_MAGIC = re.compile(r"(?m)^[ \t]*[%!].*$")
_ASSIGNED_MAGIC = re.compile(r"(?m)=[ \t]*[%!].*$")
_RESULT_LINE = re.compile(r"(?m)^[ \t]*%{1,2}mlops[ \t]+result\b(.*)$")
_DYNAMIC_LINE = re.compile(r"(?m)^[ \t]*%(run|load|macro|store)\b|run_line_magic|run_cell")
_TYPES = {str: "str", int: "int", float: "float", bool: "bool", list: "list", tuple: "list", dict: "dict"}


@dataclass(frozen=True)
class Part:
    """One piece of a step's source that can change by itself: ``cell 3``, ``features.py``."""

    name: str
    digest: str


@dataclass(frozen=True)
class Source:
    """What stands behind a step.

    `parameters` is None where any are taken. `results` gives the type of each known result; with `is_open` others may
    come when it runs.
    """

    parts: tuple[Part, ...] = ()
    parameters: tuple[Parameter, ...] | None = None
    results: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = True


@dataclass(frozen=True)
class _Code:
    """What one file says of itself; `imports` are dotted names, those relative to the file begin with a dot."""

    parts: tuple[Part, ...]
    imports: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    results: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = True


def behind(
    pipeline: Pipeline, root: Path, settings: Mapping[str, Any] | None = None
) -> tuple[dict[str, Source], tuple[Problem, ...]]:
    """Look at what stands behind each step.

    Parameters
    ----------
    pipeline
        As declared.
    root
        The project's folder, from which notebooks and modules are meant.
    settings
        Parts of nbmlops.toml that verbs obey (``{"gates": ...}``): a change of theirs is a change of the verb.

    Returns
    -------
    tuple
        Sources by the step's name, and a problem for each step that has none.
    """
    sources: dict[str, Source] = {}
    problems = []
    look = Looking(root)
    for step in pipeline.steps:
        try:
            sources[step.name] = look.at(step, settings or {})
        except (UsageError, NotFoundError) as exc:
            problems.append(Problem((*step.place, step.kind), f"step {step.name}: {exc.message}", exc.hint))
    return sources, tuple(problems)


class Looking:
    """One look at the files of a project; what it has found once in it, it does not search again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._found: dict[tuple[Path, str], tuple[Path, ...]] = {}

    def at(self, step: Step, settings: Mapping[str, Any]) -> Source:
        """Look at one step."""
        match step.kind:
            case "notebook":
                return self.notebook(step.target)
            case "function":
                return self.function(step.target)
            case "verb":
                return _verb(step, settings)
        return Source((Part("the question", digest(step.target)),), (), {"approved": "bool", "by": "str"}, False)

    def notebook(self, target: str) -> Source:
        """Read a notebook: its code cells, and the project's own modules that it imports."""
        path = self.root / target
        try:
            stamp = _stamp(path)
        except OSError:
            nb.read(path)  # which says why it cannot be read
            raise
        code = _notebook_code(path, stamp)
        modules = self._modules(code.imports, path)
        return Source(
            (*code.parts, *modules),
            code.parameters,
            {**OF_EVERY_NOTEBOOK, **code.results},
            is_open=code.is_open or not code.results or bool(modules),
        )

    def function(self, target: str) -> Source:
        """Read a function's module without importing it."""
        module, _, name = target.partition(":")
        path = _module_file(module, self.root)
        parameters, results = _function(path, _stamp(path), name, module)
        code = _module_code(path, _stamp(path))
        own = (*code.parts, *self._modules(code.imports, path))
        return Source(own, parameters, results or {}, is_open=results is None)

    def _modules(self, imports: Iterable[str], path: Path) -> tuple[Part, ...]:
        """Collect the project's own modules that a file imports, and those that these import."""
        parts: dict[Path, Part] = {}
        waiting = [(name, path) for name in imports] if self._is_own(path) else []
        while waiting:
            name, importer = waiting.pop()
            for file in self._files(name, importer):
                if file not in parts and file != path and self._is_own(file):
                    code = _module_code(file, _stamp(file))
                    parts[file] = Part(self._shown(file), code.parts[0].digest)
                    waiting += [(each, file) for each in code.imports]
        return tuple(sorted(parts.values(), key=lambda part: part.name))

    def _files(self, name: str, importer: Path) -> tuple[Path, ...]:
        folder = importer.parent
        key = (folder, name)
        if key not in self._found:
            places = [folder] if name.startswith(".") else dict.fromkeys([folder, self.root])
            self._found[key] = tuple(_files_of(name, places))
        return self._found[key]

    def _is_own(self, file: Path) -> bool:
        return file.is_relative_to(self.root) and "site-packages" not in file.parts

    def _shown(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()


def digest(content: str | bytes) -> str:
    """Give the SHA-256 of a text or of bytes, in hexadecimal digits."""
    return hashlib.sha256(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    told = path.stat()
    return told.st_mtime_ns, told.st_size, told.st_ino


# ----------------------------------------------------------------- notebooks
@functools.lru_cache(maxsize=4096)
def _notebook_code(path: Path, stamp: tuple[int, int, int]) -> _Code:  # noqa: ARG001  # a changed file is read anew
    content = nb.read(path)
    cells = [
        (n, nb.source_of(cell))
        for n, cell in enumerate(content["cells"], start=1)
        if cell.get("cell_type") == "code" and nb.INJECTED not in cell.get("metadata", {}).get("tags", ())
    ]
    sources = [source for _, source in cells]
    results, is_open = results_in(sources)
    return _Code(
        parts=tuple(Part(f"cell {n}", digest(source)) for n, source in cells),
        imports=tuple(dict.fromkeys(name for source in sources for name in _imports(_tree(source)))),
        parameters=nb.parameters_of(content),
        results=results,
        is_open=is_open,
    )


def results_in(sources: Iterable[str]) -> tuple[dict[str, str], bool]:
    """Find the results that cells give, by their source; tell too whether there may be others.

    Examples
    --------
    >>> results_in(["%mlops result table=path", "nbmlops.result(n=3, auc=score)"])
    ({'table': 'any', 'n': 'int', 'auc': 'any'}, False)
    >>> results_in(["nbmlops.result(**found)"])
    ({}, True)
    """
    known: dict[str, str] = {}
    is_open = False
    for source in sources:
        is_open |= bool(_DYNAMIC_LINE.search(source))
        for line in _RESULT_LINE.findall(source):
            is_open |= _take_line(line, known)
        tree = _tree(source)
        is_open |= tree is None
        for node in ast.walk(tree) if tree else ():
            is_open |= _take_call(node, known)
    return known, is_open


def _take_line(line: str, known: dict[str, str]) -> bool:
    """Note the results of a ``%mlops result`` line; tell whether it has others."""
    try:
        words = shlex.split(line)
    except ValueError:
        return True
    pairs = [re.match(r"([A-Za-z_]\w*)=", word) for word in words]
    known.update({pair[1]: "any" for pair in pairs if pair})
    return not all(pairs)


def _take_call(node: ast.AST, known: dict[str, str]) -> bool:
    """Note the results of a call of ``nbmlops.result``; tell whether it may give others."""
    match node:
        case ast.Call(func=ast.Attribute(attr="result", value=ast.Name(id="nbmlops" | "ops")), keywords=named):
            known.update({each.arg: _literal_type(each.value) for each in named if each.arg})
            return bool(node.args) or not all(each.arg for each in named)
        case ast.Call(func=ast.Attribute(attr="result") | ast.Name(id="result"), keywords=[_, *_]):
            return True  # it may be ours under another name
        case ast.Call(func=ast.Name(id="exec" | "eval")):
            return True
    return False


def _literal_type(node: ast.expr) -> str:
    kind = _TYPES.get(type(node.value), "any") if isinstance(node, ast.Constant) else "any"
    return "str" if isinstance(node, ast.JoinedStr) else kind


def _tree(source: str) -> ast.Module | None:
    """Parse a cell without its magics; None where it is not Python."""
    try:
        return _quietly_parsed(_ASSIGNED_MAGIC.sub("= None", _MAGIC.sub("", source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _quietly_parsed(source: str | bytes) -> ast.Module:
    with warnings.catch_warnings():  # about the user's code, which is not run here
        warnings.simplefilter("ignore")
        return ast.parse(source)


# ------------------------------------------------------------------- modules
@functools.lru_cache(maxsize=4096)
def _module_code(path: Path, stamp: tuple[int, int, int]) -> _Code:  # noqa: ARG001
    content = path.read_bytes()
    tree = _tree(content.decode("utf-8", "replace"))
    return _Code((Part(path.name, digest(content)),), tuple(dict.fromkeys(_imports(tree))))


def _imports(tree: ast.Module | None) -> Iterator[str]:
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield start
            yield from (f"{start}{'' if start.endswith('.') else '.'}{alias.name}" for alias in node.names)


def _files_of(name: str, folders: Iterable[Path]) -> Iterator[Path]:
    """Find a module's file and those of the packages that it lies in, where they lie in one of the folders."""
    bare = name.lstrip(".")
    above = len(name) - len(bare) - 1
    parts = bare.split(".") if bare else []
    for folder in folders:
        start = folder if above < 1 else folder.parents[min(above, len(folder.parents)) - 1]
        files = [file for n in range(1, len(parts) + 1) if (file := _file(start.joinpath(*parts[:n])))]
        if files:
            yield from files
            return


def _file(place: Path) -> Path | None:
    for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
        if file.is_file():
            return file
    return None


def _module_file(module: str, root: Path) -> Path:
    """Find a module's file, in the project's folder first, importing nothing."""
    places: list[str] | None = [str(root), *sys.path]
    parts = module.split(".")
    for n in range(1, len(parts) + 1):
        found = PathFinder.find_spec(".".join(parts[:n]), places)
        if found is None:
            raise UsageError(
                f"there is no module {module!r}.", nearest(module, [path.stem for path in root.glob("*.py")])
            )
        places = list(found.submodule_search_locations or [])
    if not found or not found.origin or not found.origin.endswith(".py"):
        raise UsageError(f"the module {module!r} has no Python file.")
    return Path(found.origin)


@functools.lru_cache(maxsize=4096)
def _function(
    path: Path,
    stamp: tuple[int, int, int],  # noqa: ARG001
    name: str,
    module: str,
) -> tuple[tuple[Parameter, ...] | None, Mapping[str, str] | None]:
    """Read a function's parameters (None: any) and results (None: not known)."""
    try:
        tree = _quietly_parsed(path.read_bytes())
    except (SyntaxError, ValueError) as exc:
        raise UsageError(f"{path.name} is not Python: {exc}.") from exc
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if name in functions:
        return _taken(functions[name]), _given(functions[name])
    bound = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    if name in bound or any(
        isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets) for node in tree.body
    ):
        return None, None
    raise UsageError(f"{module} has no function {name!r}.", nearest(name, [*functions, *bound]))


def _taken(function: ast.FunctionDef) -> tuple[Parameter, ...] | None:
    arguments = function.args
    if arguments.kwarg:
        return None
    named = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(named) - len(arguments.defaults)), *arguments.defaults]
    pairs = [*zip(named, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return contract.declared("\n".join(_as_cell(argument, default) for argument, default in pairs))


def _as_cell(argument: ast.arg, default: ast.expr | None) -> str:
    """Word an argument as a line of a tagged cell, which `contract` reads."""
    if argument.annotation is None and default is None:
        return f"{argument.arg}: object"
    annotation = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    return f"{argument.arg}{annotation}" + (f" = {ast.unparse(default)}" if default else "")


def _given(function: ast.FunctionDef) -> dict[str, str] | None:
    """Tell the results of a function whose every return is a dict display with plain keys."""
    known: dict[str, str] = {}
    for node in _own_nodes(function):
        if isinstance(node, ast.Return):
            if not isinstance(node.value, ast.Dict):
                return None
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
                    return None
                kind = _literal_type(value)
                known[key.value] = kind if known.get(key.value, kind) == kind else "any"
    return known or None


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a function without those inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own_nodes(child)


# --------------------------------------------------------------------- verbs
def _verb(step: Step, settings: Mapping[str, Any]) -> Source:
    name = step.words[0]
    if name not in VERBS:
        raise UsageError(f"there is no verb {name!r}.", nearest(name, VERBS))
    if VERBS[name].effect == "session":
        raise UsageError(f"{name} acts on the notebook in which it stands, so it cannot be a step.")
    parts = (Part("the words", digest(json.dumps(step.words))),)
    obeyed = tuple(Part(f"[{key}]", digest(dumps(value))) for key, value in sorted(settings.items()))
    results = _verb_results(name)
    return Source(parts + obeyed, (), results or {}, is_open=results is None)


@functools.cache
def _verb_results(name: str) -> dict[str, str] | None:
    """Tell the fields of what a verb returns; None for a verb that lists."""
    returned = inspect.signature(load(name), eval_str=True).return_annotation
    if not dataclasses.is_dataclass(returned):
        return None
    kinds = inspect.get_annotations(returned, eval_str=True)  # type: ignore[arg-type]
    return {each.name: _kind_of(kinds.get(each.name)) for each in dataclasses.fields(returned)}


def _kind_of(annotation: Any) -> str:
    origin = get_origin(annotation) or annotation
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "dict"
    return _TYPES.get(origin, "any")
