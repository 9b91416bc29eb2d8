"""What the server answers: MLflow's forms for valid requests, one error shape for all others. No sockets.

MLflow's own scoring function parses, predicts and writes, so that answers equal
those of ``mlflow models serve``. What it refuses, or cannot cope with, becomes
``{"error": {"type", "message", "hint", "exit_code"}}``, without traceback or path.
"""

import re
from dataclasses import dataclass
from typing import Any

from nbmlops.errors import DataError, NbmlopsError, UsageError
from nbmlops.strict_json import dumps

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_MESSAGE = 400
JSON = "application/json"
FORMS = "dataframe_split, dataframe_records, instances or inputs"
_PATH = re.compile(r"(?<![\w.])(?:/[\w.@+-]+){2,}/?")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = JSON


def answer(model: Any, body: bytes, content_type: str) -> Answer:
    """Score a request's body with a model of MLflow's.

    Parameters
    ----------
    model
        A loaded ``mlflow.pyfunc.PyFuncModel``.
    body, content_type
        As they came; ``application/json``, ``text/csv`` or Parquet.

    Returns
    -------
    Answer
        200 with ``{"predictions": [...]}``; 400 for a body that cannot be read, 415 for
        a content type that is not taken, 422 for rows that do not fit the model.
        A NaN in the body is taken as MLflow takes it: the model decides.

    Raises
    ------
    Exception
        Only what is a bug: the predictions cannot be written as JSON.
    """
    from mlflow.pyfunc.scoring_server import invocations

    watched = Watched(model)
    try:
        given = invocations(body, content_type, watched, watched.metadata.get_input_schema())
    except Exception as exc:
        if watched.refusal:
            return refused(422, DataError(watched.refusal, _columns_hint(watched.metadata)))
        if watched.was_reached:
            raise
        hint = f"Send JSON with one of {FORMS}; or CSV or Parquet with its content type."
        return refused(400, UsageError(f"The body cannot be read: {_reading_error(exc)}", hint))
    if given.status != 200:
        return refused(
            given.status,
            UsageError(brief(given.response), f"Send {JSON}, text/csv or Parquet, in UTF-8."),
        )
    return Answer(200, given.response.encode())


class Watched:
    """A model that remembers whether a request got as far as predicting, and what the model said against it."""

    def __init__(self, model: Any) -> None:
        self.metadata = model.metadata
        self.was_reached = False
        self.refusal = ""
        self._model = model

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Predict; whatever the model raises about these rows is kept as one brief line."""
        self.was_reached = True
        try:
            return self._model.predict(data, params=params)
        except Exception as exc:
            self.refusal = f"The model cannot predict these rows: {_schema_error(exc)}"
            raise


def refused(status: int, error: NbmlopsError) -> Answer:
    """Answer with an error, in the one shape that all errors have."""
    return Answer(status, dumps({"error": error.details()}).encode())


def brief(text: str) -> str:
    """Keep the first line of a foreign message, without paths of this machine, and without MLflow's old news.

    Examples
    --------
    >>> brief("No such file: /home/ann/secret/model.pkl")
    'No such file: …'
    """
    first = (text.strip().splitlines() or [""])[0].partition(" IMPORTANT:")[0]
    return _PATH.sub("…", first)[:MAX_MESSAGE]


def _schema_error(exc: Exception) -> str:
    """Find what MLflow says against the data: at the end, after the data and the schema themselves."""
    return brief(str(exc).rpartition("Error: ")[2]) or type(exc).__name__


def _reading_error(exc: Exception) -> str:
    """Say why a body cannot be read, without repeating it."""
    cause = exc.__cause__ or exc.__context__ or exc
    if RecursionError in (type(exc), type(cause)):
        return "it is nested too deeply."
    return brief(str(cause)) or type(cause).__name__


def _columns_hint(metadata: Any) -> str:
    schema = metadata.get_input_schema()
    if schema is None or not schema.has_input_names():
        return ""
    return f"The model takes {', '.join(str(column) for column in schema.inputs)}."[:MAX_MESSAGE]
