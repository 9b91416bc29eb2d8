"""Packages pinned as they are installed here, with all that they need: the lock of an image."""

import importlib.metadata
from collections.abc import Iterable, Iterator

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def locked(wanted: Iterable[str]) -> tuple[str, ...]:
    """Pin packages, and what they need, to the versions of this environment.

    Parameters
    ----------
    wanted
        Requirements as pip has them. One that is pinned by ``==`` keeps its version; one that is not installed here
        stays as it was written.

    Returns
    -------
    tuple of str
        Sorted, one line a package.

    Raises
    ------
    ValueError
        One is no requirement.

    Examples
    --------
    >>> [line.partition("==")[0] for line in locked(["uvicorn"])]
    ['click', 'h11', 'uvicorn']
    >>> locked(["uvicorn==0.1", "not-installed-anywhere>=2"])[2:]
    ('not-installed-anywhere>=2', 'uvicorn==0.1')
    """
    lines: dict[str, str] = {}
    given = [_read(line) for line in wanted]
    for requirement in given:
        if _applies(requirement, ()):
            lines[canonicalize_name(requirement.name)] = _pinned(requirement)
    seen: set[tuple[str, str]] = set()
    for requirement in given:
        for name, version in _needed(requirement, seen):
            lines.setdefault(name, f"{name}=={version}")
    return tuple(lines[name] for name in sorted(lines))


def _read(line: str) -> Requirement:
    try:
        return Requirement(line)
    except InvalidRequirement as exc:
        raise ValueError(f"{line!r} is no requirement: {exc}") from exc


def _pinned(requirement: Requirement) -> str:
    name, version = canonicalize_name(requirement.name), _installed(requirement.name)
    is_pinned = any(each.operator in ("==", "===") for each in requirement.specifier)
    return str(requirement) if is_pinned or requirement.url or version is None else f"{name}=={version}"


def _needed(requirement: Requirement, seen: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Give what a requirement needs here, each with its version; extras are followed one by one."""
    for extra in ("", *requirement.extras):
        place = (canonicalize_name(requirement.name), extra)
        if place in seen or _installed(requirement.name) is None:
            continue
        seen.add(place)
        for line in importlib.metadata.requires(requirement.name) or ():
            needed = Requirement(line)
            version = _installed(needed.name)
            if version is not None and _applies(needed, (extra,)):
                yield canonicalize_name(needed.name), version
                yield from _needed(needed, seen)


def _applies(requirement: Requirement, extras: tuple[str, ...]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or ("",)))


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
