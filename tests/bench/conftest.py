"""The benches are no tests; only the frame's own examples are run by pytest."""

collect_ignore = ["run.py", "loading.py", "first_run.py", "ledger.py", "reading.py"]
