"""What every executor keeps: each step is the same command in a process of its own, and its end is told as it was."""

import importlib.util
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nbmlops.errors import UsageError
from nbmlops.pipelines.executors import Executor, StepEnd, StepSpec, named
from nbmlops.pipelines.executors.borrowed import Borrowed
from nbmlops.pipelines.executors.local import Local
from tests.faults.death import is_alive

WAIT_S = 60


def pool() -> Iterator[Executor]:
    """A plain pool of processes."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        borrowed = Borrowed(executor)
        yield borrowed
        borrowed.close()


def opened(name: str) -> Iterator[Executor]:
    """An executor by its name."""
    if importlib.util.find_spec(name) is None and name != "local":
        pytest.skip(f"{name} is not installed")
    executor = named("local:2" if name == "local" else name)
    yield executor
    executor.close()


# Engines leave threads, sockets and warnings of their own behind, which are not ours to mend.
ENGINE = [pytest.mark.soak, pytest.mark.filterwarnings("ignore")]
KINDS = [
    pytest.param(lambda: opened("local"), id="local"),
    pytest.param(pool, id="pool"),
    pytest.param(lambda: opened("dask"), id="dask", marks=ENGINE),
    pytest.param(lambda: opened("ray"), id="ray", marks=ENGINE),
]


@pytest.fixture(scope="module", params=KINDS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    yield from request.param()


def python(source: str, folder: Path, *words: str, **fields: object) -> StepSpec:
    spec = StepSpec("step", ("python", "-c", source, *words), str(folder), log=str(folder / "step.log"))
    return replace(spec, **fields)  # type: ignore[arg-type]


def end(executor: Executor, spec: StepSpec) -> StepEnd:
    return executor.submit(spec).result(WAIT_S)


def wait_for(path: Path, future: "Future[StepEnd]") -> str:
    """Wait until a step has written a file whole; its content."""
    deadline = time.monotonic() + WAIT_S
    while not (path.exists() and path.read_text().endswith("\n")):
        assert not future.done(), future
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text().strip()


def wait_until(fact: Callable[[], bool], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------------- every executor
def test_a_step_is_a_process_of_its_own_with_folder_and_environment(executor: Executor, tmp_path: Path) -> None:
    source = "import json, os; print(json.dumps([os.getpid(), os.getcwd(), os.environ['MONTH'], os.getsid(0)]))"
    told = end(executor, python(source, tmp_path, environment={"MONTH": "3 $HOME 'x'\n"}))
    assert (told.code, told.timed_out) == (0, False)
    pid, folder, month, session = json.loads(told.stdout)
    assert pid == session != os.getpid()
    assert (folder, month) == (str(tmp_path), "3 $HOME 'x'\n")


def test_parameters_come_in_a_file_of_the_users_own_that_goes_again(executor: Executor, tmp_path: Path) -> None:
    source = (
        "import json, os, sys; assert sys.argv[-2] == '-f'; path = sys.argv[-1]\n"
        "print(json.dumps([path, os.stat(path).st_mode, json.load(open(path))]))"
    )
    given = {"n": 3, "text": "naïve ☃", "nothing": None, "list": [1.5, True]}
    path, mode, read = json.loads(end(executor, python(source, tmp_path, parameters=given)).stdout)
    assert read == given
    assert stat.S_IMODE(mode) == 0o600
    assert not Path(path).exists()


def test_words_are_passed_as_they_are(executor: Executor, tmp_path: Path) -> None:
    words = ["$(touch x)", "a b", "'; exit 1", "*", ""]
    told = end(executor, python("import json, sys; print(json.dumps(sys.argv[1:]))", tmp_path, *words))
    assert json.loads(told.stdout) == words


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("raise ValueError('no month')", 1),
    ],
)
def test_the_exit_code_is_told_and_what_was_said_last(
    executor: Executor, tmp_path: Path, source: str, code: int
) -> None:
    told = end(executor, python(source, tmp_path))
    assert told.code == code
    assert ("no month" in told.stderr) == (code == 1)


def test_stderr_is_added_to_the_log_and_stdout_is_told_whole(executor: Executor, tmp_path: Path) -> None:
    (tmp_path / "step.log").write_text("before\n")
    source = "import sys; print('x' * 300_000); print('progress', file=sys.stderr)"
    told = end(executor, python(source, tmp_path))
    assert told.stdout == "x" * 300_000 + "\n"
    assert told.stderr == "progress\n"
    assert (tmp_path / "step.log").read_text() == "before\nprogress\n"


def test_a_step_that_takes_too_long_is_ended_in_order(executor: Executor, tmp_path: Path) -> None:
    source = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('ended in order'), sys.exit(143)))\n"
        "time.sleep(60)"
    )
    told = end(executor, python(source, tmp_path, timeout_s=0.5))
    assert (told.code, told.stdout, told.timed_out) == (143, "ended in order\n", True)


def test_what_a_step_leaves_behind_ends_with_it(executor: Executor, tmp_path: Path) -> None:
    source = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid)"
    )
    pid = int(end(executor, python(source, tmp_path)).stdout)
    wait_until(lambda: not is_alive(pid))


@pytest.mark.parametrize("command", [("no-such-command",), ("python", "-c", "pass")])
def test_a_command_or_folder_that_is_not_there_is_an_end_too(
    executor: Executor, tmp_path: Path, command: tuple[str, ...]
) -> None:
    told = end(executor, StepSpec("step", command, str(tmp_path / "nowhere"), log=str(tmp_path / "step.log")))
    assert told.code == 127
    assert "cannot be started" in told.stderr


def test_steps_run_beside_each_other(executor: Executor, tmp_path: Path) -> None:
    """Each of two waits for the other one's file."""
    source = (
        "import sys, time; from pathlib import Path; own, other = map(Path, sys.argv[1:]); own.touch()\n"
        "deadline = time.time() + 30\n"
        "while not other.exists() and time.time() < deadline: time.sleep(0.01)\n"
        "print(other.exists())"
    )
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    futures = [executor.submit(python(source, tmp_path, *words)) for words in (names, names[::-1])]
    assert [future.result(WAIT_S).stdout for future in futures] == ["True\n", "True\n"]


# ------------------------------------------------------------------------------- local
@pytest.fixture
def local() -> Iterator[Local]:
    executor = Local(2)
    yield executor
    executor.close()


SLEEPER = (
    "import os, sys, time; from pathlib import Path\nPath(sys.argv[1]).write_text(f'{os.getpid()}\\n'); time.sleep(120)"
)


def test_no_more_run_at_once_than_there_is_room_for(local: Local, tmp_path: Path) -> None:
    (tmp_path / "running").mkdir()
    source = (
        "import os, time; from pathlib import Path; here = Path('running', str(os.getpid())); here.touch()\n"
        "n = len(os.listdir('running')); time.sleep(0.05); here.unlink(); print(n)"
    )
    futures = [local.submit(python(source, tmp_path)) for _ in range(6)]
    assert max(int(future.result(WAIT_S).stdout) for future in futures) <= 2
    wide = [local.submit(python(source, tmp_path, resources={"cpus": 8})) for _ in range(3)]
    assert [int(future.result(WAIT_S).stdout) for future in wide] == [1, 1, 1]


def test_closing_ends_what_runs_and_what_waits_is_lost(local: Local, tmp_path: Path) -> None:
    futures = [local.submit(python(SLEEPER, tmp_path, str(tmp_path / f"pid{n}"))) for n in range(3)]
    pids = [int(wait_for(tmp_path / f"pid{n}", futures[n])) for n in range(2)]
    local.close()
    local.close()
    assert all(not is_alive(pid) for pid in pids)
    assert [future.result().code for future in futures[:2]] == [-signal.SIGTERM] * 2
    with pytest.raises(Exception, match="executor was closed"):
        futures[2].result()
    assert local.submit(python("pass", tmp_path)).exception() is not None


def test_a_step_that_does_not_heed_its_end_is_killed(local: Local, tmp_path: Path) -> None:
    source = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPER}"
    future = local.submit(python(source, tmp_path, str(tmp_path / "pid")))
    pid = int(wait_for(tmp_path / "pid", future))
    local.close()
    assert not is_alive(pid)
    assert future.result().code == -signal.SIGKILL


def test_a_launcher_that_is_killed_takes_its_steps_along_and_they_are_lost(local: Local, tmp_path: Path) -> None:
    future = local.submit(python(SLEEPER, tmp_path, str(tmp_path / "pid")))
    pid = int(wait_for(tmp_path / "pid", future))
    local._process.kill()
    with pytest.raises(Exception, match="its process has died"):
        future.result(WAIT_S)
    wait_until(lambda: not is_alive(pid))


def test_the_steps_of_a_process_that_is_killed_end_and_leave_no_file(tmp_path: Path) -> None:
    source = (
        "import sys; from nbmlops.pipelines.executors import StepSpec\n"
        "from nbmlops.pipelines.executors.local import Local\n"
        "folder, sleeper = sys.argv[1:]\n"
        "command = ('python', '-c', sleeper, folder + '/pid')\n"
        "Local(1).submit(StepSpec('s', command, folder, parameters={'a': 1}, log=folder + '/log')).result()"
    )
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    words = [sys.executable, "-c", source, str(tmp_path), SLEEPER]
    driver = psutil.Popen(words, env={**os.environ, "TMPDIR": str(temporary)})
    wait_until((tmp_path / "pid").exists)
    wait_until(lambda: (tmp_path / "pid").read_text().endswith("\n"))
    assert list(temporary.rglob("*.json"))
    driver.kill()
    driver.wait()
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_alive(pid) and not list(temporary.iterdir()))


# ------------------------------------------------------------------------------- names
@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_an_engine_that_is_not_installed_names_its_extra(kind: str) -> None:
    if importlib.util.find_spec(kind) is not None:
        pytest.skip(f"{kind} is installed")
    with pytest.raises(UsageError, match=rf"needs nbmlops\[{kind}\]"):
        named(kind)


NO_RAY = """
import sys, psutil, ray
from nbmlops.errors import StoreError
from nbmlops.pipelines.executors import named
try:
    named(sys.argv[1])
except StoreError as exc:
    assert exc.__cause__ is not None and not ray.is_initialized()
    assert not psutil.Process().children(recursive=True)
    print(exc)
"""


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "folder", "said", "hint"),
    [
        ("ray", "x" * 100, "Ray could not be started on this machine: ", "RAY_raylet_start_wait_time_s=120"),
        ("ray:nowhere", "", "Ray at nowhere is out of reach: Invalid address", "Check the address"),
    ],
)
def test_a_ray_that_cannot_begin_is_a_store_out_of_reach_and_leaves_nothing(
    tmp_path: Path, name: str, folder: str, said: str, hint: str
) -> None:
    pytest.importorskip("ray")
    (tmp_path / folder).mkdir(exist_ok=True)
    variables = {**os.environ, "RAY_TMPDIR": str(tmp_path / folder)}  # where it has sockets, whose names are short
    words = [sys.executable, "-c", NO_RAY, name]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=WAIT_S)
    message, _, advice = done.stdout.partition("\n")
    assert message.startswith(said), done.stderr
    assert hint in advice


def test_a_number_of_steps_is_a_number() -> None:
    with pytest.raises(UsageError, match="local:many names no number"):
        named("local:many")
