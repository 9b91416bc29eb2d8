"""Runs as JUnit XML: a suite for each notebook, a case for each code cell.

Elements, their order and attributes are those of Jenkins' schema (junit-10.xsd), which GitLab, GitHub's reporters and
Azure read too: ``failure`` where a cell failed, ``skipped`` where it never ran, ``error`` where the run ended outside
of any cell. Times are seconds with three decimals.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from nbmlops.pipelines.ci.wording import (
    cell_name,
    cut,
    error_text,
    failure_of,
    one_line,
    plain_text,
    titles,
    value_text,
    where,
)
from nbmlops.pipelines.notebook import CellTiming, Failure, NotebookRun

MAX_TEXT = 100_000  # characters of one traceback: GitLab refuses files of some megabytes
_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def xml(runs: Sequence[NotebookRun]) -> str:
    """Write runs as one JUnit file.

    Parameters
    ----------
    runs
        In any number and of any status; a suite has at least one case, because CI systems take none for a mistake.

    Returns
    -------
    str
        XML 1.0 with its declaration, to be written as UTF-8. Characters that XML forbids are U+FFFD.

    Examples
    --------
    >>> cells = (CellTiming(1, "import pandas", 0.5, "ok"), CellTiming(2, "fit(X)", 0.25, "failed"))
    >>> why = Failure("raised", "no such key", 2, 2, "fit(X)", "fit(X)", "KeyError", "Traceback ...")
    >>> print(xml([NotebookRun("train.ipynb", "out.ipynb", "4f1c", "FAILED", 0.8, {"n": 1}, cells, failure=why)]))
    <?xml version='1.0' encoding='utf-8'?>
    <testsuites name="nbmlops" tests="2" failures="1" errors="0" time="0.800">
      <testsuite name="train.ipynb" tests="2" failures="1" errors="0" skipped="0" time="0.800" file="train.ipynb">
        <properties>
          <property name="status" value="FAILED" />
          <property name="run_id" value="4f1c" />
          <property name="output" value="out.ipynb" />
          <property name="parameter n" value="1" />
        </properties>
        <testcase classname="train" name="cell 1: import pandas" time="0.500" />
        <testcase classname="train" name="cell 2: fit(X)" time="0.250">
          <failure type="KeyError" message="cell 2 [In 2]: KeyError: no such key">Traceback ...</failure>
        </testcase>
      </testsuite>
    </testsuites>
    """
    suites = [_suite(run, title) for run, title in zip(runs, titles(runs), strict=True)]
    counts = {name: str(sum(int(suite.attrib[name]) for suite in suites)) for name in ("tests", "failures", "errors")}
    root = Element("testsuites", {"name": "nbmlops", **counts, "time": _seconds(sum(r.duration_s for r in runs))})
    root.extend(suites)
    indent(root)
    return str(tostring(root, encoding="utf-8", xml_declaration=True), "utf-8")


def _suite(run: NotebookRun, title: str) -> Element:
    # Jenkins takes what stands behind a class's last dot for its name, and all before it for its package.
    classname = title.replace(".ipynb", "")
    cases = list(_cases(run, classname))
    counts = {name: str(sum(case.find(tag) is not None for case in cases)) for name, tag in _COUNTED.items()}
    suite = Element("testsuite", {"name": title, "tests": str(len(cases)), **counts})
    suite.attrib |= {"time": _seconds(run.duration_s), "file": plain_text(run.notebook)}
    properties = SubElement(suite, "properties")
    for name, value in _properties(run).items():
        SubElement(properties, "property", {"name": plain_text(name), "value": plain_text(value)})
    suite.extend(cases)
    return suite


def _properties(run: NotebookRun) -> Mapping[str, str]:
    known = {"status": run.status, "run_id": run.run_id, "job": run.job, "output": run.output, "reason": run.reason}
    given = {f"parameter {name}": value_text(name, value) for name, value in run.parameters.items()}
    results = {f"result {name}": value_text(name, value) for name, value in run.results.items()}
    return {name: value for name, value in known.items() if value} | given | results


def _cases(run: NotebookRun, classname: str) -> Iterator[Element]:
    failure = failure_of(run)
    for cell in run.cells:
        case = _case(classname, cell_name(cell), cell.seconds)
        case.extend(_outcome(run, cell, failure))
        yield case
    if failure and failure.cell not in {cell.index for cell in run.cells}:
        case = _case(classname, where(failure), 0.0)
        case.append(_problem("error", failure))
        yield case
    elif not run.cells:
        case = _case(classname, "the notebook", run.duration_s)
        case.extend([_skipped("a dry run: nothing was run")] if run.status == "PLANNED" else [])
        yield case


def _case(classname: str, name: str, seconds: float) -> Element:
    return Element("testcase", {"classname": classname, "name": name, "time": _seconds(seconds)})


def _outcome(run: NotebookRun, cell: CellTiming, failure: Failure | None) -> list[Element]:
    if failure and failure.cell == cell.index:
        return [_problem("failure", failure)]
    if cell.status == "failed":
        return [_problem("failure", Failure("raised", "The cell failed.", cell.index))]
    return [_skipped(_why_pending(run, failure))] if cell.status == "pending" else []


def _problem(tag: str, failure: Failure) -> Element:
    kind = one_line(failure.ename or failure.cause)
    message = one_line(f"{where(failure)}: {error_text(failure)}", 1_000)
    element = Element(tag, {"type": kind, "message": message})
    element.text = cut(failure.traceback or failure.message, MAX_TEXT)
    return element


def _skipped(reason: str) -> Element:
    return Element("skipped", {"message": one_line(reason, 1_000)})


def _why_pending(run: NotebookRun, failure: Failure | None) -> str:
    if failure:
        return f"not run: the run ended before it ({where(failure)}, {failure.cause})"
    if run.status == "SKIPPED":
        return f"not run: the notebook skipped the rest: {run.reason or 'no reason given'}"
    return "not run: a dry run" if run.status == "PLANNED" else "not run"


def _seconds(value: float) -> str:
    return f"{value if math.isfinite(value) and value > 0 else 0.0:.3f}"
