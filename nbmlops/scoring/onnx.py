"""Ensembles of trees in ONNX Runtime, where it is installed, agrees to the last label and is faster than numpy.

That is so for forests of many deep trees; everything else is faster by `bitmasks`. The model is made with
``onnx.helper`` alone: one ``TreeEnsemble`` (ai.onnx.ml 5) with thresholds, figures and leaves in double precision,
on the table of figures that a walk compares, so that what precedes the trees stays numpy's.
A leaf of that operator has one figure: the trees of a forest with many classes stand there once for each.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from nbmlops.errors import UsageError
from nbmlops.scoring.compiled import Compiled, unreadable
from nbmlops.scoring.scorer import Columns, Scorer, program_of
from nbmlops.scoring.trees import Trees
from nbmlops.scoring.walking import Table

_BATCHES: Final = (1, 32)
_REPEATS: Final = 7


def is_installed() -> bool:
    """Tell whether both ``onnx`` and ``onnxruntime`` are there; neither is imported."""
    return bool(find_spec("onnx") and find_spec("onnxruntime"))


def faster_onnx(compiled: Compiled, columns: Columns) -> bytes | None:
    """Make an ONNX model of a compiled ensemble if that is worth it.

    Parameters
    ----------
    compiled
        A compiled model.
    columns
        Rows to compare and to measure on, as `Scorer.predict` takes them.

    Returns
    -------
    bytes or None
        For `with_onnx`; None where ONNX Runtime is not installed, the model is no large ensemble, one label
        differs, or numpy is as fast for one row or for 32.
    """
    scorer = Scorer(compiled)
    if not is_installed() or scorer.path != "walk":
        return None
    model = to_onnx(compiled)
    other = with_onnx(compiled, model)
    if not np.array_equal(scorer.predict(columns), other.predict(columns)):
        return None
    ours, mlas = scorer.scores(columns), other.scores(columns)
    if ours is not None and mlas is not None and not np.allclose(ours, mlas, rtol=0, atol=1e-6):
        return None
    parts = [{name: column[:n_rows] for name, column in columns.items()} for n_rows in _BATCHES]
    return model if all(_seconds(other, part) < _seconds(scorer, part) for part in parts) else None


def _seconds(scorer: Scorer, columns: Columns) -> float:
    def once() -> float:
        started = time.perf_counter()
        scorer.predict(columns)
        return time.perf_counter() - started

    return min(once() for _ in range(_REPEATS))


def to_onnx(compiled: Compiled) -> bytes:
    """Make the ONNX model of a compiled ensemble of trees; needs ``onnx``.

    Raises
    ------
    UsageError
        The model is no ensemble of trees, or ``onnx`` is not installed.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError as exc:
        raise UsageError("onnx is not installed.", "Install nbmlops[onnx].") from exc
    trees, table = _laid_out(compiled)
    node = helper.make_node(
        "TreeEnsemble",
        ["table"],
        ["raw"],
        domain="ai.onnx.ml",
        n_targets=trees.n_outputs,
        aggregate_function=1,
        post_transform=0,
        **_attributes(trees, table, lambda values, kind: _tensor(helper, TensorProto, values, kind)),
    )
    given = helper.make_tensor_value_info("table", TensorProto.DOUBLE, [None, table.n_columns])
    raw = helper.make_tensor_value_info("raw", TensorProto.DOUBLE, [None, trees.n_outputs])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)]
    model = helper.make_model(helper.make_graph([node], "trees", [given], [raw]), opset_imports=opsets, ir_version=10)
    return bytes(model.SerializeToString())


def _laid_out(compiled: Compiled) -> tuple[Trees, Table]:
    if compiled.head["kind"] != "trees":
        raise UsageError("Only ensembles of trees become ONNX models.")
    program = program_of(compiled)
    trees = Trees.of(compiled.head, program.n_features)
    return trees, Table.of(trees, program)


def _tensor(helper: Any, types: Any, values: np.ndarray, kind: str) -> Any:
    return helper.make_tensor(kind, getattr(types, kind), [len(values)], values)


def _attributes(trees: Trees, table: Table, tensor: Callable[[np.ndarray, str], Any]) -> dict[str, Any]:
    """Lay out nodes and leaves as the operator wants them, the whole once for each figure of a leaf.

    A tree that is a single leaf becomes a node with that leaf on both sides.
    """
    n_copies, lone = trees.values.shape[1], np.flatnonzero(trees.roots < 0)
    left = np.concatenate([trees.left, trees.roots[lone]]).astype(np.int64)
    right = np.concatenate([trees.right, trees.roots[lone]]).astype(np.int64)
    n_nodes, n_leaves = len(left), len(trees.values)
    roots = trees.roots.astype(np.int64)
    roots[lone] = np.arange(n_nodes - len(lone), n_nodes)
    shifts = np.arange(n_copies)

    def numbers(child: np.ndarray) -> list[int]:
        moved = [np.where(child < 0, ~child + copy * n_leaves, child + copy * n_nodes) for copy in shifts]
        return _listed(np.concatenate(moved))

    def often(array: np.ndarray) -> np.ndarray:
        return np.tile(np.concatenate([array, np.zeros(len(lone), array.dtype)]), n_copies)

    return {
        "tree_roots": _listed(np.concatenate([roots + copy * n_nodes for copy in shifts])),
        "nodes_featureids": _listed(often(table.column)),
        "nodes_splits": tensor(often(table.threshold), "DOUBLE"),
        "nodes_modes": tensor(np.zeros(n_nodes * n_copies, np.uint8), "UINT8"),  # 0: at most
        "nodes_missing_value_tracks_true": _listed(often(trees.missing_left)),
        "nodes_truenodeids": numbers(left),
        "nodes_falsenodeids": numbers(right),
        "nodes_trueleafs": _listed(np.tile(left < 0, n_copies)),
        "nodes_falseleafs": _listed(np.tile(right < 0, n_copies)),
        "leaf_targetids": _listed(_targets(trees, n_copies)),
        "leaf_weights": tensor(trees.values.T.ravel(), "DOUBLE"),
    }


def _listed(array: np.ndarray) -> list[int]:
    return [int(number) for number in array.tolist()]


def _targets(trees: Trees, n_copies: int) -> np.ndarray:
    """Tell to which output each leaf adds."""
    if n_copies > 1:
        return np.repeat(np.arange(n_copies), len(trees.values))
    n_leaves = np.diff(trees.leaf_starts())
    return np.repeat(np.arange(len(n_leaves)) % trees.n_classes_a_round, n_leaves)


def with_onnx(compiled: Compiled, model: bytes) -> Scorer:
    """Give a scorer whose trees are ONNX Runtime's; needs ``onnxruntime``, not ``onnx``.

    Parameters
    ----------
    compiled
        The compiled model that `model` was made from.
    model
        What `to_onnx` made. ONNX Runtime reads it: only bytes of known origin should come here.

    Raises
    ------
    UsageError
        ``onnxruntime`` is not installed.
    Unreadable
        It is no ONNX model, or not of this compiled model.
    """
    return Scorer(compiled, lambda trees, program: OnnxTrees.of(Table.of(trees, program), model))


@dataclass(frozen=True, eq=False)
class OnnxTrees:
    """A session of ONNX Runtime, on the table of a walk; one thread, as each worker has one core."""

    table: Table
    session: Any

    @classmethod
    def of(cls, table: Table, model: bytes) -> "OnnxTrees":
        """Open a session."""
        try:
            import onnxruntime
        except ImportError as exc:
            raise UsageError("onnxruntime is not installed.", "Install nbmlops[onnx].") from exc
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # onnxruntime's own errors have no common parent but this
            raise unreadable("ONNX Runtime does not read it") from exc
        if [tuple(given.shape)[1:] for given in session.get_inputs()] != [(table.n_columns,)]:
            raise unreadable("its ONNX model was made from another")
        return cls(table, session)

    def raw(self, blocks: Sequence[np.ndarray], codes: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
        """Sum the trees' values, (n_outputs, n_rows)."""
        table = self.table.filled(blocks, codes, slice(0, n_rows))
        return np.asarray(self.session.run(None, {"table": table})[0]).T
