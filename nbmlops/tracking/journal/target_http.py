"""An MLflow server as the delivery needs it: plain HTTP, without MLflow's own client, whose import takes seconds."""

import base64
import configparser
import contextlib
import http.client
import json
import math
import os
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import orjson

from nbmlops.scrub import scrub_text
from nbmlops.tracking.journal.delivery import Batch, RejectedError, UnreachableError
from nbmlops.tracking.threads import started

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_GONE = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
_LATER = (408, 425, 429)  # answers of the 4xx kind that mean: try again
SLOWEST_BYTES_S = 100_000  # at which an upload is still waited for
_COULD_NOT_ASK = (401, 403, 407)  # the store is there, but not for us: that is mended by a person, not by a loop


class HttpTarget:
    """An MLflow tracking server; one connection is kept open.

    Parameters
    ----------
    url
        Its address; a path in front of MLflow's own, a user and a password may stand in it.
    timeout_s
        Seconds to wait for one answer.
    """

    def __init__(self, url: str, timeout_s: float = 20.0) -> None:
        self._parts = urllib.parse.urlsplit(url)
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json", **_authorization(self._parts)}
        self._connection: http.client.HTTPConnection | None = None
        self._places: dict[str, str] = {}
        self._one_at_a_time = threading.RLock()  # a signal's handler closes it in the middle of an exchange

    # ---------------------------------------------------------------- the target
    def probe(self, run_id: str) -> None:
        """Write something small to a run, or only look."""
        if run_id:
            tag = {"key": "nbmlops.alive_at", "value": str(int(time.time()))}
            with contextlib.suppress(RejectedError):
                self._post("runs/log-batch", {"run_id": run_id, "tags": [tag]})
        else:
            self._post("experiments/search", {"max_results": 1})

    def created(self, intent: str) -> list[str]:
        """List the runs that carry an intent's id; the first by id is kept, whoever asks."""
        body = {
            "experiment_ids": self._experiments(),
            "filter": f"tags.`nbmlops.id` = '{intent}'",
            "max_results": 10,
        }
        return sorted(run["info"]["run_id"] for run in self._post("runs/search", body).get("runs", []))

    def create_run(self, intent: str, wanted: Mapping[str, Any]) -> str:
        """Create a run in the experiment of an id, or else of a name, which is made where it is missing."""
        body = {
            "experiment_id": wanted["experiment_id"] or self._experiment_id(wanted["experiment"]),
            "user_id": wanted["user_id"],
            "run_name": wanted["run_name"],
            "start_time": wanted["start_time"],
            "tags": [{"key": key, "value": value} for key, value in {**wanted["tags"], "nbmlops.id": intent}.items()],
        }
        return str(self._post("runs/create", body, once=True)["run"]["info"]["run_id"])

    def delete_run(self, run_id: str) -> None:
        """Delete a doubled run."""
        self._post("runs/delete", {"run_id": run_id})

    def log_batch(self, batch: Batch) -> None:
        """Log metrics, params and tags in one request."""
        body = {
            "run_id": batch.run_id,
            "metrics": [_metric(record) for record in batch.metrics],
            "params": [{"key": key, "value": value} for key, value in batch.params.items()],
            "tags": [{"key": key, "value": value} for key, value in batch.tags.items()],
        }
        self._post("runs/log-batch", body)

    def update_run(self, run_id: str, change: Mapping[str, Any]) -> None:
        """Set status, end time or name."""
        self._post("runs/update", {"run_id": run_id, **change})

    def log_inputs(self, run_id: str, inputs: Mapping[str, Any]) -> None:
        """Log dataset and model inputs, which are worded as this request already."""
        self._post("runs/log-inputs", {**inputs, "run_id": run_id})

    def created_model(self, run_id: str, intent: str) -> tuple[str, str] | None:
        """Find the logged model of an intent."""
        body = {
            "experiment_ids": [self._run(run_id)["info"]["experiment_id"]],
            "filter": f"tags.`nbmlops.id` = '{intent}'",
        }
        return next(map(_named, self._post("logged-models/search", body).get("models", [])), None)

    def create_model(self, run_id: str, model: Mapping[str, Any]) -> tuple[str, str]:
        """Create a logged model in the experiment of its run."""
        tags = {**model["tags"], "nbmlops.id": model["id"]}
        body = {
            "experiment_id": self._run(run_id)["info"]["experiment_id"],
            "name": model["name"],
            "source_run_id": run_id,
            "params": [{"key": key, "value": value} for key, value in model["params"].items()],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return _named(self._post("logged-models", body, once=True)["model"])

    def finish_model(self, run_id: str, model_id: str) -> None:
        """Call a logged model ready, and an output of its run unless it is one."""
        outputs = self._run(run_id).get("outputs", {}).get("model_outputs", [])
        if all(output["model_id"] != model_id for output in outputs):
            self._post("runs/outputs", {"run_id": run_id, "models": [{"model_id": model_id, "step": 0}]})
        body = json.dumps({"model_id": model_id, "status": "LOGGED_MODEL_READY"}).encode()
        self._ask("PATCH", f"{API}/logged-models/{model_id}", body, {})

    def upload(self, place: str, path: str, copy: Path) -> None:
        """Put a file: to the server when it keeps artifacts itself, else where MLflow's client would."""
        parts = urllib.parse.urlsplit(place)
        if parts.scheme != "mlflow-artifacts" or parts.netloc not in ("", self._parts.netloc):
            return upload_by_client(place, path, copy)
        where = "/".join(part for part in (parts.path.strip("/"), path) if part)
        with copy.open("rb") as file:
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(copy.stat().st_size)}
            self._ask("PUT", f"{ARTIFACTS}/{urllib.parse.quote(where)}", file, headers)
        return None

    def place_of(self, run_id: str) -> str:
        """Give the artifact place of a run."""
        if run_id not in self._places:
            self._places[run_id] = self._info(run_id)["artifact_uri"]
        return self._places[run_id]

    def state(self, run_id: str) -> tuple[str, str]:
        """Give a run's status, and its error if it has one."""
        run = self._run(run_id)
        tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
        return str(run["info"]["status"]), str(tags.get("nbmlops.error", ""))

    def delete_tag(self, run_id: str, key: str) -> None:
        """Take a tag away."""
        self._post("runs/delete-tag", {"run_id": run_id, "key": key})

    # ------------------------------------------------------------------- requests
    def _experiments(self) -> list[str]:
        found: list[str] = []
        page = {"max_results": 1000}
        while True:
            answer = self._post("experiments/search", page)
            found += [each["experiment_id"] for each in answer.get("experiments", [])]
            if not (token := answer.get("next_page_token")):
                return found
            page["page_token"] = token

    def _experiment_id(self, name: str) -> str:
        query = urllib.parse.urlencode({"experiment_name": name})
        try:
            found = self._ask("GET", f"{API}/experiments/get-by-name?{query}", None, {})
            return str(found["experiment"]["experiment_id"])
        except RejectedError:
            return str(self._post("experiments/create", {"name": name}, once=True)["experiment_id"])

    def _info(self, run_id: str) -> dict[str, Any]:
        return dict(self._run(run_id)["info"])

    def _run(self, run_id: str) -> dict[str, Any]:
        return dict(self._ask("GET", f"{API}/runs/get?run_id={run_id}", None, {})["run"])

    def _post(self, path: str, body: Mapping[str, Any], *, once: bool = False) -> dict[str, Any]:
        return self._ask("POST", f"{API}/{path}", orjson.dumps(body), {}, once=once)

    def _ask(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], *, once: bool = False
    ) -> dict[str, Any]:
        """Ask for something; `once`: what must not be asked for again when its answer is lost."""
        with self._one_at_a_time:
            status, answer = self._exchange(method, self._parts.path.rstrip("/") + path, body, headers, once)
        if status >= 300:
            return _refused(status, answer)
        try:
            return dict(json.loads(answer)) if answer.strip() else {}
        except (ValueError, TypeError) as exc:  # somebody else's answer: a portal's, a proxy's
            raise UnreachableError(f"{self._parts.hostname}: its answer is not MLflow's") from exc

    def _exchange(self, method: str, path: str, body: Any, headers: Mapping[str, str], once: bool) -> tuple[int, bytes]:
        """Ask; a kept connection that the server has closed meanwhile is opened anew."""
        is_kept = self._connection is not None
        connection = self._connection = self._connection or self._connect()
        size = int(headers.get("Content-Length", 0))
        try:
            with _ended_after(connection, self._timeout_s + size / SLOWEST_BYTES_S):
                connection.request(method, path, body, {**self._headers, **headers})
                response = connection.getresponse()
                return response.status, response.read()
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            self._connection = None
            if is_kept and not once and isinstance(exc, ConnectionError) and not _is_file(body):
                return self._exchange(method, path, body, headers, once)
            raise UnreachableError(f"{self._parts.hostname}: {exc or type(exc).__name__}") from exc
        except BaseException:  # an interrupt: what is left of the answer is nobody's
            connection.close()
            self._connection = None
            raise

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=_tls())
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)

    def close(self) -> None:
        """Close the connection."""
        with self._one_at_a_time:
            if self._connection:
                self._connection.close()
            self._connection = None


def upload_by_client(place: str, path: str, copy: Path) -> None:
    """Put a file under an artifact place of any kind, through MLflow's own client."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder, _, name = path.rpartition("/")
    named = copy.with_name(name)  # the client names an artifact by its file
    try:
        if named != copy:
            named.unlink(missing_ok=True)
            os.link(copy, named)
        get_artifact_repository(place).log_artifact(str(named), folder or None)
    except Exception as exc:
        raise UnreachableError(f"{place}: {exc}") from exc
    finally:
        if named != copy:
            named.unlink(missing_ok=True)


def _named(model: Mapping[str, Any]) -> tuple[str, str]:
    return model["info"]["model_id"], model["info"]["artifact_uri"]


def _metric(record: list[Any]) -> dict[str, Any]:
    _, _, key, value, at_ms, step, *extras = record
    return {"key": key, "value": _number(value), "timestamp": at_ms, "step": step, **(extras[0] if extras else {})}


def _number(value: float | str) -> float | str:
    """Word a number as MLflow's protocol does: what JSON has no words for is text."""
    number = float(value)
    return number if math.isfinite(number) else "NaN" if math.isnan(number) else str(value)


def _refused(status: int, answer: bytes) -> NoReturn:
    try:
        told = json.loads(answer)
        code, message = str(told.get("error_code", "")), str(told.get("message", ""))
    except (ValueError, AttributeError):
        code, message = "", answer[:200].decode(errors="replace").strip()
    reason = scrub_text(f"{status} {code} {message}".strip())[:500]
    if status >= 500 or status in _LATER or status in _COULD_NOT_ASK or not code:
        raise UnreachableError(reason)
    raise RejectedError(reason, is_gone=code in _GONE or "must be in the 'active' state" in message)


def _authorization(parts: urllib.parse.SplitResult) -> dict[str, str]:
    """Word who asks, from where MLflow's own client takes it: the variables, the address, the credentials' file."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or urllib.parse.unquote(parts.username or "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or urllib.parse.unquote(parts.password or "")
    if not user:
        file = configparser.ConfigParser()
        file.read(Path.home() / ".mlflow" / "credentials")
        user = file.get("mlflow", "mlflow_tracking_username", fallback="")
        password = file.get("mlflow", "mlflow_tracking_password", fallback="")
    if not user:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _tls() -> ssl.SSLContext:
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return ssl._create_unverified_context()  # noqa: S323  # the user asked MLflow for just this
    return ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))


@contextlib.contextmanager
def _ended_after(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """End a connection whose exchange takes too long as a whole: a trickle of bytes never meets the socket's limit."""

    def end() -> None:
        with contextlib.suppress(OSError):
            if connection.sock:
                connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    started(timer)
    try:
        yield
    finally:
        timer.cancel()


def _is_file(body: Any) -> bool:
    return hasattr(body, "read")
