"""The environment that a process runs in: a lock that can be installed, and what it runs on. No network."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_FIELD = re.compile(r"^(Name|Version): *(\S+)", re.MULTILINE)
_COMMENT = re.compile(r"^# (\S+)==(\S+) comes from (file://\S+)$", re.MULTILINE)


@functools.cache
def lock() -> str:
    """Give every installed distribution as a line of a requirements file, sorted; computed once a process.

    ``name==version`` for one of a registry, ``name @ url`` for one of an archive or a
    repository at its commit. One of a folder of this machine, as an editable one is, is a
    comment that names the folder: no other machine has it. URLs lose users and passwords.

    Examples
    --------
    >>> [line for line in lock().splitlines() if line.startswith("mlflow==")]  # doctest: +ELLIPSIS
    ['mlflow==3...']
    """
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name, version = _identity(distribution)
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key and key not in found:  # the first on the path is the one that is imported
            found[key] = _requirement(name, version, distribution.read_text("direct_url.json"))
    python = f"# Python {platform.python_version()} on {sys.platform}"
    return "\n".join([python, *(found[key] for key in sorted(found))]) + "\n"


@functools.cache
def digest() -> str:
    """Give the first 16 hexadecimal digits of the lock's SHA-256: equal environments have equal ones."""
    return hashlib.sha256(lock().encode()).hexdigest()[:16]


@functools.cache
def machine() -> dict[str, Any]:
    """Tell Python, platform and hardware: processors that this process may use, memory in bytes, GPUs' names.

    Examples
    --------
    >>> sorted(machine())
    ['cpus', 'gpus', 'implementation', 'machine', 'memory_bytes', 'platform', 'processor', 'python']
    """
    import psutil

    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpus(),
    }


def local_folders(text: str) -> dict[str, Path]:
    r"""Find in a lock the distributions that come from folders: name -> folder.

    Examples
    --------
    >>> local_folders("# Python 3.11.7 on linux\n# mine==0.1 comes from file:///home/ann/mine\n")
    {'mine': PosixPath('/home/ann/mine')}
    """
    return {name: Path(urlsplit(url).path) for name, _, url in _COMMENT.findall(text)}


def _identity(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Read name and version alone: parsing all of the metadata takes ten times as long."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    fields = dict(_FIELD.findall(text.partition("\n\n")[0]))
    return fields.get("Name", ""), fields.get("Version", "")


def _requirement(name: str, version: str, direct: str | None) -> str:
    if not direct:
        return f"{name}=={version}"
    told = json.loads(direct)
    url = _without_user(told.get("url", ""))
    if url.startswith("file:"):
        return f"# {name}=={version} comes from {url}"
    if repository := told.get("vcs_info"):
        url = f"{repository['vcs']}+{url}@{repository['commit_id']}"
    if digest := told.get("archive_info", {}).get("hash"):
        url = f"{url}#{digest}"
    if folder := told.get("subdirectory"):
        url = f"{url}{'&' if '#' in url else '#'}subdirectory={folder}"
    return f"{name} @ {url}"


def _without_user(url: str) -> str:
    """Take user, password and query out of a URL: tokens are there."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _processor() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return platform.processor()
    model = re.search(r"^model name\s*: (.+)$", told, re.MULTILINE)
    return model[1] if model else platform.machine()


def _gpus() -> list[str]:
    """Name NVIDIA's GPUs as their driver's files do; asking nvidia-smi takes a second."""
    told = (path.read_text(encoding="utf-8") for path in Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [model[1].strip() for text in told if (model := re.search(r"^Model:(.+)$", text, re.MULTILINE))]
