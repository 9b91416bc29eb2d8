from typing import Any

import pandas as pd
import pytest

from nbmlops.project import Project
from nbmlops.registry.verbs import register, verify
from nbmlops.surfaces.parse import parse, plain_code
from nbmlops.tracking.mlflow import Tracking


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_plain_code_of_every_verb_runs_without_nbmlops(
    project: Project, good: Any, holdout: pd.DataFrame, features: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    register(project, good, "tumours", input_example=features)
    tracking = project.open(Tracking)
    lines = [
        "register models:/tumours/1 tumours",
        "promote tumours/2",
        "rollback tumours",
        "models",
        "history tumours",
        "verify tumours/1",
        "validate tumours/1 --data holdout.parquet",
    ]
    for line in lines:
        name, *words = line.split()
        code = plain_code(parse(name, words), tracking.uri)
        assert "nbmlops" not in code.replace(tracking.uri, "")
        exec(compile(code, line, "exec"), {})
    aliases = tracking.client.get_registered_model("tumours").aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"challenger": "2", "champion": "1"}
    assert "model.skops True" not in capsys.readouterr().out
    assert verify(project, "tumours/1").files == 7
