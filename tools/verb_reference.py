"""Write what the docs take from the code: the verb reference, README's table of verbs, the table of what is compiled.

Run it bare to write both; with ``--check`` it writes nothing and exits 1 when one is stale.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import get_origin

import nbmlops.errors
from nbmlops.scoring.compile import supported
from nbmlops.surfaces.parse import SHORT
from nbmlops.verb import load, parameters, ref_of
from nbmlops.vocabulary import VERBS

ROOT = Path(__file__).parents[1]
MEND = "Write them anew with: .venv/bin/python tools/verb_reference.py"

HEAD = """\
# The verbs

Every verb is the same in a notebook (`%mlops VERB …`), on the command line (`nbmlops VERB …`), in Python
(`nbmlops.open().VERB(…)`) and over HTTP (`POST /nbmlops/verbs/VERB`). `read` changes nothing; `write` and `govern`
leave an event in the [ledger](ledger.md) and take `--dry-run`; `session` acts on the running Python process.

Everywhere: `--json` prints the result as JSON, `--quiet` prints nothing, `--show-code` prints the plain MLflow or
papermill code instead of doing anything, `--traceback` shows the whole of an error.
"""


def table() -> str:
    """Word README's table: one row for each verb."""
    rows = ["| verb | what it does | effect |", "|---|---|---|"]
    rows += [f"| `{name}` | {entry.summary} | {entry.effect} |" for name, entry in VERBS.items()]
    return "\n".join(rows)


def reference() -> str:
    """Word the page: every verb by group."""
    parts = [HEAD]
    for group, entries in groupby(VERBS.items(), key=lambda item: item[1].group):
        parts += [f"## {group}\n", *(_verb(name) for name, _ in entries)]
    return "\n".join(parts)


def _verb(name: str) -> str:
    entry = VERBS[name]
    text, sections = _sections(inspect.getdoc(load(name)) or "")
    body = "\n\n".join(text.split("\n\n")[1:])
    blocks = [f"### {name}", f"{entry.summary} *({entry.effect})*", f"```\n{_usage(name)}\n```", body]
    blocks.append(_arguments(name, _items(sections.get("Parameters", ""))))
    blocks.append("\n".join(_raises(_items(sections.get("Raises", "")))))
    blocks.append(_example(sections.get("Examples", "")))
    if code := sections.get("Plain code"):
        blocks.append(f"It stands for\n\n```python\n{code}\n```")
    page = "\n\n".join(block for block in blocks if block)
    return re.sub("(?<!`)``(?!`)", "`", page) + "\n"  # reStructuredText's literals as Markdown's


def _usage(name: str) -> str:
    words = ["nbmlops", name]
    for key, parameter in parameters(name).items():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            shown = _positional(key, parameter)
            words.append(shown if parameter.default is inspect.Parameter.empty else f"[{shown}]")
    return " ".join([*words, "[OPTIONS]"])


def _positional(key: str, parameter: inspect.Parameter) -> str:
    ref = ref_of(parameter.annotation)
    if ref and ref.noun in ("pair", "number"):
        return "NAME=VALUE ..."
    several = get_origin(parameter.annotation) is list
    return f"{key.strip('_').upper()}{' ...' if several else ''}"


def _arguments(name: str, texts: dict[str, str]) -> str:
    rows = [
        f"| {_spelled(key, parameter)} | {_default(parameter)} | {texts.get(key, '').replace('|', chr(92) + '|')} |"
        for key, parameter in parameters(name).items()
    ]
    return "\n".join(["| argument | default | |", "|---|---|---|", *rows]) if rows else ""


def _spelled(key: str, parameter: inspect.Parameter) -> str:
    if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        return f"`{_positional(key, parameter)}`"
    option = f"`--{key.strip('_').replace('_', '-')}`"
    return f"{option}, `{SHORT[key]}`" if key in SHORT else option


def _default(parameter: inspect.Parameter) -> str:
    default = parameter.default
    if default is inspect.Parameter.empty:
        return "required"
    return "" if default is None or default is False or default in ("", [], {}) else f"`{default}`"


def _raises(items: dict[str, str]) -> Iterator[str]:
    for error, text in items.items():
        code = getattr(nbmlops.errors, error).exit_code
        yield f"- [{error}](errors.md), exit {code}: {text}"


def _example(text: str) -> str:
    text = text.replace('getfixture("ops")', "nbmlops.open()")  # the tests' own project stands for the reader's
    return f"```python\n{text}\n```" if text.startswith(">>>") else text


def _sections(doc: str) -> tuple[str, dict[str, str]]:
    """Split a numpydoc docstring into its text and its sections by title."""
    text, *rest = re.split(r"\n(\w[\w ]*)\n-{3,}\n", doc)
    return text.strip(), {title: body.strip("\n") for title, body in zip(rest[::2], rest[1::2], strict=True)}


def _items(section: str) -> dict[str, str]:
    """Read the entries of a numpydoc section: name -> text."""
    blocks = re.findall(r"^(\w[^\n]*)\n((?:[ \t]+[^\n]*\n?|\n(?=[ \t]))+)", section, re.MULTILINE)
    return {
        name.strip(): " ".join(text.split()) for names, text in blocks for name in names.partition(":")[0].split(",")
    }


def compiled() -> str:
    """Word the table of what is compiled."""
    rows = ["| of scikit-learn | | compiled if |", "|---|---|---|"]
    rows += [f"| `{row.name}` | {row.kind} | {row.conditions} |" for row in supported()]
    return "\n".join(rows)


def pages() -> dict[Path, str]:
    """Say what each file should hold."""
    readme, serving = ROOT / "README.md", ROOT / "docs" / "serving.md"
    return {
        readme: _with(readme, "verbs", table()),
        serving: _with(serving, "compiled", compiled()),
        ROOT / "docs" / "verbs.md": reference(),
    }


def _with(path: Path, mark: str, text: str) -> str:
    """Put a text between its marks in a file."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def main(words: list[str]) -> int:
    """Write the stale files, or with ``--check`` only name them."""
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text}
    if "--check" in words:
        if stale:
            print(f"Stale: {', '.join(str(path.relative_to(ROOT)) for path in stale)}. {MEND}")
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
        print(f"Wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
