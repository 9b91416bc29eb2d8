"""An endpoint's description: true to what is answered, and a page that nothing of the model's can break out of."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from nbmlops.serving.protocols.invocations import read
from nbmlops.serving.protocols.open_inference import Served, answer_get, infer_target
from nbmlops.serving.protocols.openapi import document, page, policy, sample
from nbmlops.serving.protocols.refusals import Answer
from nbmlops.serving.schema import TYPES, Schema

EVERY_TYPE = json.dumps([{"name": f"a {kind}", "type": kind, "required": kind != "double"} for kind in TYPES])
TENSOR = json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}])
HOSTILE = "</textarea><script>alert(1)</script>\"'&@@EXAMPLE@@"


@pytest.mark.parametrize("inputs_json", [EVERY_TYPE, TENSOR])
def test_the_example_is_a_body_that_is_taken_and_fits_its_own_schema(inputs_json: str) -> None:
    schema = Schema.of(inputs_json)
    described = document("delays", "3", schema)
    content = described["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    assert not isinstance(read(json.dumps(content["example"]).encode(), "application/json", schema), Answer)
    jsonschema.Draft202012Validator(content["schema"] | {"components": described["components"]}).validate(
        content["example"]
    )


def test_rows_are_described_by_column() -> None:
    row = document("delays", "3", Schema.of(EVERY_TYPE))["components"]["schemas"]["Row"]
    assert list(row["properties"]) == [f"a {kind}" for kind in TYPES]
    assert "a double" not in row["required"]
    assert row["properties"]["a long"] == {"type": "integer", "format": "int64"}
    assert document("m", "1", Schema.of(TENSOR))["components"]["schemas"]["Row"]["minItems"] == 3


def test_the_models_own_example_is_shown_and_a_token_asked_for() -> None:
    described = document("delays", "3", Schema(), {"inputs": [[1]]}, needs_token=True)
    content = described["paths"]["/invocations"]["post"]["requestBody"]["content"]
    assert content["application/json"]["example"] == {"inputs": [[1]]}
    assert described["security"] == [{"token": []}]
    assert b'id="token"' in page(described, "n")
    assert b'id="token"' not in page(document("delays", "3", Schema()), "n")


def test_every_path_of_the_open_inference_protocol_is_answered() -> None:
    served = Served("delays", ("1",), Schema())
    for path, methods in document("delays", "1", Schema())["paths"].items():
        if path.startswith("/v2"):
            real = path.replace("{version}", "1")
            assert infer_target(real) if "post" in methods else answer_get(real, served), path


def test_every_reference_in_the_document_leads_somewhere() -> None:
    described = document("delays", "3", Schema.of(EVERY_TYPE))
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(described)):
        found: Any = described
        for part in reference.split("/"):
            found = found[part]
        assert found


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_nothing_of_the_models_breaks_out_of_the_page() -> None:
    schema = Schema.of(json.dumps([{"name": HOSTILE, "type": "double"}]))
    described = document(HOSTILE, HOSTILE, schema, {"inputs": {HOSTILE: [1]}})
    text, plain = page(described, "abc").decode(), page(document("m", "1", Schema.of(EVERY_TYPE)), "abc").decode()
    tags = Tags(text).found
    assert [tag for tag, _ in tags].count("script") == 1
    assert Tags(plain).found[:5] == tags[:5]
    assert "alert(1)</script>" not in text
    assert text.count("&lt;script&gt;") >= 3


def test_the_page_loads_nothing_of_others_and_needs_only_its_nonce() -> None:
    text = page(document("delays", "3", Schema.of(EVERY_TYPE)), "abc").decode()
    for tag, attributes in Tags(text).found:
        assert not {"src", "style", "onclick", "onload"} & attributes.keys(), tag
        assert not (attributes.get("href") or "").startswith(("http:", "https:", "//"))
        if tag in ("script", "style"):
            assert attributes["nonce"] == "abc"
    assert "unsafe" not in policy("abc")
    assert "http" not in policy("abc").replace("http-equiv", "")


def test_a_sample_fits_any_schema() -> None:
    assert sample(Schema.of(TENSOR)) == {"inputs": [[1.0, 1.0, 1.0]]}
    flat = Schema.of(TENSOR.replace(", 3", ""))
    assert not isinstance(read(json.dumps(sample(flat)).encode(), "application/json", flat), Answer)
