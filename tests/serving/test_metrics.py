"""Counts in Prometheus' format, as Prometheus' own client reads them."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nbmlops.serving.bins import latency_bin
from nbmlops.serving.counters import Counters, read
from nbmlops.serving.metrics import exposition
from nbmlops.serving.window import Window

Sample = tuple[str, frozenset[tuple[str, str]]]


def parsed(text: str) -> dict[Sample, float]:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series is told twice"
    return found


def key(name: str, **labels: str) -> Sample:
    return name, frozenset(({"endpoint": "delays", "version": "3"} | labels).items())


def test_what_was_counted_is_exposed(tmp_path: Path) -> None:
    counters = Counters.open(tmp_path / "counters-0")
    tally = counters.tally("3")
    for latency_s in (0.0004, 0.004, 0.04, 0.4, 40.0):
        tally.began()
        tally.answered(latency_s, n_rows=2)
    tally.began()
    tally.failed(0.04)
    tally.began()
    tally.refused()
    tally.began()
    tally.predicted(["late", "late", "early"])
    tally.compared([1.0, 2.0], [1.0, 2.5])
    counters.close()
    found = parsed(exposition("delays", read(tmp_path / "counters-0"), {"3": 12.5}))
    expected = {
        "nbmlops_requests_total": 6,
        "nbmlops_rows_total": 11,
        "nbmlops_errors_total": 1,
        "nbmlops_refusals_total": 1,
        "nbmlops_in_flight": 1,
        "nbmlops_weight_percent": 12.5,
        "nbmlops_shadow_compared_total": 2,
        "nbmlops_shadow_differing_total": 1,
        "nbmlops_shadow_difference_total": 0.5,
        "nbmlops_latency_seconds_count": 6,
    }
    assert {name: found[key(name)] for name in expected} == expected
    assert found[key("nbmlops_latency_seconds_sum")] == pytest.approx(40.4844)
    assert found[key("nbmlops_predictions_total", value="late")] == 2


def test_refusals_are_exposed_by_status() -> None:
    found = parsed(exposition("delays", {}, refusals={429: 7, 401: 1}))
    name = "nbmlops_refused_total"
    assert found == {
        (name, frozenset({("endpoint", "delays"), ("code", "401")})): 1,
        (name, frozenset({("endpoint", "delays"), ("code", "429")})): 7,
    }


def test_buckets_rise_to_the_count_at_round_bounds() -> None:
    latencies = {latency_bin(0.0101): 1, latency_bin(0.0099): 2, latency_bin(60.0): 4}
    found = parsed(exposition("delays", {"3": Window(n_requests=7, latencies=latencies)}))
    buckets = {
        float(dict(labels)["le"]): value for (name, labels), value in found.items() if name.endswith("_seconds_bucket")
    }
    assert (buckets[0.005], buckets[0.01], buckets[0.025], buckets[10.0], buckets[float("inf")]) == (0, 2, 3, 3, 7)
    assert sorted(buckets.values()) == [buckets[bound] for bound in sorted(buckets)]


@pytest.mark.parametrize("hostile", ['a"b', "a\\b", "a\nb 1", 'x"} 1\n# TYPE evil counter', "", "(other)", "é\r"])
def test_labels_are_told_as_they_are(hostile: str) -> None:
    window = Window(labels={hostile: 3}, others={5: 4})
    found = parsed(exposition(hostile, {hostile: window}))
    labels = {"endpoint": hostile, "version": hostile}
    values = {
        dict(given)["value"]: value for (name, given), value in found.items() if name == "nbmlops_predictions_total"
    }
    assert values == ({"(other)": 7} if hostile == "(other)" else {hostile: 3, "(other)": 4})
    assert ("nbmlops_requests_total", frozenset(labels.items())) in found
    assert not any("evil" in name for name, _ in found)


def test_an_endpoint_without_counts_is_empty() -> None:
    assert parsed(exposition("delays", {})) == {}


def test_every_family_says_what_it_is() -> None:
    families = list(text_string_to_metric_families(exposition("delays", {"2": Window(), "3": Window()})))
    assert all(family.documentation and family.type != "unknown" for family in families)
