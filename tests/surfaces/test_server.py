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
from jupyter_server.serverapp import ServerApp

from nbmlops import errors
from nbmlops.errors import ConflictError, GateError, NbmlopsError, NotFoundError, StoreError, UsageError
from nbmlops.surfaces.route import Route
from nbmlops.surfaces.schema import schema
from nbmlops.surfaces.server import _load_jupyter_server_extension
from nbmlops.vocabulary import VERBS

from .conftest import POLICY, TOKEN, Copy, JupyterServer, as_notebook, jupyter_server

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
GRANTED = {("verbs", "GET"), ("verbs/([^/]+)", "POST"), ("watch", "POST")}


def added() -> dict[str, type[Route]]:
    """Find what the extension adds to a Jupyter server: pattern below ``nbmlops/`` -> handler."""
    app = ServerApp()
    app.initialize(argv=["--ServerApp.base_url=/", "--ServerApp.port=0"], find_extensions=False, new_httpserver=False)
    before = {id(rule) for rule in rules(app)}
    _load_jupyter_server_extension(app)
    new = [rule for rule in rules(app) if id(rule) not in before]
    return {rule.matcher.regex.pattern.rstrip("$").removeprefix("/nbmlops/"): rule.target for rule in new}


def rules(app: ServerApp) -> list[Any]:
    return [rule for host in app.web_app.default_router.rules for rule in getattr(host.target, "rules", ())]


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The patterns of all our routes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONFIG", "DATA", "RUNTIME"):
            patch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path_factory.mktemp(name)))
        found = added()
    assert all(issubclass(handler, Route) for handler in found.values())
    return list(found)


def path_of(pattern: str) -> str:
    """Give a path that a pattern matches: that of a verb that governs, where it is of verbs."""
    return f"nbmlops/{pattern.replace('([^/]+)', 'promote')}"


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
        ("promote", {"to": "champion"}, False),
    ],
)
def test_a_schema_accepts_what_the_verb_takes_and_nothing_else(
    name: str, arguments: dict[str, Any], is_valid: bool
) -> None:
    validator = jsonschema.Draft202012Validator(schema(name)["arguments"])
    assert validator.is_valid(arguments) == is_valid


# ------------------------------------------------------------------- who may ask
@dataclass(frozen=True)
class Caller:
    """Somebody who is to be refused: what the request lacks, or has too much."""

    name: str
    token: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    is_browser: bool = False
    spares: tuple[str, ...] = ()  # methods that need no XSRF token: they change nothing

    def ask(self, server: JupyterServer, browser: requests.Session, method: str, path: str) -> requests.Response:
        body = {"arguments": {"model": "delays/1"}, "folder": "."}
        if not self.is_browser:
            return server.ask(method, path, token=self.token, headers=self.headers, json=body, allow_redirects=False)
        url = f"{server.url}{path}"
        return browser.request(method, url, headers=self.headers, json=body, timeout=60, allow_redirects=False)


EVIL = "http://evil.example"
CALLERS = [
    Caller("nobody"),
    Caller("a wrong token", token="wrong"),
    Caller("a page of another origin, by its cookies", headers={"Origin": EVIL}, is_browser=True),
    Caller("a page of another origin, with the token", token=TOKEN, headers={"Origin": EVIL}),
    Caller("a page without origin", token=TOKEN, headers={"Origin": "null"}),
    Caller("another host, with the token", token=TOKEN, headers={"Host": "evil.example"}),
    Caller("another host, by its cookies", headers={"Host": "evil.example"}, is_browser=True),
    Caller("a browser without the XSRF token", is_browser=True, spares=("GET", "HEAD", "OPTIONS")),
    Caller("a guessed XSRF token", headers={"X-XSRFToken": "a"}, is_browser=True, spares=("GET", "HEAD", "OPTIONS")),
]


REFUSED = [(caller, method) for caller in CALLERS for method in METHODS if method not in caller.spares]


@pytest.mark.parametrize(("caller", "method"), REFUSED, ids=lambda each: getattr(each, "name", each))
def test_every_route_refuses_whatever_the_method(
    caller: Caller, method: str, patterns: list[str], server: JupyterServer, session: requests.Session
) -> None:
    for path in map(path_of, patterns):
        answer = caller.ask(server, session, method, path)
        assert answer.status_code in (401, 403), (path, answer.text)
        if method != "HEAD":
            assert_shape(answer)
        assert "delays" not in answer.text


def test_only_what_is_granted_is_answered(patterns: list[str], server: JupyterServer) -> None:
    assert {pattern for pattern, _ in GRANTED} == set(patterns)
    for pattern in patterns:
        for method in METHODS:
            if (pattern, method) not in GRANTED:
                assert server.ask(method, path_of(pattern)).status_code == 405, (pattern, method)


def test_nothing_of_a_project_has_changed_after_all_refusals(
    patterns: list[str], server: JupyterServer, session: requests.Session, copied: Copy
) -> None:
    folder = copied()
    for caller, method in REFUSED:
        headers = caller.headers | ({"Authorization": f"token {caller.token}"} if caller.token else {})
        body = {"arguments": {"model": "delays/1"}, "folder": folder.name}
        url = f"{server.url}nbmlops/verbs/promote"
        (session if caller.is_browser else requests).request(method, url, headers=headers, json=body, timeout=60)
    assert champion(server, folder) == "2"


@pytest.mark.parametrize(
    ("verb", "arguments", "needs"),
    [
        ("status", {}, "read"),
        ("runs", {}, "read"),
        ("nothing", {}, "read"),
        ("predict", {"endpoint": "delays", "data": "a.csv", "output": "b.csv"}, "execute"),
        ("export", {}, "execute"),
        ("doctor", {"fix": True}, "execute"),
        ("promote", {"model": "delays/1"}, "execute"),
        ("log", {}, "execute"),
        ("run", {}, "execute"),
    ],
)
def test_the_servers_authorizer_decides(
    verb: str, arguments: dict[str, Any], needs: str, guarded: JupyterServer
) -> None:
    answer = guarded.perform(verb, arguments)
    if needs == "read":
        assert answer.status_code in (200, 404)
    else:
        assert answer.status_code == 403
        assert "not allowed to execute nbmlops" in assert_shape(answer)["message"]
    assert guarded.ask("GET", "nbmlops/verbs").status_code == 200
    assert guarded.ask("POST", "nbmlops/watch", json={"folder": ""}).status_code == 200


READERS_ONLY = """\
from jupyter_server.auth.authorizer import Authorizer
class ReadersOnly(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return resource != "nbmlops" or action == "read"
c.ServerApp.authorizer_class = ReadersOnly
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A server whose authorizer lets everybody read, and nobody do more."""
    home = tmp_path_factory.mktemp("guarded")
    with jupyter_server(home, home, READERS_ONLY) as made:
        yield made


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


# ----------------------------------------------------------- paths stay below the root
OUTSIDE = ("{out}", "~/table.csv", "../../etc/passwd", "link.csv", "linked/table.csv", "/etc/passwd")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("drift", {"current": "{}", "against": "holdout.parquet"}),
        ("drift", {"current": "holdout.parquet", "against": "{}"}),
        ("validate", {"model": "delays/1", "data": "{}"}),
        ("register", {"what": "{}", "name": "other"}),
        ("params", {"notebook": "{}"}),
        ("run", {"what": "{}"}),
        ("run", {"what": "train.ipynb", "file": "{}"}),
        ("run", {"what": "train.ipynb", "output": "{}"}),
        ("run", {"what": "train.ipynb", "junit": "{}"}),
        ("export", {"what": "train.ipynb", "to": "cron", "schedule": "0 3 * * *", "output": "{}"}),
        ("schedule", {"target": "{}/train.ipynb", "expression": "0 3 * * *"}),
        ("deploy", {"model": "delays", "certificate": "{}", "key": "{}"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(k for k, v in value.items() if "{}" in v),
)
def test_a_path_that_leads_out_is_refused(
    verb: str, arguments: dict[str, Any], server: JupyterServer, outward: Path, tmp_path: Path
) -> None:
    for name in OUTSIDE:
        named = name.format(out=tmp_path / "table.csv")
        given = {key: value.replace("{}", named) for key, value in arguments.items()}
        error = assert_shape(server.perform(verb, given, outward))
        assert (error["type"], error["exit_code"]) == ("UsageError", 2), error
        assert "outside the server's root" in error["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert (tmp_path / "table.csv").read_text() == "a\n1\n"


@pytest.fixture
def outward(copied: Copy, tmp_path: Path) -> Path:
    """A project with links that lead out of the server's root."""
    folder = copied()
    (tmp_path / "table.csv").write_text("a\n1\n")
    (folder / "link.csv").symlink_to(tmp_path / "table.csv")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "train.ipynb").write_text(json.dumps(as_notebook("1 + 1")))
    return folder


def test_a_path_within_the_root_may_lie_beside_the_project(server: JupyterServer, copied: Copy) -> None:
    folder, other = copied(), copied()
    for name in (f"../{other.name}/holdout.parquet", str(other / "holdout.parquet"), "holdout.parquet"):
        answer = server.perform("drift", {"current": name, "against": "holdout.parquet", "dry_run": True}, folder)
        assert answer.status_code == 200, answer.text


def test_what_the_policy_names_may_lie_anywhere(server: JupyterServer, copied: Copy, tmp_path: Path) -> None:
    folder = copied()
    (folder / "holdout.parquet").rename(tmp_path / "holdout.parquet")
    policy = (folder / "nbmlops.toml").read_text()
    (folder / "nbmlops.toml").write_text(policy.replace('"holdout.parquet"', f'"{tmp_path}/holdout.parquet"'))
    assert server.perform("validate", {"model": "delays/1"}, folder).status_code == 200
