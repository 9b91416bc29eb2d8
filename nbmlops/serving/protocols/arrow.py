"""Tables in bulk: Arrow IPC streams in and out, Parquet in. The one module here that loads pyarrow, on first use.

What a stream claims of itself is not believed: its bytes are bounded before, its rows while it is read, and every
buffer is validated. Compressed streams are refused, since they can grow a thousandfold; so are nested types.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

from nbmlops.errors import DataError, NbmlopsError, UsageError
from nbmlops.serving.protocols.limits import Limits
from nbmlops.serving.protocols.refusals import Answer, refusal
from nbmlops.serving.protocols.request import Request
from nbmlops.serving.schema import UNNAMED, Schema

STREAM = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
PREDICTION = "prediction"  # the column of an answer
_MAX_GROWTH = 16  # times the limit of a body: what text or Parquet may grow to
_BROKEN = (
    pa.ArrowException,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    struct.error,
)
_NUMBERS = {
    getattr(pa, name)(): np.dtype(name)
    for name in (
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    )
}


def read(body: bytes, schema: Schema, limits: Limits, *, is_parquet: bool = False) -> Request | Answer:
    """Read an Arrow IPC stream or a Parquet file, and check its columns against the model's signature.

    Returns
    -------
    Request or Answer
        The columns as numpy arrays, those of numbers without nulls being views of `body`. Nulls are NaN, as in pandas.
        An answer is a refusal: 400 for what cannot be read, 413 for too many rows, 422 for what does not fit.

    Examples
    --------
    >>> from nbmlops.serving.protocols.limits import LIMITS
    >>> schema = Schema.of('[{"name": "delay", "type": "double"}]')
    >>> read(stream({"delay": np.array([1.0, 2.5])}), schema, LIMITS).columns
    {'delay': array([1. , 2.5])}
    """
    try:
        columns, n_rows = _table(body, schema, limits, is_parquet)
        given = schema.checked_arrays(_as_matrix(columns, schema) if schema.is_tensor else columns)
    except NbmlopsError as error:
        return refusal(error)
    if is_parquet:
        from nbmlops.serving.protocols.invocations import predicted

        return Request(given, n_rows, predicted, body, PARQUET, is_array=True)
    return Request(given, n_rows, answered, body, STREAM, is_array=True, is_invocation=False)


def answered(predictions: np.ndarray, model: str = "", version: str = "") -> Answer:  # noqa: ARG001 - not told here
    """Word predictions as a stream with the one column ``prediction``; a row of a 2-D output is a list."""
    return Answer(200, stream({PREDICTION: predictions}), STREAM)


def stream(columns: dict[str, np.ndarray]) -> bytes:
    """Write columns as an Arrow IPC stream.

    Examples
    --------
    >>> ipc.open_stream(stream({"prediction": np.array([[0.25, 0.75]])})).read_all().to_pydict()
    {'prediction': [[0.25, 0.75]]}
    """
    batch = pa.RecordBatch.from_arrays([_arrow(values) for values in columns.values()], names=list(columns))
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _arrow(values: np.ndarray) -> Any:
    """Wrap an array; `pyarrow.array` would import pandas."""
    values = np.ascontiguousarray(values)
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(_arrow(values.reshape(-1)), values.shape[1])
    if values.dtype.kind == "b":
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, _buffer(np.packbits(values, bitorder="little"))])
    if values.dtype.kind not in "iufM":
        texts = [str(value).encode() for value in values.tolist()]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        return pa.Array.from_buffers(
            pa.large_string(), len(values), [None, _buffer(ends), pa.py_buffer(b"".join(texts))]
        )
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, _buffer(values)])


def _buffer(values: np.ndarray) -> Any:
    return pa.py_buffer(values.view(np.uint8).data)


# ------------------------------------------------------------------------------------------------------------ reading
def _table(body: bytes, schema: Schema, limits: Limits, is_parquet: bool) -> tuple[dict[Any, np.ndarray], int]:
    from nbmlops.serving.protocols.invocations import counted

    try:
        batches = list(_of_parquet(body, schema, limits) if is_parquet else _of_stream(body, schema, limits))
        n_rows = sum(batch.num_rows for batch in batches)
        counted(n_rows, limits)
        names = batches[0].schema.names
        return {name: _joined([b.column(i) for b in batches], limits) for i, name in enumerate(names)}, n_rows
    except _BROKEN:
        kind = "Parquet file" if is_parquet else "Arrow IPC stream"
        raise UsageError(f"The body is no {kind} that can be read.", "Send one whole, with plain columns.") from None


def _of_stream(body: bytes, schema: Schema, limits: Limits) -> Iterable[Any]:
    _refuse_compressed(body)
    names = ipc.open_stream(pa.py_buffer(body)).schema.names
    options = ipc.IpcReadOptions(included_fields=_wanted(names, schema), use_threads=False)
    n_rows = 0
    for batch in ipc.open_stream(pa.py_buffer(body), options=options):
        n_rows += batch.num_rows
        if n_rows > limits.max_rows:
            _refuse_rows(n_rows, limits)
        _refuse_nested(batch.schema)
        batch.validate(full=True)
        yield batch


def _of_parquet(body: bytes, schema: Schema, limits: Limits) -> Iterable[Any]:
    source = parquet.ParquetFile(pa.BufferReader(body))
    names = source.schema_arrow.names
    if source.metadata.num_rows > limits.max_rows:
        _refuse_rows(source.metadata.num_rows, limits)
    groups = [source.metadata.row_group(i) for i in range(source.metadata.num_row_groups)]
    if sum(group.total_byte_size for group in groups) > _MAX_GROWTH * limits.max_body_bytes:
        raise DataError("The Parquet file is too large when it is unpacked.", "Send fewer rows.")
    kept = [names[i] for i in _wanted(names, schema)]
    _refuse_nested(pa.schema([source.schema_arrow.field(name) for name in kept]))
    texts = [
        name for name in kept if _is_text(source.schema_arrow.field(name).type)
    ]  # one long text may be every row's
    source = parquet.ParquetFile(pa.BufferReader(body), read_dictionary=texts)
    for batch in source.iter_batches(columns=kept, use_threads=False):
        batch.validate(full=True)
        yield batch


def _wanted(names: Sequence[str], schema: Schema) -> list[int]:
    """Which columns are read: the model's; all for a model that takes an array, or of which nothing is known."""
    for name in {*names} if schema.is_tensor or not schema.is_known else schema.by_name:
        if names.count(name) > 1:
            said = f"The data has column {name!r}" if name in schema.by_name else "The data has a column"
            raise DataError(f"{said} more than once.", schema.hint())
    if schema.is_tensor or not schema.is_known:
        return list(range(len(names)))
    if wanted := [index for index, name in enumerate(names) if name in schema.by_name]:
        return wanted
    raise DataError("The data has none of the model's columns.", schema.hint())


def _refuse_rows(n_rows: int, limits: Limits) -> None:
    from nbmlops.serving.protocols.invocations import counted

    counted(n_rows, limits)


def _refuse_nested(schema: Any) -> None:
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_nested(kind) or pa.types.is_run_end_encoded(kind) or isinstance(kind, pa.BaseExtensionType):
            raise DataError("The data has a column of a nested type.", "Send columns of plain values.")


def _is_text(kind: Any) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


def _joined(chunks: Sequence[Any], limits: Limits) -> np.ndarray:
    arrays = [_numpy(chunk, limits) for chunk in chunks]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _numpy(array: Any, limits: Limits) -> np.ndarray:
    """Convert one column as pandas does: numbers with nulls become floats, text becomes Python's, null NaN.

    Straight from its buffers where it can be: pyarrow's own `to_numpy` imports pandas.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        values = np.append(_numpy(array.dictionary, limits).astype(object), np.nan)
        indices = _numbers(array.indices, array.indices.type).astype(np.int64)
        return np.asarray(values[np.where(_is_valid(array.indices), indices, -1)])
    if pa.types.is_temporal(kind):
        return _times(array)
    if kind in _NUMBERS or pa.types.is_boolean(kind):
        return _with_nulls(_numbers(array, kind), array)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        _refuse_repeated(array, limits)
    elif not (_is_text(kind)):
        raise DataError("The data has a column of a type that is not taken.", "Send numbers, text, truths or times.")
    values = np.empty(len(array), object)
    values[:] = [np.nan if value is None else value for value in array.to_pylist()]
    return values


def _numbers(array: Any, kind: Any) -> np.ndarray:
    """View a column's numbers, or unpack its truths; what stands for null is not defined."""
    data, start, end = array.buffers()[1], array.offset, array.offset + len(array)
    if kind in _NUMBERS:
        return np.frombuffer(data or b"", _NUMBERS[kind])[start:end]
    return np.unpackbits(np.frombuffer(data or b"", np.uint8), bitorder="little")[start:end].astype(bool)


def _is_valid(array: Any) -> np.ndarray:
    if array.null_count == 0 or array.buffers()[0] is None:
        return np.ones(len(array), bool)
    bits = np.unpackbits(np.frombuffer(array.buffers()[0], np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(bool)


def _with_nulls(values: np.ndarray, array: Any) -> np.ndarray:
    if array.null_count == 0:
        return values
    if values.dtype.kind == "f":
        return np.where(_is_valid(array), values, values.dtype.type(np.nan))
    return np.where(_is_valid(array), values.astype(object if values.dtype.kind == "b" else float), np.nan)


def _times(array: Any) -> np.ndarray:
    if getattr(array.type, "tz", None) or not (pa.types.is_timestamp(array.type) or pa.types.is_date(array.type)):
        raise DataError(
            "The data has times with a time zone, or of a type that is not taken.", "Send timestamps in UTC."
        )
    moments = _numbers(array.cast(pa.timestamp("ns")), pa.int64()).view("datetime64[ns]")
    return np.where(_is_valid(array), moments, np.datetime64("NaT", "ns"))


def _refuse_repeated(array: Any, limits: Limits) -> None:
    """Refuse views that stand for much more text than there is: many rows can be views of one long text."""
    lengths = np.frombuffer(array.buffers()[1], np.int32)[4 * array.offset : 4 * (array.offset + len(array)) : 4]
    if lengths.sum(dtype=np.int64) > _MAX_GROWTH * limits.max_body_bytes:
        raise DataError("The text in the data is too large when it is unpacked.", "Send fewer rows.")


def _as_matrix(columns: dict[Any, np.ndarray], schema: Schema) -> dict[Any, np.ndarray]:
    """Put columns side by side for a model that takes an array without names."""
    if any(values.dtype.kind not in "biuf" for values in columns.values()):
        raise DataError("The data has columns that are no numbers.", schema.hint())
    matrix = np.column_stack(list(columns.values()))
    return {UNNAMED: matrix if schema.columns[0].width else matrix[:, 0] if matrix.shape[1] == 1 else matrix}


# ------------------------------------------------------------------------- is it compressed? pyarrow cannot be asked
def _refuse_compressed(body: bytes) -> None:
    for message in ipc.MessageReader.open_stream(pa.py_buffer(body)):
        if message.type == "schema":
            continue
        metadata = bytes(message.metadata)
        header = _field(metadata, struct.unpack_from("<I", metadata)[0], 2)
        batch = header and _at(metadata, header)
        if message.type == "dictionary":
            inner = _field(metadata, batch, 1)
            batch = inner and _at(metadata, inner)
        if batch and _field(metadata, batch, 3):
            raise DataError("The Arrow stream is compressed.", "Send it without compression.")


def _field(metadata: bytes, table: int, index: int) -> int:
    """Find where field `index` of a FlatBuffers table stands; 0 if it has no such field."""
    entries = table - struct.unpack_from("<i", metadata, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", metadata, entries)[0]:
        return 0
    offset = struct.unpack_from("<H", metadata, entries + 4 + 2 * index)[0]
    return table + offset if offset else 0


def _at(metadata: bytes, field: int) -> int:
    return field + int(struct.unpack_from("<I", metadata, field)[0])
