"""A project: the folder with ``nbmlops.toml``, its settings with their sources, and a cache of opened stores.

No store is named here, and none is imported.
"""

import getpass
import itertools
import os
import re
import threading
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, cast

from nbmlops.errors import NotFoundError, StoreError, UsageError, nearest

FILE = "nbmlops.toml"
STATE = ".nbmlops"
BUSY_TIMEOUT_S = 60  # that one writer of an SQLite file waits for another
DEFAULTS = {
    "tracking": f"sqlite:///{STATE}/mlflow.db",
    "ledger": f"sqlite:///{STATE}/ledger.db",
    "journal": "page-cache",
    "capture": f"{STATE}/capture",
}

_DURATION = (str, float)  # "10m", or seconds
_TIMING: dict[str, Any] = {
    "schedule": str,
    "timezone": str,
    "on": [str],
    "cooldown": _DURATION,
    "budget": str,
    "catchup": str,
    "overlap": str,
    "against": str,
}

# The keys that exist, and what each takes; "*" stands for a name of the user's, [kind] for a list, (kind, kind) for
# either, of which one may be a table; dict for a table whose keys are the user's. What is not here is refused, never
# ignored.
KEYS: dict[str, Any] = {
    "project": {"name": str},
    "stores": {"tracking": str, "ledger": str, "journal": str, "capture": str},
    "gates": {
        "*": {
            "target": str,
            "data": str,
            "metrics": {"*": {"min": float, "max": float}},
            "champion": {"*": {"max_regression": float, "confidence": float}},
        }
    },
    "endpoints": {
        "*": {
            "model": str,
            "to": str,
            "parameters": dict,
            "port": int,
            "workers": int,
            "address": str,
            "token": str,
            "certificate": str,
            "key": str,
            "capture": (
                bool,
                {
                    "rate": float,
                    "exclude": [str],
                    "hash": [str],
                    "keeps_refused": bool,
                    "keep_days": float,
                    "max_bytes": int,
                    "max_waiting_bytes": int,
                    "roll_bytes": int,
                    "roll_s": float,
                },
            ),
            "rollout": {
                "canary": [float],
                "linear": float,
                "blue_green": bool,
                "shadow": bool,
                "bake": _DURATION,
                "slo": str,
                "promote": bool,
            },
            "limits": {
                "max_body_bytes": int,
                "max_rows": int,
                "max_depth": int,
                "max_waiting": int,
                "deadline": _DURATION,
                "body": _DURATION,
                "latency": _DURATION,
            },
        }
    },
    "pipelines": {
        "*": {
            **_TIMING,
            "parameters": dict,
            "steps": [
                {
                    "name": str,
                    "notebook": str,
                    "function": str,
                    "verb": str,
                    "approval": str,
                    "needs": [str],
                    "parameters": dict,
                    "matrix": dict,
                    "pick": str,
                    "when": str,
                    "cache": bool,
                    "retries": int,
                    "backoff": _DURATION,
                    "timeout": _DURATION,
                    "resources": {"cpus": float, "gpus": float, "memory": str},
                }
            ],
        }
    },
    "agent": {"port": int, "token": str},
    "alerts": {"*": {"on": [str], "to": str, "private": bool, "secret": str}},
    "schedules": {"*": {"notebook": str, **_TIMING, "parameters": dict}},
}
_WORDS = {
    str: "text",
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
}


@dataclass(frozen=True)
class Setting:
    """One setting's value and where it came from: argument, variable, file or default."""

    value: str
    source: str


@dataclass(frozen=True)
class Settings:
    """What a project is set to; every path and SQLite URL is absolute."""

    name: Setting
    tracking: Setting
    ledger: Setting
    journal: Setting
    capture: Setting = Setting(DEFAULTS["capture"], "default")
    gates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pipelines: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    schedules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    alerts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    path: Path = Path(FILE)
    text: str = field(default="", repr=False)

    def where(self, *place: str | int) -> str:
        """Name the file and the line on which a key stands, for a message."""
        return f"{self.path}, line {line_of(self.text, place)}"


class Store(Protocol):
    """A connection that a project opens once and keeps."""

    @classmethod
    def of(cls, project: "Project") -> Self:
        """Connect to the store that the project's settings name."""
        ...


S = TypeVar("S", bound=Store)


class Project:
    """A folder's project, as one surface of one process sees it.

    Parameters
    ----------
    folder
        Where to start looking; ``nbmlops.toml`` is searched here and upward,
        unless ``NBMLOPS_PROJECT`` names the project's folder.
    surface
        Who calls: ``magic``, ``cli``, ``python`` or ``rest``.
    overrides
        Settings given as arguments (``tracking``, ``ledger``); they win over all others.
    notify
        Takes a line of progress; the default makes nothing of it.
    within
        Folders: a path that a caller names must lie below one of them or in the project; without any, anywhere.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        *,
        surface: str = "python",
        overrides: Mapping[str, str] | None = None,
        notify: Callable[[str], object] = str,
        within: Iterable[Path] = (),
    ) -> None:
        self.folder = Path(folder or Path.cwd()).resolve()
        self._start = self.folder if folder else Path(os.environ.get("NBMLOPS_PROJECT") or self.folder).resolve()
        self.surface = surface
        self.notify = notify
        self._within = tuple(within)
        self._overrides = {key: value for key, value in (overrides or {}).items() if value}
        self._settings: tuple[Any, Settings] | None = None
        self._opening = threading.RLock()  # a store may open another one
        self._stores: dict[tuple[type, str, str], Any] = {}

    @property
    def exists(self) -> bool:
        """Whether a ``nbmlops.toml`` is here or above."""
        return find(self._start) is not None

    @property
    def root(self) -> Path:
        """The folder that holds ``nbmlops.toml``.

        Raises
        ------
        NotFoundError
            There is none, here or above.
        """
        if root := find(self._start):
            return root
        raise NotFoundError(
            f"No {FILE} in {self._start} or above it, so there is no project here.",
            "Make one: `init`",
        )

    @property
    def settings(self) -> Settings:
        """The settings as of now; the file is read again when it or the environment changed."""
        path = self.root / FILE
        stamp = (path, path.stat().st_mtime_ns, dict(os.environ))
        if self._settings is None or self._settings[0] != stamp:
            self._settings = (stamp, read_settings(path, self._overrides))
        return self._settings[1]

    @property
    def by_human(self) -> bool:
        """Whether a person sits behind this call: not in CI, in what runs headlessly, nor in what goes on by itself."""
        of_machines = ("CI", "NBMLOPS_RUN", "NBMLOPS_FENCE", "NBMLOPS_DUE", "NBMLOPS_DETACHED")
        return not any(os.environ.get(name) for name in of_machines)

    def state(self, *parts: str) -> Path:
        """Name a path under the project's state folder, making the folders above it."""
        path = self.root.joinpath(STATE, *parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(
                f"{path.parent} cannot be made: {exc.strerror}.", "Free or move what stands there."
            ) from exc
        return path

    def path(self, name: str) -> Path:
        """Resolve a path that a caller names: against the working folder, or the project's root.

        Raises
        ------
        UsageError
            It leads to where this surface's callers have no business.
        """
        return self._confined(self.declared_path(name))

    def declared_path(self, name: str) -> Path:
        """Resolve a path that ``nbmlops.toml`` or the ledger names, which may lie anywhere."""
        given = _without_tilde(name)
        if given.is_absolute() or (self.folder / given).exists() or not self.exists:
            return self.folder / given
        return self.root / given

    def output(self, name: str) -> Path:
        """Resolve a path to write to, which a caller names: against the working folder; refused as `path` does."""
        return self._confined(self.folder / _without_tilde(name))

    def _confined(self, path: Path) -> Path:
        """Refuse a path that, with all links followed, lies outside of where callers may go."""
        if self._within:
            real = path.resolve()
            allowed = (*self._within, self.root) if self.exists else self._within
            if not any(real.is_relative_to(place.resolve()) for place in allowed):
                raise UsageError(
                    f"{path} lies outside the server's root folder, and outside the project.",
                    "Name a file below one of them; a link does not lead out either.",
                )
        return path

    def open(self, store: type[S]) -> S:
        """Connect to a store once, and keep the connection as long as the settings stay."""
        settings = self.settings
        key = (store, settings.tracking.value, settings.ledger.value)
        with self._opening:
            if key not in self._stores:
                self._stores[key] = store.of(self)
            return cast(S, self._stores[key])


def _without_tilde(name: str) -> Path:
    if "\0" in name:
        raise UsageError("A path holds no NUL character.")
    return Path(os.path.expanduser(name))  # pathlib's raises for a user that does not exist


def actor() -> str:
    """Name who acts: ``NBMLOPS_USER``, or the user of the operating system."""
    return os.environ.get("NBMLOPS_USER") or getpass.getuser()


def find(folder: Path) -> Path | None:
    """Search a folder and those above it for ``nbmlops.toml``."""
    return next((place for place in (folder, *folder.parents) if (place / FILE).is_file()), None)


def read_settings(path: Path, overrides: Mapping[str, str]) -> Settings:
    """Read ``nbmlops.toml``; arguments win over ``NBMLOPS_*``, these over the file, the file over defaults.

    Raises
    ------
    UsageError
        The file is not TOML, or has a key that does not exist or a value of a wrong type;
        the message names file and line, the hint the nearest key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} is not valid TOML: {exc}.", "Mend that line and try again.") from exc
    check_keys(content, KEYS, (), path, text)
    stores = content.get("stores", {})

    def store(key: str) -> Setting:
        return _resolve(_first(key, overrides, stores), path.parent)

    return Settings(
        name=_first("name", overrides, content.get("project", {}), default=path.parent.name),
        tracking=store("tracking"),
        ledger=store("ledger"),
        journal=_first("journal", overrides, stores),
        capture=store("capture"),
        gates=content.get("gates", {}),
        endpoints=content.get("endpoints", {}),
        pipelines=content.get("pipelines", {}),
        schedules=content.get("schedules", {}),
        agent=content.get("agent", {}),
        alerts=content.get("alerts", {}),
        path=path,
        text=text,
    )


def check_keys(content: Any, known: Any, place: tuple[str | int, ...], path: Path, text: str) -> None:
    """Refuse every key that is not known, and every value of another type than its key takes."""
    if isinstance(known, tuple) and isinstance(content, dict):
        known = next((kind for kind in known if isinstance(kind, dict)), known)
    if isinstance(known, dict):
        _check_table(content, known, place, path, text)
    elif isinstance(known, list):
        _check_list(content, known[0], place, path, text)
    elif not any(_is_of(content, kind) for kind in _kinds(known)):
        wanted = " or ".join(_WORDS[dict if isinstance(kind, dict) else kind] for kind in _kinds(known))
        raise _refusal(f"{dotted(place)} must be {wanted}, not {content!r}.", place, path, text)


def _check_table(content: Any, known: dict[str, Any], place: tuple[str | int, ...], path: Path, text: str) -> None:
    if not isinstance(content, dict):
        raise _refusal(f"{dotted(place)} must be a table, not {content!r}.", place, path, text)
    for key, value in content.items():
        if key not in known and "*" not in known:
            inside = f" in [{dotted(place)}]" if place else ""
            message = f"there is no key {key!r}{inside}."
            raise _refusal(message, (*place, key), path, text, nearest(key, known))
        check_keys(value, known.get(key, known.get("*")), (*place, key), path, text)


def _check_list(content: Any, item: Any, place: tuple[str | int, ...], path: Path, text: str) -> None:
    if not isinstance(content, list):
        wanted = f"a list of tables, [[{dotted(place)}]]" if isinstance(item, dict) else f"a list of {_WORDS[item]}"
        raise _refusal(f"{dotted(place)} must be {wanted}, not {content!r}.", place, path, text)
    for n, value in enumerate(content):
        check_keys(value, item, (*place, n), path, text)


def _refusal(message: str, place: tuple[str | int, ...], path: Path, text: str, hint: str = "") -> UsageError:
    return UsageError(f"{path}, line {line_of(text, place)}: {message}", hint)


def _kinds(known: Any) -> tuple[Any, ...]:
    return known if isinstance(known, tuple) else (known,)


def _is_of(content: Any, kind: Any) -> bool:
    """Tell whether a value is of a kind; a whole number is a number too, and true is none."""
    if isinstance(kind, dict):
        return isinstance(content, dict)
    if isinstance(content, bool):
        return kind is bool
    return isinstance(content, (float, int) if kind is float else kind)


def dotted(place: Iterable[str | int]) -> str:
    """Word a key's place; the tables of a list count from 1.

    Examples
    --------
    >>> dotted(("pipelines", "retrain", "steps", 0, "name"))
    'pipelines.retrain.steps[1].name'
    """
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def line_of(text: str, place: tuple[str | int, ...]) -> int:
    r"""Find the line on which a key of a TOML text stands, or the table that holds it.

    A number in `place` counts the tables of a list from 0.

    Examples
    --------
    >>> line_of('[stores]\n# a server\ntracking = "http://127.0.0.1"', ("stores", "tracking"))
    3
    >>> line_of('[[steps]]\nname = "a"\n[[steps]]\nname = "b"', ("steps", 1, "name"))
    4
    """
    best, found = 1, 0
    table: tuple[str | int, ...] = ()
    rows: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[+)([^\]]+)\]+", line):
            table = here = _table_place(_key_parts(header[2]), rows, is_row=len(header[1]) > 1)
        elif entry := re.match(r"\s*([\w.\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=", line):
            here = (*table, *_key_parts(entry[1]))
        else:
            continue
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(here, place, strict=False)))
        if shared == min(len(here), len(place)) and shared > found:
            best, found = number, shared
    return best


def _table_place(
    parts: tuple[str, ...], rows: dict[tuple[str | int, ...], int], *, is_row: bool
) -> tuple[str | int, ...]:
    """Place a header: what lies under a list belongs to the list's newest table; `rows` counts those, from 0."""
    place: tuple[str | int, ...] = ()
    for n, part in enumerate(parts, start=1):
        place = (*place, part)
        if is_row and n == len(parts):
            rows[place] = rows.get(place, -1) + 1
        if place in rows:
            place = (*place, rows[place])
    return place


def _key_parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[\w-]+", dotted))


def _first(key: str, overrides: Mapping[str, str], section: Mapping[str, str], default: str = "") -> Setting:
    variable = f"NBMLOPS_{key.upper()}"
    if key in overrides:
        return Setting(overrides[key], "argument")
    if os.environ.get(variable):
        return Setting(os.environ[variable], variable)
    if key in section:
        return Setting(section[key], FILE)
    return Setting(default or DEFAULTS[key], "default")


def _resolve(setting: Setting, root: Path) -> Setting:
    """Follow a reference to a variable, and make a relative SQLite URL or folder absolute.

    Every process then means the same store.
    """
    if setting.value.startswith("env:"):
        variable = setting.value.removeprefix("env:")
        if not os.environ.get(variable):
            raise UsageError(
                f"{setting.source} names the variable {variable}, which is not set.", f"export {variable}=…"
            )
        setting = Setting(os.environ[variable], f"{setting.source} ({setting.value})")
    scheme, sep, rest = setting.value.partition(":///")
    if scheme.startswith("sqlite") and sep and rest and not rest.startswith((":memory:", "/")):
        absolute = (root / rest).resolve().as_posix()
        return Setting(f"{scheme}:///{absolute}", setting.source)
    if "://" not in setting.value:
        return Setting(str((root / setting.value).resolve()), setting.source)
    return setting


def patient(uri: str) -> str:
    """Give SQLite a busy timeout, so that many notebooks at once wait for each other.

    Examples
    --------
    >>> patient("sqlite:////p/mlflow.db")
    'sqlite:////p/mlflow.db?timeout=60'
    """
    if uri.startswith("sqlite") and "?" not in uri:
        return f"{uri}?timeout={BUSY_TIMEOUT_S}"
    return uri
