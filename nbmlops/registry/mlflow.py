"""The registry side of MLflow: versions, aliases, logged models, downloads; and nothing that loads a model."""

import contextlib
import functools
import importlib.metadata
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from nbmlops.errors import NotFoundError, UsageError, nearest
from nbmlops.project import Project
from nbmlops.registry.versions import CHAMPION, ModelVersion, parse_reference
from nbmlops.tracking.mlflow import Tracking, translated
from nbmlops.tracking.owner import owner_tags
from nbmlops.verb import refuse_stale

# Stock MLflow writes this note into a local store's own files when somebody loads a version; it is no part of a model.
NOTE = "registered_model_meta"
_EXAMPLE_ROWS = 5
_REQUIRED = ("mlflow", "scikit-learn", "skops", "numpy", "pandas", "scipy")


@dataclass(frozen=True)
class Source:
    """Where a logged model is: the URI a new version refers to, its bytes' place, its run, and MLflow's id of it."""

    uri: str
    location: str
    run_id: str
    model_id: str = ""


class Registry:
    """A project's registered models."""

    def __init__(self, tracking: Tracking, before_writing: Callable[[], None] = lambda: None) -> None:
        self._tracking = tracking
        self._client = tracking.client
        self._before_writing = before_writing

    @classmethod
    def of(cls, project: Project) -> Self:
        """Use the project's tracking store; MLflow keeps both behind one address."""
        return cls(project.open(Tracking), functools.partial(refuse_stale, project))

    # ---------------------------------------------------------------- reading
    def names(self) -> list[str]:
        """List the names of the registered models."""
        return [model.name for model in self.registered()]

    def registered(self) -> list[Any]:
        """List MLflow's registered models."""
        with translated("The list of models"):
            return list(_pages(self._client.search_registered_models, max_results=1000))

    def aliases(self, name: str) -> dict[str, str]:
        """Name the version behind each alias of a model.

        Raises
        ------
        NotFoundError
            There is no such model; the hint names the nearest.
        """
        try:
            with translated("The model"):
                found = self._client.get_registered_model(name)
        except NotFoundError as exc:
            hint = nearest(name, self.names()) or f"Register one: `register MODEL {name}`"
            raise NotFoundError(f"There is no registered model {name!r}.", hint) from exc
        return aliases_of(found)

    def versions(self, name: str) -> list[ModelVersion]:
        """List a model's versions, newest first."""
        with translated("The list of versions"):
            search = self._client.search_model_versions
            found = [each for each in _pages(search, _condition(name), max_results=10_000) if each.name == name]
        return sorted((_version(each) for each in found), key=lambda each: -int(each.version))

    def resolve(self, text: str, default_alias: str = CHAMPION) -> ModelVersion:
        """Find the version that a reference means.

        Raises
        ------
        NotFoundError
            The model, the version or the alias does not exist; the hint names the nearest.
        """
        wanted = parse_reference(text, default_alias)
        aliases = self.aliases(wanted.name)
        number = wanted.version or aliases.get(wanted.alias, "")
        if not number:
            hint = nearest(wanted.alias, aliases) or f"Name a version: {wanted.name}/1"
            raise NotFoundError(f"No version of {wanted.name} has the alias {wanted.alias!r}.", hint)
        try:
            with translated("The version"):
                return _version(self._client.get_model_version(wanted.name, number))
        except NotFoundError as exc:
            known = (version.version for version in self.versions(wanted.name))
            raise NotFoundError(f"{wanted.name} has no version {number}.", nearest(number, known)) from exc

    def source(self, text: str) -> Source:
        """Find a logged model by an MLflow URI, or as the last one that a run logged.

        Raises
        ------
        NotFoundError
            There is none.
        """
        with translated(f"The model {text!r}"):
            if text.startswith("models:/m-"):
                return _logged(self._client.get_logged_model(text.removeprefix("models:/")))
            if text.startswith("models:/"):
                return self._behind(self.resolve(text))
            if text.startswith("runs:/"):
                run_id, _, path = text.removeprefix("runs:/").partition("/")
                return self._of_run(run_id, path)
            return self._of_run(self._tracking.find(text).run_id)

    def download(self, place: Source | ModelVersion, into: Path) -> Path:
        """Copy a model's bytes, exactly those that are stored, under a folder, and tell where they are in it."""
        location = place.location if isinstance(place, Source) else self._location(place)
        with translated("The model's folder"):
            copied = self._mlflow.artifacts.download_artifacts(
                artifact_uri=location,
                dst_path=str(into),
                tracking_uri=self._tracking.uri,
                registry_uri=self._tracking.uri,
            )
        Path(copied, NOTE).unlink(missing_ok=True)
        return Path(copied)

    # ---------------------------------------------------------------- writing
    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version."""
        self._before_writing()
        with translated(f"The alias {alias!r}"):
            self._client.set_registered_model_alias(name, alias, version)

    def create_version(self, name: str, source: Source, tags: Mapping[str, str]) -> ModelVersion:
        """Make a logged model the next version of a name."""
        self._before_writing()
        with translated("The new version"):
            try:
                self._client.create_registered_model(name)
            except self._mlflow.MlflowException as exc:
                if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = self._client.create_model_version(
                name,
                source.uri,
                run_id=source.run_id or None,
                tags=dict(tags),
                await_creation_for=0,  # MLflow's own stores are ready at once, yet it would announce a wait
                model_id=source.model_id or None,
            )
        return _version(made)

    def save_model(self, folder: Path, model: Any, example: Any, trusted: Collection[str]) -> None:
        """Save a fitted scikit-learn model into an empty folder: skops, signature, input example, pinned requirements.

        Requirements that MLflow has to find out take it 20 seconds and a process.
        """
        signature = None if example is None else self._signature(model, example)
        with translated("The model"), _quiet():
            self._mlflow.sklearn.save_model(
                model,
                str(folder),
                serialization_format="skops",
                skops_trusted_types=list(trusted) or None,
                pip_requirements=_requirements(trusted),
                signature=signature,
                input_example=None if example is None else example[:_EXAMPLE_ROWS],
            )

    def log_folder(self, name: str, folder: Path) -> Source:
        """Log a saved model's folder as it is, to the active run, or to a run of its own."""
        from mlflow.entities import LoggedModelOutput

        with translated("The model"), self._run(name) as run:
            made = self._client.create_logged_model(run.info.experiment_id, name="model", source_run_id=run.info.run_id)
            self._client.log_model_artifacts(made.model_id, str(folder))
            self._client.finalize_logged_model(made.model_id, "READY")
            self._client.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, step=0)])
            return _logged(self._client.get_logged_model(made.model_id))

    # --------------------------------------------------------------- internal
    @property
    def _mlflow(self) -> Any:
        return self._tracking.mlflow  # aimed at this project's store each time

    def _behind(self, version: ModelVersion) -> Source:
        """Name what a version was made from, so that one made from it does not hang on it."""
        if version.source.startswith("models:/"):
            return self.source(version.source)
        place = self._location(version)
        return Source(place, place, version.run_id)

    def _signature(self, model: Any, example: Any) -> Any:
        try:
            predicted = model.predict(example[:_EXAMPLE_ROWS])
        except Exception as exc:
            raise UsageError(
                f"The model cannot predict its input example: {exc}",
                "Give the features that it was trained on, without the target.",
            ) from exc
        with _quiet():
            return self._mlflow.models.infer_signature(example, predicted)

    def _location(self, version: ModelVersion) -> str:
        with translated("The version's place"):
            return str(self._client.get_model_version_download_uri(version.name, version.version))

    def _of_run(self, run_id: str, path: str = "") -> Source:
        run = self._client.get_run(run_id)
        logged = self._client.search_logged_models(
            [run.info.experiment_id],
            filter_string=f"source_run_id = '{run.info.run_id}'",
            order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        )
        if fitting := [model for model in logged if path in ("", model.name)]:
            return _logged(fitting[0])
        if path and any(file.path == f"{path}/MLmodel" for file in self._client.list_artifacts(run_id, path)):
            place = f"{run.info.artifact_uri}/{path}"
            return Source(place, place, run_id)
        names = [model.name for model in logged]
        raise NotFoundError(
            f"Run {run.info.run_name or run_id} logged no model{f' {path!r}' if path else ''}.",
            nearest(path, names) or "Register a fitted model instead: `register MODEL NAME`",
        )

    @contextlib.contextmanager
    def _run(self, name: str) -> Iterator[Any]:
        if active := self._mlflow.active_run():
            yield active
            return
        with self._mlflow.start_run(
            experiment_id=self._tracking.experiment_id, run_name=f"register {name}", tags=owner_tags()
        ) as own:
            yield own


def aliases_of(model: Any) -> dict[str, str]:
    """Name the version behind each alias of one of MLflow's registered models."""
    return {alias: str(version) for alias, version in model.aliases.items()}


def newest_of(model: Any) -> ModelVersion | None:
    """Give the newest version of one of MLflow's registered models, which knows the newest of each stage."""
    return max(map(_version, model.latest_versions), key=lambda each: int(each.version), default=None)


def flavors_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Read a saved model's flavors and signature (as one line, empty without one) from its ``MLmodel`` file.

    Raises
    ------
    UsageError
        There is no such file, or it is not one.
    """
    from mlflow.models import Model

    try:
        model = Model.load(str(folder))
    except Exception as exc:
        raise UsageError(f"{folder} is not a saved MLflow model: {exc}", "Give a folder with an MLmodel file.") from exc
    return dict(model.flavors), _signature_line(model.signature)


def _pages(search: Callable[..., Any], *condition: str, max_results: int) -> Iterator[Any]:
    token = None
    while True:
        page = search(*condition, max_results=max_results, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _condition(name: str) -> str:
    """Word MLflow's filter for a name; its quotation marks know no escape, so with both kinds it finds others too."""
    if "'" not in name:
        return f"name = '{name}'"
    if '"' not in name:
        return f'name = "{name}"'
    pattern = name.replace("'", "_")
    return f"name LIKE '{pattern}'"


def _signature_line(signature: Any) -> str:
    if signature is None:
        return ""
    parts = ("; ".join(str(part) for part in (schema or ())) for schema in (signature.inputs, signature.outputs))
    return " → ".join(parts)


def _version(found: Any) -> ModelVersion:
    return ModelVersion(
        name=found.name,
        version=str(found.version),
        source=found.source or "",
        run_id=found.run_id or "",
        digest=found.tags.get("nbmlops.digest", ""),
        registered_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
    )


def _logged(model: Any) -> Source:
    return Source(f"models:/{model.model_id}", model.artifact_location, model.source_run_id or "", model.model_id)


def _requirements(trusted: Collection[str]) -> list[str]:
    needed = set(_REQUIRED)
    foreign = {name.split(".")[0] for name in trusted} - {"sklearn"}
    if foreign:
        by_module = importlib.metadata.packages_distributions()
        needed |= {by_module[module][0] for module in foreign if module in by_module}
    return sorted(f"{name}=={importlib.metadata.version(name)}" for name in needed)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop two warnings of MLflow's own about what it does itself, and its advice on integer columns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Operation with range is deprecated")
        warnings.filterwarnings("ignore", "(?s).*Inferred schema contains integer column")
        yield
