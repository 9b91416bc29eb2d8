"""A project's MLflow, as the verbs use it: its runs, read and written; MLflow is imported when it is first used."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nbmlops.errors import NbmlopsError, NotFoundError, StoreError, UsageError, nearest
from nbmlops.project import STATE, Project, patient
from nbmlops.scrub import scrub, scrub_text
from nbmlops.tracking.journal.delivery import UnreachableError
from nbmlops.tracking.plugin.line import Line, cause
from nbmlops.tracking.plugin.overlay import OFFLINE
from nbmlops.tracking.runs import Run, link, run_from
from nbmlops.tracking.store import (
    PATIENCE,
    belongs,
    is_journaled,
    journaled,
    knock,
    load_store,
    open_plain,
    plain,
    quiet_mlflow,
)

if TYPE_CHECKING:
    from nbmlops.tracking.plugin.outbox import Outbox

__all__ = ["PATIENCE", "Tracking", "aimed", "translated"]

REACH_S = 4.0  # that a store may take to show that it answers
MAKE_S = 120.0  # that an embedded store may take to make its tables


class Tracking:
    """A project's MLflow: the client, and the experiment that its runs are in.

    Parameters
    ----------
    uri
        The store's plain URL, or with ``nbmlops+`` in front for a journal; only without one is the store
        reached at once.
    experiment
        Name of the project's experiment.
    artifacts
        Where the artifacts of an embedded store lie.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path) -> None:
        self.url = patient(plain(uri))
        self.uri = journaled(uri) if is_journaled(uri) else self.url
        self.experiment = experiment
        self._artifacts = artifacts
        self._experiment_id = ""
        with translated(f"The tracking store at {scrub_text(self.url)}"):
            mlflow = self.mlflow
            if not is_journaled(uri):
                knock(self.url)
                open_plain(self.url)
            self.client = mlflow.MlflowClient(self.uri, self.uri)
            if not is_journaled(uri):
                self.client.get_experiment_by_name(experiment)

    @classmethod
    def of(cls, project: Project) -> Self:
        """Connect to the tracking store that the project's settings name, through its journal unless that is off."""
        settings = project.settings
        uri = plain(settings.tracking.value)
        if settings.journal.value != "off":
            uri = journaled(uri)
            belongs(uri, project.root)
        return cls(uri, settings.name.value, project.root / STATE / "artifacts")

    @property
    def mlflow(self) -> Any:
        """MLflow, aimed at this store: another project of this process may have aimed it elsewhere since."""
        return aimed(self.uri)

    @property
    def store(self) -> Any:
        """MLflow's tracking store object: the journaled one, unless the journal is off."""
        from mlflow.tracking._tracking_service.utils import _get_store

        return _get_store(self.uri)

    @property
    def outbox(self) -> "Outbox | None":
        """What this process has journaled for the store; None where the journal is off."""
        return self.store.outbox if is_journaled(self.uri) else None

    def context_tags(self) -> dict[str, str]:
        """Word who begins a run; behind a journal MLflow asks for that itself."""
        if is_journaled(self.uri):
            return {}
        from nbmlops.tracking.plugin.context import run_tags

        return run_tags()

    def reach(self) -> None:
        """Ask the store itself, past the journal, for something small, in bounded time.

        Raises
        ------
        StoreError
            It is out of reach now, whatever it was when it was opened.
        """
        load_store(self.url)  # takes seconds, and is not the store's fault
        patience_s = MAKE_S if self.url.startswith("sqlite") else REACH_S
        with translated(f"The tracking store at {scrub_text(self.url)}"):
            Line(self.url).ask(self._ask, patience_s)

    def _ask(self) -> None:
        knock(self.url)
        open_plain(self.url).get_experiment_by_name(self.experiment)

    @property
    def experiment_id(self) -> str:
        """The project's experiment, made on first use; a server chooses the place of its artifacts itself."""
        if not self._experiment_id:
            found = self._found_experiment_id()
            if found.startswith(OFFLINE):  # the store is away: ask again when it is back
                return found
            self._experiment_id = found
        return self._experiment_id

    def _found_experiment_id(self) -> str:
        with translated("The project's experiment"):
            if found := self.client.get_experiment_by_name(self.experiment):
                return str(found.experiment_id)
            place = None if self.url.startswith("http") else self._artifacts.as_uri()
            try:
                return str(self.client.create_experiment(self.experiment, artifact_location=place))
            except self.mlflow.MlflowException as exc:
                if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return str(self.client.get_experiment_by_name(self.experiment).experiment_id)

    def newest(self, limit: int, where: str = "", order: str = "attributes.start_time DESC") -> list[Run]:
        """List runs of the project's experiment, newest first unless ordered otherwise."""
        with translated("The list of runs"):
            found = self.client.search_runs([self.experiment_id], where, max_results=limit, order_by=[order])
        return [self.as_run(run) for run in found]

    def running(self) -> list[tuple[Run, dict[str, str]]]:
        """List the runs that are RUNNING, each with the tags that name its process."""
        with translated("The list of runs"):
            found = self.client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'", max_results=1000)
        return [(self.as_run(run), dict(run.data.tags)) for run in found]

    def find(self, reference: str) -> Run:
        """Find a run by its id, a unique prefix of it, or its name (the newest of that name).

        Raises
        ------
        NotFoundError
            None of the newest 1,000 runs is meant; the hint names the nearest.
        UsageError
            The prefix fits several runs.
        """
        if len(reference) == 32:
            with contextlib.suppress(NotFoundError), translated("The run"):
                return self.as_run(self.client.get_run(reference))
        newest = self.newest(1000)
        by_id = [run for run in newest if len(reference) >= 4 and run.run_id.startswith(reference)]
        if len(by_id) > 1:
            raise UsageError(f"{reference!r} fits {len(by_id)} runs.", f"Give more of the id: {by_id[0].run_id[:12]} …")
        found = by_id or [run for run in newest if run.name == reference]
        if not found:
            raise NotFoundError(f"There is no run {reference!r}.", nearest(reference, (run.name for run in newest)))
        return found[0]

    def as_run(self, run: Any) -> Run:
        """Read MLflow's run."""
        info, data = run.info, run.data
        return run_from(
            info.run_id,
            info.run_name,
            info.status,
            (info.start_time, info.end_time),
            (data.metrics, data.params, data.tags),
            experiment=self.experiment,
            url=link(scrub_text(self.url), info.experiment_id, info.run_id),
        )

    def log(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        step: int,
        artifacts: Sequence[Path],
    ) -> None:
        """Log to a run in one call, then its files; MLflow's rules hold."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(datetime.now(UTC).timestamp() * 1000)
        with translated("The log"):
            self.client.log_batch(
                run_id,
                metrics=[Metric(key, float(value), now, step) for key, value in metrics.items()],
                params=[Param(key, str(scrub(value, key))) for key, value in params.items()],
                tags=[RunTag(key, str(scrub(value, key))) for key, value in tags.items()],
            )
            for path in artifacts:
                (self.client.log_artifacts if path.is_dir() else self.client.log_artifact)(run_id, str(path))


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn MLflow's and its stores' errors into ours; `what` begins the message."""
    try:
        yield
    except NbmlopsError:
        raise
    except Exception as exc:
        if (ours := _ours(what, exc)) is None:
            raise
        raise ours from exc


def aimed(uri: str) -> Any:
    """Import MLflow, with its plain calls meaning this project's store too."""
    mlflow = quiet_mlflow()
    if mlflow.get_tracking_uri() != uri:
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
    return mlflow


def _ours(what: str, exc: Exception) -> NbmlopsError | None:
    why = cause(exc)
    code = getattr(exc, "error_code", "")
    if code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
        return NotFoundError(f"{what} was not found: {why}")
    if code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
        hint = "A parameter keeps its first value. Another one is another attempt: `track NAME -p key=value`"
        return UsageError(f"{what} was refused: {why}", hint if why.startswith("Changing param") else "")
    foreign = type(exc).__module__.split(".")[0] in ("mlflow", "sqlalchemy", "requests", "urllib3", "psycopg")
    if foreign or isinstance(exc, OSError | sqlite3.Error | UnreachableError):
        return StoreError(
            f"{what} is out of reach: {why}",
            "Check [stores] tracking in nbmlops.toml (or NBMLOPS_TRACKING), and that its server runs.",
        )
    return None
