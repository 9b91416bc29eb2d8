"""A run taken out of its stores: as plain Python, as a notebook, or as one archive that holds everything."""

import ast
import json
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nbmlops.errors import StoreError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.scrub import scrub, scrub_text
from nbmlops.strict_json import dumps, plain
from nbmlops.tracking.capture import git
from nbmlops.tracking.capture.kept import Kept, kept
from nbmlops.tracking.capture.rebuild import as_notebook
from nbmlops.tracking.capture.source import Execution
from nbmlops.tracking.mlflow import Tracking, translated
from nbmlops.verb import Result

FORMS = {"py": ".py", "notebook": ".ipynb", "bundle": ".zip"}
_MAGIC = re.compile(r"^(\s*)((?:[\w, .\[\]'\"]+=\s*)?)([%!].*|.*\S\?{1,2}|\?{1,2}\S.*)$")
_READ_ME = """\
Run {name}, {run_id}

run.json      its parameters, tags and metrics with their whole histories
artifacts/    its files: models, figures, tables
artifacts/nbmlops/
              what it was made from: the source of the cells that were executed, in their order; the changes
              that no commit held, for `git apply`; the environment as requirements; the machine
run.py        the executed source as plain Python
code/         the commit {commit}
"""


@dataclass(frozen=True)
class Exported(Result):
    """What was written where."""

    run_id: str
    to: str
    path: str
    size_bytes: int

    @property
    def headline(self) -> str:
        """The file in one line."""
        return f"Run {self.run_id[:8]} as {self.to}: {self.path} ({self.size_bytes:,} bytes)"

    @property
    def subject(self) -> str:
        """How the ledger files it."""
        return f"run/{self.run_id}"


def exported(project: Project, run: str, to: str = "py", output: str | None = None) -> Exported:
    """Write a run in one of `FORMS`; the verb `export` says what each holds, and what is refused."""
    if to not in FORMS:
        raise UsageError(f"A run is not exported to {to!r}.", nearest(to, FORMS))
    tracking = project.open(Tracking)
    found = tracking.find(run)
    made_from = kept(tracking, found)
    safe = re.sub(r"[^\w.-]+", "-", found.name).strip("-.") or "run"
    path = project.output(output or f"{safe}-{found.run_id[:8]}{FORMS[to]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            try:
                _write(project, made_from, to, file)
            except BaseException:
                path.unlink()
                raise
    except FileExistsError as exc:
        raise UsageError(f"{path} is there already.", "Give another path with -o.") from exc
    except OSError as exc:
        raise StoreError(f"{path} cannot be written: {exc.strerror}.", "Check the disk, or give -o.") from exc
    return Exported(found.run_id, to, str(path), path.stat().st_size)


# ------------------------------------------------------------------- plain Python
def as_python(executions: Sequence[Execution], title: str = "") -> str:
    r"""Write executions as Python that needs no IPython: magics and shell commands become comments.

    A cell that failed is a comment as a whole.

    Examples
    --------
    >>> print(as_python([Execution(1, "%load_ext nbmlops\nn = 1"), Execution(2, "files = !ls")]), end="")
    # %% [1]
    # %load_ext nbmlops
    n = 1
    <BLANKLINE>
    # %% [2]
    files = None  # !ls
    """
    cells = [f"# %% [{each.number}]{_failed(each)}\n{scrub_text(_plain(each)).strip(chr(10))}\n" for each in executions]
    return "\n".join([*([title] if title else []), *cells])


def _failed(execution: Execution) -> str:
    return " failed" if execution.status == "failed" else ""


def _plain(execution: Execution) -> str:
    source = execution.source
    if execution.status == "failed":
        return _commented(source.splitlines())
    if _is_python(source):  # a line that begins with % may stand inside a text
        return source
    head, *rest = source.strip("\n").splitlines() or [""]
    if head.startswith("%%"):
        body = _without_magics(rest)
        return f"# {head}\n{body if _is_python(body) else _commented(rest)}"
    return _without_magics([head, *rest])


def _without_magics(lines: Sequence[str]) -> str:
    return "\n".join(_line(line) for line in lines)


def _line(line: str) -> str:
    found = _MAGIC.match(line)
    if found is None or _is_python(line.strip()):
        return line
    indent, target, magic = found.groups()
    if target:
        return f"{indent}{target}None  # {magic}"
    return f"{indent}pass  # {magic}" if indent else f"# {magic}"  # a block may hold nothing else


def _commented(lines: Sequence[str]) -> str:
    return "\n".join(f"# {line}".rstrip() for line in lines)


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


# ---------------------------------------------------------------------- the forms
def _write(project: Project, made_from: Kept, to: str, file: IO[bytes]) -> None:
    match to:
        case "py":
            file.write(as_python(made_from.executions, _title(made_from)).encode())
        case "notebook":
            executed = made_from.notebook
            content = as_notebook(made_from.executions) if executed is None else executed
            file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
        case _:
            _write_bundle(project, made_from, file)


def _title(made_from: Kept) -> str:
    run = made_from.run
    code = f", commit {run.commit}" if run.commit else ""
    return _commented([f"Run {run.name} ({run.run_id}){code}"]) + "\n"


def _write_bundle(project: Project, made_from: Kept, file: IO[bytes]) -> None:
    run, client = made_from.run, project.open(Tracking).client
    with (
        tempfile.TemporaryDirectory(prefix="nbmlops-") as scratch,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle,
    ):
        with translated("The run's files"):
            client.download_artifacts(run.run_id, "", scratch)
            histories = {name: list(_history(client, run.run_id, name)) for name in run.metrics}
        whole = {**scrub(plain(run)), "histories": histories}
        bundle.writestr("run.json", dumps(whole, indent=2) + "\n")
        bundle.writestr("run.py", as_python(made_from.executions, _title(made_from)))
        bundle.writestr("README.txt", _READ_ME.format(name=run.name, run_id=run.run_id, commit=run.commit or "(none)"))
        for path in sorted(each for each in Path(scratch).rglob("*") if each.is_file()):
            bundle.write(path, f"artifacts/{path.relative_to(scratch)}")
        for name, content in git.files(project.root, run.commit):
            bundle.writestr(f"code/{name}", content)


def _history(client: Any, run_id: str, name: str) -> Iterator[Mapping[str, Any]]:
    for each in client.get_metric_history(run_id, name):
        yield {"step": each.step, "timestamp_ms": each.timestamp, "value": each.value}
