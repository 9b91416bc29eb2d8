"""References and conditions: what is read, what keeps its type, and that nothing is evaluated."""

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.errors import UsageError
from nbmlops.pipelines.flow.conditions import condition, judged
from nbmlops.pipelines.flow.references import Reference, filled, found, parsed, references_in, whole

RESULTS: dict[str, Any] = {
    "train": {"auc": 0.81, "kind": "boosting", "n": 3, "ok": True, "none": None, "deep": {"er": [1, 2]}},
    "sweep": [{"auc": 0.7}, {"auc": 0.8}],
}


def look_up(reference: Reference) -> Any:
    return found(reference, RESULTS)


# ---------------------------------------------------------------- references
@pytest.mark.parametrize("value", [3, 0.5, True, None, [1, "x"], {"a": 1}, "text ${other.step}"])
def test_a_whole_reference_keeps_its_type_and_is_not_read_again(value: Any) -> None:
    got = filled("${a.b}", lambda _: value)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("AUC ${train.auc}", "AUC 0.81"),
        ("${train.kind}${train.n}", "boosting3"),
        ("${train.ok} ${train.none}", "true null"),
        ("${train.deep.er}", [1, 2]),
        ("${ train.n }", 3),
        ("$${train.auc}", "${train.auc}"),
        ("cost $5, ${train.n} $", "cost $5, 3 $"),
        ("${sweep.auc}", [0.7, 0.8]),
        ("best of ${sweep.auc}", "best of [0.7, 0.8]"),
    ],
)
def test_references_are_put_in(text: str, result: Any) -> None:
    assert filled(text, look_up) == result


def test_references_in_lists_and_tables_are_found_and_put_in_but_names_stay() -> None:
    value = {"a": ["${train.n}", {"b": "${train.kind}"}], "${train.n}": 1}
    assert [str(each) for each in references_in(value)] == ["${train.n}", "${train.kind}"]
    assert filled(value, look_up) == {"a": [3, {"b": "boosting"}], "${train.n}": 1}


@pytest.mark.parametrize(
    "text", ["${}", "${a}", "${a.}", "${.a}", "${a b.c}", "${a.b", "${a.${b.c}}", "${1.a}", "${a.b()}"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no reference"):
        parsed(text)


def test_a_missing_result_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="train has no 'auk'") as caught:
        look_up(Reference("train", ("auk",)))
    assert caught.value.hint == "Did you mean auc?"
    with pytest.raises(UsageError, match=r"train\.deep has no 'x'"):
        look_up(Reference("train", ("deep", "x")))


@given(st.text())
def test_any_text_can_be_written_so_that_it_stands_for_itself(text: str) -> None:
    assert filled(text.replace("${", "$${"), look_up) == text


@given(st.text(alphabet="${}a.b "))
def test_a_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        parts = parsed(text)
    except UsageError:
        return
    assert (whole(text) is not None) == (len(parts) == 1 and isinstance(parts[0], Reference))


# ---------------------------------------------------------------- conditions
@pytest.mark.parametrize(
    ("text", "is_true"),
    [
        ("${train.auc} > 0.8", True),
        ("0.5 < ${train.auc} <= 0.8", False),
        ("${train.kind} == 'boosting' and not ${train.n} == 4", True),
        ("${train.kind} in ['linear', 'boosting']", True),
        ("${train.kind} not in ('linear',)", True),
        ("${train.ok}", True),
        ("${train.ok} == true", True),
        ("${train.none} == none or ${train.none} == None", True),
        ("not (${train.n} > 1 or ${train.missing} > 1)", False),
        ("0.8 in ${sweep.auc}", True),
        ("${train.n} > -1", True),
        ("(${train.n} > 1) == ${train.ok}", True),
        ("'$${' == '$${'", True),
        ("1 == 1 == 1 != 2", True),
    ],
)
def test_a_condition_is_judged(text: str, is_true: bool) -> None:
    assert judged(condition(text), look_up) is is_true


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x > 1",
        "train > 1",
        "__import__('os')",
        "open('f').read()",
        "${train.n}.__class__",
        "${train.n}[0] == 1",
        "${train.n} + 1 == 4",
        "${train.n} is 3",
        "(lambda: 1)()",
        "[x for x in ${sweep.auc}]",
        "{1: 2}",
        "f'{1}'",
        "${train.n} = 3",
        "a := 1",
        "'${train.kind}' == 'boosting'",
        "'\\x41' == 'A'",
        "1 if true else 2",
        "b'x' == 1",
        "1j == 1",
        "... == 1",
        "1 ==",
        "(" * 300 + "1" + ")" * 300,
        "not " * 900 + "true",
        "1 == 1 and " * 400 + "true",
        "1\n== 1",
    ],
)
def test_whatever_else_is_python_is_no_condition(text: str) -> None:
    with pytest.raises(UsageError, match="is no condition"):
        condition(text)


@pytest.mark.parametrize("text", ["${train.auc} > 'high'", "${train.kind}", "not 'false'", "1", "1 in 2", "none"])
def test_what_is_neither_true_nor_false_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be judged"):
        judged(condition(text), look_up)


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_is_refused(text: str) -> None:
    try:
        parsed_ = condition(text)
    except UsageError:
        return
    allowed = (ast.BoolOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.Name, ast.List, ast.Tuple)
    expressions = [node for node in ast.walk(parsed_.tree) if isinstance(node, ast.expr)]
    assert all(isinstance(node, allowed) for node in expressions)


PYTHON = st.recursive(
    st.sampled_from(["1", "0", "2.5", "'a'", "'b'", "true", "false"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["==", "!=", "and", "or"]), inner)
        | inner.map("(not {})".format)
    ),
    max_leaves=12,
)


@given(PYTHON)
def test_a_condition_means_what_it_means_in_python(text: str) -> None:
    try:
        got = judged(condition(text), look_up)
    except UsageError:
        return
    assert got == eval(text, {}, {"true": True, "false": False})
