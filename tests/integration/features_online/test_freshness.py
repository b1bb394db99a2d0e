"""How fresh a real store is said to be, after materialisations that went far enough, or not."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from zeroskew.cli import application
from zeroskew.errors import OnlineStoreUnavailable
from zeroskew.features.materialise import materialise
from zeroskew.features.redis_connection import connect
from zeroskew.features.repository import open_repository
from zeroskew.monitoring.freshness import measure_freshness
from zeroskew.monitoring.reports import STORE, list_reports
from zeroskew.steps.freshness import look_at_store

pytestmark = pytest.mark.integration
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = 3600.0


def measured(model, hours, **options):
    now = T0 + timedelta(hours=hours)
    found = measure_freshness(model, "everything", "drivers", now=now, **options)
    assert [view.view for view in found.views] == ["cars", "stats", "weather"]
    return found.views, found


def test_ages_are_those_of_the_values_in_the_store(model):
    materialise(open_repository(model), start=T0 - timedelta(days=1), end=T0 + timedelta(hours=20))
    (cars, stats, weather), found = measured(model, 12)
    # Ten drivers share one key with eight cars; the last values are ten hours after T0.
    assert (stats.entities, stats.absent) == (10, 0)
    assert (cars.entities, cars.absent) == (10, 2)
    assert (stats.age_median, stats.age_p99) == (2 * HOUR, 2 * HOUR)
    assert (cars.age_median, cars.ttl) == (12 * HOUR, 0)
    assert (stats.near, stats.expired, cars.near, cars.expired) == (0, 0, 0, 0)
    # Two and three hours old, of three: one is beyond 80 %, none beyond all.
    assert (weather.near, weather.expired) == (0.5, 0)
    assert all(view.lag == 0 for view in found.views)
    assert found.problems == ("weather: 50% of the values are near their TTL or beyond",)

    (_, stats, weather), _ = measured(model, 14)
    assert (weather.near, weather.expired) == (0, 1)
    (_, stats, _), _ = measured(model, 57)
    assert (stats.near, stats.expired) == (1, 0)


def test_what_was_never_materialised_is_the_lag(model):
    repository = open_repository(model)
    materialise(repository, start=T0 - timedelta(days=1), end=T0 + timedelta(hours=6))
    (cars, stats, weather), found = measured(model, 12)
    assert stats.source_newest == (T0 + timedelta(hours=10)).isoformat()
    assert stats.materialised_until == (T0 + timedelta(hours=6)).isoformat()
    assert (stats.lag, stats.lag_limit) == (4 * HOUR, 48 * HOUR / 5)
    assert cars.lag == 0
    assert (weather.lag, weather.lag_limit, weather.entities) == (4 * HOUR, 3 * HOUR / 5, 0)
    assert found.problems == (
        "weather: the store has no entity of it", "weather: 4:00:00 behind its source"
    )  # fmt: skip
    # What the source will know later is not late.
    (_, stats, _), _ = measured(model, 7)
    assert stats.lag == 0


def test_an_untouched_store_has_no_lag_that_anybody_knows(model):
    views, found = measured(model, 12)
    assert all(view.lag is None and view.materialised_until is None for view in views)
    assert len(found.problems) == 3


def test_the_sample_is_bounded_and_keys_of_others_do_not_count(model, valkey_address):
    materialise(open_repository(model), start=T0 - timedelta(days=1), end=T0 + timedelta(hours=20))
    client = connect(valkey_address)
    client.mset({f"of somebody else {number}": "x" for number in range(3000)})
    (_, stats, weather), _ = measured(model, 12, entities=4)
    assert (stats.entities, weather.entities) == (4, 2)


def test_keys_that_the_store_will_forget_are_seen_before_it_does(model, valkey_address):
    yaml = model / "feature_store.yaml"
    line = 'connection_string: "${ZEROSKEW_REDIS}"'
    yaml.write_text(yaml.read_text().replace(line, f"{line}, key_ttl_seconds: 1000"))
    materialise(open_repository(model), start=T0 - timedelta(days=1), end=T0 + timedelta(hours=20))
    (_, stats, _), _ = measured(model, 11)
    assert stats.ending == 0
    client = connect(valkey_address)
    for key in client.keys("*")[:9]:
        client.expire(key, 100)
    (_, stats, weather), found = measured(model, 11)
    assert stats.ending * stats.entities + weather.ending * weather.entities == 9
    assert any("about to be forgotten" in text for text in found.problems)


def test_a_store_that_is_gone_is_one_clear_error(model, monkeypatch):
    open_repository(model)
    monkeypatch.setenv("ZEROSKEW_REDIS", "127.0.0.1:1")
    with pytest.raises(OnlineStoreUnavailable, match=r"127\.0\.0\.1:1"):
        measured(model, 12)


def test_the_step_keeps_a_report_and_the_command_says_what_is_late(model, tmp_path, capsys):
    (model / "model.yaml").write_text(
        "name: drivers\nfeature_service: everything\nentity_rows: {path: r.parquet, label: y}\n"
    )
    repository = open_repository(model)
    materialise(repository, start=T0 - timedelta(days=1), end=T0 + timedelta(hours=20))
    newer = pl.read_parquet(tmp_path / "data" / "weather.parquet").with_columns(
        event_timestamp=pl.col("event_timestamp") + timedelta(days=2)
    )
    newer.write_parquet(tmp_path / "data" / "weather.parquet")
    lags = look_at_store(model)
    assert lags == {"cars_lag": 0.0, "stats_lag": 0.0, "weather_lag": 38 * HOUR}
    (report,) = list_reports(str(tmp_path / "home" / "predictions"), "freshness", "drivers", STORE)
    assert [view["view"] for view in report.details["views"]] == ["cars", "stats", "weather"]
    assert report.value == 1.0
    assert "weather: 1 day, 14:00:00 behind its source" in report.message

    with pytest.raises(SystemExit) as ended:
        application()(["monitor", "freshness", str(model)])
    assert ended.value.code == 3
    said = capsys.readouterr().out
    assert "weather: 1 day, 14:00:00 behind its source" in said
