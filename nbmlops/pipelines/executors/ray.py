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
    """

    def __init__(self, address: str = "") -> None:
        with extra("ray"):
            import ray
        self._ray: Any = ray
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            try:
                ray.init(address or None, log_to_driver=False, include_dashboard=None if address else False)
            except ConnectionError as exc:
                raise StoreError(f"Ray at {address} is out of reach: {exc}.", "Check its address.") from exc
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
