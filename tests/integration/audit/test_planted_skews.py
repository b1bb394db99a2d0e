"""Skews planted where they happen in life, one at a time; each is found, and nothing else is."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.integration
DRIVERS = ("trips", "rating", "pace", "city", "hour")
SHOPS = ("rent", "open", "opened", "sales")
day = pl.col("event_timestamp").dt.date()


def found(result) -> dict[str, dict[str, set[str]]]:
    """Feature to outcome to causes."""
    return {
        counts.feature: {outcome: set(causes) for outcome, causes in counts.causes.items()}
        for counts in result.features
        if counts.different
    }


def causes(result) -> dict[str, set[str]]:
    return {name: set().union(*told.values()) for name, told in found(result).items()}


def every(names, value) -> dict:
    return {name: value for name in names}


def evidence(result, feature: str) -> str:
    return " | ".join(each.evidence for each in result.examples if each.feature == feature)


def test_nothing_is_found_where_nothing_is(stage, moments):
    """Known and unknown entities, fresh and expired moments, several versions and roles."""
    until, _ = moments
    stage.materialise()
    stage.serve()
    stage.serve(at=until + timedelta(minutes=37), version="2", role="shadow")
    # No value of that day was there, and none of the next two came into the store.
    stage.drivers = stage.drivers.filter(day <= until.date())
    stage.write()
    stage.serve(at=until + timedelta(days=4), version="2", role="canary")
    result = stage.audit()
    assert (result.rows, result.different, result.by_cause) == (360, 0, {})
    assert (result.versions, result.roles) == (("1", "2"), ("canary", "champion", "shadow"))
    assert (result.examples, result.not_audited, result.exit_code()) == ((), {}, 0)
    assert [f.feature for f in result.features] == [*DRIVERS, *SHOPS, "minutes"]
    assert {f.match for f in result.features} == {360}
    assert result.interval[0] == 0.0 < result.interval[1] < 0.02


def ulp(table):
    off = np.nextafter(table["rating"].to_numpy(), np.inf)
    return table.with_columns(pl.Series("rating", off).fill_nan(None))


REWRITTEN = {
    "one ulp off": ("drivers", "rating", {"mismatch"}, ulp, "times joined"),
    "rounded to float32": (
        "drivers", "rating", {"mismatch"},
        pl.col("rating").cast(pl.Float32).cast(pl.Float64), "joined one in float32",
    ),
    "null served as 0": (
        "drivers", "rating", {"extra"}, pl.col("rating").fill_null(0.0),
        "nothing was served as a value",
    ),
    "upper case": (
        "drivers", "city", {"mismatch"}, pl.col("city").str.to_uppercase(), "upper and lower case",
    ),
    "value lost": (
        "drivers", "trips", {"missing"},
        pl.when(pl.col("driver") % 2 == 0).then("trips").alias("trips"), "another value",
    ),
    "off by one": ("drivers", "hour", {"mismatch"}, pl.col("hour") + 1, "times joined"),
    "another unit": ("shops", "rent", {"mismatch"}, pl.col("rent") * 11.5, "11.5 times joined"),
    "negated": ("shops", "open", {"mismatch"}, ~pl.col("open"), "another value"),
    "an hour later": (
        "shops", "opened", {"mismatch"}, pl.col("opened") + pl.duration(hours=1), "another value",
    ),
    "order of a list": (
        "shops", "sales", {"mismatch"}, pl.col("sales").list.reverse(), "another value",
    ),
}  # fmt: skip


@pytest.mark.parametrize("skew", REWRITTEN)
def test_a_value_that_is_another_one_in_the_store(stage, skew):
    view, feature, outcomes, change, words = REWRITTEN[skew]
    table = getattr(stage, view)
    changed = change(table) if callable(change) else table.with_columns(change)
    stage.tampered(**{view: changed})
    stage.serve(60)
    result = stage.audit()
    assert found(result) == {feature: every(outcomes, {"value_rewritten"})}
    assert words in evidence(result, feature)
    assert result.exit_code() == 3
    if skew == "one ulp off":
        assert stage.audit(tolerances={"float64": 1e-14}).different == 0


def test_what_was_not_materialised(stage, moments):
    until, _ = moments
    stage.materialise(until - timedelta(days=1))
    stage.serve()
    told = causes(stage.audit())
    assert told == {
        **every(DRIVERS, {"stale_materialisation"}),
        "minutes": {"input_differs"},
    }


def test_a_store_that_is_behind_does_not_hide_that_it_is_wrong(stage, moments):
    until, _ = moments
    stage.write(drivers=stage.drivers.with_columns(pl.col("pace") * 3.6))
    stage.materialise(until - timedelta(days=1))
    stage.write()
    stage.serve()
    result = stage.audit()
    told = causes(result)
    assert told.pop("pace") == {"value_rewritten"}
    assert told.pop("minutes") == {"input_differs"}
    assert told == every({"trips", "rating", "city", "hour"}, {"stale_materialisation"})
    assert "of which time the source has another value" in evidence(result, "pace")


def test_a_history_that_only_a_warehouse_can_read(stage):
    """The comparison is Feast's join; for the causes nobody has the rows."""
    stage.materialise()
    stage.serve(60)
    config = stage.folder / "feature_store.yaml"
    text = config.read_text()
    config.write_text(text.replace("zeroskew.features.offline_store.PolarsOfflineStore", "duckdb"))
    assert stage.audit().different == 0
    stage.drivers = stage.drivers.with_columns(pl.col("trips") + 1)
    stage.write()
    result = stage.audit()
    assert causes(result) == {"trips": {"unexplained"}}
    assert evidence(result, "trips").startswith("no source can be looked at")


def test_what_was_never_materialised(stage):
    stage.serve(30)
    result = stage.audit()
    assert causes(result)["rent"] == {"stale_materialisation"}
    assert "nothing was in the store" in evidence(result, "rent")


def test_rows_that_came_after_the_answer(stage, moments):
    """The view records no creation; the file's own time tells."""
    _, start = moments
    stage.write(shops=stage.shops.filter(day == start.date()))
    stage.materialise()
    stage.serve(60)
    stage.shops.write_parquet(stage.data / "shops.parquet")
    told = causes(stage.audit())
    assert told == every(SHOPS, {"late_data"})


def test_a_value_created_after_it_was_asked_for(stage, moments):
    """The store had it already, the join must not know it: training would never see it so early."""
    until, _ = moments
    late = pl.when(day == until.date()).then(pl.col("created") + pl.duration(hours=13))
    stage.drivers = stage.drivers.with_columns(late.otherwise("created").alias("created"))
    stage.write()
    stage.materialise()
    stage.serve(60)
    result = stage.audit()
    assert causes(result)["trips"] == {"late_data"}
    assert "after the event time" in evidence(result, "trips")


def test_a_server_with_a_shorter_time_to_live(stage, with_ttl):
    stage.materialise()
    stage.serve(60, plan=with_ttl(stage.plan(), "drivers", timedelta(hours=6)))
    result = stage.audit()
    assert found(result) == {
        **every(DRIVERS, {"missing": {"changed_definition"}}),
        "minutes": {"missing": {"input_differs"}},
    }


def test_what_was_served_beyond_its_time_to_live(stage, with_ttl, moments):
    until, _ = moments
    stage.drivers = stage.drivers.filter(day <= (until - timedelta(days=3)).date())
    stage.write()
    stage.materialise()
    plan = with_ttl(stage.plan(), "drivers", timedelta(days=10))
    stage.serve(60, plan=plan)
    result = stage.audit()
    assert found(result)["trips"] == {"extra": {"expired_served"}}
    assert "with a TTL of 2 days" in evidence(result, "trips")
    # The version was registered when the definitions said so.
    text = (stage.folder / "features.py").read_text()
    stage.define(features=text.replace("days=2", "days=10"))
    before = stage.open().schema_version("rides")
    stage.define()
    told = causes(stage.audit(registered={"1": before}.get))
    assert told["trips"] == {"changed_definition"}


def test_a_definition_that_took_another_column(stage):
    features = (stage.folder / "features.py").read_text()
    stage.drivers = stage.drivers.with_columns(pl.col("rating").alias("stars") * 2)
    mapped = features.replace(
        'created_timestamp_column="created",',
        'created_timestamp_column="created", field_mapping={"stars": "rating"},',
    )
    stage.drivers = stage.drivers.drop("rating")
    stage.write()
    stage.define(features=mapped)
    before = stage.open().schema_version("rides")
    stage.materialise()
    stage.serve(60)
    stage.define(features=mapped.replace('"stars"', '"rating_5"'))
    stage.drivers = stage.drivers.with_columns((pl.col("stars") / 2).alias("rating_5"))
    stage.write()
    told = causes(stage.audit(registered={"1": before}.get))
    assert told == {"rating": {"changed_definition"}}


@pytest.mark.parametrize("key", ["driver", "shop"])
def test_the_values_of_another_entity(stage, key):
    """Drivers are a minute apart, shops have one time for all."""

    def neighbour(columns):
        if key == "driver":
            return columns | {"driver": [(d + 1) % 30 for d in columns["driver"]]}
        return columns | {"shop": [f"s{(int(s[1:]) + 1) % 25}" for s in columns["shop"]]}

    stage.materialise()
    stage.serve(asked=neighbour)
    told = causes(stage.audit())
    if key == "shop":
        assert told == every(SHOPS, {"other_entity"})
    else:
        assert told.pop("minutes") == {"input_differs"}
        assert set(told) == set(DRIVERS)
        assert told["pace"] == {"other_entity"}
        # A null that the neighbour has and oneself does not is served as missing.
        assert told["rating"] <= {"other_entity", "not_in_source", "stale_materialisation"}


@pytest.mark.parametrize("hours", [-13, 13])
def test_an_event_time_in_another_zone(stage, moments, hours):
    until, _ = moments
    stage.materialise()
    stage.serve(logged_at=until + timedelta(hours=hours))
    told = causes(stage.audit())
    assert told == {**every(DRIVERS, {"wrong_event_time"}), "minutes": {"input_differs"}}


def test_another_function_on_the_same_inputs(stage, tmp_path):
    text = (stage.folder / "transforms.py").read_text()
    (tmp_path / "old").mkdir()
    (tmp_path / "old/transforms.py").write_text(text.replace("d * p", "d * p / 60"))
    stage.materialise()
    stage.serve(transforms=tmp_path / "old")
    result = stage.audit()
    assert found(result) == {"minutes": {"mismatch": {"different_transform"}}}
    assert "0.0166667 times joined" in evidence(result, "minutes")


def test_a_value_that_no_source_has(stage):
    strangers = stage.drivers.filter(pl.col("driver") < 2).with_columns(
        pl.col("driver") + 30, pl.col("pace") + 1, pl.col("trips") + 100
    )
    stage.tampered(drivers=pl.concat([stage.drivers, strangers]))
    stage.serve()
    result = stage.audit()
    assert found(result)["trips"] == {"extra": {"not_in_source"}}
    assert {each.entity["driver"] for each in result.examples} <= {30, 31}


def test_a_store_that_did_not_answer(stage):
    stage.materialise()
    stage.serve(40, redis="127.0.0.1:9")
    told = found(stage.audit())
    assert set(told) == {*DRIVERS, *SHOPS, "minutes"}
    assert {frozenset(each["missing"]) for each in told.values()} == {
        frozenset({"store_unavailable"})
    }
