"""What nbmlops.toml declares of endpoints: read, checked with file and line, heeded by deploy under what is typed."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from nbmlops.agent.serving import Serving
from nbmlops.errors import NbmlopsError, UsageError
from nbmlops.ledger.endpoints import Endpoints, Wanted
from nbmlops.project import Project
from nbmlops.serving import policy
from nbmlops.serving.capture.reading import n_captured
from nbmlops.serving.capture.writing import Capture
from nbmlops.serving.instructions import FILE
from nbmlops.serving.verbs import deploy, predict, undeploy

DECLARED = """\
[project]
name = "flights"

[endpoints.delays]
model = "delays@champion"
port = 5077
workers = 2
capture = { rate = 0.5, hash = ["carrier"], exclude = ["day"], keep_days = 7 }
limits = { max_rows = 1000, max_waiting = 64, deadline = "5s" }
rollout = { canary = [10, 50, 100], bake = "1m", slo = "err<1%", promote = true }
"""


def project_of(root: Path, text: str) -> Project:
    (root / "nbmlops.toml").write_text(text)
    return Project(root)


def test_what_is_declared_is_read(tmp_path: Path) -> None:
    found = policy.of(project_of(tmp_path, DECLARED), "delays")
    assert (found.model, found.terms.port, found.terms.workers) == ("delays@champion", 5077, 2)
    assert found.terms.capture is not None
    kept = {key: found.terms.capture[key] for key in ("rate", "hash", "exclude", "keep_days", "max_bytes")}
    assert kept == {"rate": 0.5, "hash": ("carrier",), "exclude": ("day",), "keep_days": 7, "max_bytes": 10**10}
    limits, bounds = policy.limits_of(found.terms.applied(Wanted("delays", "here", ())))
    assert (limits.max_rows, bounds.max_waiting, bounds.deadline_s) == (1000, 64, 5.0)
    trial = policy.trial(found.rollout)
    assert trial.words == "canary 10%, 50%, 100%, 60 s each, while err<1%"
    assert (trial.promote, trial.is_declared) == (True, True)


def test_a_target_is_declared_with_its_parameters(tmp_path: Path) -> None:
    text = '[project]\nname = "flights"\n[endpoints.delays]\nto = "ray"\nparameters = { replicas = 2, cpus = 1.0 }\n'
    found = policy.of(project_of(tmp_path, text), "delays")
    assert found.target(None, {"replicas": "3"}) == ("ray", {"replicas": "3", "cpus": 1.0})
    assert found.target("sagemaker:/eu-central-1", {}) == ("sagemaker:/eu-central-1", {})


def test_an_endpoint_that_is_not_declared_has_no_policy(tmp_path: Path) -> None:
    assert policy.of(project_of(tmp_path, DECLARED), "other") == policy.Policy()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("port = 70000", "line 1: There is no port 70000"),
        ("workers = 0", "line 1: 0 workers cannot be"),
        ('address = "0.0.0.0"', "line 1: At 0.0.0.0 others could reach the endpoint"),
        ('token = "s3cr3t"', "line 2: token must be a reference"),
        ('certificate = "server.pem"', "line 1: TLS needs a certificate and its key"),
        ("capture = { rate = 2 }", "line 2: The capture's rate is 2"),
        ('capture = { hash = ["a"], exclude = ["a"] }', "line 2: The capture both excludes and hashes a"),
        ("capture = { keep_days = 0 }", "line 2: The capture's keep_days is 0"),
        ("capture = { rat = 1 }", r"line 2: there is no key 'rat' in \[endpoints.late.capture\]"),
        ('capture = "yes"', "line 2: endpoints.late.capture must be true or false or a table"),
        ("limits = { max_rows = 0 }", "line 2: max_rows is 0"),
        ('limits = { deadline = "soon" }', "line 2: deadline must be a duration"),
        ("rollout = { canary = [50, 10] }", "line 2: A canary's steps must rise"),
        ("rollout = { linear = 10, canary = [10, 100] }", "line 2: Canary, linear, blue/green and shadow exclude"),
        ('rollout = { slo = "err<1%" }', "line 2: An slo and promote belong to a rollout"),
        ('rollout = { blue_green = true, slo = "err<" }', "line 2: "),
        ('rollout = { canary = "10,100" }', "line 2: endpoints.late.rollout.canary must be a list"),
        ('model = "a/b/c"', "line 2: "),
        ('to = "rya"', "line 2: An endpoint is declared for local or ray, not for 'rya'"),
        ("parameters = { replicas = 2 }", "line 1: parameters belong to a target"),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"nbmlops.toml, {message}"):
        policy.of(project_of(tmp_path, f"[endpoints.late]\n{line}\n"), "late")


def test_what_is_typed_wins_over_what_is_declared() -> None:
    declared = {"canary": [10, 100], "slo": "err<1%", "bake": "1m"}
    typed = policy.trial(declared, shadow=True, slo="p99<50ms")
    assert (typed.plan and typed.plan.strategy, typed.slo, typed.is_declared) == ("shadow", "p99<50ms", False)
    assert policy.trial(declared, at_once=True) == policy.Trial()
    terms = policy.Terms(port=1, capture={}).over(policy.Terms(port=2, workers=3, capture={"rate": 1.0}))
    assert (terms.port, terms.workers, terms.capture) == (1, 3, {})
    assert policy.trial({}, canary="10%, 100") == policy.trial({}, canary=[10, 100])
    with pytest.raises(UsageError, match="are no steps"):
        policy.trial({}, canary="ten")
    with pytest.raises(UsageError, match="linear step"):
        policy.trial({}, linear=0.0)


def test_capture_is_switched_on_with_what_is_declared_and_off() -> None:
    declared = policy.Policy(terms=policy.Terms(capture=policy.capture_of({"rate": 0.1})))
    assert policy.captured(declared, True) == declared.terms.capture
    assert policy.captured(policy.Policy(), True) == policy.capture_of(True)
    assert policy.captured(declared, False) == {}
    assert policy.captured(declared, None) is None
    off = policy.Policy(terms=policy.Terms(capture=policy.capture_of(False)))
    assert policy.captured(off, True) == policy.capture_of(True)


def test_a_guarded_column_that_the_model_does_not_have_is_refused() -> None:
    inputs = json.dumps([{"name": "carrier", "type": "string"}, {"type": "double"}])
    policy.check_columns({"hash": ("carrier",), "exclude": ("1",)}, inputs, "delays/1")
    policy.check_columns({}, "", "delays/1")
    with pytest.raises(UsageError, match="'carier', and delays/1 has no such column") as refused:
        policy.check_columns({"exclude": ("carier",)}, inputs, "delays/1")
    assert "carrier" in refused.value.hint
    with pytest.raises(UsageError, match="has no signature"):
        policy.check_columns({"hash": ("carrier",)}, "", "delays/1")


def test_captures_lie_where_the_settings_say_and_those_of_ended_endpoints_are_kept_up_too(shop: Project) -> None:
    before = (shop.root / "nbmlops.toml").read_text()
    ended = shop.root / ".nbmlops" / "capture" / "ended"
    (ended / "open").mkdir(parents=True)
    add_old(ended)
    try:
        declared = '[stores]\ncapture = "elsewhere"\n[endpoints.ended]\ncapture = { keep_days = 7 }\n'
        (shop.root / "nbmlops.toml").write_text(before + declared)
        assert policy.captures(shop)["ended"].keep_days == 7
        serving = Serving(shop)
        serving._keep_up()
        assert n_captured(policy.place_of(shop, "ended")) == 1  # of two: the other one was too old
        assert len(list((shop.root / "elsewhere" / "ended").glob("date=*/*.parquet"))) == 1
    finally:
        (shop.root / "nbmlops.toml").write_text(before)
        shutil.rmtree(ended)
    assert "ended" not in policy.captures(shop)


def add_old(folder: Path) -> None:
    """Capture one request of now, and one of long ago."""
    capture = Capture(folder)
    for age_s in (0, 90 * 86400):
        at_ns = int((time.time() - age_s) * 1e9)
        capture.add(f"r{age_s}", at_ns, "delays/1", "champion", 0.001, {"delay": [1.5]}, [1])
    capture.close()


# ------------------------------------------------------------------ a real endpoint
@pytest.fixture
def declared(shop: Project) -> Iterator[Project]:
    before = (shop.root / "nbmlops.toml").read_text()
    (shop.root / "nbmlops.toml").write_text(
        before
        + """
[endpoints.window]
model = "delays@champion"
capture = { hash = ["carrier"] }
limits = { max_rows = 50 }
rollout = { canary = [10, 100], bake = "1h" }
"""
    )
    yield shop
    (shop.root / "nbmlops.toml").write_text(before)


def test_an_endpoint_is_deployed_by_its_name_as_it_is_declared(declared: Project, features: pd.DataFrame) -> None:
    made = deploy(declared, "window")
    try:
        assert (made.endpoint, made.model, made.version, made.rollout) == ("window", "delays", "1", "")
        wanted = declared.open(Endpoints).wanted()["window"]
        assert (wanted.follows, wanted.capture["hash"]) == ("delays@champion", ["carrier"])
        told = json.loads((declared.root / ".nbmlops" / "endpoints" / "window" / FILE).read_text())
        assert told["limits"]["max_rows"] == 50
        with pytest.raises(NbmlopsError, match="50"):
            predict(declared, "window", data=features.head(60))

        assert deploy(declared, "window").rollout == ""  # the same version: there is nothing to try
        tried = deploy(declared, "delays/2", as_="window")
        assert (tried.rollout, tried.state) == ("canary 10%, 100%, 3600 s each", "running")
    finally:
        undeploy(declared, "window")


def test_a_typo_in_a_guarded_column_stops_the_deploy(declared: Project) -> None:
    text = (declared.root / "nbmlops.toml").read_text()
    (declared.root / "nbmlops.toml").write_text(text.replace('hash = ["carrier"]', 'hash = ["carier"]'))
    with pytest.raises(UsageError, match="'carier', and delays/1 has no such column"):
        deploy(declared, "window")
    assert "window" not in declared.open(Endpoints).wanted()
