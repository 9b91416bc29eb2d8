"""The installed nbmlops as a wheel, whatever way it was installed: what was proven here is what serves there."""

import base64
import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

_TOP = Path(__file__).parents[2]
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same files give the same bytes
_TAG = "py3-none-any"
_WHEEL = f"Wheel-Version: 1.0\nGenerator: nbmlops\nRoot-Is-Purelib: true\nTag: {_TAG}\n"


def wheel() -> tuple[str, bytes]:
    """Pack the installed package; gives the wheel's file name and its bytes.

    It is a wheel as the binary distribution format of PyPA has it (version 1.0), without entry points: where it only
    serves, neither a command nor a plug-in of MLflow's is wanted.

    Examples
    --------
    >>> name, content = wheel()
    >>> name.startswith("nbmlops-") and name.endswith("-py3-none-any.whl"), content == wheel()[1]
    (True, True)
    """
    installed = importlib.metadata.distribution("nbmlops")
    name = f"nbmlops-{installed.version}"
    info = f"{name}.dist-info"
    about = {"METADATA": installed.read_text("METADATA") or "", "WHEEL": _WHEEL}
    files = dict(_files()) | {f"{info}/{path}": text.encode() for path, text in about.items()}
    record = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join((*record, f"{info}/RECORD,,", "")).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return f"{name}-{_TAG}.whl", packed.getvalue()


def _files() -> Iterator[tuple[str, bytes]]:
    for path in sorted(_TOP.rglob("*")):
        if path.is_file() and not {"__pycache__", "labextension"} & set(path.relative_to(_TOP).parts):
            yield path.relative_to(_TOP.parent).as_posix(), path.read_bytes()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
