"""The unit file by which systemd keeps an agent alive: worded here, written by `export agent --to systemd`."""

import json
import sys
from pathlib import Path

from nbmlops.errors import UsageError
from nbmlops.project import STATE

COMMAND = "nbmlops.surfaces.cli"
ENVIRONMENT = "agent.env"  # in the state folder
_UNIT = """\
[Unit]
Description=nbmlops agent of {name}
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
WorkingDirectory={root}
# Variables such as NBMLOPS_LEDGER, a line NAME=VALUE each, if the file is there. It may hold passwords: chmod 600.
EnvironmentFile=-{environment}
ExecStart={command}
# Runs that the agent has started go on when it stops, and tell their ends themselves.
KillMode=process
TimeoutStopSec=40
Restart=on-failure
RestartSec=5

[Install]
WantedBy=default.target
"""


def unit(name: str, root: Path, python: str = sys.executable) -> str:
    """Word the unit of a project's agent.

    Parameters
    ----------
    name
        The project's.
    root
        Its folder.
    python
        The interpreter that has nbmlops.

    Raises
    ------
    UsageError
        The name or a path holds a line's end or another control character, which no unit file can.

    Examples
    --------
    >>> print(unit("flights", Path("/srv/100% ours"), "/venv/bin/python").splitlines()[7])
    WorkingDirectory=/srv/100%% ours
    """
    for text in (name, str(root), python):
        if not text.isprintable():
            raise UsageError(f"{text!r} cannot stand in a unit file.", "Rename it.")
    words = (python, "-P", "-m", COMMAND, "agent", "--foreground", "--quiet")
    return _UNIT.format(
        name=_plain(name),
        root=_plain(str(root)),
        environment=_plain(str(root / STATE / ENVIRONMENT)),
        command=" ".join(map(_quoted, words)),
    )


def _plain(text: str) -> str:
    """Write a text without specifiers, which a percent sign begins."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    r"""Write one word of a command: quoted as in C, without specifiers and variables.

    Examples
    --------
    >>> print(_quoted('/srv/a "b" $HOME 100%'))
    "/srv/a \"b\" $$HOME 100%%"
    """
    return json.dumps(_plain(word).replace("$", "$$"), ensure_ascii=False)
