"""An endpoint described: its OpenAPI 3.1 document, made from the model's signature, and a page to read and try it.

The page is one file: no script, font or picture of another's, and it may load none (`policy`).
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nbmlops.serving.protocols.invocations import ARROW, CSV, PARQUET
from nbmlops.serving.protocols.refusals import JSON
from nbmlops.serving.schema import Column, Schema

_VALUES: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32"},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": ["number", "null"], "format": "float"},
    "double": {"type": ["number", "null"], "format": "double"},
    "string": {"type": ["string", "null"]},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "datetime": {"type": ["string", "null"], "format": "date-time"},
}
_SAMPLES = {"boolean": True, "string": "text", "binary": "AAEC", "datetime": "2013-01-02T03:04:05"}
_BYTES = {"type": "string", "contentMediaType": "application/octet-stream"}
_REFUSALS = {
    "400": "The body cannot be read.",
    "401": "The token is missing or wrong.",
    "413": "The body or the table is too large.",
    "415": "The content type is not taken.",
    "422": "The rows do not fit the model.",
    "429": "Too many requests wait; Retry-After says when to come again.",
    "503": "The endpoint is not ready; Retry-After says when to come again.",
}


def document(
    endpoint: str, version: str, schema: Schema, example: Any = None, *, needs_token: bool = False
) -> dict[str, Any]:
    """Describe an endpoint.

    Parameters
    ----------
    endpoint, version
        The endpoint's name, and the version of the model that is live.
    schema
        Of the model.
    example
        The model's input example as a body of ``/invocations``; made up from the schema if there is none.
    needs_token
        Whether each request must bring a bearer token.

    Returns
    -------
    dict
        An OpenAPI 3.1 document.

    Examples
    --------
    >>> described = document("delays", "3", Schema.of('[{"name": "delay", "type": "double"}]'))
    >>> described["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["example"]
    {'dataframe_split': {'columns': ['delay'], 'data': [[1.0]]}}
    """
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": endpoint, "version": version, "description": schema.hint() or "The model has no signature."},
        "paths": _paths(endpoint, schema, sample(schema) if example is None else example),
        "components": {"schemas": {"Row": _row(schema), "Error": _ERROR, "InferenceError": _INFERENCE_ERROR}},
    }
    if needs_token:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
    return described


def sample(schema: Schema) -> dict[str, Any]:
    """Make up a body of one row that fits a schema."""
    if schema.is_tensor:
        column = schema.columns[0]
        return {"inputs": [[_value(column)] * column.width if column.width else _value(column)]}
    names = [column.name for column in schema.columns]
    return {"dataframe_split": {"columns": names, "data": [[_value(column) for column in schema.columns]]}}


def _value(column: Column) -> Any:
    return _SAMPLES.get(column.type.name, 1.0 if column.type.dtype.kind == "f" else 1)


def _row(schema: Schema) -> dict[str, Any]:
    if schema.is_tensor:
        column = schema.columns[0]
        value = _VALUES[column.type.name]
        return (
            {"type": "array", "items": value, "minItems": column.width, "maxItems": column.width}
            if column.width
            else value
        )
    return {
        "type": "object",
        "properties": {str(column.name): _VALUES[column.type.name] for column in schema.columns},
        "required": [str(column.name) for column in schema.columns if column.required],
    }


# -------------------------------------------------------------------------------------------------------------- paths
def _paths(endpoint: str, schema: Schema, example: Any) -> dict[str, Any]:
    model = f"/v2/models/{endpoint}"
    plain = {
        "/ping": "Whether the server answers",
        "/health": "Whether the server answers",
        "/ready": "Whether the model answers",
        "/version": "The version of MLflow whose protocol this is",
        "/metrics": "Counters, as Prometheus reads them",
    }
    known = {
        "/v2": "The server and what it can do",
        "/v2/health/live": "Whether the server lives",
        "/v2/health/ready": "Whether the server is ready",
        model: "The model: its versions, inputs and outputs",
        f"{model}/ready": "Whether the model is ready",
    }
    return {
        "/invocations": {"post": _invocations(schema, example)},
        f"{model}/infer": {"post": _infer("Predict, by the Open Inference Protocol", schema)},
        f"{model}/versions/{{version}}/infer": {"post": _infer("Predict with one version", schema) | _VERSION},
        **{path: {"get": _get(summary, "text/plain", {"type": "string"})} for path, summary in plain.items()},
        **{path: {"get": _get(summary, JSON, {"type": "object"})} for path, summary in known.items()},
    }


def _invocations(schema: Schema, example: Any) -> dict[str, Any]:
    answer = {"type": "object", "properties": {"predictions": {"type": "array"}}, "required": ["predictions"]}
    taken = {JSON: {"schema": _body(schema), "example": example}, CSV: {"schema": {"type": "string"}}}
    return {
        "operationId": "invocations",
        "summary": "Predict, by MLflow's protocol",
        "requestBody": {"required": True, "content": taken | {ARROW: {"schema": _BYTES}, PARQUET: {"schema": _BYTES}}},
        "responses": {"200": _content("Predictions, one a row.", JSON, answer)} | _refused("Error"),
    }


def _body(schema: Schema) -> dict[str, Any]:
    """Describe the four forms of a JSON body, each with what a row is."""
    row = {"$ref": "#/components/schemas/Row"}
    names = [column.name for column in schema.columns]
    rows = {"type": "array", "items": {"type": "array"}, "minItems": 1}
    split = {"columns": {"type": "array", "examples": [names]}, "index": {"type": "array"}, "data": rows}
    forms: Mapping[str, dict[str, Any]] = {
        "dataframe_split": {"type": "object", "properties": split, "required": ["data"]},
        "dataframe_records": {"type": "array", "items": row, "minItems": 1},
        "instances": {"type": "array", "items": row, "minItems": 1},
        "inputs": {"type": ["array", "object"]},
    }
    return {"oneOf": [{"type": "object", "properties": {k: v}, "required": [k]} for k, v in forms.items()]}


def _infer(summary: str, schema: Schema) -> dict[str, Any]:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "examples": [str(column.name) for column in schema.columns[:3]]},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
        "required": ["name", "datatype", "shape"],
    }
    inputs = {"inputs": {"type": "array", "items": tensor, "minItems": 1}, "id": {"type": "string"}}
    body = {"type": "object", "properties": inputs, "required": ["inputs"]}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
        "responses": {"200": _content("Predictions, one tensor.", JSON, {"type": "object"})}
        | _refused("InferenceError"),
    }


def _get(summary: str, kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _content(f"{summary}.", kind, schema)}}


def _refused(shape: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{shape}"}
    return {status: _content(said, JSON, schema) for status, said in _REFUSALS.items()}


def _content(description: str, kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


_VERSION = {"parameters": [{"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}]}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "exit_code": {"type": "integer"},
            },
            "required": ["type", "message", "hint", "exit_code"],
        }
    },
    "required": ["error"],
}
_INFERENCE_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}


# --------------------------------------------------------------------------------------------------------------- page
def policy(nonce: str) -> str:
    """Word the Content-Security-Policy of the page: its own style and script, its own server, and nothing else.

    Examples
    --------
    >>> policy("abc")
    "default-src 'none'; script-src 'nonce-abc'; style-src 'nonce-abc'; connect-src 'self'; base-uri 'none'; \
form-action 'none'; frame-ancestors 'none'"
    """
    own = f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'"
    return f"{own}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def page(described: Mapping[str, Any], nonce: str) -> bytes:
    """Make the page that shows a document of `document`'s, with a form to try it.

    Parameters
    ----------
    described
        The document.
    nonce
        A text that was made for this answer alone, the same as in its `policy`.
    """
    info = described["info"]
    content = described["paths"]["/invocations"]["post"]["requestBody"]["content"]
    example = json.dumps(content[JSON]["example"], ensure_ascii=False, indent=2)
    paths = [(m, path, each["summary"]) for path, of in described["paths"].items() for m, each in of.items()]
    filled = {
        "NONCE": escape(nonce),
        "TITLE": escape(str(info["title"])),
        "VERSION": escape(str(info["version"])),
        "INPUTS": _inputs_table(described["components"]["schemas"]["Row"]),
        "PATHS": "".join(f"<tr>{_cells((m.upper(), path, summary))}</tr>" for m, path, summary in paths),
        "STATUSES": "".join(f"<tr>{_cells(each)}</tr>" for each in _REFUSALS.items()),
        "EXAMPLE": escape(example),
        "TOKEN": '<label>Token <input id="token" type="password" autocomplete="off"></label>'
        if "security" in described
        else "",
    }
    parts = _PAGE.split("@@")  # every second one is a name: what is filled in is not searched for names again
    return "".join(filled[part] if at % 2 else part for at, part in enumerate(parts)).encode()


def _inputs_table(row: Mapping[str, Any]) -> str:
    if "properties" not in row:
        said = f"{row['minItems']} values a row" if "minItems" in row else "one value a row"
        return f"<p>An array: {said}.</p>"
    if not row["properties"]:
        return "<p>The model has no signature.</p>"
    lines = [
        (name, value.get("format") or _first(value["type"]), "required" if name in row["required"] else "optional")
        for name, value in row["properties"].items()
    ]
    return f"<table>{''.join(f'<tr>{_cells(line)}</tr>' for line in lines)}</table>"


def _first(kind: str | Sequence[str]) -> str:
    return kind if isinstance(kind, str) else kind[0]


def _cells(values: Sequence[str]) -> str:
    first, *rest = (escape(str(value)) for value in values)
    return f"<td><code>{first}</code></td>" + "".join(f"<td>{value}</td>" for value in rest)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@@TITLE@@ · endpoint</title>
<style nonce="@@NONCE@@">
:root { color-scheme: light dark; --line: light-dark(#d6dae1, #3a3f4a); --soft: light-dark(#f5f7fa, #1c1f26);
  --accent: light-dark(#0b5fbf, #7db7ff); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { margin: 0; font-size: 1.8rem; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
p { margin: .25rem 0 .75rem; }
table { border-collapse: collapse; width: 100%; }
td { border-bottom: 1px solid var(--line); padding: .4rem .75rem .4rem 0; vertical-align: top; }
code, pre, textarea { font: 14px/1.5 ui-monospace, monospace; }
code { overflow-wrap: anywhere; }
textarea, pre { box-sizing: border-box; width: 100%; padding: .75rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--soft); color: inherit; overflow: auto; }
textarea { min-height: 12rem; resize: vertical; }
pre { min-height: 3rem; max-height: 24rem; white-space: pre-wrap; overflow-wrap: anywhere; }
button { font: inherit; margin: .5rem 0; padding: .5rem 1.25rem; border: 0; border-radius: 6px; color: #fff;
  background: #0b5fbf; cursor: pointer; }
button:focus-visible, textarea:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
</style>
</head>
<body>
<h1>@@TITLE@@</h1>
<p>Version @@VERSION@@ · <a href="openapi.json">OpenAPI document</a></p>
<h2>What it takes</h2>
@@INPUTS@@
<h2>Try it</h2>
<p><label for="body">Body of <code>POST /invocations</code></label></p>
<textarea id="body" spellcheck="false">@@EXAMPLE@@</textarea>
@@TOKEN@@
<div><button id="send" type="button">Send</button></div>
<pre id="answer" role="status" aria-live="polite"></pre>
<h2>Paths</h2>
<table>@@PATHS@@</table>
<h2>When it refuses</h2>
<p>An error is JSON: what happened and what was expected in <code>error.message</code>, what to do in
<code>error.hint</code>.</p>
<table>@@STATUSES@@</table>
<script nonce="@@NONCE@@">
"use strict";
const at = (id) => document.getElementById(id);
at("send").addEventListener("click", async () => {
  const headers = { "Content-Type": "application/json" };
  const token = at("token");
  if (token && token.value) headers.Authorization = "Bearer " + token.value;
  at("answer").textContent = "…";
  try {
    const began = performance.now();
    const answer = await fetch("invocations", { method: "POST", headers, body: at("body").value });
    const text = await answer.text();
    at("answer").textContent = answer.status + " · " + (performance.now() - began).toFixed(1) + " ms\\n" + text;
  } catch (error) {
    at("answer").textContent = "No answer: " + error.message;
  }
});
</script>
</body>
</html>
"""
