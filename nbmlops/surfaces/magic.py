"""The magic ``%mlops``: registered in milliseconds; everything else loads when a verb is first used."""

import itertools
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Bool

from nbmlops.errors import NbmlopsError, UsageError
from nbmlops.pipelines.execution.ended import SkipNotebook
from nbmlops.project import Project, patient
from nbmlops.surfaces.cells import BEGIN, TrackedCells

if TYPE_CHECKING:
    from nbmlops.surfaces.live import Live
    from nbmlops.surfaces.parse import Call

CELL_VERBS = ("track",)
_magics: dict[int, "NbmlopsMagics"] = {}
_OUR_LINE = re.compile(r"\s*(?:[\w, ]+=\s*)?%%?mlops\s+")


@magics_class
class NbmlopsMagics(Magics):
    """Holds the magic and its one setting: ``%config NbmlopsMagics.traceback = True``."""

    traceback = Bool(False, help="Show the whole traceback of an nbmlops error.").tag(config=True)

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.cells: Any = None  # the TrackedCells, once there are any
        self._projects: dict[tuple[str, ...], Project] = {}

    @no_var_expand
    @line_cell_magic
    def mlops(self, line: str, cell: str | None = None) -> Any:
        """Run a verb of nbmlops.

        ``%mlops`` alone lists the verbs; ``%mlops help VERB`` and
        ``%mlops VERB --help`` tell about one. (IPython keeps a trailing ``?`` for itself.)

            %mlops runs --limit 5
            best = %mlops runs --sort auc
            %mlops register model delays

            %%mlops track baseline -p depth=3 --into run
            model.fit(X, y)

        In an argument that takes a table or a model, the name of a variable means that variable.
        """
        return self._told(line, lambda: self._run(line, cell))

    @no_var_expand
    @line_magic(BEGIN)
    def begin_cell(self, line: str) -> None:
        """Begin the run of the cell that is being executed: what the first line of ``%%mlops track`` becomes."""
        self._told(line, lambda: self._begin_cell(line))

    def _told(self, line: str, act: Callable[[], Any]) -> Any:
        """Do something; what goes wrong is told in one clear line."""
        __tracebackhide__ = True
        try:
            return act()
        except NbmlopsError as exc:
            return self._raise(exc, "--traceback" in line)
        except SkipNotebook:
            raise
        except Exception as exc:  # noqa: BLE001  # the outermost frame: a bug becomes one clear line
            from nbmlops.surfaces.call import unexpected

            return self._raise(unexpected(exc), "--traceback" in line)

    def project(self, settings: dict[str, str] | None = None) -> Project:
        """Find the project around the notebook's folder; its stores stay open between cells."""
        given = dict(settings or {})
        folder = given.pop("project", None)
        key = (folder or str(Path.cwd()), os.environ.get("NBMLOPS_PROJECT", ""), str(sorted(given.items())))
        if key not in self._projects:
            self._projects[key] = Project(folder, surface="magic", overrides=given, notify=_progress)
        return self._projects[key]

    def _run(self, line: str, cell: str | None) -> Any:
        from nbmlops.surfaces import displaying, watching
        from nbmlops.surfaces.call import perform, split
        from nbmlops.surfaces.overview import overview
        from nbmlops.surfaces.parse import OPTIONS_OF_MAGIC, help_text
        from nbmlops.verb import Stream

        words = _words(line)
        if words in ([], ["help"], ["--help"], ["-h"]):
            return print(overview("%mlops "))
        _, name, rest = split(words)
        if name == "help":
            name, rest = (rest or [""])[0], ["--help"]
        if "--help" in rest or "-h" in rest:
            return print(help_text(name, OPTIONS_OF_MAGIC, prefix="%mlops "))
        if cell is not None and name not in CELL_VERBS:
            raise UsageError(f"{name} takes no cell.", f"Use the line magic: %mlops {name}")
        call, project = self._read(words)
        if cell is not None and not call.options["show_code"]:  # a cell as text, as exported notebooks have it
            return self.shell.run_cell(f"%%mlops {line}\n{cell}").raise_error()
        with displaying.beside(call, project, self.shell):
            result = perform(call, project)
        if isinstance(result, Stream):
            return watching.watch(result, print, as_json=call.options["json"], on_a_page=hasattr(self.shell, "kernel"))
        if call.arguments.get("live"):
            self._live(project, result, call.arguments["live"])
        return displaying.shown(result, call, project, self.shell)

    def _read(self, words: list[str]) -> "tuple[Call, Project]":
        """Read a line's words: the call they mean, variables in place, and its project."""
        from nbmlops.surfaces import displaying
        from nbmlops.surfaces.call import split
        from nbmlops.surfaces.parse import OPTIONS_OF_MAGIC, parse

        settings, name, rest = split(words)
        call = parse(name, rest, OPTIONS_OF_MAGIC)
        displaying.check(call)
        self._take_variables(call, _Name if call.options["show_code"] else None)
        return call, self.project(settings)

    def _begin_cell(self, line: str) -> None:
        from nbmlops.surfaces.call import perform

        call, project = self._read(_words(line))
        run = perform(call, project)
        live = self._live(project, run, call.arguments.get("live", ""))

        def end(error: BaseException | None) -> None:
            self._told(line, lambda: self._end_cell(call, project, run, live, error))

        self.cells.begin(end)

    def _end_cell(
        self, call: "Call", project: Project, run: Any, live: "Live | None", error: BaseException | None
    ) -> None:
        """End the cell's run with it, and show its card where the cell's own output ends."""
        from nbmlops.surfaces import displaying
        from nbmlops.tracking.verbs import end_cell

        ended = end_cell(project, run.run_id, error)
        if live:
            live.end()
        if ended is None:
            return
        if (shown := displaying.shown(ended, call, project, self.shell)) is not None:
            from IPython.display import display

            display(shown)

    def _live(self, project: Project, run: Any, metric: str) -> "Live | None":
        """Show a run while it goes on, where there is a page to show it on."""
        if not hasattr(self.shell, "kernel"):
            return None
        from nbmlops.surfaces.live import Live
        from nbmlops.tracking.mlflow import Tracking

        outbox = project.open(Tracking).outbox
        if outbox is None and metric:
            raise UsageError("--live reads the journal, which is off.", 'Set [stores] journal = "page-cache"')
        return Live(run.run_id, run.name, outbox.writer.path, metric) if outbox else None

    def _take_variables(self, call: Any, as_code: type[str] | None) -> None:
        """Put the notebook's variable in the place of its name, where the argument takes one of its kind."""
        from nbmlops.verb import parameters, ref_of

        for name, parameter in parameters(call.name).items():
            ref = ref_of(parameter.annotation)
            if ref and ref.accepts and name in call.arguments:
                given = call.arguments[name]
                call.arguments[name] = (
                    {key: self._variable(value, ref, as_code) for key, value in given.items()}
                    if isinstance(given, dict)
                    else self._variable(given, ref, as_code)
                )

    def _variable(self, value: Any, ref: Any, as_code: type[str] | None) -> Any:
        """Give the variable that a word names, or the word itself."""
        known = self.shell.user_ns
        if not isinstance(value, str) or value not in known:
            return value
        if ref.accepts(known[value]):
            return as_code(value) if as_code else _named(known[value], value)
        if ref.noun in (
            "data",
            "table",
            "figure",
        ):  # a table's file has an ending, so a bare name was meant as a variable
            kind = type(known[value]).__name__
            wanted = "figure of matplotlib or plotly" if ref.noun == "figure" else "DataFrame"
            raise UsageError(f"The variable {value} is of type {kind}.", f"Name a {wanted}, or give a file's path.")
        return value

    def _raise(self, error: NbmlopsError, asked: bool) -> None:
        from nbmlops.surfaces.show import spelled, text
        from nbmlops.verb import Result

        error.hint = spelled(error.hint, "%mlops ")
        report = getattr(error, "report", None)
        if isinstance(report, Result):
            from IPython.display import display

            display(report)
        elif report is not None:
            print(text(report))
        error.shows_traceback = asked or self.traceback
        raise error


class _Name(str):
    """A variable's name in plain code, where it stands bare."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def register(shell: Any) -> None:
    """Register the magic, its completion, the display of results, and what follows cells."""
    from nbmlops.tracking import session

    magics = NbmlopsMagics(shell)
    shell.register_magics(magics)
    _magics[id(shell)] = magics
    shell.Completer.custom_matchers.append(_matcher(magics))
    display_results(shell)
    session.follow(shell)
    magics.cells = TrackedCells(shell)  # after that: what a cell has failed in has its end when this hears of it
    _aim_mlflow(magics.project())
    if hasattr(shell, "kernel") and not os.environ.get("NBMLOPS_RUN"):
        from nbmlops.surfaces.warmup import Warmup

        Warmup(shell, magics.project())


def unregister(shell: Any) -> None:
    """Take the magic back."""
    shell.magics_manager.magics["line"].pop("mlops", None)
    shell.magics_manager.magics["cell"].pop("mlops", None)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != "nbmlops"]
    from nbmlops.tracking import session

    session.leave(shell)
    if magics := _magics.pop(id(shell), None):
        magics.cells.leave()


def display_results(shell: Any) -> None:
    """Show results as cards, wherever they come from; their types need not be loaded for that."""

    def bundle(result: Any, **_: Any) -> dict[str, str]:
        from nbmlops.surfaces.show import text, to_html

        return {"text/plain": text(result, "%mlops "), "text/html": to_html(result)}

    def pretty(rows: Any, printer: Any, _: bool) -> None:
        printer.text(bundle(rows)["text/plain"])

    shell.display_formatter.mimebundle_formatter.for_type_by_name("nbmlops.verb", "Result", bundle)
    # a listing is a tuple too, and for tuples IPython has a form of its own
    shell.display_formatter.formatters["text/plain"].for_type_by_name("nbmlops.verb", "Rows", pretty)


def _aim_mlflow(project: Project) -> None:
    """Let plain ``mlflow.*`` calls of a project's notebook mean the project's store, unless told otherwise."""
    try:
        settings = project.settings if project.exists else None
    except NbmlopsError as exc:  # a broken nbmlops.toml is told of by the first verb, not by loading
        print(f"nbmlops: {exc}", file=sys.stderr)
        return
    if settings:
        from nbmlops.tracking.store import belongs, journaled, plain

        uri = plain(settings.tracking.value)
        is_on = settings.journal.value != "off"
        belongs(uri, project.root)
        os.environ.setdefault("MLFLOW_TRACKING_URI", journaled(uri) if is_on else patient(uri))
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", settings.name.value)


def _matcher(magics: NbmlopsMagics) -> Any:
    """Make IPython's matcher for our lines; where it knows something, IPython offers nothing of its own beside it."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher(identifier="nbmlops", priority=100)
    def matcher(context: Any) -> dict[str, Any]:
        ours = _OUR_LINE.match(context.text_until_cursor)
        if ours is None:
            return {"completions": []}
        from nbmlops.surfaces.complete import candidates

        before = context.text_until_cursor[ours.end() :]
        found = candidates(before, magics.project(), magics.shell.user_ns)
        typed = before.rpartition(" ")[2]
        completions = [SimpleCompletion(word) for word in found]
        return {"completions": completions, "suppress": True, "ordered": True, "matched_fragment": typed}

    return matcher


def _named(found: Any, name: str) -> Any:
    """Let a table go by its variable's name in reports; the variable itself stays as it is."""
    from nbmlops.verb import is_frame

    if not is_frame(found) or "name" in found.attrs:
        return found
    table = found.copy(deep=False)
    table.attrs["name"] = name
    return table


def _words(line: str) -> list[str]:
    """Split a line as a shell does; what follows a word that begins with # is a comment, apostrophes and all."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(itertools.takewhile(lambda word: not word.startswith("#"), lexer))
    except ValueError as exc:
        raise UsageError(f"The line ends inside a quotation: {exc}.") from exc


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
