"""A model's page: tells what there is, says what is missing, escapes everything, stays small."""

from __future__ import annotations

import html.parser
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.monitoring.drift_history import DriftHistory, DriftPeriod, FeatureDrift
from zeroskew.monitoring.model_facts import ChampionChange, ModelFacts, VersionFacts
from zeroskew.monitoring.reports import Report
from zeroskew.monitoring.served_profiles import ViewAge
from zeroskew.pages.heat_map import HeatCell, HeatMap, HeatRow
from zeroskew.pages.marks import Chain, Link
from zeroskew.pages.model_drift import by_drift, newly_significant, seconds_text
from zeroskew.pages.model_live import live_lines
from zeroskew.pages.model_page import model_page
from zeroskew.pages.time_charts import TimePoint, band_chart, interval_chart, sparkline, time_ticks
from zeroskew.profiles import Profile, drift
from zeroskew.record import Measure, VersionRecord

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>&'</style></title></svg>"
START = datetime(2026, 3, 1, tzinfo=UTC)
VOID = {"meta", "br", "hr", "img", "link", "input"}
SAFE = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "nav", "a", "p", "h1", "h2",
    "span", "dl", "div", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td", "br",
    "ul", "ol", "li", "b", "i", "details", "summary", "figure", "figcaption", "svg", "desc", "text",
    "line", "rect", "path", "circle", "polygon",
}  # fmt: skip


class Reader(html.parser.HTMLParser):
    """Keeps tags, attributes and text, and insists that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert set(reader.tags) <= SAFE
    names = {name for name, _ in reader.attributes}
    assert not {name for name in names if name.startswith("on")}
    addresses = [value for name, value in reader.attributes if name in ("href", "src")]
    assert all(re.match(r"^(#|https?://|analyses/)", value) for value in addresses)
    return reader


def text_of(page: str) -> str:
    return " ".join(" ".join(read(page).text).split())


def history(names=("amount", "hour"), days=4, version="3", shift=2.0, rows=800, model="m"):
    """The last name drifts by `shift` on the last day; the day before it, nothing is served."""
    random = np.random.default_rng(7)
    reference = Profile.learn({n: random.normal(size=1500) for n in (*names, "score")})
    periods, total = [], None
    for day in range(days):
        count = 0 if day == days - 2 else rows
        moved = shift if day == days - 1 else 0.0
        values = {
            n: random.normal(size=count) + moved * (n == names[-1]) for n in reference.columns
        }
        profile = reference.measure(values)
        total = profile if total is None else total.merge(profile)
        periods.append(_judged(reference, profile, START + timedelta(days=day)))
    overall = replace(_judged(reference, total, START), end=periods[-1].end)
    return DriftHistory(
        model, version, ("champion", "canary"), "day", tuple(periods), reference, total, overall
    )


def _judged(reference, profile, start):
    features, ages = {}, {}
    if profile.rows:
        for name, column in reference.columns.items():
            found = drift(column, profile.columns[name])
            features[name] = FeatureDrift(found.psi, found.verdict, 0.0, 0.01, profile.rows)
        ages = {"orders": ViewAge(profile.rows, 7200.0, 90_000.0)}
    return DriftPeriod(start, start + timedelta(days=1), profile.rows, features, ages)


def version(number: str, aliases=(), **changes) -> VersionFacts:
    record = VersionRecord(
        **{
            "model": "m", "data_hash": "abc123" * 10, "feature_service": "orders_v2",
            "feature_schema_version": "d00d" * 16, "code_sha": "1f3a9c2d4e5f6071-dirty",
            "data_rows": 84_231, "data_start": "2026-01-01", "data_end": "2026-02-01",
            "training_seconds": 12.3, "compute_cost": 0.0456, "currency": "USD",
            "metrics": {"auc": Measure(0.7412, 0.7341, 0.7483)}, "verdict": "wins",
            "compared_against": 2, "compared_by": "auc", "margin": 0.002,
            "difference": Measure(0.0041, 0.0012, 0.007), "precision": "int8",
            "onnx_sha256": {"model.onnx": "beef" * 16}, "verdict_reason": "beyond the margin",
        }
        | changes
    )  # fmt: skip
    return VersionFacts(number, "Production", aliases, START, record, {"route": "/v2/m"})


def report(kind, value, low=0.0, high=0.0, details=None, samples=900, at=START, message=""):
    return Report(kind, "m", "3", at, value, low, high, samples, message, details or {})


def performance(start, auc, role="users", **more):
    return {
        "role": role, "slice": "", "start": start and start.isoformat(), "predictions": 100,
        "labelled": 90, "auc": auc, "auc_low": auc - 0.05, "auc_high": auc + 0.05,
        "log_loss": 0.41, "observed_per_expected": 1.08, "ratio_low": 1.05, "ratio_high": 1.11,
        "delay_p50": 86_400.0,
    } | more  # fmt: skip


def facts(**changes) -> ModelFacts:
    first = version("1", verdict="first", compared_against=None, difference=None)
    decision = {
        "checksum": "fedcba987654" * 5, "reason": "ScorePSI",
        "windowStart": "2026-03-01T00:00:00Z", "windowEnd": "2026-03-02T00:00:00Z",
    }  # fmt: skip
    audit = {
        "causes": {"late_data": 40},
        "features": {
            "amount": {"rate": 0.011, "causes": {"late_data": 40}},
            "hour": {"rate": 0.0, "causes": {}},
        },
    }  # fmt: skip
    rows = [performance(None, 0.74), performance(START, 0.73), performance(START, 0.6, "canary"),
            performance(START + timedelta(days=1), 0.75)]  # fmt: skip
    return replace(
        ModelFacts(
            "m", START + timedelta(days=4), "/log", 30,
            (first, version("2"), version("3", ("champion",))),
            (ChampionChange(1, "promote", "2026-03-01T10:00:00+00:00", "1", None, "ci", "first"),
             ChampionChange(2, "rollback", "2026-03-02T10:00:00+00:00", "3", "1", "op", "alerts")),
            (history(), history(version="1")),
            (report("performance", 0.74, 0.72, 0.76,
                    {"coverage": {"fraction": 0.913}, "rows": rows}),),
            (report("consistency", 0.0123, 0.01, 0.02, audit),
             report("consistency", 0.0, 0.0, 0.001)),
            (report("decision", 0.4, message="score-psi: 0.4", details={"decision": decision}),),
            {"version 3, shadow": "analyses/3.html"},
        ),
        **changes,
    )  # fmt: skip


def test_everything_that_is_known_is_told():
    text = text_of(model_page(facts()).render())
    for told in (
        "m drifted", "3 versions, predictions of 2026-03-01 to 2026-03-04", "version 3",
        "since 2026-03-02", "2,400", "hour, over all", "0.7400", "0.7200 to 0.7600", "1.23%",
        # drift
        "amount", "stable: below 0.1", "moderate: 0.1 to 0.25", "significant: above 0.25",
        "served by version 3", "served by version 1", "orders 2.0 h 2.0 h 25.0 h",
        # what came true, and what was audited and decided
        "91.3% of the predictions", "0.7400 [0.6900, 0.7900]", "1.080 [1.050, 1.110]", "24.0 h",
        "1.230% (1.000% to 2.000%)", "late data: 40", "1.10%", "ScorePSI", "score-psi: 0.4",
        "2026-03-01 00:00 to 2026-03-02 00:00", "…-fedcba987654",
        # versions and lineage
        "promote", "rollback", "alerts", "wins against 2", "0.7412 [0.7341, 0.7483]",
        "0.0041 [0.0012, 0.0070] auc; margin 0.002", "12.3 s, 0.0456 USD", "abc123abc123",
        "84,231 rows, 2026-01-01 to 2026-02-01", "orders_v2", "schema d00dd00dd00d",
        "1f3a9c2d4e5f-dirty", "graph beefbeefbeef", "/v2/m", "champion since 2026-03-02",
        "champion until 2026-03-02",
    ):  # fmt: skip
        assert told in text, told


def test_what_is_missing_is_said_and_nothing_is_invented():
    text = text_of(model_page(ModelFacts("m", START, "", 30)).render())
    for told in (
        "no champion", "no version registered, nothing served yet", "No prediction log was given",
        "Nothing was scored yet", "Nothing says how old values were", "labels have not been looked",
        "No audit yet", "No decision yet", "No version was promoted yet",
        "No version is registered yet", "No analysis page was given",
    ):  # fmt: skip
        assert told in text, told
    assert "PSI 0" not in text


def test_what_could_not_be_read_is_said_where_it_is_missed():
    problems = {
        kind: f"broken {kind}"
        for kind in ("registry", "history", "performance", "consistency", "decision")
    }
    text = text_of(model_page(ModelFacts("m", START, "/log", 30, problems=problems)).render())
    for kind in problems:
        assert f"broken {kind}" in text


def test_a_version_of_another_tool_has_no_lineage_and_no_traceback():
    other = VersionFacts("4", "", (), START, None, {}, "fields are missing: data_hash")
    text = text_of(model_page(facts(versions=(other,))).render())
    assert "made by another tool" in text
    assert "not recorded: fields are missing: data_hash" in text


def test_the_verdict_is_about_the_champion():
    page = text_of(model_page(facts(histories=(history(version="1"),))).render())
    assert "the champion has not served yet" in page
    assert "m drifted" not in page


def test_hostile_names_are_text():
    evil = history((EVIL, "hour" + EVIL), model=EVIL, version=EVIL)
    ages = {EVIL: ViewAge(5, 1.0, 2.0)}
    evil = replace(evil, overall=replace(evil.overall, ages=ages),
                   periods=tuple(replace(p, ages=ages) for p in evil.periods))  # fmt: skip
    bad = version(EVIL, (EVIL, "champion"), feature_service=EVIL, verdict=EVIL, code_sha=EVIL,
                  verdict_reason=EVIL, compared_by=EVIL, data_hash=EVIL, currency=EVIL,
                  metrics={EVIL: Measure(0.7)}, precision=EVIL, onnx_sha256={EVIL: EVIL},
                  data_start=EVIL, image=EVIL)  # fmt: skip
    bad = replace(bad, stage=EVIL, notes={"route": EVIL})
    details = {
        "coverage": {"fraction": 0.5}, "rows": [performance(None, 0.7, EVIL)],
        "causes": {EVIL: EVIL}, "decision": {"checksum": EVIL, "reason": EVIL},
        "features": {EVIL: {"rate": 0.5, "causes": {EVIL: 1}}},
    }  # fmt: skip
    reports = {
        kind: (replace(report(kind, 0.5, details=details, message=EVIL), version=EVIL),)
        for kind in ("performance", "consistency", "decision")
    }
    page = model_page(
        ModelFacts(
            EVIL, START, EVIL, 30, (bad,),
            (ChampionChange(1, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL),), (evil, evil),
            reports["performance"], reports["consistency"], reports["decision"],
            {EVIL: "javascript:alert(1)", "a" + EVIL: '"onclick="x'}, {"registry": EVIL},
        )
    ).render()  # fmt: skip
    assert page.count(">alert(1)") == 0
    reader = read(page)
    assert EVIL in "".join(reader.text)
    again = model_page(facts(versions=(bad,), histories=(evil,))).render()
    read(again)


words = st.text(max_size=12)
numbers = st.none() | st.floats() | st.integers() | words | st.booleans()
anything = st.recursive(
    numbers, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
known = st.dictionaries(
    st.sampled_from(["rows", "coverage", "causes", "features", "decision"]),
    anything
    | st.dictionaries(words, st.dictionaries(st.sampled_from(["rate", "causes"]), anything))
    | st.lists(
        st.dictionaries(
            st.sampled_from(["role", "start", "slice", "auc", "rate", "causes", "labelled"]),
            anything,
        ),
        max_size=3,
    ),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(known, st.none() | st.floats(allow_nan=False, allow_infinity=False), words)
def test_reports_of_any_details_make_a_page(details, value, message):
    made = {
        kind: (report(kind, value, -math.inf, math.inf, details, message=message),)
        for kind in ("performance", "consistency", "decision")
    }
    read(
        model_page(
            ModelFacts("m", START, "/log", 30, performance=made["performance"],
                       audits=made["consistency"], decisions=made["decision"])
        ).render()
    )  # fmt: skip


def test_a_hundred_features_of_thirty_days_are_below_a_megabyte():
    names = [f"a_feature_with_quite_a_long_name_{i}" for i in range(100)]
    seen = history(names, days=30, rows=501)
    page = model_page(facts(histories=(seen, seen, seen))).render()
    assert len(page.encode()) < 1_000_000
    text = "".join(read(page).text)
    assert all(name in text for name in names)


def test_nothing_is_fetched_and_nothing_runs():
    page = model_page(facts()).render()
    reader = read(page)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert ("content", policy) in reader.attributes
    assert not re.search(r"url\(|@import|<script", page)
    assert [v for n, v in reader.attributes if n == "href" and not v.startswith("#")] == [
        "analyses/3.html"
    ]


def test_every_section_can_be_jumped_to():
    reader = read(model_page(facts()).render())
    targets = [value for name, value in reader.attributes if name == "id"]
    links = [v[1:] for n, v in reader.attributes if n == "href" and v.startswith("#")]
    assert links == targets
    assert len(set(targets)) == len(targets) == 9


def test_the_worst_come_first_and_what_may_be_chance_last():
    def feature(psi, verdict):
        return FeatureDrift(psi, verdict, 0.0, 0.0, 900)

    seen = history(("a", "b", "c"))
    judged = {
        "a": feature(0.4, "significant"), "b": feature(9.0, "inconclusive"),
        "c": feature(0.6, "significant"), "score": feature(0.01, "stable"),
    }  # fmt: skip
    seen = replace(seen, overall=replace(seen.overall, features=judged))
    assert by_drift(seen) == ["c", "a", "score", "b"]


def test_what_is_new_on_the_last_day_is_named():
    seen = history(("amount", "hour"), days=12, shift=1.2)
    assert seen.overall.features["hour"].verdict != "significant"
    period, new = newly_significant(seen)
    assert (period, new) == (seen.periods[-1], ["hour"])
    text = text_of(model_page(facts(histories=(seen,))).render())
    assert "Above 0.25 on 2026-03-12 alone, though not over all: hour (" in text


def test_small_days_are_never_an_alarm():
    seen = history(rows=60, shift=3.0, days=3)
    assert {f.verdict for f in seen.overall.features.values()} == {"inconclusive"}
    page = model_page(facts(histories=(seen,))).render()
    assert "nothing to judge yet" in text_of(page)
    assert 'class="h-unsure' in page
    assert not re.search(r'<td class="h-(warm|hot|burning)', page)


@pytest.mark.parametrize(
    ("psi", "heat"),
    [(0.0, "cool"), (0.049, "cool"), (0.05, "mild"), (0.0999, "mild"), (0.1, "warm"),
     (0.25, "warm"), (0.2501, "hot"), (1.0, "hot"), (1.01, "burning"), (12.3, "burning")],
)  # fmt: skip
def test_bands_are_those_of_the_design(psi, heat):
    from zeroskew.profiles import MODERATE, SIGNIFICANT

    verdict = "stable" if psi < MODERATE else "moderate" if psi <= SIGNIFICANT else "significant"
    seen = history()
    features = {"hour": FeatureDrift(psi, verdict, 0.0, 0.0, 900)}
    seen = replace(seen, overall=replace(seen.overall, features=features), periods=())
    from zeroskew.pages.model_drift import _heat_map

    drawn = _heat_map(seen, ["hour"], 1).__html__()
    assert f'<td class="h-{heat} apart"' in drawn


def test_live_lines_take_what_the_newest_report_says():
    day = timedelta(days=1)
    newest = report("performance", 0.7, details={"rows": [performance(START + day, 0.71)]})
    older = report("performance", 0.7, details={"rows": [
        performance(START, 0.9), performance(START + day, 0.5), performance(None, 0.3),
        performance(START, 0.1, slice="airline=UA"), performance(START, 0.8, "shadow"),
    ]})  # fmt: skip
    lines = live_lines([newest, older])
    assert {name: [(p.at, p.value) for p in line] for name, line in lines.items()} == {
        "version 3, users": [(START, 0.9), (START + day, 0.71)],
        "version 3, shadow": [(START, 0.8)],
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (119, "119.0 s"), (120, "2.0 min"), (7200, "2.0 h"), (200_000, "2.3 d")],
)
def test_ages_are_read_by_people(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("address", "linked"),
    [("analyses/a.html", True), ("a b.html", False), ("../x/y.html#z", True),
     ("https://example.org/x?y=1", True), ("javascript:alert(1)", False), ("//evil.test/x", False),
     ("data:text/html,x", False), ("JaVaScRiPt:x", False), ("x\tjavascript:1", False)],
)  # fmt: skip
def test_links_go_nowhere_that_runs(address, linked):
    assert ("<a " in Link("x", address).__html__()) is linked


values = st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf])
times = st.datetimes(datetime(2020, 1, 1), datetime(2027, 1, 1))


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.lists(st.builds(TimePoint, times, values, values, values), max_size=5),
        max_size=5,
    )
)
def test_charts_over_time_are_drawn_whatever_the_numbers(series):
    drawn = band_chart(series, title=EVIL, description="x")
    assert not re.search(r"\b(nan|inf)\b", re.sub(r">[^<]*<", "><", drawn))
    assert "<script" not in drawn


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(values, values, values), max_size=6))
def test_intervals_and_sparks_are_drawn_whatever_the_numbers(points):
    drawn = interval_chart([EVIL] * len(points), points, title="x")
    drawn += sparkline([value for _, value, _ in points], title=EVIL)
    assert not re.search(r"\b(nan|inf)\b", re.sub(r">[^<]*<", "><", drawn))
    assert "<script" not in drawn


@settings(max_examples=200, deadline=None)
@given(times, st.timedeltas(timedelta(minutes=1), timedelta(days=2000)))
def test_ticks_of_time_are_inside_even_and_few(first, length):
    ticks = time_ticks(first, first + length)
    assert len(ticks) <= 9
    assert all(first <= at <= first + length for at, _ in ticks)
    assert len({b - a for (a, _), (b, _) in pairwise(ticks)}) <= 1
    assert len({label for _, label in ticks}) == len(ticks)


def test_a_heat_map_folds_what_is_too_much():
    rows = [HeatRow(f"f{i}", [HeatCell(str(i), "cool")]) for i in range(5)]
    drawn = HeatMap([("", "d")], rows, "c", open_rows=2, fold_text="3 more").__html__()
    shown, folded = drawn.split("<details>")
    assert "f1" in shown
    assert "f2" not in shown
    assert folded.startswith("<summary>3 more</summary>")
    assert all(f"f{i}" in folded for i in (2, 3, 4))


def test_a_chain_reads_in_order():
    drawn = Chain([("data", "1", ""), ("code", "<b>", "note")]).__html__()
    assert drawn == (
        '<ol class="chain"><li><span>data</span><b>1</b></li>'
        "<li><span>code</span><b>&lt;b&gt;</b><i>note</i></li></ol>"
    )
