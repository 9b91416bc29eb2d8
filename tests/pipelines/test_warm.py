"""A command through the warm server is the command that it is without: its ends, streams and surroundings."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from nbmlops.ledger.database import Ledger
from nbmlops.pipelines import jobs
from nbmlops.pipelines.warm import client, place
from nbmlops.project import Project
from tests.faults.death import is_alive

from .conftest import WriteNotebook
from .test_endings import MARK, eventually, mark, marked, notebook_of
from .test_run import only_run

__all__ = ["mark"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a warm server is for Linux")
START_S = 90.0
Environment = dict[str, str]


def server_in(environment: Environment) -> psutil.Process | None:
    """Find the warm server of an environment's user folder."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_one = client.MODULE in process.cmdline() and process.ppid() != 0
            if is_one and process.environ().get("XDG_RUNTIME_DIR") == environment["XDG_RUNTIME_DIR"]:
                return process
    return None


def start_server(environment: Environment) -> subprocess.Popen[bytes]:
    """Start a server, and wait until it listens."""
    line = [sys.executable, *client.OPTIONS, "-m", client.MODULE]
    server = subprocess.Popen(line, cwd="/", env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    folder = Path(environment["XDG_RUNTIME_DIR"], "nbmlops")
    is_there = lambda: any(each.is_socket() for each in folder.glob("warm-*"))  # noqa: E731
    assert eventually(lambda: is_there() or server.poll() is not None, START_S)
    assert server.poll() is None
    return server


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder for a socket, whose whole path may have about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="nbmlops-", dir="/tmp") as folder:
        yield Path(folder)


@contextlib.contextmanager
def a_home(home: Path) -> Iterator[Environment]:
    """Give the environment of commands that have a home of their own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}
    names = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")
    for name in names:
        (home / name).mkdir(mode=0o700)
    with tempfile.TemporaryDirectory(prefix="nbmlops-", dir="/tmp") as short:
        yield kept | {name: str(home / name) for name in names} | {"NBMLOPS_SENDER": "off", "XDG_RUNTIME_DIR": short}


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """What all commands of this file have in common."""
    with a_home(tmp_path_factory.mktemp("home")) as environment:
        yield environment


@pytest.fixture(scope="module")
def warm(surroundings: Environment) -> Iterator[subprocess.Popen[bytes]]:
    """The server of this file's tests."""
    server = start_server(surroundings)
    yield server
    server.kill()
    server.wait()


def line_of(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "nbmlops.surfaces.cli", *words]


def command(surroundings: Environment, *words: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    environment = surroundings | more
    return subprocess.run(line_of(words), input=stdin, capture_output=True, text=True, env=environment, timeout=100)


@contextlib.contextmanager
def started(surroundings: Environment, begun: Path, *words: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command, and wait until its cell is at work."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(line_of(words), stdout=pipe, stderr=pipe, text=True, env=surroundings | more)
    try:
        assert eventually(lambda: begun.exists() or process.poll() is not None, 60)
        assert begun.exists(), process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


TELLS = """\
import json, os, random, sys, tempfile
import numpy
from pathlib import Path
told = {"variable": os.environ.get("A_VARIABLE"), "folder": os.getcwd(), "argv": sys.argv, "file": tempfile.mkdtemp()}
told |= {"random": [random.random(), float(numpy.random.rand()), float(numpy.random.default_rng().random())]}
told |= {"earlier": "kept" in globals(), "runner": os.environ.get("OF_SERVER")}
told |= {"name": __import__("mlflow").utils.name_utils._generate_random_name()}
kept = 1
Path(os.environ["TOLD"]).write_text(json.dumps(told))
print("seen")"""


def told(surroundings: Environment, notebook: Path, place_: Path, **more: str) -> dict[str, object]:
    done = command(surroundings, "run", str(notebook), "-o", "out.ipynb", "--quiet", TOLD=str(place_), **more)
    assert (done.returncode, done.stderr) == (0, ""), done
    return dict(json.loads(place_.read_text()))


# ------------------------------------------------------------------- nothing is otherwise
def test_two_runs_share_nothing_and_know_nothing_of_the_server(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, write_notebook: WriteNotebook
) -> None:
    notebook = write_notebook("it.ipynb", TELLS)
    (project.root / "temporary").mkdir()
    own = {"TMPDIR": str(project.root / "temporary"), "A_VARIABLE": "1"}
    before = psutil.Process(warm.pid).cpu_times().children_user
    first = told(surroundings, notebook, project.root / "first", **own)
    second = told(surroundings, notebook, project.root / "second")
    assert psutil.Process(warm.pid).cpu_times().children_user > before, "the server ran none of them"
    assert (first["variable"], second["variable"]) == ("1", None)
    assert first["folder"] == second["folder"] == str(notebook.parent)
    assert first["argv"] == [""]
    assert str(first["file"]).startswith(own["TMPDIR"])
    assert not str(second["file"]).startswith(own["TMPDIR"])
    assert not set(map(str, first["random"])) & set(map(str, second["random"]))  # type: ignore[call-overload]
    assert first["name"] != second["name"]
    assert not first["earlier"]
    assert not second["earlier"]


def test_exit_code_output_and_standard_input_are_as_without_it(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, write_notebook: WriteNotebook
) -> None:
    kind = "kind = open('/proc/self/cmdline').read()\nopen('warm' if 'surfaces.warm' in kind else 'cold', 'w')"
    notebook = write_notebook("it.ipynb", "print('seen')", kind, "import sys; sys.exit(3)")
    words = ("run", str(notebook), "-o", "out.ipynb", "--json")
    found = []
    for mode, more in (("warm", ()), ("cold", ("--no-warm",))):
        done = command(surroundings, *words, *more, stdin="x\n")
        assert (notebook.parent / mode).exists(), done
        (notebook.parent / mode).unlink()
        assert [each.name for each in notebook.parent.iterdir()] == ["it.ipynb"]
        error = json.loads(done.stdout)["error"]
        said = [line.rpartition("  ")[0] for line in done.stderr.splitlines()]
        found.append((done.returncode, error["type"], error["message"], said, notebook_of(Path("out.ipynb"))))
    assert found[0] == found[1]
    assert found[0][0] == 3


def test_the_mask_of_modes_is_the_clients(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, write_notebook: WriteNotebook
) -> None:
    notebook = write_notebook("it.ipynb", "open('made', 'w')")
    line = ["sh", "-c", 'umask 077; exec "$@"', "sh", *line_of(["run", str(notebook), "-o", "out.ipynb"])]
    done = subprocess.run(line, env=surroundings, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "cold" in done.stderr) == (0, False)
    for made in (notebook.parent / "made", project.root / "out.ipynb"):
        assert made.stat().st_mode & 0o777 == 0o600


def test_two_commands_at_once_are_two_processes(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, write_notebook: WriteNotebook
) -> None:
    wait = "import os, time\nopen(me, 'w')\nwhile not os.path.exists(other): time.sleep(0.02)\nos.getpid()"
    notebook = write_notebook("it.ipynb", wait, tagged="me = ''\nother = ''")
    words = ["run", str(notebook), "--cell-timeout", "30s"]
    pairs = (["-p", "me=a", "-p", "other=b"], ["-p", "me=b", "-p", "other=a"])
    both = [subprocess.Popen(line_of([*words, *each]), env=surroundings, stderr=subprocess.DEVNULL) for each in pairs]
    assert [each.wait(60) for each in both] == [0, 0]


# ------------------------------------------------------------------------ what the client costs
PIPELINE = """
[[pipelines.short.steps]]
name = "only"
notebook = "notebooks/it.ipynb"
"""
HEAVY = {
    "alembic",
    "IPython",
    "mlflow",
    "nbformat",
    "numpy",
    "pandas",
    "papermill",
    "pydantic",
    "sklearn",
    "sqlalchemy",
}


@pytest.mark.parametrize("what", ["notebooks/it.ipynb", "short"])
def test_the_client_imports_nothing_heavy_for_the_server_records_the_event(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, write_notebook: WriteNotebook, what: str
) -> None:
    write_notebook("it.ipynb", "open('ran', 'w')")
    with (project.root / "nbmlops.toml").open("a") as file:
        file.write(PIPELINE)
    line = line_of(["run", what])
    done = subprocess.run(
        [line[0], "-X", "importtime", *line[1:]], capture_output=True, text=True, env=surroundings, timeout=100
    )
    assert (done.returncode, "cold:" in done.stderr) == (0, False), done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "nbmlops.pipelines.warm.client" in imported
    assert not {name.partition(".")[0] for name in imported} & HEAVY
    assert len(imported) < 150
    assert {each.outcome for each in project.open(Ledger).events(verbs=("run",))} == {"ok"}
    assert (project.root / "notebooks" / "ran").exists()


def papermill(surroundings: Environment, notebook: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-X", "importtime", "-m", "papermill", "--engine", "nbmlops", "--no-progress-bar"]
    return subprocess.run(
        [*line, str(notebook), "out.ipynb", *words], capture_output=True, text=True, env=surroundings, timeout=100
    )


@pytest.mark.usefixtures("warm")
def test_papermills_engine_has_its_runs_executed_in_the_server(
    surroundings: Environment, project: Project, write_notebook: WriteNotebook
) -> None:
    done = papermill(
        surroundings, write_notebook("it.ipynb", "print(month + 1)", tagged="month = 1"), "-p", "month", "3"
    )
    assert (done.returncode, "cold:" in done.stderr) == (0, False), done.stderr
    assert not {"mlflow", "pandas", "sqlalchemy"} & {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")
    }
    assert json.loads(Path("out.ipynb").read_text())["cells"][-1]["outputs"][0]["text"] in ("4\n", ["4\n"])
    found = only_run(project)
    assert (found.info.status, found.data.params) == ("FINISHED", {"month": "3"})


@pytest.mark.usefixtures("warm", "project")
@pytest.mark.parametrize(
    ("cell", "told"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ("import os; os._exit(5)", "exited with code 5")],
)
def test_papermill_fails_as_its_run_in_the_server_did(
    surroundings: Environment, write_notebook: WriteNotebook, cell: str, told: str
) -> None:
    done = papermill(surroundings, write_notebook("it.ipynb", cell))
    assert done.returncode == 1
    assert told in done.stderr
    assert "cold:" not in done.stderr


@pytest.mark.usefixtures("warm")
def test_papermill_is_told_why_its_run_could_not_begin_in_the_server(
    surroundings: Environment, project: Project, write_notebook: WriteNotebook
) -> None:
    with (project.root / "nbmlops.toml").open("a") as file:
        file.write('[stores]\nledger = "sqlite:////proc/nowhere/ledger.db"\n')
    done = papermill(surroundings, write_notebook("it.ipynb", "1"))
    assert done.returncode == 1
    assert "nbmlops.errors.StoreError: The ledger" in done.stderr
    assert done.stderr.count("Traceback (most recent call last)") == 1  # papermill's own
    assert "cold:" not in done.stderr


# ---------------------------------------------------------------------------------- ends
SLEEPS = "import subprocess, time\nsubprocess.Popen(['sleep', '1000'])\nopen('begun', 'w')\ntime.sleep(60)"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_to_the_command_ends_its_run(
    warm: subprocess.Popen[bytes],
    surroundings: Environment,
    project: Project,
    write_notebook: WriteNotebook,
    mark: str,
    signum: int,
    code: int,
) -> None:
    notebook = write_notebook("it.ipynb", SLEEPS, "open('after', 'w')")
    words = ("run", str(notebook), "-o", "out.ipynb")
    with started(surroundings, notebook.parent / "begun", *words, **{MARK: mark}) as process:
        process.send_signal(signum)
        process.communicate(timeout=20)
        assert process.returncode == code
        assert eventually((project.root / "out.ipynb").exists, 10)
        assert eventually(lambda: jobs.newest(project)[0].status == "KILLED", 10)
    assert notebook_of(project.root / "out.ipynb") == ["failed", "pending"]
    assert not (notebook.parent / "after").exists()


def test_a_command_that_is_killed_in_the_server_is_not_run_again(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, write_notebook: WriteNotebook
) -> None:
    notebook = write_notebook("it.ipynb", SLEEPS + "\nopen('begun', 'a').write('x')")
    with started(surroundings, notebook.parent / "begun", "run", str(notebook), "-o", "out.ipynb") as process:
        (runner,) = psutil.Process(warm.pid).children()
        runner.kill()
        process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL
    assert eventually((project.root / "out.partial.ipynb").exists, 5)
    assert len(jobs.newest(project)) == 1


def test_a_server_that_is_killed_ends_its_commands_truly(
    surroundings: Environment, project: Project, write_notebook: WriteNotebook, mark: str, runtime: Path
) -> None:
    surroundings = surroundings | {"XDG_RUNTIME_DIR": str(runtime)}
    notebook = write_notebook("it.ipynb", SLEEPS, "open('after', 'w')")
    server = start_server(surroundings)
    words = ("run", str(notebook), "-o", "out.ipynb")
    with started(surroundings, notebook.parent / "begun", *words, **{MARK: mark}) as process:
        server.kill()
        server.wait()
        said = process.communicate(timeout=20)[1]
    assert (process.returncode, "The warm server was ended from outside" in said) == (143, True)
    assert [each.status for each in jobs.newest(project)] == ["KILLED"]
    assert notebook_of(project.root / "out.ipynb") == ["failed", "pending"]
    assert eventually(lambda: not marked(mark), 5)


# ------------------------------------------------------------------------- when it is cold
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MPLBACKEND", "MPLCONFIGDIR", "PYTHONWARNINGS"])
def test_what_imports_would_have_read_otherwise_is_told_and_run_cold(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project, write_notebook: WriteNotebook, name: str
) -> None:
    done = command(surroundings, "run", "no.ipynb", **{name: "1"})
    assert f"cold: {name} is set otherwise than for the warm server" in done.stderr
    assert done.returncode == 11
    assert warm.poll() is None


def test_another_limit_of_resources_is_told_and_run_cold(
    warm: subprocess.Popen[bytes], surroundings: Environment, project: Project
) -> None:
    line = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *line_of(["run", "no.ipynb"])]
    done = subprocess.run(line, env=surroundings, capture_output=True, text=True, timeout=60)
    assert "cold: RLIMIT_NOFILE is set otherwise" in done.stderr


@pytest.mark.parametrize("how", [{"CI": "true"}, {"NBMLOPS_WARM": "off"}, {"word": "--no-warm"}])
def test_no_server_is_asked_or_left_where_none_is_wanted(
    surroundings: Environment, project: Project, tmp_path: Path, how: dict[str, str]
) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    word = how.pop("word", "--quiet")
    command(surroundings | {"XDG_RUNTIME_DIR": str(tmp_path / "runtime")} | how, "run", "no.ipynb", word)
    assert list((tmp_path / "runtime").iterdir()) == []


def test_python_too_may_have_cells_run_in_a_process_that_has_imported_nothing(
    warm: subprocess.Popen[bytes],
    surroundings: Environment,
    project: Project,
    write_notebook: WriteNotebook,
    tmp_path: Path,
) -> None:
    write_notebook("a.ipynb", "import os; open(os.environ['TOLD'], 'a').write(open('/proc/self/cmdline').read())")
    path = project.root / "nbmlops.toml"
    path.write_text(path.read_text() + "[[pipelines.p.steps]]\nname = 's'\nnotebook = 'notebooks/a.ipynb'\n")
    for number, (what, more) in enumerate(
        [("notebooks/a.ipynb", ""), ("notebooks/a.ipynb", "no_warm=True"), ("p", "no_warm=True")]
    ):
        place_ = tmp_path / f"told{number}"
        code = f"import nbmlops; nbmlops.open({str(project.root)!r}).run({what!r}, {more})"
        subprocess.run([sys.executable, "-c", code], env=surroundings | {"TOLD": str(place_)}, check=True, timeout=100)
        assert (client.MODULE in place_.read_text()) is (not more), (what, more, place_.read_text())


def test_a_server_is_left_for_the_next_command_and_ends_when_a_module_has_changed(
    surroundings: Environment, project: Project, write_notebook: WriteNotebook, tmp_path: Path, runtime: Path
) -> None:
    module = tmp_path / "modules" / "nbconvert_changes.py"
    module.parent.mkdir()
    module.write_text("one = 1")
    (tmp_path / "modules" / "sitecustomize.py").write_text("import nbconvert_changes")
    more = {"XDG_RUNTIME_DIR": str(runtime), "PYTHONPATH": str(module.parent)}
    surroundings = surroundings | more
    command(surroundings, "run", "no.ipynb")
    folder = runtime / "nbmlops"
    assert eventually(lambda: any(each.is_socket() for each in folder.glob("warm-*")), START_S)
    server = server_in(surroundings)
    assert server is not None
    module.write_text("one = 2  # changed")
    done = command(surroundings, "run", "no.ipynb", CI="")
    assert f"cold: {module} has changed" in done.stderr
    assert eventually(lambda: not is_alive(server.pid), 5)
    assert eventually(lambda: (successor := server_in(surroundings)) and successor.pid != server.pid, 10)
    successor = server_in(surroundings)
    assert successor is not None
    successor.kill()


def test_a_folder_that_others_may_enter_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runtime / "nbmlops").mkdir(mode=0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    with pytest.raises(PermissionError):
        place.socket_path()
    assert client.run(["run", "no.ipynb"]) is None


REHEARSED = """
import logging, os, sys, threading
from pathlib import Path
from nbmlops.pipelines.warm.preload import preload
place, before = Path(sys.argv[1]), dict(os.environ)
preload(place)
assert threading.active_count() == 1, threading.enumerate()
assert not any(place.iterdir()), list(place.iterdir())
open_files = {os.path.realpath(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")}
assert not [each for each in open_files if str(place) in each or each.endswith(".db")], open_files
assert not logging.getLogger().handlers, logging.getLogger().handlers
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
assert not SqlAlchemyStore._engine_map
import mlflow
assert mlflow.active_run() is None
"""


SPOILT = """
import sys, tempfile
from pathlib import Path
from nbmlops.pipelines import page
from nbmlops.pipelines.warm import preload, rehearsal

def fails(*_): raise RuntimeError("another release does it otherwise")

page.prepare = rehearsal._show = rehearsal._keep_run = rehearsal.open_plain = fails
assert preload.preload(Path(sys.argv[1])).files
assert tempfile.tempdir is None
"""


def test_what_cannot_be_done_beforehand_keeps_no_server_from_starting(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-Xfrozen_modules=off", "-c", SPOILT, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_what_a_server_does_beforehand_leaves_nothing_but_caches(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-Xfrozen_modules=off", "-c", REHEARSED, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("warm")
def test_the_last_steps_of_a_pipeline_are_verbs_that_say_the_same_warm(
    surroundings: Environment, tmp_path: Path
) -> None:
    (tmp_path / "before.csv").write_text("delay\n" + "\n".join(str(each % 60) for each in range(600)))
    (tmp_path / "now.csv").write_text("delay\n" + "\n".join(str(each % 60 + 30) for each in range(600)))
    now, before = (str(tmp_path / name) for name in ("now.csv", "before.csv"))
    words = ("drift", now, "--against", before, "--exit-code", "--json")
    warm_one, cold_one = command(surroundings, *words), command(surroundings, *words, NBMLOPS_WARM="off")
    assert (warm_one.returncode, warm_one.stdout) == (cold_one.returncode, cold_one.stdout)
    assert warm_one.returncode == 6
    imported = [sys.executable, "-X", "importtime", *line_of(words)[1:]]
    done = subprocess.run(imported, capture_output=True, text=True, env=surroundings, timeout=100)
    assert "pandas" not in done.stderr
