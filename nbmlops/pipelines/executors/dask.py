"""Steps on the workers of Dask."""

from concurrent.futures import Future
from typing import Any

from nbmlops.errors import KernelError, StoreError
from nbmlops.pipelines.executors import StepEnd, StepSpec, extra, run_here


class Dask:
    """The executor of a Dask cluster, on whose machines nbmlops and the project's folder must be.

    A step whose worker dies is given back as lost, never run again by Dask itself: a second attempt needs a fence of
    its own. For that the scheduler's ``allowed-failures`` is set to 0.

    Parameters
    ----------
    address
        Of its scheduler; without it, workers of this machine alone are started, and end with this.
    """

    def __init__(self, address: str = "") -> None:
        with extra("dask"):
            from distributed import Client, LocalCluster
        self._cluster = None if address else LocalCluster(threads_per_worker=1, dashboard_address=None)
        try:
            self._client = Client(address or self._cluster)
        except (OSError, TimeoutError) as exc:
            raise StoreError(f"Dask's scheduler at {address} is out of reach: {exc}.", "Check its address.") from exc
        self._client.run_on_scheduler(_allow_no_failures)
        self._open: dict[Any, Future[StepEnd]] = {}

    def submit(self, spec: StepSpec) -> Future[StepEnd]:
        """Run a step on a worker of the cluster."""
        ended: Future[StepEnd] = Future()
        given = self._client.submit(run_here, spec, pure=False, retries=0, key=None)
        self._open[given] = ended
        given.add_done_callback(self._settle)
        return ended

    def close(self) -> None:
        """Take back what has not begun, and leave the cluster."""
        left, self._open = self._open, {}
        self._client.cancel(list(left), force=True)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()
        for ended in left.values():
            if not ended.done():
                ended.set_exception(KernelError("The executor was closed before the step ended."))

    def _settle(self, given: Any) -> None:
        ended = self._open.pop(given, None)
        if ended is None:
            return
        if given.status == "finished":
            ended.set_result(given.result())
        else:
            lost = KernelError(f"Dask lost the step: {given.exception() if given.status == 'error' else given.status}.")
            ended.set_exception(lost)


def _allow_no_failures(dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = 0
