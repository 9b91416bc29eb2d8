"""Units of systemd: a service that runs once, and a timer where there is a schedule; how unit files quote."""

import json
from collections.abc import Iterator
from pathlib import Path

from nbmlops.errors import UsageError
from nbmlops.pipelines.ci.plan import WAITS
from nbmlops.pipelines.orchestrators.plan import HEADING, OrchestratorPlan, local_command
from nbmlops.pipelines.schedule import DAY, HOUR, LAST_DAY, MINUTE, MONTH, Field, parsed
from nbmlops.project import STATE

ENVIRONMENT = "agent.env"  # in the state folder
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_SERVICE = """\
# {heading}
[Unit]
Description=nbmlops run {name} of {project}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={root}
# Variables, a line NAME=VALUE each, if the file is there. It may hold passwords: chmod 600.
EnvironmentFile=-{environment}
ExecStart={command}
TimeoutStopSec=40
"""
_TIMER = """\
# {heading}
[Unit]
Description=When nbmlops run {name} of {project} is due

[Timer]
{calendar}
Persistent={persistent}
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def systemd(plan: OrchestratorPlan) -> dict[str, str]:
    """Write the service, and its timer.

    Raises
    ------
    UsageError
        A value cannot be written as an argument.
    """
    name = f"nbmlops-{plan.project}-{plan.name}"
    said = [HEADING]
    if plan.run.secrets:
        said.append(f"The command needs: {', '.join(plan.run.secrets)}.")
    if plan.steps:
        said.append(WAITS)
    shared = {"name": plan.name, "project": plan.project}
    service = _SERVICE.format(
        heading="\n# ".join(said),
        root=unit_text(plan.root),
        environment=unit_text(str(Path(plan.root) / STATE / ENVIRONMENT)),
        command=" ".join(map(unit_word, local_command(plan))),
        **shared,
    )
    if not plan.run.cron:
        return {f"{name}.service": service}
    calendar = "\n".join(f"OnCalendar={each} {plan.run.timezone}" for each in calendars(plan.run.cron))
    persistent = str(plan.catchup != "none").lower()
    timer = _TIMER.format(heading=HEADING, calendar=calendar, persistent=persistent, **shared)
    return {f"{name}.service": service, f"{name}.timer": timer}


# ---------------------------------------------------------------------- quoting
def unit_text(text: str) -> str:
    """Write a text of a unit file without specifiers, which a percent sign begins.

    Raises
    ------
    UsageError
        It holds a line's end or another control character, which no unit file can, or ends in a backslash, which would
        join the next line to it, or in a space, which would be lost.
    """
    if not text.isprintable() or text != text.strip() or text.endswith("\\"):
        raise UsageError(f"{text!r} cannot stand in a unit file.", "Rename it.")
    return text.replace("%", "%%")


def unit_word(word: str) -> str:
    r"""Write one word of a command: quoted as in C, without specifiers and variables.

    Examples
    --------
    >>> print(unit_word('/srv/a "b" $HOME 100%'))
    "/srv/a \"b\" $$HOME 100%%"
    """
    return json.dumps(word.replace("%", "%%").replace("$", "$$"), ensure_ascii=False)


# --------------------------------------------------------------------- schedules
def calendars(cron: str) -> Iterator[str]:
    """Write a cron expression as calendar events of systemd (systemd.time(7)), of which any one is a time.

    Several are needed where a date has to fit the days or the weekdays, and for the last day of a month.

    Examples
    --------
    >>> list(calendars("30 2 * * mon-fri"))
    ['Mon,Tue,Wed,Thu,Fri *-*-* 02:30:00']
    >>> list(calendars("0 */12 1,L * sun"))
    ['*-*-01 00,12:00:00', '*-*~01 00,12:00:00', 'Sun *-*-* 00,12:00:00']
    """
    schedule = parsed(cron)
    minute, hour, day, month, weekday = schedule.expression.split(" ")
    time = f"{_listed(HOUR, hour)}:{_listed(MINUTE, minute)}:00"
    days = [item for item in day.split(",") if item.upper() != LAST_DAY]
    months = _listed(MONTH, month)
    dates = [f"*-{months}-{_listed(DAY, ','.join(days))}"] if days else []
    dates += [f"*-{months}~01"] if schedule.has_last_day else []
    names = "" if weekday == "*" else ",".join(_DAYS[n] for n in sorted(schedule.weekdays)) + " "
    if schedule.is_either_day:
        yield from (f"{date} {time}" for date in dates)
        yield f"{names}*-{months}-* {time}"
    else:
        yield from (f"{names}{date} {time}" for date in dates)


def _listed(field: Field, text: str) -> str:
    return "*" if text == "*" else ",".join(f"{number:02d}" for number in sorted(field.values(text)))
