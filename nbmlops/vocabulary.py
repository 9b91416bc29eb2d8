"""THE TABLE: every verb, the function behind it, its summary, effect and group.

Strings only: a verb's module loads on first use. A test recomputes targets and
summaries from the code and prints the corrected table.
"""

from typing import Literal, NamedTuple

Effect = Literal["read", "write", "govern", "session"]


class Entry(NamedTuple):
    """One verb: where its function is, its first docstring line, what it touches, and its group."""

    target: str
    summary: str
    effect: Effect
    group: str


CHECK = "nbmlops.surfaces.parse:check"  # reads a verb's words as they are typed; the layers below know it by name alone

# fmt: off
VERBS: dict[str, Entry] = {
    "init": Entry("nbmlops.agent.verbs:init", "Make the current folder a project.", "write", "project"),
    "status": Entry("nbmlops.agent.verbs:status", "Show the project on one card: what lives, and what needs attention.", "read", "project"),
    "doctor": Entry("nbmlops.agent.verbs:doctor", "Check stores, git, kernel, versions, disk and leftovers; mend with --fix.", "read", "project"),
    "sync": Entry("nbmlops.agent.verbs:sync", "Deliver what the journals hold, and end the runs whose process is gone.", "write", "project"),
    "ui": Entry("nbmlops.agent.opening:ui", "Open the sidebar's panel at one of its views.", "read", "project"),
    "agent": Entry("nbmlops.agent.control:agent", "Start the process that fires schedules and triggers; --stop ends it.", "write", "project"),
    "export": Entry("nbmlops.agent.verbs:export", "Write a run as code, or the files by which others run or serve what is named.", "read", "project"),
    "track": Entry("nbmlops.tracking.verbs:track", "Track what follows as one run, until `end` or the cell's end.", "session", "track"),
    "end": Entry("nbmlops.tracking.verbs:end", "End the active run.", "session", "track"),
    "log": Entry("nbmlops.tracking.verbs:log", "Log metrics, params, tags, figures, tables, texts and files to the active run.", "session", "track"),
    "autolog": Entry("nbmlops.tracking.verbs:autolog", "Log every fit of this process by itself.", "session", "track"),
    "runs": Entry("nbmlops.tracking.reading:runs", "List the newest runs.", "read", "track"),
    "compare": Entry("nbmlops.tracking.reading:compare", "Show what differs between runs.", "read", "track"),
    "reproduce": Entry("nbmlops.tracking.capture.reproduce:reproduce", "Rebuild a run's code, run it again in a fresh kernel, and compare the metrics.", "write", "track"),
    "show": Entry("nbmlops.agent.verbs:show", "Show one run, model, endpoint, job, or a pipeline drawn.", "read", "track"),
    "validate": Entry("nbmlops.validation.verbs:validate", "Put a model through a gate and keep the report as evidence.", "write", "validate"),
    "register": Entry("nbmlops.registry.verbs:register", "Register a model as the next version of a name.", "write", "register"),
    "models": Entry("nbmlops.registry.verbs:models", "List registered models, or the versions of one.", "read", "register"),
    "promote": Entry("nbmlops.registry.verbs:promote", "Point an alias at a model version whose gate has passed.", "govern", "register"),
    "rollback": Entry("nbmlops.registry.verbs:rollback", "Point an alias back at the version before, or end the rollout of a newer one.", "govern", "register"),
    "history": Entry("nbmlops.registry.verbs:history", "Show what happened to a model, newest first.", "read", "register"),
    "verify": Entry("nbmlops.registry.verbs:verify", "Check a model's bytes against its manifest; bare: the ledger's chain.", "read", "register"),
    "deploy": Entry("nbmlops.serving.verbs:deploy", "Serve a model version over HTTP on this machine, at once or step by step.", "write", "deploy"),
    "endpoints": Entry("nbmlops.serving.verbs:endpoints", "List the endpoints, what answers there, and how it does.", "read", "deploy"),
    "predict": Entry("nbmlops.serving.verbs:predict", "Score a table on an endpoint over HTTP.", "read", "deploy"),
    "traffic": Entry("nbmlops.serving.verbs:traffic", "Set how an endpoint's requests are shared between the versions that it serves.", "write", "deploy"),
    "replay": Entry("nbmlops.serving.comparing:replay", "Score a model version on captured requests, and show which answers change.", "read", "deploy"),
    "undeploy": Entry("nbmlops.serving.verbs:undeploy", "Stop an endpoint.", "write", "deploy"),
    "drift": Entry("nbmlops.monitoring.verbs:drift", "Measure how far a table's columns drifted; bare: list the latest reports.", "write", "monitor"),
    "alert": Entry("nbmlops.monitoring.verbs:alert", "Tell somebody of broken limits, drift and failed jobs; bare: list the alerts.", "write", "monitor"),
    "params": Entry("nbmlops.pipelines.verbs:params", "Show the parameters that a notebook or a pipeline declares.", "read", "pipeline"),
    "run": Entry("nbmlops.pipelines.verbs:run", "Run a notebook or a pipeline headlessly with checked parameters.", "write", "pipeline"),
    "result": Entry("nbmlops.pipelines.telling:result", "Tell results of this notebook to the run or pipeline that it is part of.", "session", "pipeline"),
    "skip": Entry("nbmlops.pipelines.telling:skip", "Leave out the rest of the notebook, which is then a success.", "session", "pipeline"),
    "jobs": Entry("nbmlops.pipelines.reading:jobs", "List runs, steps, schedules and firings, each with the state that it truly has.", "read", "pipeline"),
    "logs": Entry("nbmlops.pipelines.reading:logs", "Show what a job's cells printed, also while it runs.", "read", "pipeline"),
    "resume": Entry("nbmlops.pipelines.verbs:resume", "Go on with a failed run at the cell that failed.", "write", "pipeline"),
    "approve": Entry("nbmlops.pipelines.approving:approve", "Answer yes to a step of a pipeline that waits for a person.", "govern", "pipeline"),
    "reject": Entry("nbmlops.pipelines.approving:reject", "Answer no to a step of a pipeline that waits for a person.", "govern", "pipeline"),
    "cancel": Entry("nbmlops.pipelines.verbs:cancel", "End a job that runs now.", "write", "pipeline"),
    "schedule": Entry("nbmlops.pipelines.scheduling:schedule", "Have a pipeline or a notebook run by itself, at set times or on triggers.", "write", "pipeline"),
    "pause": Entry("nbmlops.pipelines.scheduling:pause", "Pause a schedule and its triggers; what runs goes on.", "write", "pipeline"),
    "unpause": Entry("nbmlops.pipelines.scheduling:unpause", "Go on with a paused schedule from now; what came meanwhile is not made up.", "write", "pipeline"),
    "unschedule": Entry("nbmlops.pipelines.scheduling:unschedule", "Have something run by itself no longer; a pipeline stays, and what runs goes on.", "write", "pipeline"),
}
# fmt: on
