"""Steps on the nodes of Ray."""

from concurrent.futures import Future
from typing import Any

from nbmlops.errors import StoreError
from nbmlops.pipelines.executors import StepEnd, StepSpec, extra, run_here


class Ray:
    """The executor of a Ray cluster, on whose nodes nbmlops and the project's folder must be.

    A step whose node dies is given back as lost, never run again by Ray itself: a second attempt needs a fence of its
    own.

    Parameters
    ----------
    address
        Of the cluster, as ``ray.init`` takes it; without it, one is started on this machine, and ends with this.

    Raises
    ------
    StoreError
        The cluster is out of reach, or has not started in time.
    """

    def __init__(self, address: str = "") -> None:
        with extra("ray"):
            import ray
        self._ray: Any = ray
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            try:
                ray.init(address or None, log_to_driver=False, include_dashboard=None if address else False)
            except Exception as exc:  # what it raises where a node is too slow is a plain Exception
                ray.shutdown()  # ends what of it has started
                raise _out_of_reach(address, exc) from exc
        self._run = ray.remote(max_retries=0)(run_here)
        self._open: dict[Future[StepEnd], Any] = {}

    def submit(self, spec: StepSpec) -> Future[StepEnd]:
        """Run a step on a node that has what it takes."""
        taken = spec.resources
        memory = {"memory": taken["memory_bytes"]} if taken.get("memory_bytes") else {}
        placed = self._run.options(
            name=spec.name, num_cpus=taken.get("cpus", 1.0), num_gpus=taken.get("gpus", 0.0), **memory
        )
        given = placed.remote(spec)
        ended: Future[StepEnd] = given.future()
        self._open[ended] = given
        ended.add_done_callback(lambda done: self._open.pop(done, None))
        return ended

    def close(self) -> None:
        """End what is running, and leave the cluster."""
        left, self._open = self._open, {}
        for given in left.values():
            self._ray.cancel(given, force=True)
        if self._is_ours:
            self._ray.shutdown()


def _out_of_reach(address: str, cause: Exception) -> StoreError:
    """Word why there is no cluster.

    Examples
    --------
    >>> print(_out_of_reach("10.0.0.7:6379", RuntimeError("Failed to connect to GCS. Last error: ...")))
    Ray at 10.0.0.7:6379 is out of reach: Failed to connect to GCS. Last error: ...
      Check the address, and that its head node runs.
    """
    said = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    if address:
        hint = "Check the address, and that its head node runs."
        return StoreError(f"Ray at {address} is out of reach: {said}", hint)
    hint = "Give a slow machine more time with RAY_raylet_start_wait_time_s=120, or name a cluster: ray:ADDRESS"
    return StoreError(f"Ray could not be started on this machine: {said}", hint)
