"""Counters in the form that Prometheus takes for a histogram."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.serving.measures import Histogram, Measures


@given(st.lists(st.floats(0, 10), max_size=50))
def test_buckets_are_cumulative_and_complete(values):
    histogram = Histogram((0.5, 1, 2))
    for value in values:
        histogram.add(value)
    samples = {(family, labels): value for family, labels, value in histogram.samples("h")}
    for bound, text in ((0.5, "0.5"), (1, "1"), (2, "2"), (float("inf"), "+Inf")):
        assert samples[("h_bucket", (("le", text),))] == sum(v <= bound for v in values)
    assert samples[("h_count", ())] == len(values)
    assert abs(samples[("h_sum", ())] - sum(values)) < 1e-6


def test_ages_of_what_was_served():
    measures = Measures((), ("fresh", "nothing"))
    nothing = np.iinfo(np.int64).min
    asked = np.array([10_000_000, 20_000_000])
    measures.ages(asked, np.array([[9_000_000, 15_000_000], [nothing, nothing]]))
    for _ in range(2):
        found = {(family, labels): value for family, labels, value in measures.samples()}
        age = "zeroskew_feature_age_seconds"
        assert found[(f"{age}_sum", (("view", "fresh"),))] == 6.0
        assert found[(f"{age}_count", (("view", "fresh"),))] == 2
        assert found[(f"{age}_count", (("view", "nothing"),))] == 0


def test_absent_values_are_counted_by_feature_and_status():
    measures = Measures(("a", "b"))
    for _ in range(2):
        measures.batch(
            3, {"lookup": 0.001, "total": 0.002}, np.array([[0, 1, 0], [2, 2, 2]], np.uint8)
        )
    measures.outcome("answered", 2)
    found = {(family, labels): value for family, labels, value in measures.samples()}
    absent = "zeroskew_absent_values_total"
    assert found[(absent, (("feature", "a"), ("status", "missing")))] == 2
    assert found[(absent, (("feature", "b"), ("status", "stale")))] == 6
    assert (absent, (("feature", "a"), ("status", "stale"))) not in found
    assert found[("zeroskew_requests_total", (("outcome", "answered"),))] == 2
    assert found[("zeroskew_batch_rows_sum", ())] == 6
