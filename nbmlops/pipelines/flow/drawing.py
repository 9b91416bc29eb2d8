"""A pipeline drawn as text: a line for each step, lanes beside it for what waits for what."""

from collections.abc import Mapping

from nbmlops.pipelines.flow.declared import Pipeline, Step
from nbmlops.pipelines.flow.graph import Edges, direct

# What a state's first word is shown by; words are kept beside it, so that no sign stands alone.
SIGNS = {
    "run": "○",
    "queued": "○",
    "running": "◐",
    "waiting": "◔",
    "finished": "●",
    "done": "●",
    "cached": "●",
    "skip": "·",
    "skipped": "·",
    "failed": "✗",
    "killed": "✗",
    "cancelled": "✗",
}
NO_SIGN = "○"
WIDEST = 48  # characters of what a step does


def drawn(pipeline: Pipeline, states: Mapping[str, str] | None = None) -> str:
    """Draw a pipeline: each step stands below those that it needs; needs that follow from others are left out.

    Parameters
    ----------
    pipeline
        Without cycles.
    states
        By step: words such as ``cached`` or ``run: new``; the first word chooses the sign.

    Returns
    -------
    str
        As many lines as steps, and one for each place where lanes part or meet.

    Examples
    --------
    >>> def step(name, *needs): return Step(name, "function", f"steps:{name}", needs)
    >>> first, fork = step("extract"), (step("train", "extract"), step("profile", "extract"))
    >>> pipeline = Pipeline("retrain", (first, *fork, step("gate", "train", "profile")))
    >>> print(drawn(pipeline, {"extract": "cached", "train": "run: new"}))
    ●    extract  steps:extract  cached
    ├─╮
    ○ │  train    steps:train    run: new
    │ ○  profile  steps:profile
    ├─╯
    ○    gate     steps:gate
    """
    states = states or {}
    rows = _rows(direct(pipeline.edges), {name: sign_of(state) for name, state in states.items()})
    steps = {step.name: step for step in pipeline.steps}
    lanes = max((len(row) for _, row in rows), default=0)
    named = max((len(name) for name in steps), default=0)
    told = max((len(does(step)) for step in pipeline.steps), default=0)
    lines = []
    for name, row in rows:
        words = f"  {name:{named}}  {does(steps[name]):{told}}  {states.get(name, '')}" if name else ""
        lines.append((f"{row:{lanes}}{words}" if words else row).rstrip())
    return "\n".join(lines)


def sign_of(state: str) -> str:
    """Choose the sign of a state by its first word."""
    word = state.replace(":", " ").split()[:1]
    return SIGNS.get(word[0].lower(), NO_SIGN) if word else NO_SIGN


def does(step: Step) -> str:
    """Word what a step does in one short text."""
    spread = f" for {', '.join(f'{len(values)} {name}' for name, values in step.matrix.items())}" if step.matrix else ""
    picked = f" → {step.pick}" if step.pick else ""
    target = " ".join(step.target.split())
    target = f"ask: {target}" if step.kind == "approval" else target
    room = max(WIDEST - len(spread) - len(picked), 12)
    return (target if len(target) <= room else f"{target[: room - 1]}…") + spread + picked


def _rows(edges: Edges, signs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Lay out (step, lanes) lines; a step's name is empty where lanes only part or meet."""
    followers: dict[str, list[str]] = {name: [] for name in edges}
    for name, needs in edges.items():
        for need in needs:
            followers[need].append(name)
    lanes: list[str] = []  # the step that each lane leads to; empty where a lane is free
    rows: list[tuple[str, str]] = []
    ended = -1  # the lane that the row above ended
    for name in _downward(edges, followers):
        here = [n for n, goal in enumerate(lanes) if goal == name] or [_free(lanes)]
        if len(here) > 1:
            rows.append(("", _joint(lanes, here, "╯┴")))
        elif here[0] == ended:  # else two signs below each other would look like a chain
            rows.append(("", _line(lanes, -1, "")))
        for lane in here:
            lanes[lane] = ""
        lanes[here[0]] = name
        rows.append((name, _line(lanes, here[0], signs.get(name, NO_SIGN))))
        out = _spread(lanes, here[0], followers[name])
        if len(out) > 1:
            rows.append(("", _joint(lanes, out, "╮┬")))
        ended = -1 if followers[name] else here[0]
        while lanes and not lanes[-1]:
            lanes.pop()
    return rows


def _downward(edges: Edges, followers: Mapping[str, list[str]]) -> list[str]:
    """Order steps so that each stands below those that it needs, and a chain stays together."""
    missing = {name: len(needs) for name, needs in edges.items()}
    ready = [name for name in reversed([*edges]) if not missing[name]]
    order = []
    while ready:
        order.append(name := ready.pop())
        for follower in reversed(followers[name]):
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    return order


def _free(lanes: list[str], after: int = -1) -> int:
    """Find the first free lane behind another, or add one."""
    for n in range(after + 1, len(lanes)):
        if not lanes[n]:
            return n
    lanes.append("")
    return len(lanes) - 1


def _spread(lanes: list[str], lane: int, goals: list[str]) -> list[int]:
    """Lead a step's lane on to what follows it: the first goes straight on, the others get lanes to the right."""
    lanes[lane] = goals[0] if goals else ""
    out = [lane]
    for goal in goals[1:]:
        out.append(_free(lanes, after=out[-1]))
        lanes[out[-1]] = goal
    return out


def _line(lanes: list[str], at: int, sign: str) -> str:
    return " ".join(sign if n == at else "│" if goal else " " for n, goal in enumerate(lanes)).rstrip()


def _joint(lanes: list[str], ends: list[int], corners: str) -> str:
    """Draw how lanes part or meet: `ends` from the left, the rightmost turns round a corner."""
    text = ""
    for n in range(len(lanes)):
        inside = ends[0] < n < ends[-1]
        if n == ends[0]:
            sign = "├"
        elif n == ends[-1]:
            sign = corners[0]
        elif n in ends:
            sign = corners[1]
        elif lanes[n]:
            sign = "┼" if inside else "│"
        else:
            sign = "─" if inside else " "
        text += sign + ("─" if ends[0] <= n < ends[-1] else " ")
    return text.rstrip()
