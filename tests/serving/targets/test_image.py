"""A build context, and what runs of it without the project."""

import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import psutil
import pytest

from nbmlops.agent.verbs import export
from nbmlops.errors import ConflictError, UsageError
from nbmlops.project import Project
from nbmlops.registry.loader import load_model, verified_copy
from nbmlops.serving.instructions import Instructions
from tests.serving.targets.conftest import TOKEN, container, instructions_of, is_ready


@pytest.fixture(scope="module")
def context(shop: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build context of a compiled version."""
    folder = tmp_path_factory.mktemp("compiled") / "image"
    export(shop, "delays/2", to="docker", output=str(folder))
    return folder


@pytest.fixture(scope="module")
def slow_context(shop: Project, neighbours: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build context of a version that is not compiled."""
    folder = tmp_path_factory.mktemp("pyfunc") / "image"
    export(shop, neighbours, to="docker", output=str(folder))
    return folder


def native(shop: Project, model: str, rows: pd.DataFrame) -> list[int]:
    return [int(each) for each in load_model(verified_copy(shop, model)).predict(rows)]


# ------------------------------------------------------------------------ the files
def test_the_dockerfile_copies_what_is_there_and_runs_as_nobody(context: Path) -> None:
    found = instructions_of((context / "Dockerfile").read_text())
    names = [name for name, _ in found]
    said = dict(found)
    assert names[0] == "FROM"
    assert said["FROM"] == f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    sources = [words.split()[0] for name, words in found if name == "COPY"]
    assert [source for source in sources if not (context / source).exists()] == []
    assert all(words.split(":")[0].isdigit() and words != "0" for name, words in found if name == "USER")
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert names.count("CMD") == names.count("ENTRYPOINT") == 1
    assert json.loads(said["ENTRYPOINT"])[:3] == ["python", "-m", "nbmlops.serving.standalone"]
    health = json.loads(said["HEALTHCHECK"].partition(" CMD ")[2])
    compile(health[2], "health", "exec")
    assert "/health" in health[2]


def test_the_context_holds_no_secret_and_what_others_may_read(context: Path) -> None:
    told = Instructions.read(context / "endpoint")
    assert (told.token, told.certificate, told.key, told.address, told.port) == ("", "", "", "0.0.0.0", 8080)
    assert [path for path in context.rglob("*") if path.is_file() and path.stat().st_mode & 0o444 != 0o444] == []
    assert [path for path in context.rglob("*") if path.is_dir() and path.stat().st_mode & 0o555 != 0o555] == []


def test_the_lock_of_a_compiled_model_has_no_mlflow(context: Path, slow_context: Path) -> None:
    quick = {line.partition("==")[0] for line in (context / "requirements.txt").read_text().split()}
    slow = {line.partition("==")[0] for line in (slow_context / "requirements.txt").read_text().split()}
    assert {"numpy", "orjson", "uvicorn", "uvloop", "httptools"} <= quick
    assert not {"mlflow", "pandas", "scikit-learn"} & quick
    assert {"mlflow", "pandas", "scikit-learn"} <= slow


def test_the_wheel_is_one(context: Path) -> None:
    with zipfile.ZipFile(next(context.glob("*.whl"))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        record = archive.read(next(name for name in names if name.endswith("RECORD"))).decode()
    assert {line.partition(",")[0] for line in record.split()} == {*names}
    assert "nbmlops/serving/standalone.py" in names


def test_the_same_version_gives_the_same_context(shop: Project, context: Path, tmp_path: Path) -> None:
    export(shop, "delays/2", to="docker", output=str(tmp_path / "again"))
    for path in context.rglob("*"):
        if path.is_file() and path.name != "instructions.json":  # whose port the tests change
            assert (tmp_path / "again" / path.relative_to(context)).read_bytes() == path.read_bytes()


# ------------------------------------------------------------------------ the folder
def test_a_folder_that_is_not_ours_is_never_written_over(shop: Project, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(ConflictError, match="something else"):
        export(shop, "delays/1", to="docker", output=str(tmp_path / "mine"), force=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "Dockerfile"]


def test_a_context_is_replaced_when_told(shop: Project, tmp_path: Path) -> None:
    made = export(shop, "delays/1", to="docker", output=str(tmp_path / "image"))
    assert made.image == "delays:1"
    assert any("docker build -t delays:1" in note for note in made.notes)
    with pytest.raises(ConflictError, match="there already"):
        export(shop, "delays/2", to="docker", output=str(tmp_path / "image"))
    export(shop, "delays/2", to="docker", output=str(tmp_path / "image"), force=True)
    assert [each.label for each in Instructions.read(tmp_path / "image" / "endpoint").variants] == ["delays/2"]
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_options_of_a_notebook_are_refused(shop: Project) -> None:
    with pytest.raises(UsageError, match="not of a model"):
        export(shop, "delays/1", to="docker", schedule="0 2 * * *")
    with pytest.raises(UsageError, match="no name of a container image"):
        export(shop, "delays/1", to="docker", image="x; rm -rf /")


# -------------------------------------------------------------------- what runs of it
def test_it_answers_without_the_project_and_ends_on_sigterm(
    shop: Project, context: Path, features: pd.DataFrame, tmp_path: Path
) -> None:
    with container(context, tmp_path, "--workers=2", NBMLOPS_TOKEN=TOKEN) as running:
        assert is_ready(running), (tmp_path / "said").read_text()
        processes = running.workers(2)
        assert all(TOKEN not in " ".join(each.environ().values()) for each in processes)
        assert running.post(features)[0] == 401
        status, content = running.post(features, TOKEN)
        assert (status, content["predictions"]) == (200, native(shop, "delays/2", features))
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0
        assert not any(each.is_running() for each in processes)
    assert [path.name for path in tmp_path.iterdir()] == ["said"]


def test_it_refuses_to_start_without_a_token(context: Path, tmp_path: Path) -> None:
    with container(context, tmp_path) as running:
        assert running.process.wait(30) == UsageError.exit_code
    assert "NBMLOPS_TOKEN is not set" in (tmp_path / "said").read_text()


def test_it_is_open_when_told_and_ends_when_a_worker_is_killed(
    context: Path, features: pd.DataFrame, tmp_path: Path
) -> None:
    with container(context, tmp_path, "--without-token") as running:
        assert is_ready(running), (tmp_path / "said").read_text()
        assert running.post(features)[0] == 200
        running.children()["nbmlops.serving.worker"].kill()
        assert running.process.wait(30) == 8
    assert "worker has ended with exit code -9" in (tmp_path / "said").read_text()


def test_a_compiled_form_that_was_changed_does_not_answer(shop: Project, tmp_path: Path) -> None:
    export(shop, "delays/1", to="docker", output=str(tmp_path / "image"))
    compiled = next((tmp_path / "image").rglob("compiled.bin"))
    compiled.write_bytes(compiled.read_bytes()[:-40])
    (tmp_path / "own").mkdir()
    with container(tmp_path / "image", tmp_path / "own", "--without-token") as running:
        assert running.process.wait(30) == 7
    assert "delays/1 failed its preflight" in (tmp_path / "own" / "said").read_text()


def test_a_model_that_is_not_compiled_has_its_process_and_goes_with_it(
    shop: Project, slow_context: Path, neighbours: str, features: pd.DataFrame, tmp_path: Path
) -> None:
    with container(slow_context, tmp_path, NBMLOPS_TOKEN=TOKEN) as running:
        assert is_ready(running), (tmp_path / "said").read_text()
        status, content = running.post(features, TOKEN)
        assert (status, content["predictions"]) == (200, native(shop, neighbours, features))
        children = psutil.Process(running.process.pid).children(recursive=True)
        running.children()["nbmlops.serving.model_process"].kill()
        assert running.process.wait(60) == 8
        psutil.wait_procs(children, 10)
        assert not any(each.is_running() for each in children)
    assert "model_process has ended with exit code -9" in (tmp_path / "said").read_text()


@pytest.mark.soak
def test_it_answers_with_nothing_installed_but_its_lock(
    shop: Project, context: Path, features: pd.DataFrame, tmp_path: Path
) -> None:
    uv, python = Path(sys.executable).with_name("uv"), tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", python]
    subprocess.run([*install, "-r", context / "requirements.txt"], check=True)
    subprocess.run([*install, next(context.glob("*.whl"))], check=True)
    (tmp_path / "own").mkdir()
    with container(context, tmp_path / "own", python=str(python), NBMLOPS_TOKEN=TOKEN) as running:
        assert is_ready(running), (tmp_path / "own" / "said").read_text()
        status, content = running.post(features, TOKEN)
        assert (status, content["predictions"]) == (200, native(shop, "delays/2", features))
