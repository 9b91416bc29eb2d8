"""Threads that are started as long as that can be done."""

import threading


def started(thread: threading.Thread) -> bool:
    """Start a thread, and say whether it runs: from Python 3.12 on, none starts while the interpreter ends.

    Examples
    --------
    >>> started(threading.Thread(target=int))
    True
    """
    try:
        thread.start()
    except RuntimeError:
        return False
    return True
