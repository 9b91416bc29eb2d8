"""Journals read: which there are, whether their writers live, and what stands in them."""

import fcntl
from pathlib import Path

from nbmlops.tracking.journal.records import Header, Record, parsed

CHUNK_BYTES = 512 * 1024  # read and delivered at once: what bounds a sender's memory


def read(path: Path, offset: int, limit: int = CHUNK_BYTES) -> tuple[list[tuple[int, Record]], int]:
    """Read whole records from an offset on.

    Parameters
    ----------
    path
        A journal.
    offset
        Bytes from its start; 0 is the header, which is a record of kind ``header``.
    limit
        Bytes to read at most; one longer line is still read whole.

    Returns
    -------
    list of (size in bytes, record), and the offset after them
        A line that is no record (a power cut may leave zeros) is one of kind ``torn``. A last line
        without its newline is left: it is being written, or its writer died before the call returned.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(limit)
        if len(data) == limit:
            data += file.readline()
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.split(b"\n")[:-1]
    return [(len(each) + 1, parsed(each)) for each in lines], offset + len(whole)


def header_of(path: Path) -> Header | None:
    """Read a journal's header; None where a crash came before it."""
    with path.open("rb") as file:
        first = file.readline()
    record = parsed(first)
    return Header(**record[1]) if record[0] == "header" else None


def journals(folder: Path) -> list[Path]:
    """List a folder's journals, oldest first."""
    found = folder.glob("*.jsonl") if folder.is_dir() else ()
    return sorted(found, key=lambda path: path.stem.rpartition("-")[2].rjust(20))


def has_writer(path: Path) -> bool:
    """Say whether the process that writes a journal lives: it holds the file's lock as long as it does."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask take neither for a writer
            fcntl.flock(file, fcntl.LOCK_UN)  # a child forked meanwhile has the file open too
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
