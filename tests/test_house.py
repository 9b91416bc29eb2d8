"""The rules of the house that a reader cannot see at once: who imports whom, what loading costs, and names."""

import re
import subprocess
import sys
from pathlib import Path

import nbmlops
from nbmlops.vocabulary import VERBS

ROOT = Path(__file__).parents[1]
HEAVY = ("mlflow", "pandas", "sklearn", "numpy", "scipy", "papermill", "nbformat", "pyarrow", "sqlalchemy")
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
OF_NO_WORKER = ("mlflow", "pandas", "sklearn", "scipy", "sqlalchemy", "pydantic", "onnx", "onnxruntime", "pyarrow")
OURS = ("nbmlops", "tests", "tools", "labextension", "example_notebooks", "docs")
# Spelled so that this file does not name them itself.
REGISTRIES = re.compile(
    r"(?i)\b(py[p]i|test\.py[p]i|np[m]js|yarn[p]kg|ana[c]onda)\.(org|com)\b|python[h]osted|index-ur[l]"
)


def test_each_layer_imports_only_from_those_below_it() -> None:
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_of_the_package_stands_in_the_contract() -> None:
    contract = set(re.findall(r"nbmlops\.(\w+)", (ROOT / "pyproject.toml").read_text().partition("layers = [")[2]))
    parts = {
        path.stem for path in (ROOT / "nbmlops").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    missing = sorted(parts - contract - {"__init__"})
    assert not missing, f"Give {missing} a place in [[tool.importlinter.contracts]] of pyproject.toml"


def _what_loads_heavy(modules: list[str], what: tuple[str, ...] = HEAVY) -> list[str]:
    """Import modules one by one in a fresh process; tell which of them first brought something heavy."""
    code = f"""
import importlib, sys
known = set()
for module in {modules!r}:
    importlib.import_module(module)
    new = {{heavy for heavy in {what!r} if heavy in sys.modules}} - known
    known |= new
    if new:
        print(module, "loads", ", ".join(sorted(new)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_importing_nbmlops_loads_nothing_heavy() -> None:
    assert _what_loads_heavy(["nbmlops"]) == []


def test_verbs_and_their_nouns_load_nothing_heavy() -> None:
    """They are loaded for help and tab completion, and with them everything that they import at module level."""
    assert _what_loads_heavy(sorted({entry.target.partition(":")[0] for entry in VERBS.values()})) == []


def test_help_and_completion_load_nothing_heavy() -> None:
    surfaces = ("cli", "overview", "parse", "complete", "magic", "show", "python")
    assert _what_loads_heavy([f"nbmlops.surfaces.{name}" for name in surfaces]) == []


def test_the_servers_of_an_endpoint_load_nothing_heavy() -> None:
    """That of a compiled model never does; the processes of another one load MLflow when they are at work."""
    servers = ("worker", "preflight", "model_process", "standalone")
    assert _what_loads_heavy([f"nbmlops.serving.{name}" for name in servers], OF_NO_WORKER) == []


def test_loading_the_extension_adds_few_modules() -> None:
    code = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("1 + 1")
before = set(sys.modules)
shell.run_line_magic("load_ext", "nbmlops")
print("\\n".join(sorted(set(sys.modules) - before)))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    added = [line for line in out.splitlines() if line]
    assert len(added) <= 30, added
    assert not {name.partition(".")[0] for name in added} & set(HEAVY)


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    bad = [path for path in _files() if SAYS_NOTHING & {part.partition(".")[0] for part in path.parts}]
    assert not bad, f"Name these after what is in them: {[str(path) for path in bad]}"


def test_no_file_names_a_package_registry() -> None:
    bad = [f"{path}: {line.strip()[:100]}" for path in _files() for line in _lines(path) if REGISTRIES.search(line)]
    assert not bad, "Which registry is used is the machine's own business:\n" + "\n".join(bad)


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == nbmlops.__version__, f"Begin CHANGELOG.md with ## {nbmlops.__version__}"


def _files() -> list[Path]:
    """List the repository's own files, relative to its root."""
    asked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if asked.returncode == 0:
        names = [Path(name) for name in asked.stdout.splitlines()]
    else:  # an unpacked source distribution
        top = [path for path in ROOT.iterdir() if path.is_file()]
        names = [path.relative_to(ROOT) for path in (*top, *(p for o in OURS for p in (ROOT / o).rglob("*")))]
    return [name for name in names if "node_modules" not in name.parts and (ROOT / name).is_file()]


def _lines(path: Path) -> list[str]:
    try:
        return (ROOT / path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:  # a picture
        return []
