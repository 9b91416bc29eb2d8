"""Steps on any ``concurrent.futures.Executor``, which stays its owner's."""

from concurrent import futures
from concurrent.futures import Future
from functools import partial

from nbmlops.pipelines.executors import StepEnd, StepSpec, run_here


class Borrowed:
    """The executor of somebody else: each of its workers runs a step in a process below itself.

    Parameters
    ----------
    executor
        Of processes or threads, here or elsewhere.
    """

    def __init__(self, executor: futures.Executor) -> None:
        self._executor = executor
        self._open: set[Future[StepEnd]] = set()

    def submit(self, spec: StepSpec) -> Future[StepEnd]:
        """Run a step on a worker of the executor."""
        try:
            future = self._executor.submit(partial(run_here, spec))
        except RuntimeError as exc:  # it is shut down, or all of its workers died
            future = Future()
            future.set_exception(exc)
            return future
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    def close(self) -> None:
        """Take back what has not begun, and wait for the rest: such an executor can end nothing."""
        mine = list(self._open)
        for future in mine:
            future.cancel()
        futures.wait(mine)
