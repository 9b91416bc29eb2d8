"""The bytes of a compiled model: a round trip, and nothing but a clear refusal for anything else."""

import json
import struct

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from nbmlops.errors import NbmlopsError
from nbmlops.scoring.agreement import columns_of
from nbmlops.scoring.compile import compile_model
from nbmlops.scoring.compiled import _HEAD, MARK, Compiled, Unreadable, _digest
from nbmlops.scoring.scorer import Scorer
from tests.scoring.conftest import made_table, made_target


def _columns():
    return ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(), StandardScaler()), ["distance", "single"]),
            ("m", MinMaxScaler(clip=True), ["wind"]),
            ("t", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["dest"]),
            ("o", OrdinalEncoder(), ["carrier"]),
        ]
    )


@pytest.fixture(scope="module", params=["linear", "boosting"])
def compiled(request, table):
    models = {"linear": LogisticRegression(max_iter=300), "boosting": HistGradientBoostingClassifier(max_iter=5)}
    return compile_model(make_pipeline(_columns(), models[request.param]).fit(table, made_target(table, "three")))


def test_what_is_written_is_read(compiled, table):
    data = compiled.to_bytes()
    again = Compiled.from_bytes(data)
    assert again.to_bytes() == data
    assert (again.inputs, again.described, again.library) == (compiled.inputs, compiled.described, compiled.library)
    columns = columns_of(table)
    np.testing.assert_array_equal(Scorer(again).scores(columns), Scorer(compiled).scores(columns))


def test_any_changed_or_lost_byte_is_refused(compiled):
    data, rng = compiled.to_bytes(), np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(Unreadable):
            Compiled.from_bytes(bytes(changed))
    for size in [0, 1, 13, 14, 30, len(MARK) + _HEAD.size, *rng.integers(0, len(data), 50)]:
        with pytest.raises(Unreadable):
            Compiled.from_bytes(data[:size])
    with pytest.raises(Unreadable):
        Compiled.from_bytes(data + b"\0")


def test_another_version_is_named(compiled):
    data = bytearray(compiled.to_bytes())
    data[len(MARK) - 1] = 9
    with pytest.raises(Unreadable, match="version 9, and this is version 1"):
        Compiled.from_bytes(bytes(data))


def _sealed(n_text: int, body: bytes) -> bytes:
    """Give changed bytes a right digest, as someone with bad intent would."""
    return MARK + _HEAD.pack(_digest(n_text, body), n_text) + body


def _tried(data: bytes, columns) -> str:
    try:
        scorer = Scorer(Compiled.from_bytes(data))
    except Unreadable:
        return "refused"
    try:
        scorer.predict(columns)
    except NbmlopsError:
        return "refused rows"
    return "scored"


def test_two_thousand_sealed_mutations_score_or_are_refused(compiled):
    data, rng = compiled.to_bytes(), np.random.default_rng(1)
    columns = columns_of(made_table(n_rows=5))
    start = len(MARK) + _HEAD.size
    (n_text,) = struct.unpack_from("<Q", data, len(MARK) + 32)
    outcomes = []
    for turn in range(1000):
        body = bytearray(data[start:])
        low, high = (0, n_text) if turn % 2 else (n_text, len(body))
        for _ in range(rng.integers(1, 4)):
            body[rng.integers(low, high)] = rng.integers(256)
        outcomes.append(_tried(_sealed(n_text, bytes(body)), columns))
    assert {"refused", "scored"} <= set(outcomes)


def _places(plan, path=()):
    """List every place of a plan."""
    yield path
    inner = plan.items() if isinstance(plan, dict) else enumerate(plan) if isinstance(plan, list) else ()
    for name, part in inner:
        yield from _places(part, (*path, name))


STRANGE = [None, True, -1, 0, 1, 2**70, 1.5, float("nan"), "", "predict", [], {}, [[]], {"array": 0}, {"array": 99}]


def test_plans_with_something_else_in_any_place_score_or_are_refused(compiled):
    data, rng = compiled.to_bytes(), np.random.default_rng(2)
    columns = columns_of(made_table(n_rows=5))
    start = len(MARK) + _HEAD.size
    (n_text,) = struct.unpack_from("<Q", data, len(MARK) + 32)
    text, arrays = data[start : start + n_text], data[start + n_text :]
    places = [place for place in _places(json.loads(text)) if place]
    for turn in range(1000):
        plan = json.loads(text)
        *path, last = places[turn % len(places)]
        part = plan
        for name in path:
            part = part[name]
        part[last] = STRANGE[rng.integers(len(STRANGE))]
        changed = json.dumps(plan).encode()
        _tried(_sealed(len(changed), changed + arrays), columns)


def test_deep_plans_and_impossible_sizes_are_refused():
    for text in (b"[" * 100_000, b'{"a":' * 50_000, b"1", b"null", b'{"arrays":[]}'):
        with pytest.raises(Unreadable):
            Compiled.from_bytes(_sealed(len(text), text))
    plan = dict.fromkeys(Compiled.__dataclass_fields__, "")
    for shape in ([2**40, 2**40], [-1], [2**62], ["x"], [1] * 40):
        text = json.dumps(plan | {"arrays": [["<f8", shape]]}).encode()
        with pytest.raises(Unreadable):
            Compiled.from_bytes(_sealed(len(text), text))
    for dtype in ("|O", "<U9", "|V8", "<f8,<f8"):
        text = json.dumps(plan | {"arrays": [[dtype, [1]]]}).encode()
        with pytest.raises(Unreadable):
            Compiled.from_bytes(_sealed(len(text), text + b"\0" * 64))
