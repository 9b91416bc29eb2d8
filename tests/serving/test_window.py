"""Windows of counts: added, taken off, written and read."""

from hypothesis import given
from hypothesis import strategies as st

from nbmlops.serving.window import Window


def test_counts_that_began_anew_are_taken_as_they_are() -> None:
    assert Window(n_requests=3).minus(Window(n_requests=10)).n_requests == 3


some_counts = st.dictionaries(st.integers(0, 60), st.integers(1, 10**6), max_size=4)
windows = st.builds(
    Window,
    n_requests=st.integers(0, 10**9),
    n_errors=st.integers(0, 9),
    n_in_flight=st.just(0),
    latencies=some_counts,
    numbers=some_counts,
    labels=st.dictionaries(st.text(max_size=5), st.integers(1, 9), max_size=3),
)


@given(windows, windows)
def test_what_was_added_is_taken_off_again(one: Window, other: Window) -> None:
    assert one.plus(other) == other.plus(one)
    assert one.plus(other).minus(other) == one
    assert Window.of(one.record()) == one
