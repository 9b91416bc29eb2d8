"""Libraries whose modules import one another are imported by one thread at a time, also after a fork."""

import os
import sys
import threading
from pathlib import Path

import pytest

from nbmlops.importing import imported

SLOW = """
import builtins, time
builtins.told.append("begin")
time.sleep(0.05)
builtins.told.append("end")
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What modules named slow_0, slow_1 ... tell of their import."""
    import builtins

    events: list[str] = []
    monkeypatch.setattr(builtins, "told", events, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for n in range(4):
        (tmp_path / f"slow_{n}.py").write_text(SLOW)
        monkeypatch.delitem(sys.modules, f"slow_{n}", raising=False)
    return events


def test_one_thread_at_a_time_imports(told: list[str]) -> None:
    threads = [threading.Thread(target=imported, args=[f"slow_{n}"]) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == ["begin", "end"] * 3


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_forked_process_imports_though_a_thread_was_about_to(told: list[str]) -> None:
    thread = threading.Thread(target=imported, args=["slow_3"])
    thread.start()
    while not told:
        pass
    if (child := os.fork()) == 0:
        imported("json.tool")
        os._exit(0)
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
