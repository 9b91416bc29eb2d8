"""What is written agrees with the code; each failure prints the mend."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbmlops import errors
from nbmlops.project import DEFAULTS, KEYS

ROOT = Path(__file__).parents[1]
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "nbmlops").rglob("*.py"))


def test_the_verb_tables_are_fresh() -> None:
    command = [sys.executable, str(ROOT / "tools" / "verb_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _all_errors(kind: type[errors.NbmlopsError] = errors.NbmlopsError) -> Iterator[type[errors.NbmlopsError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _all_errors(child)


OWN_CODE = [kind for kind in _all_errors() if kind.exit_code != 1]


@pytest.mark.parametrize("kind", OWN_CODE, ids=lambda kind: kind.__name__)
def test_every_error_stands_in_the_docs_and_in_the_tree_with_its_code_and_status(
    kind: type[errors.NbmlopsError],
) -> None:
    row = f"| `{kind.__name__}` | {kind.exit_code} | {kind.http_status} |"
    assert row in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), f"Add to docs/errors.md: {row}"
    line = rf"{kind.__name__} +{kind.exit_code}  {kind.http_status}  "
    assert re.search(line, errors.__doc__ or ""), f"Mend the table in errors.py: {line}"


def test_no_two_errors_share_an_exit_code() -> None:
    assert sorted(kind.exit_code for kind in OWN_CODE) == list(range(2, 13))


def _keys(known: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    known = known[0] if isinstance(known, list) and isinstance(known[0], dict) else known  # the tables of a list
    if isinstance(known, tuple) and (tables := [kind for kind in known if isinstance(kind, dict)]):  # or a table
        yield ".".join(place)
        known = tables[0]
    if not isinstance(known, dict):
        yield ".".join(place)
        return
    for key, inner in known.items():
        name = key if key != "*" else "METRIC" if place[-1:] in {("metrics",), ("champion",)} else "NAME"
        yield from _keys(inner, (*place, name))


@pytest.mark.parametrize("key", list(_keys(KEYS)))
def test_every_key_of_the_settings_file_is_documented(key: str) -> None:
    assert f"| `{key}` |" in SETTINGS, f"Add a row to docs/settings.md: | `{key}` | takes | default | meaning |"


def test_every_documented_key_exists() -> None:
    written = set(re.findall(r"^\| `([a-z][\w.]*)` \|", SETTINGS, re.MULTILINE))
    assert written <= set(_keys(KEYS)), "Take out of docs/settings.md what is no key"


@pytest.mark.parametrize("key", list(DEFAULTS))
def test_every_default_is_documented(key: str) -> None:
    assert re.search(rf"\| `stores\.{key}` \| \w+ \| `{re.escape(DEFAULTS[key])}` \|", SETTINGS)


def test_the_variables_in_the_docs_are_those_in_the_code() -> None:
    read = {name.rstrip("_") for name in re.findall(r"NBMLOPS_[A-Z][A-Z_]*", SOURCE)}
    from_settings = {f"NBMLOPS_{key.upper()}" for key in ("name", *DEFAULTS)}
    written = {name.rstrip("_") for name in re.findall(r"^\| `(NBMLOPS_[A-Z_]+)", SETTINGS, re.MULTILINE)}
    assert written == read | from_settings, "Mend the table of variables in docs/settings.md"


def test_every_make_target_that_the_docs_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {
        name for page in pages for name in re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text(encoding="utf-8"))
    }
    assert named <= targets
    assert {"demo", "test", "lint", "bench", "soak", "lab", "docs"} <= targets


def test_every_example_notebook_is_a_page_of_the_documentation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    notebooks = sorted((ROOT / "example_notebooks").glob("*.ipynb"))
    missing = [f"  - notebooks/{path.name}" for path in notebooks if f"notebooks/{path.name}" not in nav]
    assert not missing, "Add to nav in mkdocs.yml:\n" + "\n".join(missing)


@pytest.mark.parametrize("layer", ["tracking", "pipelines"])
def test_every_file_of_a_large_layer_stands_in_its_map(layer: str) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition(f"### The map of {layer}")[2]
    named = set(re.findall(r"`(\w+\.py)`", re.split(r"\n##", page)[0]))
    files = {path.name for path in (ROOT / "nbmlops" / layer).rglob("*.py")} - {"__init__.py"}
    missing = [f"| `{name}` | what is in it |" for name in sorted(files - named)]
    assert not missing, f"Add to the map of {layer} in CONTRIBUTING.md:\n" + "\n".join(missing)
    assert named <= files, f"Take out of the map of {layer}: {sorted(named - files)}"
