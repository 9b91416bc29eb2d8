"""The list of verbs, from the table alone: it must cost nothing."""

from nbmlops.vocabulary import VERBS


def overview(prefix: str) -> str:
    """List every verb by group, from the table alone."""
    lines, group = [], ""
    longest = max(len(name) for name in VERBS)
    for name, entry in VERBS.items():
        if entry.group != group:
            group = entry.group
            lines += ["", f"{group}:"]
        lines.append(f"  {name:<{longest}}  {entry.summary}")
    head = f"Usage: {prefix}[--project DIR] [--tracking URI] [--ledger URL] VERB [ARGUMENTS] [OPTIONS]"
    return "\n".join([head, *lines, "", f"{prefix}help VERB tells more; so does {prefix}VERB --help."])
