"""The unit file by which systemd keeps an agent alive: worded here, written by `export agent --to systemd`."""

import sys
from pathlib import Path

from nbmlops.pipelines.orchestrators.plan import COMMAND
from nbmlops.pipelines.orchestrators.systemd import ENVIRONMENT, unit_text, unit_word
from nbmlops.project import STATE

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
    words = (python, "-P", "-m", COMMAND, "agent", "--foreground", "--quiet")
    return _UNIT.format(
        name=unit_text(name),
        root=unit_text(str(root)),
        environment=unit_text(str(root / STATE / ENVIRONMENT)),
        command=" ".join(map(unit_word, words)),
    )
