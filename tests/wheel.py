"""What a user gets: the wheel that is built of this tree, in an environment that has nothing else of it."""

import shutil
import site
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What other packages bring for Jupyter: the application, its extensions, and those of the server.
LENT = ("share/jupyter/lab", "share/jupyter/labextensions/*", "etc/jupyter/*/*")


def build(into: Path, *options: str, tree: Path = ROOT) -> str:
    """Build a tree without any network, the sdist and then the wheel of it unless told otherwise; give what is told."""
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(into), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def install(wheel: Path, place: Path) -> Path:
    """Make a fresh environment with a wheel, the rest of it lent by the one of now; gives its ``bin``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    packages = next(place.glob("lib/python*/site-packages"))
    (packages / "lent.pth").write_text("\n".join(site.getsitepackages()))
    for lent in (found for pattern in LENT for found in Path(sys.prefix).glob(pattern)):
        if not lent.stem.startswith("nbmlops"):
            target = place / lent.relative_to(sys.prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(lent)
    command = [sys.executable, "-m", "pip", f"--python={place}/bin/python", "install", "--no-deps", "--no-index"]
    done = subprocess.run([*command, "--quiet", str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "bin"


def copy_tree(into: Path) -> Path:
    """Copy what a build needs, the packages of npm excepted: those are lent."""
    for name in ("nbmlops", "labextension", "jupyter-config"):
        left_out = shutil.ignore_patterns("__pycache__", "node_modules", "lib")
        shutil.copytree(ROOT / name, into / name, ignore=left_out)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, into / name)
    if (packages := ROOT / "labextension" / "node_modules").exists():
        (into / "labextension" / "node_modules").symlink_to(packages)
    return into
