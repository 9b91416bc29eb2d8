"""What cells send made into notebooks: outputs' rules, masks, logs cut anywhere, strict JSON, cost."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbmlops.pipelines.execution import record as record_of
from nbmlops.pipelines.execution.masked import HELD, Masked
from nbmlops.pipelines.execution.outputs import WIDGETS, Outputs
from nbmlops.pipelines.execution.record import Log, Record, recover, write
from nbmlops.scrub import MASK, masking

from .conftest import as_notebook

Event = dict[str, Any]


def output(kind: str, cell: int = 1, **content: Any) -> Event:
    return {"event": "output", "cell": cell, "kind": kind, "content": content}


def printed(text: str, name: str = "stdout", cell: int = 1) -> Event:
    return output("stream", cell, name=name, text=text)


def shown(text: Any, display_id: str = "", kind: str = "display_data", cell: int = 1) -> Event:
    transient = {"display_id": display_id} if display_id else {}
    return output(kind, cell, data={"text/plain": text}, metadata={}, transient=transient)


def began(cell: int) -> Event:
    return {"event": "cell", "cell": cell, "status": "running", "at": 1e9}


def ended(cell: int, status: str = "ok", count: int | None = 1) -> Event:
    return {"event": "cell", "cell": cell, "status": status, "count": count, "seconds": 0.5, "at": 1e9}


def outputs_of(*events: Event, n_cells: int = 2) -> list[list[dict[str, Any]]]:
    cells: list[dict[str, Any]] = [{"cell_type": "code", "outputs": []} for _ in range(n_cells)]
    outputs = Outputs(cells)
    for event in events:
        outputs.take(event["cell"], event["kind"], event["content"])
    outputs.settle()
    return [cell["outputs"] for cell in cells]


def texts(*events: Event) -> list[str]:
    """Give the texts that cell 1 shows after events."""
    return [each.get("text") or each["data"]["text/plain"] for each in outputs_of(*events)[1]]


def widget(kind: str, comm_id: str, **state: Any) -> Event:
    return output(kind, comm_id=comm_id, data={"method": "update", "state": state})


# --------------------------------------------------------------------------- outputs
def test_pieces_of_a_stream_are_one_output_and_streams_keep_their_turns() -> None:
    assert texts(printed("a"), printed("b\n"), printed("c", "stderr"), printed("d")) == ["ab\n", "c", "d"]


def test_an_output_that_is_cleared_goes_at_once_or_with_the_next() -> None:
    clear = output("clear_output", wait=False)
    wait = output("clear_output", wait=True)
    assert texts(printed("a"), clear) == []
    assert texts(printed("a"), wait) == ["a"]
    assert texts(printed("a"), wait, printed("b")) == ["b"]
    assert texts(printed("a"), wait, shown("b"), shown("c")) == ["b", "c"]
    assert texts(printed("a"), wait, clear, printed("b")) == ["b"]


def test_a_display_is_updated_wherever_it_stands() -> None:
    first, second = shown("1", "bar", cell=0), shown("1", "bar", cell=1)
    update = shown("2", "bar", kind="update_display_data", cell=1)
    other = shown("3", "none", kind="update_display_data", cell=1)
    found = outputs_of(first, second, shown("x"), update, other)
    assert [[each["data"]["text/plain"] for each in cell] for cell in found] == [["2"], ["2", "x"]]
    assert all("transient" not in each for cell in found for each in cell)


def test_a_line_shows_what_stands_behind_its_last_carriage_return() -> None:
    assert texts(printed("1/2\r"), printed("2/2"), printed("\nend\r\n"), printed("twice\r\r\n")) == [
        "2/2\nend\r\ntwice\r\r\n"
    ]


def test_an_output_widget_takes_what_is_shown_inside_it() -> None:
    opened = widget("comm_open", "w", _model_name="OutputModel", _model_module="m", outputs=[])
    inside = (widget("comm_msg", "w", msg_id="1"), printed("inside"), widget("comm_msg", "w", msg_id=""))
    cells: list[dict[str, Any]] = [{"cell_type": "code", "outputs": []} for _ in range(2)]
    outputs = Outputs(cells)
    for event in (opened, *inside, printed("outside")):
        outputs.take(event["cell"], event["kind"], event["content"])
    outputs.settle()
    assert [each["text"] for each in cells[1]["outputs"]] == ["outside"]
    state = outputs.widgets()[WIDGETS]["state"]["w"]["state"]
    assert [each["text"] for each in state["outputs"]] == ["inside"]


def test_the_state_of_widgets_is_their_last_with_its_buffers() -> None:
    record = Record(as_notebook("1"))
    opened = widget("comm_open", "w", _model_name="IntSliderModel", _model_module="m", value=1)
    update = widget("comm_msg", "w", value=2)
    update["content"] |= {"buffers": ["aGk="]}
    update["content"]["data"]["buffer_paths"] = [["image"]]
    stray = widget("comm_msg", "nobody", value=3)
    for event in (opened, update, stray):
        record.take(event)
    states = record.settled()["metadata"]["widgets"][WIDGETS]["state"]
    assert list(states) == ["w"]
    assert (states["w"]["model_name"], states["w"]["state"]["value"]) == ("IntSliderModel", 2)
    assert states["w"]["buffers"] == [{"data": "aGk=", "encoding": "base64", "path": ["image"]}]


def test_what_no_notebook_may_hold_is_made_fit_for_one() -> None:
    odd = output(
        "display_data",
        data={"text/plain": 5, "text/html": ["<b>", "</b>"], "application/json": {"a": None}, "image/png": None},
        metadata=None,
    )
    result = output("execute_result", data=None, metadata={}, execution_count="x")
    error = output("error", ename=None, evalue=3, traceback="at once")
    record = Record(as_notebook("1"))
    for event in (began(1), odd, result, error, ended(1)):
        record.take(event)
    content = record.settled()
    nbformat.validate(content)
    data = content["cells"][1]["outputs"][0]["data"]
    assert data == {"text/plain": "5", "text/html": "<b></b>", "application/json": {"a": None}, "image/png": ""}


# ------------------------------------------------------------------------------ files
def strict_json(path: Path) -> Any:
    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_a_notebook_is_strict_json_whatever_its_outputs_hold(tmp_path: Path) -> None:
    record = Record(as_notebook("1"))
    data = {"application/json": [float("nan"), {"x": float("-inf")}], "text/plain": "\ud800 and \x00"}
    for event in (
        began(1),
        output("display_data", data=data, metadata={"x": float("inf")}),
        printed("\udcff\n"),
        ended(1),
    ):
        record.take(event)
    write(record.settled(), tmp_path / "out.ipynb")
    content = strict_json(tmp_path / "out.ipynb")
    nbformat.validate(content)
    first, second = content["cells"][1]["outputs"]
    assert (first["data"]["application/json"], first["metadata"]) == ([None, {"x": None}], {"x": None})
    assert (first["data"]["text/plain"], second["text"]) == ("? and \x00", "?\n")


def test_a_blank_cell_takes_no_number_of_the_prompt() -> None:
    record = Record(as_notebook("", "x / 0"))
    for event in (began(1), ended(1, count=None), began(2)):
        record.take(event)
    assert [each["execution_count"] for each in record.settled("killed")["cells"][1:]] == [None, 1]


RUN = (
    began(1),
    printed("one\n"),
    shown("1", "bar"),
    ended(1),
    began(2),
    shown("2", "bar", kind="update_display_data", cell=2),
    printed("two é\n", cell=2),
    output("error", 2, ename="ValueError", evalue="no", traceback=["no"]),
    ended(2, "failed", 2),
    {"event": "end", "status": "failed", "cell": 2, "count": 2},
)


def test_a_log_that_is_cut_at_any_byte_gives_a_valid_notebook_that_is_true(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl", as_notebook("one", "two", "three"), tmp_path / "out.ipynb")
    for event in RUN:
        log.append(event)
    log.close()
    whole = (tmp_path / "log.jsonl").read_bytes()
    first, last = whole.index(b"\n"), set()
    for n_bytes in range(len(whole) + 1):
        (tmp_path / "cut.jsonl").write_bytes(whole[:n_bytes])
        partial = recover(str(tmp_path / "cut.jsonl"))
        if n_bytes < first:
            assert partial is None
            continue
        assert partial == tmp_path / "out.partial.ipynb"
        content = strict_json(partial)
        statuses = [each["metadata"]["papermill"]["status"] for each in content["cells"][1:]]
        heard = list(record_of.events(tmp_path / "cut.jsonl"))
        ends = {each["cell"]: each["status"] for each in heard if each["event"] == "cell"}
        told = {"ok": "completed", "failed": "failed", "running": "failed"}
        assert statuses == [told.get(ends.get(index, ""), "pending") for index in (1, 2, 3)]
        if (state := json.dumps(content)) not in last:
            last.add(state)
            nbformat.validate(content)
    assert len(last) >= 6


def test_bytes_written_grow_with_the_output_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_cells, text = 100, "x" * 99_999 + "\n"
    content = as_notebook(*["print(text)"] * n_cells)
    log = Log(tmp_path / "log.jsonl", content, tmp_path / "out.ipynb")
    record, masked, written = Record(content), Masked(), []
    monkeypatch.setattr(record_of.os, "fsync", lambda fd: written.append(record_of.os.fstat(fd).st_size))
    for cell in range(1, n_cells + 1):
        for event in (began(cell), printed(text, cell=cell), ended(cell)):
            for each in masked.of(event):
                log.append(each)
                record.take(each)
    log.close()
    write(record.settled(), tmp_path / "out.ipynb")
    assert (tmp_path / "log.jsonl").stat().st_size + sum(written) <= 3 * n_cells * len(text)
    assert len(written) == 1


# ------------------------------------------------------------------------------ masks
SECRET = "hunter2-hunter3"


def after_masking(*events: Event) -> str:
    masked = Masked()
    last = {"event": "end", "status": "ok"}
    return json.dumps([each for event in (*events, last) for each in masked.of(event)])


@given(cut=st.integers(0, len(SECRET)), before=st.integers(0, 3 * HELD), behind=st.integers(0, 2 * HELD))
def test_a_secret_in_two_pieces_of_a_line_is_masked(cut: int, before: int, behind: int) -> None:
    with masking([SECRET]):
        pieces = ("." * before + SECRET[:cut], SECRET[cut:] + "." * behind, "more")
        said = after_masking(*map(printed, pieces))
    assert SECRET not in said.replace('"', "")
    assert MASK in said
    whole = "".join(each["content"]["text"] for each in json.loads(said) if each["event"] == "output")
    assert whole == "." * before + MASK + "." * behind + "more"


def test_a_long_line_goes_on_before_it_ends() -> None:
    masked = Masked()
    gone = [each["content"]["text"] for each in masked.of(printed("y" * 10 * HELD))]
    assert [len(each) for each in gone] == [9 * HELD]


def test_a_private_key_in_pieces_is_masked() -> None:
    lines = ["-----BEGIN PRIVATE KEY-----\n", *[f"MIIEvQIBADANBgkqhkiG9w0BAQE{n:03}FAAS\n" for n in range(20)]]
    said = after_masking(
        printed("before\n"), *map(printed, lines), printed("-----END PRIVATE KEY-----\n"), printed("after\n")
    )
    assert "MIIEvQ" not in said
    assert "before" in said
    assert "after" in said


def test_secrets_are_masked_wherever_a_message_holds_them() -> None:
    with masking([SECRET]):
        said = after_masking(
            output(
                "display_data",
                data={"text/html": f"<b>{SECRET}</b>", "application/json": {SECRET: [SECRET]}},
                metadata={"x": SECRET},
            ),
            output("display_data", data={"image/svg+xml": f"<svg>{SECRET}</svg>"}, metadata={}),
            output("error", ename="E", evalue=SECRET, traceback=[f"at {SECRET}"]),
            output("comm_open", comm_id="w", data={"state": {"value": SECRET}}),
            {"event": "end", "status": "failed", "reason": SECRET, "traceback": [SECRET]},
        )
    assert SECRET not in said
    assert said.count(MASK) == 10
