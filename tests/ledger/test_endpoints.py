"""What is wanted of endpoints, forms of models and moves that wait, on a real SQLite and a real Postgres."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from nbmlops.errors import ConflictError, NotFoundError
from nbmlops.ledger.database import Ledger
from nbmlops.ledger.endpoints import CHALLENGER, Endpoints, Parts, Variant, Wanted
from nbmlops.ledger.moves import Move, Moves
from tests.ledger.conftest import intruder

ONE, TWO = Variant("delays", "1", "d1"), Variant("delays", "2", "d2")
LIVE = Wanted("live", "here", (ONE,), follows="delays@champion", port=5001, capture={"rate": 0.5})
TRIED = replace(LIVE, variants=(replace(ONE, weight=90.0), replace(TWO, weight=10.0, role=CHALLENGER)))


@pytest.fixture
def endpoints(ledger: Ledger) -> Endpoints:
    return Endpoints(ledger)


# ------------------------------------------------------------------------ wanted
def test_endpoints_are_wanted_replaced_and_forgotten(open_ledger: Callable[[], Ledger]) -> None:
    first = Endpoints(open_ledger()).want(LIVE)
    Endpoints(open_ledger()).want(replace(LIVE, name="another"))
    assert Endpoints(open_ledger()).wanted() == {"another": replace(first, name="another"), "live": first}
    second = Endpoints(open_ledger()).want(replace(first, variants=TRIED.variants, rollout={"state": "running"}))
    assert (first.revision, second.revision) == (1, 2)
    known = Endpoints(open_ledger()).wanted()["live"]
    assert known == second
    assert (known.champion.version, known.challenger) == ("1", TRIED.variants[1])
    Endpoints(open_ledger()).forget("live")
    assert list(Endpoints(open_ledger()).wanted()) == ["another"]


def test_of_two_who_change_one_endpoint_the_second_is_told(open_ledger: Callable[[], Ledger]) -> None:
    first = Endpoints(open_ledger()).want(LIVE)
    outcomes: list[str] = []

    def change(workers: int, endpoints: Endpoints) -> None:
        try:
            endpoints.want(replace(first, workers=workers))
            outcomes.append(f"wanted {workers}")
        except ConflictError as exc:
            outcomes.append(exc.message)

    both = [threading.Thread(target=change, args=(workers, Endpoints(open_ledger()))) for workers in (2, 3)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    told, done = sorted(outcomes)
    assert told == "The endpoint live was changed by somebody else meanwhile."
    assert done == f"wanted {Endpoints(open_ledger()).wanted()['live'].workers}"


def test_one_that_was_forgotten_meanwhile_does_not_come_back(endpoints: Endpoints) -> None:
    first = endpoints.want(LIVE)
    endpoints.forget("live")
    with pytest.raises(ConflictError):
        endpoints.want(replace(first, workers=2))
    assert endpoints.wanted() == {}


def test_what_is_found_is_kept_beside_what_is_wanted(endpoints: Endpoints) -> None:
    first = endpoints.want(LIVE)
    endpoints.tell("live", {"port": 5001, "pids": [1, 2]})
    endpoints.tell("nobody", {"port": 1})
    assert endpoints.found() == {"live": {"port": 5001, "pids": [1, 2]}}
    assert endpoints.wanted() == {"live": first}
    endpoints.want(first)
    assert endpoints.found() == {"live": {"port": 5001, "pids": [1, 2]}}


# --------------------------------------------------------------------- following
def test_endpoints_that_follow_an_alias_are_pointed_at_its_version(endpoints: Endpoints) -> None:
    for wanted in (
        LIVE,
        replace(LIVE, name="pinned", follows=""),
        replace(LIVE, name="other", follows="fares@champion"),
    ):
        endpoints.want(wanted)
    assert endpoints.point("delays@champion", "2", "d2") == ("live",)
    assert {name: each.champion.version for name, each in endpoints.wanted().items()} == {
        "live": "2",
        "other": "1",
        "pinned": "1",
    }
    assert endpoints.point("delays@champion", "2", "d2") == ()


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_rollout_is_over_where_its_alias_was_moved(endpoints: Endpoints, version: str) -> None:
    endpoints.want(replace(TRIED, rollout={"state": "running", "challenger": "delays/2"}))
    assert endpoints.point("delays@champion", version, f"d{version}") == ("live",)
    after = endpoints.wanted()["live"]
    assert after.variants == (Variant("delays", version, f"d{version}"),)
    assert after.rollout["state"] == "aborted"
    assert after.rollout["reason"] == f"delays@champion is version {version} now"


def test_aborting_leaves_the_champion_alone_and_names_what_was_ended(endpoints: Endpoints) -> None:
    endpoints.want(replace(TRIED, rollout={"state": "running"}))
    endpoints.want(replace(LIVE, name="calm"))
    assert endpoints.abort("delays@champion", "by hand") == ("live",)
    after = endpoints.wanted()["live"]
    assert after.variants == (ONE,)
    assert after.rollout == {"state": "aborted", "reason": "by hand"}
    assert endpoints.abort("delays@champion", "by hand") == ()


# ------------------------------------------------------------------------- forms
def test_a_compiled_form_comes_back_as_it_was_kept(endpoints: Endpoints) -> None:
    kept = endpoints.put_form("d1", {"kind": "compiled"}, Parts(b"\x00data\xff"))
    assert endpoints.form("d1") == kept
    assert endpoints.compiled("d1") == Parts(b"\x00data\xff")
    assert endpoints.put_form("d1", {"kind": "compiled"}, Parts(b"other")) == kept  # the same bytes have one form
    endpoints.put_form("d2", {"kind": "pyfunc"}, None)
    assert endpoints.form("d2") == {"kind": "pyfunc", "sha256": ""}
    with pytest.raises(NotFoundError, match="no compiled form of the model with digest d2"):
        endpoints.compiled("d2")
    assert endpoints.form("unknown") is None


def test_a_compiled_form_that_was_changed_in_the_database_is_refused(
    open_ledger: Callable[[], Ledger], url: str
) -> None:
    Endpoints(open_ledger()).put_form("d1", {"kind": "compiled"}, Parts(b"data"))
    with intruder(url) as connection:
        connection.execute(sa.text("UPDATE nbmlops_forms SET compiled = :other"), {"other": b"evil"})
    with pytest.raises(ConflictError, match="digest d1 is not what was kept"):
        Endpoints(open_ledger()).compiled("d1")
    Endpoints(open_ledger()).put_form("d1", {"kind": "compiled"}, Parts(b"data"))  # registered again
    assert Endpoints(open_ledger()).compiled("d1") == Parts(b"data")


# ------------------------------------------------------------------------- moves
def test_of_moves_that_wait_the_newest_of_each_alias_counts(ledger: Ledger) -> None:
    moves = Moves(ledger)
    moves.put(Move("delays", "champion", "1"))
    moves.put(Move("delays", "shadow", "3"))
    moves.put(Move("delays", "champion", "2"))
    assert moves.waiting() == [Move("delays", "shadow", "3"), Move("delays", "champion", "2")]
    moves.done(Move("delays", "champion", "1"))  # an older one that was told late says nothing of the newest
    moves.overtaken("delays", "shadow")
    assert moves.waiting() == [Move("delays", "champion", "2")]
    moves.done(Move("delays", "champion", "2"))
    assert moves.waiting() == []
