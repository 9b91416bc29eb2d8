"""What a warm server imports before it forks, and what makes a process that is forked from it like a cold one."""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Not pyplot, nor the inline backend: they look for a kernel as they are imported, and take what they find for good.
MODULES = (
    "IPython.core.logger",
    "alembic.command",
    "numpy.random",
    "pandas",
    "pandas.io.formats.html",
    "pandas.io.formats.string",
    "pyarrow",
    "pyarrow.pandas_compat",
    "pyarrow.vendored.version",
    "sqlalchemy.dialects.sqlite",
    "scipy.stats",
    "scipy.sparse.linalg",
    "sklearn.datasets.data",
    "sklearn.datasets.descr",
    "bdb",
    "narwhals._interchange.dataframe",
    "narwhals._pandas_like.dataframe",
    "narwhals._pandas_like.namespace",
    "narwhals._pandas_like.selectors",
    "narwhals.stable.v2",
    "narwhals.stable.v2._namespace",
    "matplotlib.figure",
    "sklearn.calibration",
    "sklearn.compose",
    "sklearn.datasets",
    "sklearn.decomposition",
    "sklearn.ensemble",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.neighbors",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.svm",
    "sklearn.tree",
    "mlflow",
    "mlflow.data",
    "mlflow.models",
    "mlflow.sklearn",
    "mlflow.pyfunc",
    "mlflow.store.tracking.file_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.tracing.export",
    "mlflow.tracing.processor.base_mlflow",
    "mlflow.tracing.processor.otel",
    "mlflow.tracing.utils.environment",
    "mlflow.store.model_registry.sqlalchemy_store",
    "nbmlops.agent.verbs",
    "nbmlops.ledger.jobs",
    "nbmlops.pipelines.ci.junit",
    "nbmlops.pipelines.ci.services",
    "nbmlops.pipelines.engine",
    "nbmlops.pipelines.execution.snapshot",
    "nbmlops.pipelines.handed",
    "nbmlops.pipelines.verbs",
    "nbmlops.registry.verbs",
    "nbmlops.surfaces.call",
    "nbmlops.surfaces.terminal",
    "nbmlops.surfaces.magic",
    "nbmlops.surfaces.parse",
    "nbmlops.surfaces.show",
    "nbmlops.tracking.attempts",
    "nbmlops.tracking.journal.target_http",
    "nbmlops.tracking.journal.target_sql",
    "nbmlops.tracking.plugin.entry_points",
    "nbmlops.tracking.plugin.stores",
    "nbmlops.tracking.session",
    "nbmlops.tracking.sql",
    "nbmlops.tracking.verbs",
    "nbmlops.validation.verbs",
)
# Read by libraries of C as they are loaded, where nobody sees it.
_OF_C = (
    "ARROW_",
    "BLIS_",
    "CUDA_",
    "GOMP_",
    "KMP_",
    "LD_",
    "MALLOC_",
    "MKL_",
    "NUMEXPR_",
    "OMP_",
    "OPENBLAS_",
    "PYTHON",
)
_OF_C_WHOLE = ("LANG", "LANGUAGE", "TZ", "GLIBC_TUNABLES", "LC_ALL", "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LC_COLLATE")
# They change no import: a terminal's, which differ with every window, and what papermill's command sets for a warning.
_OF_NO_WEIGHT = frozenset(
    ("TERM", "COLORTERM", "COLUMNS", "LINES", "PWD", "OLDPWD", "SHLVL", "_", "PYDEVD_DISABLE_FILE_VALIDATION")
)


@dataclass(frozen=True)
class Preloaded:
    """What was imported, and in which surroundings.

    `names` are the variables that were read meanwhile, `before` is what all of them were then, `left` what imports have
    set; `files` are the modules' files, with their stamps.
    """

    names: Set[str]
    before: Mapping[str, str]
    files: Mapping[str, int]
    left: Mapping[str, str]

    def differs(self, environment: Mapping[str, str]) -> str:
        """Name a variable that an import would have found with another value; empty when there is none."""
        of_c = {name for name in (*environment, *self.before) if name.startswith(_OF_C) or name in _OF_C_WHOLE}
        for name in sorted(self.names | of_c):
            value = environment.get(name)
            is_known = value is not None and (
                value == self.left.get(name) or name.startswith("_")
            )  # _: a library's own
            if value != self.before.get(name) and not is_known:
                return name
        return ""

    def changed(self) -> str:
        """Name a file that is not the one that was imported; empty when there is none."""
        return next((path for path, stamp in self.files.items() if _stamp(path) != stamp), "")


def preload(place: Path, rehearse: Callable[[], None] = lambda: None) -> Preloaded:
    """Import everything, with an IPython shell at hand, which some modules look for.

    What is done once, at a first use, is done here too, with what the caller has rehearsed; `place` is its folder.
    """
    from nbmlops.pipelines.execution import worker

    before = dict(os.environ)
    os.environ.setdefault("MPLBACKEND", worker.INLINE)  # as it will be in the notebook's process
    with _reads_noted() as names:
        from nbmlops.pipelines.execution.shell import ShellCells

        worker.ready.append(ShellCells())
        already = dict(os.environ)  # the shell's own: each process that runs cells sets them anew
        with worker.ready[0].shell.builtin_trap:  # which gives `get_ipython`, by which a library knows where it is
            for name in MODULES:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        from nbmlops.pipelines import page
        from nbmlops.pipelines.warm import rehearsal
        from nbmlops.tracking.capture import environment

        environment.lock()
        with contextlib.suppress(Exception):  # a page is left out where its templates are missing
            page.prepare()
    with worker.ready[0].shell.builtin_trap:
        rehearsal.rehearse(worker.ready[0].shell, place)
        rehearse()
    files = {file: _stamp(file) for module in list(sys.modules.values()) if (file := _file(module))}
    gc.collect()
    gc.freeze()  # what is here stays: a collection in a fork need not touch, and so copy, it
    left = {name: value for name, value in os.environ.items() if already.get(name) != value}
    return Preloaded(names - _OF_NO_WEIGHT, before, files, left)


@contextlib.contextmanager
def _reads_noted() -> Iterator[set[str]]:
    """Note every variable that Python code reads meanwhile."""
    kind: Any = type(os.environ)
    read: Callable[[Any, str], str] = kind.__getitem__
    found: set[str] = set()

    def noted(environment: Any, name: str) -> str:
        if environment is os.environ:
            found.add(os.fsdecode(name))
        return read(environment, name)

    kind.__getitem__ = noted
    try:
        yield found
    finally:
        kind.__getitem__ = read


def _file(module: Any) -> str:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) and file.endswith((".py", ".so")) and Path(file).is_absolute() else ""


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
