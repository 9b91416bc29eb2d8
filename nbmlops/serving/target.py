"""Where an endpoint is served, and who makes it so there: this machine (`keeping`), or another target."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from nbmlops.errors import ConflictError
from nbmlops.project import Project

if TYPE_CHECKING:  # verbs import this
    from nbmlops.ledger.endpoints import Variant, Wanted
    from nbmlops.serving.keeping import Found
    from nbmlops.serving.preflight import Preflight
    from nbmlops.serving.window import Window

LOCAL, RAY = "local", "ray"


class Target(Protocol):
    """Makes endpoints what is wanted; modules are such targets. Whoever calls holds the endpoint's lock."""

    def prepared(self, project: Project, wanted: "Wanted", variant: "Variant") -> "Preflight":
        """Have a version pass its preflight in a clean process, and be ready to be served."""

    def made_so(self, project: Project, wanted: "Wanted") -> "Found":
        """Have an endpoint be as it is wanted."""

    def ended(self, project: Project, wanted: "Wanted") -> None:
        """End all of an endpoint that is wanted no longer."""

    def is_level(self, project: Project, wanted: "Wanted") -> bool:
        """Say whether an endpoint is as it is wanted; quickly."""

    def counted(self, project: Project, wanted: "Wanted") -> "dict[str, Window]":
        """Give what was counted of an endpoint's versions, by their labels."""

    def refused(self, project: Project, wanted: "Wanted") -> dict[str, int]:
        """Give how many requests were answered with an error, by status."""


def target_of(wanted: "Wanted") -> Target:
    """Give the target that an endpoint is served by."""
    if wanted.target == RAY:
        from nbmlops.serving.targets import ray

        return ray
    from nbmlops.serving import keeping

    return keeping


@dataclass(frozen=True)
class Place:
    """Where an endpoint is to be: on a machine of ours, or at a target, reached with `parameters`.

    `host` is empty where every machine reaches the target.
    """

    host: str = field(default_factory=socket.gethostname)
    target: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def taken(self, wanted: "Wanted") -> "Wanted":
        """Give an endpoint as it is to be here; one that is there stays where it is.

        Raises
        ------
        ConflictError
            It is served elsewhere.

        Examples
        --------
        >>> from nbmlops.ledger.endpoints import Wanted
        >>> Place("", "ray", {"replicas": 2}).taken(Wanted("delays", "", ())).parameters
        {'replicas': 2}
        """
        if wanted.revision and wanted.target != self.target:
            where, option = (
                (wanted.target, f"--to {wanted.target}") if wanted.target else ("this machine", "--to local")
            )
            raise ConflictError(
                f"The endpoint {wanted.name} is served by {where}.",
                f"Deploy it there ({option}), end it (`undeploy {wanted.name}`), or give another name: --as NAME",
            )
        return replace(wanted, target=self.target, parameters={**wanted.parameters, **self.parameters})
