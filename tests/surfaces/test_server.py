"""The REST surface in a real Jupyter server: who may ask, what is refused in which shape, and what is never delayed."""

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests

from nbmlops import errors
from nbmlops.errors import ConflictError, GateError, NbmlopsError, NotFoundError, StoreError, UsageError
from nbmlops.surfaces.schema import schema
from nbmlops.vocabulary import VERBS

from .conftest import POLICY, TOKEN, Copy, JupyterServer

ROUTES = ("nbmlops/verbs", "nbmlops/verbs/status", "nbmlops/verbs/promote", "nbmlops/verbs/nothing")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def session(server: JupyterServer) -> Iterator[requests.Session]:
    """A browser's session: logged in, known by its cookies, and without the token."""
    with requests.Session() as browser:
        browser.get(f"{server.url}tree?token={TOKEN}", timeout=60)
        assert "_xsrf" in browser.cookies
        yield browser


# ---------------------------------------------------------------------- schemas
def test_every_verb_is_listed_with_a_schema_that_is_one(server: JupyterServer) -> None:
    answer = server.ask("GET", "nbmlops/verbs")
    assert answer.headers["Content-Type"].startswith("application/json")
    listed = {each["name"]: each for each in answer.json()}
    assert list(listed) == [*VERBS, "faulty", "slow"]
    for name in VERBS:
        each = listed[name]
        assert each == json.loads(json.dumps(schema(name)))
        assert (each["summary"], each["effect"], each["group"]) == VERBS[name][1:]
        jsonschema.Draft202012Validator.check_schema(each["arguments"])
        assert each["arguments"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("name", "arguments", "is_valid"),
    [
        ("promote", {"model": "delays/1"}, True),
        ("promote", {}, False),
        ("promote", {"model": "delays/1", "dry_run": "perhaps"}, False),
        ("compare", {"runs": ["a", "b"]}, True),
        ("compare", {"runs": "a"}, False),
        ("end", {"status": "FINISHED"}, True),
        ("end", {"status": "DONE"}, False),
        ("log", {"metrics": {"auc": 0.5}}, True),
        ("log", {"metrics": {"auc": "high"}}, False),
        ("drift", {"current": "a.csv", "against": "b.csv", "columns": None}, True),
        ("drift", {"against": "b.csv"}, False),
    ],
)
def test_a_schema_accepts_what_the_verb_takes_and_nothing_else(
    name: str, arguments: dict[str, Any], is_valid: bool
) -> None:
    validator = jsonschema.Draft202012Validator(schema(name)["arguments"])
    assert validator.is_valid(arguments) == is_valid


# ------------------------------------------------------------------- who may ask
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("route", ROUTES)
def test_nobody_is_answered_without_a_token(route: str, method: str, server: JupyterServer, copied: Copy) -> None:
    folder = copied()
    for token in ("", "wrong"):
        body = {"arguments": {"model": "delays/1"}, "folder": folder.name}
        answer = server.ask(method, route, token=token, json=body, allow_redirects=False)
        exists = method == ("GET" if route == "nbmlops/verbs" else "POST")
        assert answer.status_code in ((302, 401, 403) if exists else (302, 401, 403, 405))
        assert "delays" not in answer.text
    assert champion(server, folder) == "2"


def test_a_browser_needs_the_xsrf_token_beside_its_cookies(
    server: JupyterServer, session: requests.Session, copied: Copy
) -> None:
    folder = copied()
    url = f"{server.url}nbmlops/verbs/promote"
    body = {"arguments": {"model": "delays/1"}, "folder": folder.name}
    refused = session.post(url, json=body, timeout=60)
    assert refused.status_code == 403
    assert session.post(url, json=body, headers={"X-XSRFToken": "guessed"}, timeout=60).status_code == 403
    assert champion(server, folder) == "2"
    accepted = session.post(url, json=body, headers={"X-XSRFToken": session.cookies["_xsrf"]}, timeout=60)
    assert (accepted.status_code, accepted.json()["version"]) == (200, "1")
    assert champion(server, folder) == "1"


def test_a_get_never_performs_a_verb(server: JupyterServer, copied: Copy) -> None:
    folder = copied()
    for method in ("GET", "HEAD"):
        path = f"nbmlops/verbs/promote?model=delays/1&folder={folder.name}"
        assert server.ask(method, path, json={"arguments": {"model": "delays/1"}}).status_code == 405
    assert champion(server, folder) == "2"


def champion(server: JupyterServer, folder: Path) -> str:
    """The version that is champion in a project: 2 unless somebody promoted."""
    (model,) = server.perform("models", {}, folder).json()
    return str(model["aliases"]["champion"])


# -------------------------------------------------------------------- what fails
@dataclass(frozen=True)
class Failure:
    """A request that fails: the error it is answered with, and words of its message or hint."""

    error: type[NbmlopsError]
    words: str
    verb: str = "status"
    arguments: Any = field(default_factory=dict)
    body: Any = None
    policy: str = POLICY

    def __str__(self) -> str:
        return f"{self.error.__name__} {self.verb} {self.words}"


NO_STORE = '[project]\nname = "flights"\n[stores]\ntracking = "postgresql://ops:hunter2@127.0.0.1:1/mlflow"\n'
FAILURES = [
    Failure(NotFoundError, "Did you mean promote?", "promot"),
    Failure(NotFoundError, "Did you mean promote?", "Promote"),
    Failure(UsageError, "takes no argument 'fulll'", "status", {"fulll": 1}),
    Failure(UsageError, "Did you mean model?", "promote", {"modl": "delays/1"}),
    Failure(UsageError, "model: Field required", "promote"),
    Failure(UsageError, "model: ", "promote", {"model": 3}),
    Failure(UsageError, "limit: ", "runs", {"limit": "many"}),
    Failure(UsageError, "from 1 to 1000", "runs", {"limit": 0}),
    Failure(UsageError, "status: ", "end", {"status": "DONE"}),
    Failure(UsageError, "metrics.auc: ", "log", {"metrics": {"auc": "high"}}),
    Failure(UsageError, "Python process", "track"),
    Failure(UsageError, "not JSON", body=b"{"),
    Failure(UsageError, "not JSON", body=b"\xff\xfe"),
    Failure(UsageError, "not JSON", body=b"[" * 100_000),
    Failure(UsageError, "must be an object", body=b"[]"),
    Failure(UsageError, "must be an object", arguments=[]),
    Failure(UsageError, "no field 'argumnts'", body=b'{"argumnts": {}}'),
    Failure(UsageError, "folder must be the text", body=b'{"folder": 3}'),
    Failure(UsageError, "outside the server's root", body=b'{"folder": "../.."}'),
    Failure(UsageError, "outside the server's root", body=b'{"folder": "way-out"}'),
    Failure(UsageError, "folder must be the text", body=b'{"folder": "a\\u0000b"}'),
    Failure(NotFoundError, "no folder 'nowhere'", body=b'{"folder": "nowhere"}'),
    Failure(NotFoundError, "no project here", body=b"{}"),
    Failure(NotFoundError, "no project here", body=b""),
    Failure(UsageError, "Did you mean name?", policy="[project]\nnmae = 'flights'\n"),
    Failure(StoreError, "out of reach", "runs", policy=NO_STORE),
    Failure(NotFoundError, "first", "show", {"what": "frist"}),
    Failure(NotFoundError, "Did you mean delays?", "verify", {"model": "delay/1"}),
    Failure(ConflictError, "No run is active", "log", {"metrics": {"auc": 1}}),
    Failure(GateError, "delays/1", "validate", {"model": "delays/1", "gate": "hopeless"}),
    Failure(NbmlopsError, "This is a bug in nbmlops", "faulty"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_every_failure_has_the_one_shape_and_the_status_of_its_kind(
    failure: Failure, server: JupyterServer, copied: Copy
) -> None:
    folder = copied()
    (folder / "nbmlops.toml").write_text(failure.policy)
    if not (server.root / "way-out").exists():
        (server.root / "way-out").symlink_to("/")
    body = json.dumps({"arguments": failure.arguments, "folder": folder.name}).encode()
    answer = server.ask("POST", f"nbmlops/verbs/{failure.verb}", data=body if failure.body is None else failure.body)
    error = assert_shape(answer)
    assert (error["type"], error["exit_code"]) == (failure.error.__name__, failure.error.exit_code)
    assert answer.status_code == failure.error.http_status
    assert failure.words in error["message"] + error["hint"]
    if failure.error is GateError:
        assert error["report"]["passed"] is False
        assert error["report"]["checks"][0]["name"] == "roc_auc"


@pytest.mark.parametrize(("method", "route"), [("GET", "verbs/status"), ("DELETE", "verbs/status"), ("PUT", "verbs")])
def test_a_wrong_method_is_told_in_the_same_shape(method: str, route: str, server: JupyterServer) -> None:
    answer = server.ask(method, f"nbmlops/{route}")
    assert answer.status_code == 405
    assert "Method Not Allowed" in assert_shape(answer)["message"]


def assert_shape(answer: requests.Response) -> dict[str, Any]:
    """Check that an answer is an error as every surface tells it, without a traceback or a secret; give it."""
    assert answer.headers["Content-Type"].startswith("application/json")
    assert list(answer.json()) == ["error"]
    error: dict[str, Any] = answer.json()["error"]
    kind = getattr(errors, error["type"])
    assert set(error) == {"type", "message", "hint", "exit_code", *kind.detail_fields}
    assert error["message"]
    for secret in ("Traceback", 'File "', "hunter2"):
        assert secret not in answer.text
    return error


# ------------------------------------------------------------- beside other work
def test_a_verb_at_work_delays_nobody(server: JupyterServer) -> None:
    pipe = server.root / "pipe"
    os.mkfifo(pipe)
    answers: list[requests.Response] = []
    caller = threading.Thread(target=lambda: answers.append(server.perform("slow", {"pipe": str(pipe)})))
    caller.start()
    with pipe.open("w") as held:  # opens when the verb has begun to read, and keeps it there
        assert server.ask("GET", "api/status").status_code == 200
        assert server.perform("slow", {"pipe": os.devnull}).json() == ""
        assert not answers
        held.write("done")
    caller.join(60)
    assert answers[0].json() == "done"
