"""A DAG of Airflow 3: a task for each step, which calls the command; no text of it is a template."""

from collections.abc import Iterator, Mapping
from typing import Any

from nbmlops.pipelines.ci.plan import inputs
from nbmlops.pipelines.orchestrators.plan import HEADING, OrchestratorPlan, numbered, refuse_stepped_days
from nbmlops.secrets import escaped
from nbmlops.strict_json import plain

# Constant but for the constants in front of it, which are literals of Python's.
_DAG = '''\
try:
    from airflow.sdk import CronTriggerTimetable
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:  # an earlier Airflow 3
    from airflow.exceptions import AirflowFailException, AirflowSkipException
    from airflow.timetables.trigger import CronTriggerTimetable

FOR_GOOD = (2, 4, 5, 6, 9, 11)  # exit codes that are an answer, and no accident: to try again would not help


class Step(BaseSensorOperator):
    """One step: done when the command says so, asked again while it waits for an approval."""

    template_fields = ()

    def __init__(self, *, step, **options):
        super().__init__(mode="reschedule", **{"poke_interval": 300, "timeout": 7 * 86400, **options})
        self.step = step
        self.process = None

    def poke(self, context):
        run = self.run(context)
        if "steps" not in run:  # of a notebook
            if run["status"] == "SKIPPED":
                raise AirflowSkipException(run.get("reason") or "It said that there is nothing to do.")
            return True
        own = [each for each in run["steps"] if each["name"].partition("[")[0] == self.step]
        if run["status"] == "WAITING":
            print(f"It waits for an approval: nbmlops approve {run['job']}")
            return False
        if own and all(each["status"] == "SKIPPED" for each in own):
            raise AirflowSkipException("; ".join(each["reason"] for each in own))
        return True

    def run(self, context):
        """Run the command; give what it says."""
        values = {name: value for name, value in context["params"].items() if value is not None}
        due = context.get("data_interval_end") or context["dag_run"].run_after
        # One run and one step are one job, however often it is asked: what is approved is what was asked first.
        job = hashlib.sha256(json.dumps([DAG_ID, context["run_id"], self.step]).encode()).hexdigest()[:12]
        environment = {**os.environ, "NBMLOPS_DUE": due.isoformat(), "NBMLOPS_JOB": job}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({**values, **VALUES}, file)
            file.flush()
            words = [*COMMAND, "run", "--json", "-f", file.name]
            words += ["--only", self.step] if STEPS[self.step] is not None else []
            self.process = subprocess.Popen([*words, "--", TARGET], cwd=FOLDER, env=environment, stdout=subprocess.PIPE)
            said, _ = self.process.communicate()
        print(said.decode(errors="replace"))
        if self.process.returncode:
            error = AirflowFailException if self.process.returncode in FOR_GOOD else RuntimeError
            raise error(f"nbmlops run ended with exit code {self.process.returncode}; the log says why.")
        return json.loads(said)

    def on_kill(self):
        """Tell the command to end; it ends what it has begun."""
        if self.process:
            self.process.terminate()


with DAG(
    dag_id=DAG_ID,
    schedule=CronTriggerTimetable(SCHEDULE, timezone=TIMEZONE) if SCHEDULE else None,
    start_date=pendulum.datetime(2024, 1, 1, tz=TIMEZONE),
    catchup=False,
    max_active_runs=1,  # a step reads the newest results of those that it needs
    params={name: Param(**about) for name, about in PARAMS.items()},
    tags=["nbmlops"],
) as dag:
    tasks = {name: Step(task_id=name, step=name) for name in STEPS}
    for name, needs in STEPS.items():
        for need in needs or ():
            tasks[need] >> tasks[name]
'''
_REMARKS = f"""\
# {HEADING}
# Airflow 3 parses it; its workers need the command nbmlops and the project's folder, or a copy that means the same
# stores: workers on several machines meet in a Postgres ledger and an MLflow server.
# A task of an approval asks once, and waits; nbmlops approve JOB lets it go on, reject ends it. The log names the job.
# Clear a task together with those behind it. On nights on which the clock changes Airflow's own rules hold.
"""
_DEMANDS = """\
# What steps take stands in nbmlops.toml alone ({steps}): each executor of Airflow has its own form of it,
# for Kubernetes an executor_config with a pod_override, for Celery a queue.
"""


def airflow(plan: OrchestratorPlan) -> dict[str, str]:
    """Write the DAG.

    Raises
    ------
    UsageError
        The schedule has days with a step beside weekdays.
    """
    if plan.run.cron:
        refuse_stepped_days(plan.run.cron, "Airflow")
    asked = _params(plan)
    constants: Mapping[str, Any] = {
        "DAG_ID": plan.name,
        "TARGET": plan.run.target,
        "FOLDER": plan.root,
        "COMMAND": ["nbmlops"],
        "SCHEDULE": numbered(plan.run.cron) if plan.run.cron else "",
        "TIMEZONE": plan.run.timezone,
        "STEPS": {name: list(needs) for name, needs in plan.steps.items()} or {"run": None},
        "PARAMS": asked,
        "VALUES": {name: value for name, value in _values(plan).items() if name not in asked},
    }
    secrets = [f"# The workers' environment has to have: {', '.join(plan.run.secrets)}.\n"] if plan.run.secrets else []
    demands = _DEMANDS.format(steps=", ".join(plan.demands)) if plan.demands else ""
    imports = "\nimport hashlib\nimport json\nimport os\nimport subprocess\nimport tempfile\n\nimport pendulum\n"
    sdk = "from airflow.sdk import DAG, BaseSensorOperator, Param\n"
    text = "".join(line for name, value in constants.items() for line in _assignment(name, value))
    said = f"{_REMARKS}{''.join(secrets)}{demands}{imports}{sdk}\n{text}\n{_DAG}"
    return {f"{plan.name}_dag.py": said}


def _values(plan: OrchestratorPlan) -> dict[str, Any]:
    values: dict[str, Any] = plain(escaped(dict(plan.run.values)))
    return values


def _params(plan: OrchestratorPlan) -> dict[str, dict[str, Any]]:
    """Give the form's fields; one left empty is None, and keeps the default of the notebook or pipeline."""
    values = _values(plan)
    return {
        each.parameter.name: {
            "default": values.get(each.parameter.name, _default(each.parameter.type, each.parameter.default)),
            "description": each.description,
        }
        for each in inputs(plan.run)
    }


def _default(kind: str, value: Any) -> Any:
    """Give a default as JSON; one that is no literal is known as its source alone."""
    return None if kind == "any" else plain(escaped(value))


def _assignment(name: str, value: Any) -> Iterator[str]:
    """Assign a value of JSON's as a literal, in ASCII; a table has a line for each key."""
    if not isinstance(value, dict) or not value:
        yield f"{name} = {value!a}\n"
        return
    yield f"{name} = {{\n"
    yield from (f"    {key!a}: {item!a},\n" for key, item in value.items())
    yield "}\n"
