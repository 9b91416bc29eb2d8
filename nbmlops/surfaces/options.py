"""How an argument of a verb is spelled on a line: the one place for parsing a line and for writing one."""

import inspect

SHORT = {"parameters": "-p", "output": "-o", "file": "-f", "at_once": "-j"}


def long(name: str) -> str:
    """Spell an argument's name as an option.

    Examples
    --------
    >>> long("dry_run"), long("as_")
    ('--dry-run', '--as')
    """
    return f"--{name.rstrip('_').replace('_', '-')}"


def spelling(parameter: inspect.Parameter) -> str | None:
    """Give what stands before an argument's value: its shortest option, ``--`` for a command, nothing for a position.

    Examples
    --------
    >>> def run(what, *, parameters, dry_run=False): ...
    >>> [spelling(each) for each in inspect.signature(run).parameters.values()]
    [None, '-p', '--dry-run']
    """
    if parameter.name == "command":
        return "--"
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        return None
    return SHORT.get(parameter.name, long(parameter.name))
