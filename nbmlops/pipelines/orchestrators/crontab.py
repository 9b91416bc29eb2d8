"""A line of a crontab, with the variables that it needs."""

import shlex

from nbmlops.errors import UsageError
from nbmlops.pipelines.ci.plan import WAITS
from nbmlops.pipelines.orchestrators.plan import (
    HEADING,
    OrchestratorPlan,
    local_command,
    numbered,
    refuse_last_day,
)
from nbmlops.pipelines.running import DUE

LONGEST = 998  # characters of a command, in the crons that take the least
_NOW = r"date +\%Y-\%m-\%dT\%H:\%M\%z"  # cron starts a run in the minute in which it is due
_REMARKS = """\
# {heading}
# Add it at the end of your crontab: CRON_TZ holds for all lines behind it.
# CRON_TZ is cronie's. Other crons (Debian's) ignore it and go by the machine's zone: see man 5 crontab.
# On nights on which the clock changes cron's own rules hold. A time that was missed is not made up.
"""


def cron(plan: OrchestratorPlan) -> dict[str, str]:
    """Write the crontab.

    Raises
    ------
    UsageError
        There is no schedule, or it names the last day of a month; a value cannot be written into one line.
    """
    if not plan.run.cron:
        raise UsageError("A crontab needs a schedule.", 'Give it with --schedule "30 2 * * *"')
    refuse_last_day(plan.run.cron, "cron")
    words = " ".join(map(_word, local_command(plan)))
    command = f'cd {_word(plan.root)} && {DUE}="$({_NOW})" {words}'
    if not command.isprintable():
        raise UsageError(
            "A crontab cannot hold line ends and other control characters.",
            "Write the value into the notebook or nbmlops.toml, or give --to systemd.",
        )
    if len(command) > LONGEST:
        raise UsageError(
            f"The command has {len(command)} characters, and a crontab takes {LONGEST}.",
            "Write values into the notebook or nbmlops.toml, or give --to systemd.",
        )
    said = _REMARKS.format(heading=HEADING)
    if plan.run.secrets:
        said += f"# cron knows few variables. The command needs: {', '.join(plan.run.secrets)}.\n"
    if plan.steps:
        said += f"# {WAITS}\n"
    line = f"{numbered(plan.run.cron)} {command}\n"
    return {f"{plan.name}.crontab": f"{said}SHELL=/bin/sh\nCRON_TZ={plan.run.timezone}\n{line}"}


def _word(text: str) -> str:
    r"""Quote a word for the shell, and for cron, which ends the command at a percent sign without a backslash.

    cron takes that backslash away again, but not where another one stands in front of it: so quotes are closed first.

    Examples
    --------
    >>> print(_word("a \\% b"))
    'a \'\%' b'
    """
    return shlex.quote(text).replace("%", r"'\%'")
