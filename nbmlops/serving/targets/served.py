"""What is to be served elsewhere: a version, or an endpoint's versions with their shares, and under which names."""

import re
from dataclasses import dataclass

from nbmlops.errors import ConflictError, UsageError
from nbmlops.ledger.endpoints import SHADOW, Endpoints, Variant, Wanted
from nbmlops.project import Project
from nbmlops.registry.forms import COMPILED, Form
from nbmlops.registry.reading import remembered
from nbmlops.serving import policy
from nbmlops.serving.deploying import variant_of

PORT = 8080
_IMAGE = re.compile(r"[A-Za-z0-9][\w./:@-]*", re.ASCII)


@dataclass(frozen=True)
class Served:
    """What is to be served elsewhere: `wanted` as an endpoint is, and how each of its versions is served.

    `image` is the container image's name; where none was given it is ours, and nobody's registry is in it.
    """

    wanted: Wanted
    forms: tuple[Form, ...]
    image: str = ""

    @property
    def name(self) -> str:
        """What it is called where names are labels of DNS.

        Examples
        --------
        >>> Served(Wanted("Flight delays.v2", "", ()), ()).name, Served(Wanted("2024", "", ()), ()).name
        ('flight-delays-v2', 'model-2024')
        """
        label = re.sub(r"[^a-z0-9]+", "-", self.wanted.name.lower()).strip("-")[:50].rstrip("-")
        return label if label[:1].isalpha() else f"model-{label}".rstrip("-")

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that are served, by their labels."""
        return tuple(each.label for each in self.wanted.variants)

    @property
    def is_compiled(self) -> bool:
        """Whether nothing of it needs MLflow."""
        return all(form.kind == COMPILED for form in self.forms)

    def image_of(self, *variants: Variant) -> str:
        """Name the image that holds versions: the given name, and the versions where it has no tag.

        Examples
        --------
        >>> two, three = Variant("delays", "2", ""), Variant("delays", "3", "")
        >>> served = Served(Wanted("delays", "", (two, three)), ())
        >>> served.image_of(two, three), Served(served.wanted, (), "ghcr.io/team/delays").image_of(three)
        ('delays:2-3', 'ghcr.io/team/delays:3')
        """
        image = self.image or self.name
        return image if _has_tag(image) else f"{image}:{'-'.join(each.version for each in variants)}"


def served(project: Project, what: str, image: str = "") -> Served:
    """Find what is to be served: an endpoint by its name, a version by a reference to it.

    Raises
    ------
    ConflictError
        The version was not registered by nbmlops, so nobody knows what its bytes were.
    NotFoundError
        There is neither.
    UsageError
        The image cannot be called so.
    """
    if image and not _IMAGE.fullmatch(image):
        raise UsageError(f"{image!r} is no name of a container image.", "As registry/team/delays:3")
    known = project.open(Endpoints)
    wanted = known.wanted().get(what) or _alone(project, what)
    return Served(wanted, tuple(_form(known, each) for each in wanted.variants), image)


def without_shadow(found: Served) -> Served:
    """Leave out what answers nobody."""
    kept = [(each, form) for each, form in zip(found.wanted.variants, found.forms, strict=True) if each.role != SHADOW]
    variants = tuple(each for each, _ in kept)
    wanted = Wanted(found.wanted.name, found.wanted.host, variants, limits=found.wanted.limits)
    return Served(wanted, tuple(form for _, form in kept), found.image)


def _alone(project: Project, what: str) -> Wanted:
    model, name = policy.target_of(project, what, None)
    return Wanted(name, "", (variant_of(remembered(project, model)),))


def _form(known: Endpoints, variant: Variant) -> Form:
    record = known.form(variant.digest)
    if record is None:
        raise ConflictError(
            f"The ledger does not know how {variant.label} is served.",
            f"Register its bytes as a version of their own: `register models:/{variant.label} {variant.model}`",
        )
    return Form.of_record(record)


def _has_tag(image: str) -> bool:
    return "@" in image or ":" in image.rpartition("/")[2]
