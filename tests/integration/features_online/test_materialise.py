"""Materialisation beside Feast's: the same bytes, newest wins, repeatable, interruptible."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest

from zeroskew.errors import ConfigError, OnlineStoreUnavailable, SchemaError
from zeroskew.features import redis_layout as layout
from zeroskew.features.materialise import materialise, online_client, view_layout
from zeroskew.features.online_writer import OnlineWriter, ViewLayout
from zeroskew.features.redis_connection import connect
from zeroskew.features.repository import open_repository

pytestmark = pytest.mark.integration

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
END = T0 + timedelta(hours=20)


def contents(client):
    """Everything in the store: key → hash."""
    return {key: client.hgetall(key) for key in client.keys("*")}


def plain(address):
    return connect(address)


BOTH = pytest.mark.parametrize(
    "offline_type", ["file", "zeroskew.features.offline_store.PolarsOfflineStore"]
)


@BOTH
def test_the_store_is_byte_for_byte_what_feast_would_have_written(model, valkey_address):
    repository = open_repository(model)
    client = plain(valkey_address)
    repository.store.materialize(T0 - timedelta(days=1), END)
    feasts = contents(client)
    assert len(feasts) == 12
    client.flushall()
    report = materialise(repository, start=T0 - timedelta(days=1), end=END)
    assert contents(client) == feasts
    assert {v.view: v.written for v in report.views} == {"stats": 10, "cars": 8, "weather": 2}
    assert report.written == report.rows == 20


def test_feast_reads_what_we_wrote(model):
    repository = open_repository(model)
    materialise(repository, end=END)
    answer = repository.store.get_online_features(
        features=repository.service("driver_service"),
        entity_rows=[{"driver_id": 2}, {"driver_id": 3}, {"driver_id": 9}, {"driver_id": 77}],
    ).to_dict()
    assert answer["trips"] == [210, 310, 910, None]
    assert answer["rating"] == [3.0, None, 10.0, None]
    assert answer["note"] == ["driver 2 é 10", "driver 3 é 10", "driver 9 é 10", None]
    assert answer["power"] == [3.0, 4.5, None, None]
    assert answer["joined"][0] == datetime(2020, 1, 3, tzinfo=UTC)


@BOTH
def test_it_goes_on_where_it_ended_and_feast_goes_on_where_we_ended(model, valkey_address):
    repository = open_repository(model)
    first = materialise(repository, views=["stats"], end=T0 + timedelta(hours=6))
    assert first.views[0].start == T0 + timedelta(hours=6) - timedelta(days=2)  # the TTL
    second = materialise(repository, views=["stats"], end=T0 + timedelta(hours=8))
    assert second.views[0].start == T0 + timedelta(hours=6)
    assert second.rows == 0
    reopened = open_repository(model)
    intervals = reopened.view("stats").materialization_intervals
    assert [e for _, e in intervals] == [T0 + timedelta(hours=6), T0 + timedelta(hours=8)]
    reopened.store.materialize_incremental(T0 + timedelta(hours=11), ["stats"])
    values = reopened.store.get_online_features(
        features=["stats:trips"], entity_rows=[{"driver_id": 5}]
    ).to_dict()
    assert values["trips"] == [510]
    third = materialise(open_repository(model), views=["stats"], end=END)
    assert third.views[0].start == T0 + timedelta(hours=11)
    assert materialise(repository, views=["cars"], end=END).views[0].start.year == 1970


def test_again_changes_nothing(model, valkey_address):
    repository = open_repository(model)
    client = plain(valkey_address)
    materialise(repository, start=T0, end=END)
    before = contents(client)
    again = materialise(repository, start=T0, end=END)
    assert (again.written, sum(v.kept for v in again.views)) == (0, 20)
    assert contents(client) == before
    older = materialise(repository, views=["stats"], start=T0, end=T0 + timedelta(hours=6))
    assert older.written == 0
    assert contents(client) == before


def test_values_corrected_after_the_fact_replace_on_demand_only(model, tmp_path):
    repository = open_repository(model)
    materialise(repository, end=END)
    file = tmp_path / "data" / "cars.parquet"
    pl.read_parquet(file).with_columns(raw_seats=pl.lit(7, pl.Int64)).write_parquet(file)
    assert materialise(repository, views=["cars"], start=T0, end=END).written == 0
    redone = materialise(repository, views=["cars"], start=T0, end=END, replace_ties=True)
    assert redone.written == 8
    answer = repository.store.get_online_features(
        features=["cars:seats"], entity_rows=[{"driver_id": 1}]
    )
    assert answer.to_dict()["seats"] == [7]


def test_half_a_row_of_another_writer_is_made_whole(model, valkey_address):
    repository = open_repository(model)
    client = plain(valkey_address)
    materialise(repository, end=END)
    whole = contents(client)
    key = layout.entity_key("drivers", {"driver_id": ("int64", 5)})
    assert client.hdel(key, layout.feature_field("stats", "rating")) == 1
    report = materialise(repository, views=["stats"], start=T0, end=END)
    assert (report.views[0].written, report.views[0].kept) == (1, 9)
    assert contents(client) == whole


ROWS = ViewLayout("p", "v", {"id": "int64"}, {"a": "int64", "b": "string"})


def table(ids, times, values):
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "ts": pa.array(times, pa.timestamp("us", "UTC")),
            "a": pa.array(values, pa.int64()),
            "b": pa.array([None if v is None else str(v) for v in values], pa.string()),
        }
    )


def stored(client, i):
    row = client.hgetall(layout.entity_key("p", {"id": ("int64", i)}))
    if not row:
        return None
    a = layout.decode_value(row[layout.feature_field("v", "a")])[1]
    b = layout.decode_value(row[layout.feature_field("v", "b")])[1]
    assert b == (None if a is None else str(a))
    return layout.decode_event_time(row[layout.event_time_field("v")]), a


@pytest.mark.parametrize("hsetex", [True, False])
def test_newest_wins_over_every_pair_of_moments(valkey_address, hsetex):
    """Before and after the epoch, whole seconds or not, in every order; old servers too."""
    client = plain(valkey_address)
    writer = OnlineWriter(client)
    writer._knows_hsetex = hsetex
    moments = [
        -(2**50), -10_000_001, -1_000_000, -999_999, -1, 0, 1, 999_999, 1_000_000, 1_000_001,
        127_999_999, 128_000_000, 2**31 * 10**6, 2**50, 2**50 + 1,
    ]  # fmt: skip
    pairs = [(x, y) for x in moments for y in moments]
    ids = list(range(len(pairs)))
    writer.write(ROWS, table(ids, [x for x, _ in pairs], ids), event_time="ts")
    count = writer.write(
        ROWS, table(ids, [y for _, y in pairs], [i + 1000 for i in ids]), event_time="ts"
    )
    for i, (x, y) in zip(ids, pairs, strict=True):
        assert stored(client, i) == ((y, i + 1000) if y > x else (x, i)), (x, y)
    assert count.written == sum(y > x for x, y in pairs)


def commands(client):
    return {k.removeprefix("cmdstat_"): v["calls"] for k, v in client.info("commandstats").items()}


def test_new_entities_go_the_short_way_and_known_ones_through_the_script(valkey_address):
    client = plain(valkey_address)
    writer = OnlineWriter(client)
    client.config_resetstat()
    ids = list(range(3000))
    assert writer.write(ROWS, table(ids, [5] * 3000, ids), event_time="ts").written == 3000
    done = commands(client)
    assert done["hsetex"] == 3000
    assert "evalsha" not in done
    mixed = list(range(1000, 5000))  # a third is known; of those, every second one is older
    times = [4 if i % 2 else 6 for i in mixed]
    count = writer.write(ROWS, table(mixed, times, [i + 1 for i in mixed]), event_time="ts")
    assert (count.written, count.kept) == (3000, 1000)
    for i in (999, 1000, 1001, 2999, 3000, 4999):
        old = i < 1000 or (i < 3000 and i % 2)
        assert stored(client, i) == ((5, i) if old else (4 if i % 2 else 6, i + 1))


def test_repeated_entities_in_one_table_end_with_the_newest(valkey_address):
    client = plain(valkey_address)
    count = OnlineWriter(client).write(
        ROWS, table([1, 1, 1, 2], [5, 9, 7, 1], [50, 90, 70, 10]), event_time="ts"
    )
    assert (stored(client, 1), stored(client, 2)) == ((9, 90), (1, 10))
    assert (count.written, count.kept) == (3, 1)


def test_rows_of_nobody_and_of_no_moment_are_counted_and_left_out(valkey_address):
    client = plain(valkey_address)
    count = OnlineWriter(client).write(
        ROWS, table([1, None, 3], [5, 5, None], [1, 2, 3]), event_time="ts"
    )
    assert (count.written, count.dropped) == (1, 2)
    assert client.dbsize() == 1


def test_writers_at_once_never_leave_an_older_or_a_mixed_row(valkey_address):
    """Four threads write the same entities in shuffled moments; the newest of all must stand."""
    import random

    jobs = []
    for seed in range(4):
        order = list(range(40))
        random.Random(seed).shuffle(order)

        def work(order=order, seed=seed):
            writer = OnlineWriter(plain(valkey_address))
            for moment in order:
                value = moment * 10 + seed
                writer.write(ROWS, table([1, 2], [moment + 1] * 2, [value] * 2), event_time="ts")

        jobs.append(threading.Thread(target=work))
    for job in jobs:
        job.start()
    client = plain(valkey_address)
    seen = []
    while any(job.is_alive() for job in jobs):
        row = stored(client, 1)  # also asserts that both features are of one write
        if row is not None:
            seen.append(row[0])
    for job in jobs:
        job.join()
    assert seen == sorted(seen)
    for i in (1, 2):
        time_of, value = stored(client, i)
        assert (time_of, value // 10) == (40, 39)


def test_expiry_is_set_with_an_accepted_write_only(valkey_address):
    client = plain(valkey_address)
    expiring = ViewLayout("p", "v", {"id": "int64"}, ROWS.features, key_ttl_seconds=500)
    OnlineWriter(client).write(expiring, table([1], [5], [1]), event_time="ts")
    key = layout.entity_key("p", {"id": ("int64", 1)})
    assert 490 <= client.ttl(key) <= 500
    client.persist(key)
    OnlineWriter(client).write(expiring, table([1], [4], [1]), event_time="ts")
    assert client.ttl(key) == -1


def test_a_server_that_forgot_the_script_is_told_again(valkey_address):
    client = plain(valkey_address)
    writer = OnlineWriter(client)
    writer.write(ROWS, table([1], [5], [1]), event_time="ts")
    client.script_flush()
    writer.write(ROWS, table([1], [6], [2]), event_time="ts")
    assert stored(client, 1) == (6, 2)


def test_wrong_tables_are_refused_before_anything_is_written(valkey_address):
    client = plain(valkey_address)
    writer = OnlineWriter(client)
    good = table([1], [5], [1])
    with pytest.raises(SchemaError, match="column a is missing"):
        writer.write(ROWS, good.drop_columns(["a"]), event_time="ts")
    with pytest.raises(SchemaError, match="column a is string"):
        writer.write(ROWS, good.set_column(2, "a", pa.array(["x"])), event_time="ts")
    with pytest.raises(SchemaError, match="column ts is int64"):
        writer.write(ROWS, good.set_column(1, "ts", pa.array([1])), event_time="ts")
    assert client.dbsize() == 0


def test_names_and_times_that_cannot_be_are_refused(model):
    repository = open_repository(model)
    with pytest.raises(ConfigError, match="no feature view 'stat'"):
        materialise(repository, views=["stat"], end=END)
    with pytest.raises(ConfigError, match="archive is not served online"):
        materialise(repository, views=["archive"], end=END)
    with pytest.raises(ConfigError, match="is after end"):
        materialise(repository, start=END, end=T0)


def test_a_store_that_is_not_there_records_nothing(model, monkeypatch):
    monkeypatch.setenv("ZEROSKEW_REDIS", "127.0.0.1:1")
    repository = open_repository(model)
    with pytest.raises(OnlineStoreUnavailable, match=r"(?s)127\.0\.0\.1:1.*zeroskew up"):
        materialise(repository, end=END)
    assert open_repository(model).view("stats").materialization_intervals == []
    monkeypatch.delenv("ZEROSKEW_REDIS")
    with pytest.raises(ConfigError, match="export ZEROSKEW_REDIS"):
        online_client(open_repository(model))


INTERRUPTED = """
import sys
from datetime import datetime, UTC
from zeroskew.features import online_writer
from zeroskew.features.materialise import materialise
from zeroskew.features.repository import open_repository

online_writer.ROWS_PER_CHUNK = 500
def tell(view, done, total):
    if view == "many" and done >= 3000:
        print("half", flush=True)
        import time; time.sleep(0.02)
materialise(open_repository(sys.argv[1]), views=["many"], end=datetime(2026, 3, 3, tzinfo=UTC),
            on_progress=tell)
print("whole", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_broken_off_in_the_middle_and_run_again_it_is_complete(
    model, tmp_path, valkey_address, how
):
    rows = 40_000
    pl.DataFrame({"driver_id": range(rows), "many_x": range(rows)}).with_columns(
        event_timestamp=pl.lit(T0).dt.cast_time_unit("us")
    ).write_parquet(tmp_path / "data" / "many.parquet")
    with (model / "features.py").open("a") as file:
        file.write(
            'many = FeatureView(name="many", entities=[driver], schema=[Field(name="driver_id", '
            'dtype=Int64), Field(name="many_x", dtype=Int64)], source=source("many"))\n'
        )
    open_repository(model)
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(model)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy(),
    )  # fmt: skip
    assert child.stdout.readline().strip() == "half"
    child.send_signal(how)
    out, _ = child.communicate(timeout=60)
    assert "whole" not in out
    client = plain(valkey_address)
    assert 0 < client.dbsize() < rows
    repository = open_repository(model)
    assert repository.view("many").materialization_intervals == []
    report = materialise(repository, views=["many"], end=END)
    assert report.rows == rows
    assert report.views[0].kept > 0
    assert client.dbsize() == rows
    assert len(open_repository(model).view("many").materialization_intervals) == 1


def test_the_layout_of_a_view(model):
    repository = open_repository(model)
    assert view_layout(repository, repository.view("stats")) == ViewLayout(
        "drivers",
        "stats",
        {"driver_id": "int64"},
        {"trips": "int64", "rating": "float64", "note": "string", "joined": "timestamp"},
    )
