"""A project of a few notebooks, modules and pipelines, written from texts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbmlops.project import Project, Settings

LOOP = """\
[project]
name = "flights"

[gates.default]
metrics.roc_auc = { min = 0.7 }

[pipelines.retrain]
schedule = "30 2 * * *"
timezone = "America/New_York"
on = ["drift:delays"]
cooldown = "24h"
budget = "3/week"
[[pipelines.retrain.steps]]
name = "extract"
notebook = "notebooks/extract.ipynb"
parameters = { until = "${due.date}" }
[[pipelines.retrain.steps]]
name = "train"
notebook = "notebooks/train.ipynb"
needs = ["extract"]
parameters = { table = "${extract.table}" }
matrix = { kind = ["logistic", "boosting"] }
pick = "max:roc_auc"
[[pipelines.retrain.steps]]
name = "gate"
verb = "validate delays --gate default"
needs = ["train"]
"""

WriteProject = Callable[..., Settings]


def notebook(*cells: str, tagged: str = "") -> str:
    """A notebook's text: a heading, the tagged cell if any, and code cells."""
    rows: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": "# Heading"}]
    for n, source in enumerate([tagged, *cells]):
        if source:
            tags = {"tags": ["parameters"]} if n == 0 else {}
            rows.append(
                {"cell_type": "code", "metadata": tags, "source": source, "outputs": [], "execution_count": None}
            )
    return json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": rows})


FILES = {
    "notebooks/extract.ipynb": notebook("path = 'x'", "%mlops result table=path", tagged="until: date = None"),
    "notebooks/train.ipynb": notebook(
        "import features",
        "nbmlops.result(model_uri=uri, roc_auc=auc)",
        tagged="table: str = ''\nkind: Literal['logistic', 'boosting'] = 'logistic'",
    ),
    "features.py": "def clean(): ...\n",
}


@pytest.fixture
def write_project(tmp_path: Path) -> WriteProject:
    """Write a project's files, and read its settings."""

    def write(toml: str = LOOP, **files: str) -> Settings:
        for name, text in {**FILES, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        (tmp_path / "nbmlops.toml").write_text(toml)
        return Project(tmp_path).settings

    return write
