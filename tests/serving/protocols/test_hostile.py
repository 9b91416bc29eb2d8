"""Whatever is sent, to any protocol: an answer with 2xx or 4xx, no exception, no path, no echo, in bounded time."""

import json
import random
import re
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

from nbmlops.serving.protocols import invocations, open_inference
from nbmlops.serving.protocols.limits import Limits
from nbmlops.serving.protocols.refusals import Answer
from nbmlops.serving.schema import Schema
from tests.serving.protocols.conftest import COLUMNS, GOOD, ODD, Bodies, csv

KINDS = ["application/json", "text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"]
SCHEMAS = [
    Schema.of(json.dumps(COLUMNS)),
    Schema.of(json.dumps([{"name": "c", "type": kind, "required": False} for kind in ["datetime"]])),
    Schema.of(json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}])),
    Schema.of(json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}])),
    Schema(),
]
LIMITS = Limits(max_body_bytes=300_000, max_rows=1000)
CANARY = "canary-4111"
CORPUS: list[bytes] = [
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"null", b"[]", b"{}", b'"x"', b"5", b"-", b"{", b"NaN", b"[NaN",
    b"[" * 100_000, b'{"inputs":' * 20_000, b'{"a":' * 2000 + b"NaN" + b"}" * 2000, b"9" * 200_000, b"-" * 1000,
    b'{"inputs": [%s]}' % (b"9" * 5000), b'{"inputs": [NaN, %s]}' % (b"9" * 100_000), b'{"inputs": [1e999, 1e-999]}',
    b'{"inputs": {"wide": ["%s"]}}' % (b"9" * 5000), b'{"inputs": {"large": ["%s"]}}' % (b"9" * 5000),
    b'{"dataframe_split": {"columns": [{}], "data": [[1]]}}', b'{"dataframe_split": {"columns": [], "data": [[]]}}',
    b'{"dataframe_split": {"columns": [null], "data": [[null]]}}', b'{"dataframe_records": [{}, {}]}',
    b'{"dataframe_split": {"columns": ["c"], "data": [[1], null]}}', b'{"dataframe_split": {"data": [[]]}}',
    b'{"dataframe_split": {"data": [[], [1]]}}', b'{"inputs": [[]]}', b'{"inputs": [[], []]}', b'{"inputs": {}}',
    b'{"inputs": {"c": "2013-99-99"}}', b'{"inputs": {"c": "9999-01-01"}}', b'{"inputs": {"c": "2013-01-02T99:00"}}',
    b'{"dataframe_records": [{"c": "2013-02-30"}]}', b'{"inputs": {"c": [9223372036854775807, -9223372036854775808]}}',
    b'{"inputs": {"c": []}}', b'{"instances": [[[[[1]]]]]}', b'{"instances": [{"c": 1}, null]}', b'{"params": 5}',
    b'{"messages": [{"role": "x"}]}', b'{"inputs": "\\ud800"}', b'{"inputs": "\\u0000"}', b'{"\\u0000": 1}',
    b"a,b\n\"", b"\"\n" * 1000, b"c\n" + b"," * 100_000, b"c" * 200_000, b"\r\r", b"c\0d\n1\0", b"c\n" + b"1\n" * 2000,
    b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}', b"ARROW1\0\0", b"PAR1" * 4,
    b"\xff\xff\xff\xff\x10\0\0\0" + b"\0" * 64, b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"\0" * 64,
]  # fmt: skip


@pytest.mark.parametrize("n", [2000, pytest.param(20_000, marks=pytest.mark.soak)])
def test_whatever_is_sent_there_is_one_answer(n: int) -> None:
    chance, statuses = random.Random(n), Counter[int]()
    for number in range(n):
        kind, schema = chance.choice(KINDS), SCHEMAS[number % len(SCHEMAS)]
        body = made(chance, kind)
        statuses[judged(invocations.read(body, kind, schema, LIMITS))] += 1
        tensors = tensors_of(chance) if chance.random() < 0.7 else body
        length = chance.choice([None, None, str(len(tensors)), str(chance.randrange(200)), "x"])
        served = open_inference.Served("m", ("1",), schema)
        statuses[judged(open_inference.read(tensors, length, kind if body is tensors else None, served, LIMITS))] += 1
    assert statuses.keys() <= {200, 400, 413, 415, 422}, statuses
    assert statuses[200] > n / 20, statuses


def test_the_corpus() -> None:
    for body in CORPUS:
        for schema in SCHEMAS:
            for kind in KINDS:
                began = time.perf_counter()
                judged(invocations.read(body, kind, schema, LIMITS))
                judged(open_inference.read(body, None, None, open_inference.Served("m", ("1",), schema), LIMITS))
                assert time.perf_counter() - began < 2, body[:50]


@pytest.mark.parametrize(
    "content_type", [None, "", ";", "a" * 10_000, "text/csv;;", "\0", "application/json;charset", "*/*"]
)
def test_content_types(content_type: str | None) -> None:
    for schema in SCHEMAS:
        assert judged(invocations.read(b'{"inputs": [1]}', content_type, schema)) in (200, 400, 415, 422)


def test_a_message_repeats_nothing_of_the_body() -> None:
    for document in (
        {"dataframe_split": {"columns": [CANARY], "data": [[CANARY]]}},
        {"dataframe_records": [{"wide": CANARY}]},
        {"inputs": {name["name"]: [CANARY] for name in COLUMNS}},
        {"inputs": [{CANARY: 1}]},
        {"instances": CANARY},
        {CANARY: 1},
        {"inputs": [{"name": CANARY, "shape": [1], "datatype": CANARY, "data": [CANARY]}]},
        {"inputs": [{"name": CANARY, "shape": [1], "datatype": "BYTES", "data": [CANARY]}]},
    ):
        body = json.dumps(document).encode()
        for schema in SCHEMAS[:4]:
            judged(invocations.read(body, "application/json", schema))
            judged(invocations.read(f"{CANARY}\n{CANARY}".encode(), "text/csv", schema))
            judged(open_inference.read(body, None, None, open_inference.Served("m", ("1",), schema)))


def judged(answer: Any) -> int:
    """Check what holds for every answer; a request that was read can be answered and converted."""
    if not isinstance(answer, Answer):
        assert answer.n_rows > 0
        answer.invocation()
        for predictions in (np.zeros(answer.n_rows), np.array(["a"])):
            assert answer.answer(predictions, "m", "1").status == 200
        return 200
    text = answer.body.decode()
    error = json.loads(text)["error"]
    message = error["message"] + error["hint"] if isinstance(error, dict) else error
    assert len(message) < 1000
    assert not re.search(r"Traceback|site-packages|\.py\b|/tmp|/usr|0x[0-9a-f]{6}|" + CANARY, text), text
    return answer.status


# ------------------------------------------------------------------------------------- bodies, more and less valid
def made(chance: random.Random, kind: str) -> bytes:
    bodies = Bodies(chance.randrange(2**32), p_odd=chance.choice([0, 0.02, 0.3]))
    if kind == "text/csv" and chance.random() < 0.8:
        body = csv(*bodies.table())
    elif chance.random() < 0.1:
        body = chance.choice(CORPUS)
    elif chance.random() < 0.2:
        body = json.dumps({chance.choice(invocations.FORMS): anything(chance, 4)}).encode()
    else:
        body = bodies.body()
    return broken(chance, body) if chance.random() < 0.3 else body


def tensors_of(chance: random.Random) -> bytes:
    inputs = []
    for column in chance.choice([COLUMNS, COLUMNS[4:], [{"name": "x", "type": "double"}]]):
        values = [chance.choice(GOOD[column["type"]] if chance.random() < 0.97 else ODD) for _ in range(2)]
        datatype = chance.choice([*open_inference.DATATYPES]) if chance.random() < 0.1 else DATATYPES[column["type"]]
        shape = chance.choice([[2], [2], [2, 1], [1, 2], [3], [2**40], [-1], [], "x", [[2]]])
        given = {"name": column["name"], "datatype": datatype, "shape": shape, "data": values}
        if chance.random() < 0.05:
            given[chance.choice([*given, "parameters"])] = anything(chance, 3)
        inputs.append(given)
    document = {"inputs": inputs}
    if chance.random() < 0.1:
        document[chance.choice(["id", "outputs", "parameters", "inputs"])] = anything(chance, 3)
    body = json.dumps(document).encode()
    return broken(chance, body) if chance.random() < 0.1 else body


DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}


def anything(chance: random.Random, depth: int) -> Any:
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(ODD)
    if chance.random() < 0.5:
        return [anything(chance, depth - 1) for _ in range(chance.randrange(4))]
    names = ["columns", "data", "index", "wide", "c", "name", "shape", "parameters", "binary_data_size"]
    return {chance.choice(names): anything(chance, depth - 1) for _ in range(chance.randrange(4))}


def broken(chance: random.Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(changed) + 1)
        changed[at : at + chance.randrange(3)] = chance.choice(
            [b"", b"[", b"]", b"{", b'"', b",", b"\0", b"\xff", b"9" * 30, b"NaN"]
        )
    return bytes(changed)
