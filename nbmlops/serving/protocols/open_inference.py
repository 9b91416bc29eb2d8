"""The Open Inference Protocol (v2) over HTTP, for one model with its versions: metadata, health, and inference.

Tensors come as JSON or as bytes after it (the binary tensor extension): one for each column, ``[n]`` or ``[n, 1]``, or
one for all of them, ``[n, n_columns]``, in the model's order. Null in JSON, where numbers or text are taken, is NaN.
The protocol is that of https://github.com/kserve/open-inference-protocol; the extension is Triton's.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import orjson

from nbmlops.errors import DataError, NbmlopsError, NotFoundError, UsageError
from nbmlops.serving.protocols.invocations import counted, loads
from nbmlops.serving.protocols.limits import LIMITS, Limits
from nbmlops.serving.protocols.refusals import JSON, Answer, NotTakenError, TooLargeError
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.schema import UNNAMED, Column, Schema

HEADER = "Inference-Header-Content-Length"  # says how many bytes of a body are JSON, before those of the tensors
BINARY = "application/octet-stream"
OUTPUT = "prediction"
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    **{f"UINT{8 * n}": np.dtype(f"<u{n}") for n in (1, 2, 4, 8)},
    **{f"INT{8 * n}": np.dtype(f"<i{n}") for n in (1, 2, 4, 8)},
    **{f"FP{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    "BYTES": np.dtype("O"),
}
_OF_TYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
_NULL = type(None)
_TAKEN: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "u": frozenset({int}),
    "i": frozenset({int}),
    "f": frozenset({int, float, _NULL}),
    "O": frozenset({str, _NULL}),
}


@dataclass(frozen=True)
class Served:
    """What is served under one name; `output` is the datatype of predictions, `width` how many a row has if not one."""

    name: str
    versions: tuple[str, ...]
    schema: Schema
    output: str = "FP64"
    width: int = 0


@dataclass(frozen=True)
class Wanted:
    """How the answer is to be worded."""

    id: str | None
    is_binary: bool


# ------------------------------------------------------------------------------------------------ health and metadata
def refused(error: NbmlopsError) -> Answer:
    """Answer with an error, in this protocol's own shape.

    Examples
    --------
    >>> refused(NotFoundError("There is no such model.")).body
    b'{"error":"There is no such model."}'
    """
    return Answer(error.http_status, orjson.dumps({"error": f"{error.message} {error.hint}".strip()}))


def reworded(answer: Answer) -> Answer:
    """Put a refusal that others made into this protocol's own shape.

    Examples
    --------
    >>> from nbmlops.serving.protocols import refusals
    >>> reworded(refusals.refusal(NotFoundError("There is no such path."))).body
    b'{"error":"There is no such path."}'
    """
    if answer.status < 400 or type(error := orjson.loads(answer.body).get("error")) is not dict:
        return answer
    return answer._replace(body=orjson.dumps({"error": f"{error['message']} {error['hint']}".strip()}))


def answer_get(path: str, served: Served, *, is_ready: bool = True) -> Answer | None:
    """Answer a GET: what the server and the model are, whether they live and are ready.

    Returns
    -------
    Answer or None
        503 where something is not ready, 404 for another model or version; None for a path of no protocol of ours.

    Examples
    --------
    >>> served = Served("delays", ("1", "2"), Schema.of('[{"name": "delay", "type": "double"}]'))
    >>> answer_get("/v2/models/delays/versions/2/ready", served).body
    b'{"name":"delays","ready":true}'
    >>> answer_get("/v2/models/late", served).status
    404
    """
    parts = path.strip("/").split("/")
    if parts == ["v2"]:
        return _told({"name": "nbmlops", "version": _own_version(), "extensions": ["binary_tensor_data"]})
    if parts[:2] == ["v2", "health"] and parts[2:] in (["live"], ["ready"]):
        return _told({"live": True}) if parts[2] == "live" else _told({"ready": is_ready}, is_ready)
    if (found := _target(parts)) is None or found[2] not in ("", "ready"):
        return None
    model, version, what = found
    if error := unknown(model, version, served):
        return refused(error)
    return _told({"name": model, "ready": is_ready}, is_ready) if what else _told(metadata(served))


def infer_target(path: str) -> tuple[str, str | None] | None:
    """Find the model and the version that a POST is for; None for a path that is not one of inference.

    Examples
    --------
    >>> infer_target("/v2/models/delays/versions/2/infer")
    ('delays', '2')
    >>> infer_target("/v2/models/delays/infer")
    ('delays', None)
    """
    found = _target(path.strip("/").split("/"))
    return found[:2] if found and found[2] == "infer" else None


def unknown(model: str, version: str | None, served: Served) -> NotFoundError | None:
    """Say that a model or a version is not served, if so."""
    if model != served.name:
        return NotFoundError("There is no such model.", f"There is: {served.name}.")
    if version is not None and version not in served.versions:
        return NotFoundError("There is no such version of the model.", f"There are: {', '.join(served.versions)}.")
    return None


def metadata(served: Served) -> dict[str, Any]:
    """Describe a model: its versions, and the tensors that it takes and gives."""
    shape = [-1, served.width] if served.width else [-1]
    return {
        "name": served.name,
        "versions": list(served.versions),
        "platform": "mlflow",
        "inputs": [_described(column) for column in served.schema.columns],
        "outputs": [{"name": OUTPUT, "datatype": served.output, "shape": shape}],
    }


@cache
def _own_version() -> str:
    from importlib.metadata import version  # seldom asked for

    return version("nbmlops")


def _described(column: Column) -> dict[str, Any]:
    shape = [-1, column.width] if column.width else [-1]
    return {"name": str(column.name) or "input", "datatype": _OF_TYPES[column.type.name], "shape": shape}


def _target(parts: Sequence[str]) -> tuple[str, str | None, str] | None:
    """Split a path into model, version and what is wanted of it."""
    match parts:
        case ["v2", "models", model]:
            return model, None, ""
        case ["v2", "models", model, "versions", version]:
            return model, version, ""
        case ["v2", "models", model, "versions", version, what]:
            return model, version, what
        case ["v2", "models", model, what] if what != "versions":
            return model, None, what
    return None


def _told(content: Mapping[str, Any], is_well: bool = True) -> Answer:
    return Answer(200 if is_well else 503, orjson.dumps(content))


# ------------------------------------------------------------------------------------------------------------ reading
def read(
    body: bytes, header_length: str | None, content_type: str | None, served: Served, limits: Limits = LIMITS
) -> Request | Answer:
    """Read a request for inference, and check its tensors against the model's signature.

    Parameters
    ----------
    body, content_type
        As they came.
    header_length
        What the header ``Inference-Header-Content-Length`` says, if it was sent.
    served
        What is served.

    Returns
    -------
    Request or Answer
        The columns as numpy arrays. An answer is a refusal: 400 for what is not of the protocol, 413 for what is too
        large, 415 for another content type, 422 for what does not fit the model.

    Examples
    --------
    >>> served = Served("delays", ("1",), Schema.of('[{"name": "delay", "type": "double"}]'))
    >>> body = b'{"inputs": [{"name": "delay", "datatype": "FP64", "shape": [2], "data": [1.5, 3]}]}'
    >>> request = read(body, None, "application/json", served)
    >>> request.columns
    {'delay': array([1.5, 3. ])}
    >>> orjson.loads(request.answer(np.array([0, 1]), "delays", "1").body)["outputs"][0]["data"]
    [0, 1]
    """
    try:
        if (content_type or JSON).partition(";")[0].strip().lower() not in (JSON, BINARY):
            raise NotTakenError(
                "The content type is not one that is taken.", f"Send {JSON}, or {BINARY} with {HEADER}."
            )
        if len(body) > limits.max_body_bytes:
            raise TooLargeError(f"The body has {len(body):,} bytes; at most {limits.max_body_bytes:,} are taken.")
        document, rest = _parted(body, header_length)
        columns, n_rows = _columns(_tensors(document, rest, limits), served.schema)
        counted(n_rows, limits)
        wanted = _wanted(document)
        given = served.schema.checked_arrays(columns)
    except NbmlopsError as error:
        return refused(error)
    return Request(given, n_rows, partial(answered, wanted), body, JSON, is_array=True, is_invocation=False)


def _parted(body: bytes, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    length = len(body)
    if header_length is not None:
        if not header_length.isascii() or not header_length.isdigit() or not 0 < int(header_length[:20]) <= len(body):
            raise UsageError(f"{HEADER} is no number of bytes within the body.", "Send the length of the JSON part.")
        length = int(header_length[:20])
    document = loads(body[:length])
    if type(document) is not dict or type(document.get("inputs")) is not list or not document["inputs"]:
        raise UsageError("The body is no object with a list of 'inputs'.", "Send tensors as the protocol has them.")
    return document, memoryview(body)[length:]


def _wanted(document: Mapping[str, Any]) -> Wanted:
    parameters, outputs = _mapping(document, "parameters"), document.get("outputs", [])
    if type(outputs) is not list or any(type(output) is not dict for output in outputs):
        raise UsageError("'outputs' is no list of objects.", "Leave it out: there is one output.")
    if any(output.get("name") != OUTPUT for output in outputs):
        raise UsageError("There is no such output.", f"There is one: {OUTPUT}.")
    asked = [_mapping(output, "parameters") for output in outputs]
    if any("classification" in each for each in asked):
        raise UsageError("The classification extension is not taken.", "Leave the parameter out.")
    is_binary = any(each.get("binary_data") is True for each in asked) or (
        not asked and parameters.get("binary_data_output") is True
    )
    name = document.get("id")
    if not (name is None or (type(name) is str and len(name) <= 256)):
        raise UsageError("'id' is no text of at most 256 characters.")
    return Wanted(name, is_binary)


def _mapping(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = given.get(key)
    if not (value is None or type(value) is dict):
        raise UsageError(f"'{key}' is no object.")
    return value or {}


# ------------------------------------------------------------------------------------------------------------ tensors
Tensor = tuple[str, np.ndarray]


def _tensors(document: Mapping[str, Any], rest: memoryview, limits: Limits) -> list[Tensor]:
    tensors = []
    for at, given in enumerate(document["inputs"]):
        tensor, rest = _tensor(f"Input {at}", given, rest, limits)
        tensors.append(tensor)
    if len(rest):
        raise UsageError(
            "There are bytes after the last tensor.", "Send binary_data_size for each tensor that is sent so."
        )
    return tensors


def _tensor(what: str, given: Any, rest: memoryview, limits: Limits) -> tuple[Tensor, memoryview]:
    if type(given) is not dict or type(given.get("name")) is not str:
        raise UsageError(f"{what} is no object with a name.")
    datatype = given.get("datatype")
    if type(datatype) is not str or datatype not in DATATYPES:
        raise UsageError(f"{what} has no datatype that is taken.", f"They are {', '.join(DATATYPES)}.")
    shape = _shape(what, given.get("shape"), limits)
    size = _mapping(given, "parameters").get("binary_data_size")
    if size is None:
        return (given["name"], _from_json(what, given.get("data"), datatype, shape)), rest
    if type(size) is not int or not 0 <= size <= len(rest) or "data" in given:
        raise UsageError(f"{what} has no binary_data_size within the body, or has data besides.")
    return (given["name"], _from_bytes(what, rest[:size], datatype, shape)), rest[size:]


def _shape(what: str, shape: Any, limits: Limits) -> tuple[int, ...]:
    if type(shape) is not list or not 0 < len(shape) <= 2 or any(type(n) is not int or n < 0 for n in shape):
        raise UsageError(f"{what} has no shape of one or two sizes.", "Send [n_rows] or [n_rows, n_columns].")
    counted(shape[0], limits)
    if math.prod(shape) > limits.max_body_bytes:
        raise TooLargeError(f"{what} has too many values.", "Send fewer rows.")
    return tuple(shape)


def _from_json(what: str, data: Any, datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    if type(data) is not list:
        raise UsageError(f"{what} has no list of data.")
    dtype, values = DATATYPES[datatype], _flat(data)
    if len(values) != math.prod(shape):
        raise DataError(f"{what} has {len(values):,} values; its shape asks for {math.prod(shape):,}.")
    if not _TAKEN[dtype.kind].issuperset(map(type, values)):
        raise DataError(f"{what} has values that are no {datatype}.")
    if dtype.kind == "O":
        return _objects([math.nan if value is None else value for value in values], shape)
    try:
        with np.errstate(over="ignore"):
            return np.array(values, dtype).reshape(shape)
    except OverflowError:
        raise DataError(f"{what} has values beyond the range of {datatype}.") from None


def _flat(data: list[Any]) -> list[Any]:
    """Flatten data that is nested as its shape is, one level at the most."""
    if list in map(type, data):
        return [value for row in data for value in (row if type(row) is list else [row])]
    return data


def _from_bytes(what: str, data: memoryview, datatype: str, shape: tuple[int, ...]) -> np.ndarray:
    dtype, n_values = DATATYPES[datatype], math.prod(shape)
    if dtype.kind == "O":
        return _objects(_texts(what, data, n_values), shape)
    if len(data) != n_values * dtype.itemsize:
        raise DataError(f"{what} has {len(data):,} bytes; its shape asks for {n_values * dtype.itemsize:,}.")
    if dtype.kind == "b":
        return np.not_equal(np.frombuffer(data, np.uint8), 0).reshape(shape)
    return np.frombuffer(data, dtype).reshape(shape)


def _texts(what: str, data: memoryview, n_values: int) -> list[str]:
    """Read texts, each after its length in four bytes."""
    try:
        texts = [bytes(text).decode() for text in _elements(data)]
    except (struct.error, UnicodeDecodeError):
        raise DataError(f"{what} has bytes that are no elements of UTF-8 text, each after its length.") from None
    if len(texts) != n_values:
        raise DataError(f"{what} has {len(texts):,} values; its shape asks for {n_values:,}.")
    return texts


def _elements(data: memoryview) -> Iterator[memoryview]:
    while len(data):
        (length,) = struct.unpack_from("<I", data)
        if len(data) < 4 + length:
            raise struct.error
        yield data[4 : 4 + length]
        data = data[4 + length :]


def _objects(values: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _columns(tensors: list[Tensor], schema: Schema) -> tuple[dict[Any, np.ndarray], int]:
    """Make columns of tensors: each is one, or a single tensor is all of them."""
    n_rows = len(tensors[0][1])
    if any(len(values) != n_rows for _, values in tensors):
        raise DataError("The tensors have different numbers of rows.", schema.hint())
    if schema.is_tensor:
        return {UNNAMED: _one(tensors, schema)}, n_rows
    _, values = tensors[0]
    if len(tensors) == 1 and values.ndim == 2 and values.shape[1] > 1 and schema.is_known:
        if values.shape[1] != len(schema.columns):
            raise DataError(
                f"The tensor has {values.shape[1]} columns; expected were {len(schema.columns)}.", schema.hint()
            )
        return {column.name: values[:, i] for i, column in enumerate(schema.columns)}, n_rows
    columns = {name: _column(name, values, schema) for name, values in tensors}
    if len(columns) < len(tensors):
        raise DataError("Two tensors have one name.", schema.hint())
    return columns, n_rows


def _column(name: str, values: np.ndarray, schema: Schema) -> np.ndarray:
    if values.ndim == 1 or (schema.is_known and name not in schema.by_name):
        return values
    if values.shape[1] != 1:
        raise DataError("A tensor of one column has more than one value a row.", schema.hint())
    return values[:, 0]


def _one(tensors: list[Tensor], schema: Schema) -> np.ndarray:
    """Put tensors side by side for a model that takes an array without names."""
    parts = [values if values.ndim == 2 else values[:, None] for _, values in tensors]
    whole = np.concatenate(parts, axis=1)
    width = schema.columns[0].width
    if whole.shape[1] != (width or 1):
        raise DataError(f"The tensors have {whole.shape[1]} columns; expected were {width or 1}.", schema.hint())
    return whole if width else whole[:, 0]


# ---------------------------------------------------------------------------------------------------------- answering
def answered(wanted: Wanted, predictions: np.ndarray, model: str = "", version: str = "") -> Answer:
    """Word predictions as the one output tensor, in JSON or as bytes after it."""
    values = np.asarray(predictions)
    datatype = next((name for name, dtype in DATATYPES.items() if dtype == values.dtype and dtype.kind != "O"), "BYTES")
    output: dict[str, Any] = {"name": OUTPUT, "shape": list(values.shape), "datatype": datatype}
    output["parameters"] = {"content_type": "str" if datatype == "BYTES" else "np"}
    told: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": [output]}
    if wanted.id is not None:
        told["id"] = wanted.id
    flat = [str(value) for value in values.ravel().tolist()] if datatype == "BYTES" else values.ravel().tolist()
    if not wanted.is_binary:
        output["data"] = flat
        return Answer(200, orjson.dumps(told))
    data = _packed(flat) if datatype == "BYTES" else np.ascontiguousarray(values).tobytes()
    output["parameters"]["binary_data_size"] = len(data)
    head = orjson.dumps(told)
    return Answer(200, head + data, BINARY, ((HEADER, str(len(head))),))


def _packed(texts: Sequence[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(each)) + each for each in encoded)
