"""An endpoint's counts in Prometheus' text format. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping

from nbmlops.serving.window import Window

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OTHER = "(other)"  # labels beyond those that are counted by name

Value = Callable[[Window], float]
_COUNTERS: dict[str, tuple[str, Value]] = {
    "nbmlops_requests": ("Requests answered or failed; those refused are apart.", lambda window: window.n_requests),
    "nbmlops_rows": ("Rows in these requests.", lambda window: window.n_rows),
    "nbmlops_errors": ("Requests that the server or the model failed.", lambda window: window.n_errors),
    "nbmlops_refusals": ("Requests refused for a fault of their caller.", lambda window: window.n_refused),
    "nbmlops_shadow_compared": ("Shadow answers held against the champion's.", lambda window: window.n_compared),
    "nbmlops_shadow_differing": ("Of these, the ones that differed.", lambda window: window.n_differing),
    "nbmlops_shadow_difference": ("Their absolute differences, summed.", lambda window: window.difference_sum),
}


def exposition(
    endpoint: str,
    windows: Mapping[str, Window],
    weights: Mapping[str, float] | None = None,
    refusals: Mapping[int, int] | None = None,
) -> str:
    r"""Word all counts of an endpoint, by variant; each family has ``endpoint`` and ``version`` as labels.

    That of refusals has ``code`` in place of the version: most of them are made before a version is asked.

    Parameters
    ----------
    endpoint
        Its name.
    windows
        What was counted of each variant, of all workers together.
    weights
        Each variant's percent of the traffic, when it is known.
    refusals
        How many requests were answered with an error, by its status.

    Examples
    --------
    >>> print("\n".join(exposition("delays", {"3": Window(n_requests=7)}).splitlines()[:3]))
    # HELP nbmlops_requests_total Requests answered or failed; those refused are apart.
    # TYPE nbmlops_requests_total counter
    nbmlops_requests_total{endpoint="delays",version="3"} 7
    """
    marked = {_labels(endpoint=endpoint, version=label): window for label, window in sorted(windows.items())}
    lines: list[str] = []
    for name, (text, value) in _COUNTERS.items():
        lines += _family(f"{name}_total", "counter", text, ((labels, value(one)) for labels, one in marked.items()))
    lines += _family(
        "nbmlops_in_flight", "gauge", "Requests begun and not ended.", ((k, w.n_in_flight) for k, w in marked.items())
    )
    by_code = ((_labels(endpoint=endpoint, code=str(code)), n) for code, n in sorted((refusals or {}).items()))
    lines += _family("nbmlops_refused_total", "counter", "Requests answered with an error, by its status.", by_code)
    shares = ((_labels(endpoint=endpoint, version=label), share) for label, share in sorted((weights or {}).items()))
    lines += _family("nbmlops_weight_percent", "gauge", "Share of the traffic.", shares)
    lines += _family("nbmlops_predictions_total", "counter", "Labels predicted.", _predictions(endpoint, windows))
    return "\n".join([*lines, *_latencies(marked), ""])


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    worded = [f"{name}{{{labels}}} {_number(value)}" for labels, value in samples]
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *worded] if worded else []


def _latencies(marked: Mapping[str, Window]) -> list[str]:
    name = "nbmlops_latency_seconds"
    lines = []
    for labels, window in marked.items():
        n = sum(window.latencies.values())
        buckets = [(f"{bound:g}", n - window.n_slower(bound)) for bound in BOUNDS_S]
        lines += [f'{name}_bucket{{{labels},le="{bound}"}} {count}' for bound, count in (*buckets, ("+Inf", n))]
        lines += [f"{name}_sum{{{labels}}} {_number(window.latency_sum_s)}", f"{name}_count{{{labels}}} {n}"]
    return [f"# HELP {name} From a request to its answer.", f"# TYPE {name} histogram", *lines] if lines else []


def _predictions(endpoint: str, windows: Mapping[str, Window]) -> Iterable[tuple[str, float]]:
    for version, window in sorted(windows.items()):
        counts = dict(window.labels)
        if window.others:
            counts[OTHER] = counts.get(OTHER, 0) + sum(window.others.values())
        for value, count in counts.items():
            yield _labels(endpoint=endpoint, version=version, value=value), count


def _labels(**given: str) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in given.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(float(value))
