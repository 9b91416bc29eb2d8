"""Clients that others made for the Open Inference Protocol, in environments of their own, against endpoints that run.

Each tells what it was told of server and model, and its predictions, which are those of the model in this process.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer

from nbmlops.project import Project
from nbmlops.registry.loader import verified_copy
from nbmlops.registry.verbs import register
from nbmlops.serving.verbs import deploy
from tests.pipelines.orchestrators.test_loaders import environment, said_by

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
MODELS = {"delays": "delays/2", "native": "native/1"}  # what is served at each endpoint
Ask = Callable[[str, str, str], tuple[dict[str, Any], list[int], list[int]]]

READ = """
import json, sys
import numpy as np

url, model, version, table = *sys.argv[1:4], json.loads(sys.argv[4])
kinds = {"FP64": np.float64, "INT64": np.int64, "BYTES": np.object_}
tensors = {name: np.array(each["data"], kinds[each["datatype"]]) for name, each in table.items()}
told = {"answers": {}}
"""
TRITON = """
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(url.partition("//")[2])
told["live"], told["ready"] = client.is_server_live(), client.is_server_ready()
told["model"] = client.is_model_ready(model) and client.is_model_ready(model, version)
told["other"] = client.is_model_ready(model, "99")
told["server"], told["metadata"] = client.get_server_metadata(), client.get_model_metadata(model, version)

def inputs(binary, shape):
    made = []
    for name, tensor in tensors.items():
        one = triton.InferInput(name, shape, table[name]["datatype"])
        one.set_data_from_numpy(tensor.reshape(shape), binary_data=binary)
        made.append(one)
    return made

n = len(next(iter(tensors.values())))
for binary in (True, False):
    for shape in ([n], [n, 1]):
        for wanted in (None, [triton.InferRequestedOutput("prediction", binary_data=not binary)]):
            answer = client.infer(model, inputs(binary, shape), version, outputs=wanted, request_id="7")
            assert answer.get_response()["id"] == "7"
            told["answers"][f"{binary} {shape} {bool(wanted)}"] = answer.as_numpy("prediction").tolist()
later = [client.async_infer(model, inputs(False, [n])) for _ in range(20)]
told["answers"]["async"] = later[0].get_result().as_numpy("prediction").tolist()
assert all(each.get_result().as_numpy("prediction").tolist() == told["answers"]["async"] for each in later[1:])
tensors["delay"][:] = np.nan
told["of gaps"] = client.infer(model, inputs(True, [n])).as_numpy("prediction").tolist()
try:
    client.infer(model, inputs(True, [n])[:1])
except InferenceServerException as error:
    told["refused"] = f"{error.status()} {error.message()}"
print(json.dumps(told))
"""
KSERVE = """
import asyncio
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

def request(binary):
    made = []
    for name, tensor in tensors.items():
        one = InferInput(name, list(tensor.shape), table[name]["datatype"])
        one.set_data_from_numpy(tensor, binary_data=binary)
        made.append(one)
    return InferRequest(model, made, request_id="7", parameters={"binary_data_output": True} if binary else None)

async def main():
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=1)) as client:
        told["live"], told["ready"] = await client.is_server_live(url), await client.is_server_ready(url)
        told["model"] = await client.is_model_ready(url, model)
        told["other"] = await client.is_model_ready(url, "other")
        for binary in (True, False):
            answer = await client.infer(url, request(binary), model)
            assert (answer.id, answer.model_name) == ("7", model)
            told["answers"][str(binary)] = answer.outputs[0].as_numpy().tolist()

asyncio.run(main())
print(json.dumps(told))
"""
MLSERVER = """
import os, subprocess, tempfile
import pandas as pd
from mlserver.codecs import NumpyRequestCodec, PandasCodec
from mlserver.types import InferenceResponse

frame = pd.DataFrame({name: pd.Series(tensor, dtype=tensor.dtype) for name, tensor in tensors.items()})
with tempfile.TemporaryDirectory() as folder:
    asked, answered = (os.path.join(folder, name) for name in ("asked.jsonl", "answered.jsonl"))
    with open(asked, "w") as file:
        for _ in range(5):
            file.write(PandasCodec.encode_request(frame, use_bytes=False).model_dump_json(exclude_none=True) + "\\n")
    line = [os.path.join(os.path.dirname(sys.executable), "mlserver"), "infer", "-i", asked, "-o", answered, "-w", "2"]
    subprocess.run([*line, "-u", url.partition("//")[2], "-m", model], check=True, stdout=subprocess.DEVNULL)
    answers = [InferenceResponse.model_validate_json(answer) for answer in open(answered)]
assert {(each.model_name, each.model_version) for each in answers} == {(model, version)}
told["answers"] = {str(at): NumpyRequestCodec.decode_response(each).ravel().tolist() for at, each in enumerate(answers)}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    carriers = ["UA", "B6", "AA", "Å"]  # one that no model has seen, and no ASCII
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {"delay": rng.normal(size=40), "carrier": rng.choice(carriers, 40), "day": rng.integers(1, 8, 40)}
    )


@pytest.fixture(scope="module")
def urls(shop: Project, flights: pd.DataFrame) -> dict[str, str]:
    """The addresses of endpoints: of a model that is compiled, and of one that is not."""
    encode = make_column_transformer(
        (QuantileTransformer(n_quantiles=50), ["delay", "day"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["carrier"]),
    )
    example = flights.drop(columns="late")
    boosting = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=5)).fit(example, flights.late.astype(int))
    register(shop, boosting, "native", input_example=example)
    found = {name: deploy(shop, model) for name, model in MODELS.items()}
    assert [each.form for each in found.values()] == ["compiled", "pyfunc"]
    return {name: each.url for name, each in found.items()}


@pytest.fixture(scope="module")
def ask(shop: Project, urls: dict[str, str], rows: pd.DataFrame) -> Ask:
    """Have a client ask an endpoint: gives what it tells, and what the model itself says, of the rows and of gaps."""

    def asked(python: str, script: str, endpoint: str) -> tuple[dict[str, Any], list[int], list[int]]:
        version = MODELS[endpoint].rpartition("/")[2]
        told = said_by(python, READ + script, urls[endpoint], endpoint, version, as_tensors(rows))
        model = mlflow.pyfunc.load_model(str(verified_copy(shop, MODELS[endpoint])))
        return told, model.predict(rows).tolist(), model.predict(rows.assign(delay=np.nan)).tolist()

    return asked


def as_tensors(rows: pd.DataFrame) -> str:
    kinds = {"delay": "FP64", "carrier": "BYTES", "day": "INT64"}
    return json.dumps({name: {"datatype": kind, "data": rows[name].tolist()} for name, kind in kinds.items()})


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> str:
    return environment(tmp_path_factory.mktemp("clients") / "venv", "tritonclient[http]>=2.60", "kserve>=0.15")


@pytest.mark.parametrize("endpoint", MODELS)
def test_triton_client(ask: Ask, clients: str, endpoint: str) -> None:
    told, wanted, of_gaps = ask(clients, TRITON, endpoint)
    assert len(told["answers"]) == 9
    assert all(answer == wanted for answer in told["answers"].values())
    assert told["of gaps"] == of_gaps != wanted
    assert (told["live"], told["ready"], told["model"], told["other"]) == (True, True, True, False)
    assert told["server"]["name"] == "nbmlops"
    assert told["metadata"]["versions"] == [MODELS[endpoint].rpartition("/")[2]]
    assert [each["datatype"] for each in told["metadata"]["inputs"]] == ["FP64", "BYTES", "INT64"]
    assert told["refused"].startswith("422 ")
    assert "carrier" in told["refused"]


@pytest.mark.parametrize("endpoint", MODELS)
def test_kserve_client(ask: Ask, clients: str, endpoint: str) -> None:
    told, wanted, _ = ask(clients, KSERVE, endpoint)
    assert told == {"live": True, "ready": True, "model": True, "other": False, "answers": told["answers"]}
    assert told["answers"] == {"True": wanted, "False": wanted}


def test_mlserver_client(ask: Ask, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", "mlserver>=1.7")
    for endpoint in MODELS:
        told, wanted, _ = ask(python, MLSERVER, endpoint)
        assert list(told["answers"].values()) == [wanted] * 5
