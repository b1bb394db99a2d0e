"""The result as numbers, JSON, Prometheus text and page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.features.audit_metrics import prometheus_text
from zeroskew.features.audit_result import AuditResult, Example, FeatureCounts, Period, wilson
from zeroskew.steps.audit_page import MEANING, audit_page

HOSTILE = '<script>"x"</script>'
RESULT = AuditResult(
    model="rides", service="rides", schema_version="ab" * 32, versions=("1",), roles=("champion",),
    since=None, until="2024-03-02T00:00:00+00:00", by="answered_at", fraction=1.0, rows=1000,
    different=12,
    features=(
        FeatureCounts(
            "rating", "float64", "drivers", 988, 9, 3, 0,
            {"mismatch": {"stale_materialisation": 7, "late_data": 2}, "missing": {"late_data": 3}},
        ),
        FeatureCounts("trips", "int64", "drivers", 1000, 0, 0, 0, {}),
    ),
    examples=(
        Example(
            "rating", "mismatch", "late_data", "created later", 4.1, 4.1000000000000005, HOSTILE, 0,
            "2024-03-01T12:00:00+00:00", "2024-03-01T12:00:00.004+00:00",
            {"driver": 3, "shop": HOSTILE}, "1", "champion", 3600.5,
        ),
    ),
    periods=(
        Period("2024-03-01T11:00:00+00:00", 400, 0), Period("2024-03-01T12:00:00+00:00", 600, 12),
    ),
    period="hour", not_audited={"name": "redacted in the log"}, tolerances={},
    audited_at="2024-03-02T01:00:00+00:00", seconds=1.25,
)  # fmt: skip
EMPTY = replace(RESULT, rows=0, different=0, features=(), examples=(), periods=(), versions=())


def test_json_brings_back_the_same():
    for result in (RESULT, EMPTY):
        raw = json.loads(json.dumps(result.to_json(), allow_nan=False))
        assert AuditResult.from_json(raw) == result
    with pytest.raises(ValueError, match="format"):
        AuditResult.from_json({**RESULT.to_json(), "format": 99})


def test_numbers_and_exit_codes():
    assert RESULT.rate == 0.012
    assert RESULT.by_cause == {"stale_materialisation": 7, "late_data": 5}
    assert RESULT.features[0].by_cause == {"stale_materialisation": 7, "late_data": 5}
    assert [RESULT.exit_code(limit) for limit in (0.0, 0.0119, 0.012)] == [3, 3, 0]
    assert EMPTY.exit_code() == 4
    assert math.isnan(EMPTY.rate)


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_solves_the_equation_that_it_is_named_after(hits, more):
    """Wilson: the bounds are the shares p for which |hits/n - p| = z · sqrt(p(1 - p)/n)."""
    total = hits + more
    low, high = wilson(hits, total)
    share, z = hits / total, 1.959963984540054
    assert 0 <= low <= share <= high <= 1
    for bound in {low, high} - {0.0, 1.0}:
        side = z * math.sqrt(bound * (1 - bound) / total)
        assert abs(share - bound) == pytest.approx(side, rel=1e-6, abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)


def test_prometheus_reads_every_line():
    text = prometheus_text(replace(RESULT, model='a"b\\c'))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pattern = r'zeroskew_audit_\w+\{(\w+="(\\.|[^"\\])*",?)+\} -?[\d.e+-]+'
    assert all(re.fullmatch(pattern, line) for line in lines), lines
    assert (
        'zeroskew_audit_differences{model="a\\"b\\\\c",feature="rating",outcome="missing",'
        'cause="late_data"} 3.0'
    ) in lines
    assert 'zeroskew_audit_mismatch_ratio{model="a\\"b\\\\c"} 0.012' in lines
    assert "mismatch_ratio" not in prometheus_text(EMPTY)


def test_the_page_says_all_of_it_and_runs_none_of_it():
    html = audit_page(RESULT)
    assert "<script>" not in html
    for text in (
        "skewed",
        "12",
        "stale materialisation",
        "4.1000000000000005",
        "redacted in the log",
    ):
        assert text in html
    assert "consistent" in audit_page(RESULT, 0.5)
    assert "no rows" in audit_page(EMPTY)


def test_every_cause_is_explained():
    from zeroskew.features.audit_causes import CAUSES

    assert set(MEANING) == set(CAUSES)
