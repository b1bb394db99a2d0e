"""Training sets: which rows, where they are cut, what their hash means, nothing half-written."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from zeroskew.errors import ConfigError, DataError, FeatureStoreError, SchemaError
from zeroskew.features.content_hash import content_hash
from zeroskew.features.repository import feature_row, open_repository
from zeroskew.features.training_set import TrainingSet, build_training_set

START = datetime(2024, 5, 1, tzinfo=UTC)
END = START + timedelta(days=8)


@pytest.fixture
def repository(model_folder):
    return open_repository(model_folder)


@pytest.fixture
def build(repository, entity_rows, tmp_path):
    def build(rows=entity_rows, **changes):
        said = {
            "service": "fares",
            "entity_rows": rows,
            "label": "tip",
            "event_timestamp": "asked_at",
            "start": START,
            "end": END,
            "label_timestamp": "tip_known_at",
            "validation": 0.2,
            "test": 0.2,
            "row": feature_row(repository, "fares"),
            "out": tmp_path / "set",
            "code_sha": "abc",
        }
        return build_training_set(repository, **(said | changes))

    return build


def test_rows_in_range_with_a_known_label_in_order_of_time(build, entity_rows):
    training_set = build()
    parts = [training_set.read(s) for s in ("train", "validation", "test")]
    together = pl.concat(parts)
    times = together.get_column("asked_at")
    assert times.is_sorted()
    assert times[0] >= START
    assert times[-1] < END
    assert together.get_column("tip_known_at").max() < END
    known = entity_rows.filter(
        (pl.col("asked_at") >= START) & (pl.col("asked_at") < END) & (pl.col("tip_known_at") < END)
    )
    dropped = sum(training_set.manifest.purged.values())
    assert together.height + dropped == known.height
    assert dropped > 0
    assert together.join(known, on=entity_rows.columns, how="anti").height == 0


def test_cuts_and_purging(build):
    """Nothing in a split was unknown when the next one begins."""
    training_set = build()
    first, second = (datetime.fromisoformat(c) for c in training_set.manifest.cuts)
    train, validation, test = (training_set.read(s) for s in ("train", "validation", "test"))
    assert train["asked_at"].max() < first == validation["asked_at"].min()
    assert validation["asked_at"].max() < second == test["asked_at"].min()
    assert train["tip_known_at"].max() <= first
    assert validation["tip_known_at"].max() <= second
    assert training_set.manifest.rows == {
        "train": train.height,
        "validation": validation.height,
        "test": test.height,
    }
    shares = np.array([train.height, validation.height, test.height]) / (
        train.height + validation.height + test.height
    )
    assert abs(shares - [0.6, 0.2, 0.2]).max() < 0.05


def test_rows_of_one_moment_never_straddle_a_cut(build, entity_rows):
    coarse = entity_rows.with_columns(
        pl.col("asked_at").dt.truncate("1d"), tip_known_at=pl.col("asked_at").dt.truncate("1d")
    )
    training_set = build(coarse)
    days = [set(training_set.read(s)["asked_at"]) for s in ("train", "validation", "test")]
    assert all(days)
    assert len(days[0] | days[1] | days[2]) == sum(map(len, days))


def test_without_label_timestamp_or_validation(build):
    training_set = build(label_timestamp=None, validation=0.0)
    assert training_set.manifest.purged == {"train": 0, "validation": 0}
    assert training_set.manifest.rows["validation"] == 0
    assert training_set.read("validation").columns == training_set.read("train").columns
    assert training_set.manifest.cuts[0] == training_set.manifest.cuts[1]


def test_the_features_are_the_joins(build, repository, entity_rows):
    """Through the direct path and through Feast's API, the same values in the same types."""
    from zeroskew.features import service_join

    rows = entity_rows.sort("asked_at", maintain_order=True)
    straight = service_join.join_service(repository, "fares", rows, event_timestamp="asked_at")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_join, "_straight", lambda *_: None)
        feast = service_join.join_service(repository, "fares", rows, event_timestamp="asked_at")
    assert straight.equals(feast)
    assert straight.schema == feast.schema
    assert straight.columns == [*rows.columns, "rating", "trips", "sky", "weighted"]
    assert straight["weighted"].null_count() < straight.height
    built = build()
    kept = pl.concat([built.read(s) for s in ("train", "validation", "test")])
    assert kept.join(straight, on=straight.columns, how="anti", nulls_equal=True).height == 0


def with_store(model_folder, kind: str):
    config = model_folder / "feature_store.yaml"
    ours = "zeroskew.features.offline_store.PolarsOfflineStore"
    config.write_text(config.read_text().replace(ours, kind))
    return open_repository(model_folder)


def test_another_offline_store_gives_the_same_training_set(
    build, model_folder, entity_rows, tmp_path
):
    """As with a warehouse: Feast's own store joins, and nothing downstream notices."""
    ours = build()
    repository = with_store(model_folder, "duckdb")
    theirs = build_training_set(
        repository, service="fares", entity_rows=entity_rows, label="tip",
        event_timestamp="asked_at", start=START, end=END, label_timestamp="tip_known_at",
        validation=0.2, test=0.2, row=feature_row(repository, "fares"), out=tmp_path / "theirs",
        code_sha="abc",
    )  # fmt: skip
    assert theirs.manifest == ours.manifest


def test_an_offline_store_that_loses_rows_is_found_out(model_folder, entity_rows, tmp_path):
    repository = with_store(model_folder, "file")
    with pytest.raises(DataError, match="the offline store lost") as caught:
        build_training_set(
            repository, service="fares", entity_rows=entity_rows, label="tip",
            event_timestamp="asked_at", start=START, end=END, label_timestamp=None,
            validation=0.2, test=0.2, row=feature_row(repository, "fares"), out=tmp_path / "set",
        )  # fmt: skip
    assert "PolarsOfflineStore" in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_encoding(build):
    training_set = build()
    numeric, categorical, label = training_set.encode("train")
    count = training_set.manifest.rows["train"]
    assert training_set.row.numeric == ("rating", "trips", "weighted")
    assert training_set.row.categorical == ("sky",)
    assert numeric.shape == (count, 3)
    assert categorical.shape == (count, 1)
    assert label.dtype == np.float32
    assert set(label) == {0.0, 1.0}
    frame = training_set.read("train", columns=["rating"])
    assert np.isnan(numeric[:, 0]).sum() == frame["rating"].null_count()


def test_the_manifest_says_what_it_is(build, repository):
    manifest = build().manifest
    raw = json.loads((build().folder / "manifest.json").read_text())
    assert raw["content_hash"] == manifest.content_hash
    assert manifest.feature_service == "fares"
    assert manifest.feature_schema_version == repository.schema_version("fares")
    assert manifest.code_sha == "abc"
    assert manifest.label == "tip"
    assert manifest.event_timestamp == "asked_at"
    assert manifest.filtered_by_created is True
    assert manifest.time_range == (START.isoformat(), END.isoformat())


def test_building_again_gives_the_same_hash(build, entity_rows):
    first = build().manifest
    assert build().manifest == first
    shifted = entity_rows.with_columns(distance=pl.col("distance") + 1)
    assert build(shifted).manifest.content_hash != first.content_hash
    assert build(shifted).manifest.entity_rows_hash != first.entity_rows_hash


def test_the_hash_does_not_know_how_parquet_wrote_it(build):
    training_set = build()
    path = training_set.folder / "train.parquet"
    frame = pl.read_parquet(path)
    frame.write_parquet(path, compression="snappy", row_group_size=7, statistics=False)
    TrainingSet.open(training_set.folder).verify()


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.with_columns(pl.col("rating") * 1.0000001),
        lambda f: f.reverse(),
        lambda f: f.with_columns(sky=pl.col("sky").fill_null("")),
        lambda f: f.with_columns(pl.col("trips").cast(pl.Int32)),
        lambda f: f.head(f.height - 1),
        lambda f: f.rename({"sky": "skies"}),
    ],
)
def test_a_changed_file_is_found_out(build, change):
    training_set = build()
    path = training_set.folder / "train.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(DataError, match="manifest"):
        training_set.verify()


def test_what_the_content_hash_tells_apart():
    def hashed(values, kind=None):
        return content_hash(pl.DataFrame({"x": pl.Series(values, dtype=kind)}))

    assert hashed(["ab", "c"]) != hashed(["a", "bc"])
    assert hashed(["a", None]) != hashed(["a", ""])
    assert hashed([1.0, None]) != hashed([1.0, 0.0])
    assert hashed([1.0, None]) != hashed([1.0, float("nan")])
    assert hashed([1, 2], pl.Int64) != hashed([1, 2], pl.Int32)
    assert hashed([[1], [2, 3]]) != hashed([[1, 2], [3]])
    assert hashed([True, False]) != hashed([False, True])
    chunked = pl.concat([pl.Series(["a"]), pl.Series(["bc"])], rechunk=False)
    assert hashed(chunked) == hashed(["a", "bc"])
    assert hashed(pl.Series(["z", "a", "bc"])[1:]) == hashed(["a", "bc"])
    odd_nan = np.array([0x7FF8000000000123], dtype=np.uint64).view(np.float64)
    assert hashed(odd_nan) == hashed([float("nan")])
    assert hashed(["b", "a"], pl.Categorical) != hashed(["a", "b"], pl.Categorical)


def test_an_existing_folder_is_replaced_whole(build):
    training_set = build()
    (training_set.folder / "stale.parquet").write_bytes(b"")
    again = build(code_sha="def")
    assert sorted(p.name for p in again.folder.iterdir()) == [
        "manifest.json",
        "test.parquet",
        "train.parquet",
        "validation.parquet",
    ]
    assert os.listdir(again.folder.parent).count("set") == 1
    assert not [p for p in again.folder.parent.iterdir() if p.name.startswith(".set")]


@pytest.mark.parametrize("breaks", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_what_was_there(build, monkeypatch, breaks):
    before = build()
    real = pl.DataFrame.write_parquet

    def full(frame, path, *args, **kwargs):
        if "validation" in str(path):
            raise breaks
        return real(frame, path, *args, **kwargs)

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises((FeatureStoreError, KeyboardInterrupt)) as caught:
        build(code_sha="def")
    if isinstance(breaks, OSError):
        assert "No space left on device" in str(caught.value)
        assert "nothing was changed" in str(caught.value)
    TrainingSet.open(before.folder).verify()
    assert not [p for p in before.folder.parent.iterdir() if p.name.startswith(".set")]


def test_a_writer_that_is_really_out_of_room(build, tmp_path):
    """A folder that cannot be written to: one message, nothing left behind."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FeatureStoreError, match="cannot be written"):
        build(out=tmp_path / "file" / "set")


# --- what is told --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"label": "tips"}, SchemaError, "lack column 'tips'"),
        ({"event_timestamp": "at"}, SchemaError, "lack column 'at'"),
        ({"label_timestamp": "later"}, SchemaError, "lack column 'later'"),
        ({"label": "distance"}, DataError, "label 'distance' must be 0 or 1"),
        ({"label": "city"}, DataError, "label 'city' must be 0 or 1"),
        ({"start": END, "end": START}, ConfigError, "is empty"),
        (
            {"start": datetime(2030, 1, 1), "end": datetime(2031, 1, 1)},
            DataError,
            "no labelled row",
        ),
        ({"validation": 0.6, "test": 0.4}, ConfigError, "leave nothing to train on"),
        ({"service": "fees"}, ConfigError, "no feature service 'fees'"),
        ({"label_timestamp": "driver_id"}, SchemaError, "'driver_id' holds Int64, not time"),
    ],
)
def test_wrong_requests(build, tmp_path, changes, kind, told):
    with pytest.raises(kind) as caught:
        build(**changes)
    assert told in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_all_rows_at_one_moment_leave_no_training_rows(build, entity_rows):
    same = entity_rows.with_columns(asked_at=pl.lit(START), tip_known_at=pl.lit(START))
    with pytest.raises(DataError, match="no row is left for train"):
        build(same)


@pytest.mark.parametrize("column", ["driver_id", "city", "distance"])
def test_entity_rows_without_a_key_or_request_column(build, entity_rows, column):
    with pytest.raises(SchemaError, match=f"lacks column '{column}'"):
        build(entity_rows.drop(column))


def test_entity_rows_with_a_column_named_like_a_feature(build, entity_rows):
    with pytest.raises(SchemaError, match="column 'weighted' is named like a feature"):
        build(entity_rows.with_columns(weighted=pl.lit(0.0)))


def test_a_request_time_function_that_fails_names_its_line(model_folder, entity_rows, tmp_path):
    features = model_folder / "features.py"
    text = features.read_text().replace("rating * distance", "rating / (distance >= 1.0)")
    features.write_text(text)
    repository = open_repository(model_folder)
    with pytest.raises(DataError, match="weighted failed: ZeroDivisionError") as caught:
        build_training_set(
            repository, service="fares", entity_rows=entity_rows, label="tip",
            event_timestamp="asked_at", start=START, end=END, label_timestamp=None,
            validation=0.2, test=0.2, row=feature_row(repository, "fares"), out=tmp_path / "set",
        )  # fmt: skip
    line = 1 + text[: text.index("rating / ")].count("\n")
    assert f"features.py:{line}" in str(caught.value)


def test_folders_that_are_no_training_set(tmp_path, build):
    with pytest.raises(DataError, match=r"there is no manifest\.json"):
        TrainingSet.open(tmp_path)
    for content in ("", "[]", '{"format": 0}'):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(DataError, match="manifest"):
            TrainingSet.open(tmp_path)
    training_set = build()
    with pytest.raises(ConfigError, match="no split 'dev'"):
        training_set.read("dev")
    with pytest.raises(SchemaError, match="lacks column 'nothing'"):
        training_set.read("test", columns=["nothing"])
    path = training_set.folder / "test.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cut short"):
        training_set.verify()
