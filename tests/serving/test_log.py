"""The log of an endpoint's processes: bounded, whoever writes, and whole."""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from nbmlops.project import Project
from nbmlops.serving import keeping
from nbmlops.serving.instructions import LOG
from nbmlops.serving.log import LARGEST_BYTES, Output, bound, predecessor
from nbmlops.serving.verbs import deploy, undeploy
from tests.serving.conftest import model_processes, servers
from tests.serving.crowd import until

N_WRITERS, LARGEST = 4, 100_000
WRITE = """
import os, sys
from pathlib import Path
from nbmlops.serving.log import Output, bound
log, name, n, largest = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
output = Output(log)
for number in range(n):
    os.write(2, f"{name} {number}\\n".encode())
    if not number % 7:
        bound(log, largest)
        output.follow()
"""


def written(log: Path, n: int) -> dict[str, list[int]]:
    """Have several processes write at once, each so many lines; gives the lines that are kept, by writer."""
    with log.open("ab") as output:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITE, str(log), str(name), str(n), str(LARGEST)],
                stdout=output, stderr=output,
            )
            for name in range(N_WRITERS)
        ]  # fmt: skip
    assert [writer.wait(60) for writer in writers] == [0] * N_WRITERS
    found = defaultdict(list)
    for line in predecessor(log).read_text().splitlines() + log.read_text().splitlines():
        name, number = line.split(" ")
        found[name].append(int(number))
    return {name: sorted(numbers) for name, numbers in found.items()}


def test_no_line_of_several_writers_is_lost_when_a_log_is_begun_anew(tmp_path: Path) -> None:
    n = LARGEST * 3 // 2 // N_WRITERS // len("0 1000\n")  # one and a half times what the log may hold
    for turn in range(5):
        assert written(tmp_path / f"{turn}.log", n) == {str(name): list(range(n)) for name in range(N_WRITERS)}


def test_a_log_stays_small_however_much_is_written(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    written(log, 10 * LARGEST // N_WRITERS // len("0 1000\n"))
    assert sorted(tmp_path.iterdir()) == [log, predecessor(log)]
    assert all(path.stat().st_size < 3 * LARGEST for path in tmp_path.iterdir())


def test_a_log_that_is_not_large_or_not_there_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    bound(log)
    assert not log.exists()
    log.write_bytes(b" " * LARGEST_BYTES)
    bound(log)
    assert not predecessor(log).exists()


def test_output_that_is_no_log_stays_as_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"12")
    bound(log, 1)
    Output(log).follow()
    os.write(2, b"to whom it may concern")
    assert capfd.readouterr().err == "to whom it may concern"
    assert log.read_bytes() == b""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="where a process writes is looked up in /proc")
def test_all_processes_of_an_endpoint_turn_to_the_new_log(shop: Project, moody: dict[str, str]) -> None:
    deploy(shop, f"moody/{moody['good']}", as_="wordy", workers=2)
    try:
        log = keeping.folder_of(shop, "wordy") / LOG
        before = log.read_bytes()
        with log.open("ab") as file:
            file.write(b"x" * (LARGEST_BYTES + 1))
        until(lambda: outputs(shop) == {str(log)}, 10)
        assert predecessor(log).read_bytes() == before + b"x" * (LARGEST_BYTES + 1)
        assert log.read_bytes() == b""
    finally:
        undeploy(shop, "wordy")


def outputs(shop: Project) -> set[str]:
    """The files to which an endpoint's processes write, if the log has been begun anew."""
    import psutil

    [parent] = model_processes(shop, "wordy")
    pids = [parent, *(child.pid for child in psutil.Process(parent).children()), *servers(shop, "wordy")]
    assert len(pids) == 5
    found = {os.readlink(f"/proc/{pid}/fd/{number}") for pid in pids for number in (1, 2)}
    return found if any(keeping.folder_of(shop, "wordy").glob(f"{LOG}.1")) else set()
