"""features.py, model.yaml and the tables say the same."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

import pipelines.flight_delay as folder
from pipelines.flight_delay import transforms
from zeroskew.features.definitions import Definitions, load_definitions
from zeroskew.model_config import load_model_config

FOLDER = Path(str(folder.__file__)).parent
DTYPES = {"Float64": pl.Float64, "Int64": pl.Int64, "String": pl.String}


@pytest.fixture(scope="module")
def features() -> Definitions:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROSKEW_DATA", "/somewhere")
        return load_definitions(FOLDER)


@pytest.fixture(scope="module")
def views(features: Definitions) -> list:
    return list(features.feature_views.values())


@pytest.fixture(scope="module")
def on_demand(features: Definitions) -> list:
    return list(features.on_demand.values())


def names_of(view) -> list[str]:
    # `schema` comes in the order of a set; `features` as written.
    return [feature.name for feature in view.features]


def test_every_view_finds_its_columns(views, tables):
    for view in views:
        source = view.batch_source
        table = tables[source.name]
        assert source.path == f"/somewhere/flight_delay/{source.name}.parquet"
        assert set(view.entities) | {source.timestamp_field} <= set(table.columns)
        for feature in view.features:
            assert table.schema[feature.name] == DTYPES[str(feature.dtype)], feature.name
        if source.created_timestamp_column:
            assert table.schema[source.created_timestamp_column] == pl.Datetime("us", "UTC")


def test_every_table_and_column_is_used(views, tables):
    """A source column that no view offers would be dead weight, or a typo."""
    offered: dict[str, set[str]] = {}
    for view in views:
        offered.setdefault(view.batch_source.name, set()).update(names_of(view), view.entities)
    assert set(offered) == set(tables) - {"entity_rows"}
    for name, columns in offered.items():
        assert set(tables[name].columns) - columns <= {"event_timestamp", "created_timestamp"}


def test_feature_names_are_unique(views, on_demand):
    names = [name for view in [*views, *on_demand] for name in names_of(view)]
    assert len(names) == len(set(names))


def test_ttl_is_at_least_the_time_between_two_rows(views, tables):
    """A TTL below the median distance of a key's rows would blank most of the features."""
    for view in views:
        if not view.ttl:
            continue
        table = tables[view.batch_source.name]
        gaps = table.select(
            pl.col("event_timestamp").diff().over(view.entities).drop_nulls()
        ).to_series()
        assert timedelta(microseconds=gaps.dt.total_microseconds().median()) <= view.ttl


def test_request_time_features_are_the_plain_functions(on_demand):
    inputs = {
        "scheduled_minute": [60],
        "scheduled_weekday": [7],
        "distance": [800],
        "scheduled_block": [150],
        "scheduled_departure": [7200],
        "aircraft_last_landed": [0],
        "aircraft_last_block": [30.0],
    }
    assert {view.name for view in on_demand} == {
        "scheduled_time",
        "planned_flight",
        "aircraft_readiness",
    }
    for view in on_demand:
        plain = getattr(transforms, view.name)
        assert view.feature_transformation.udf is plain
        assert list(plain(inputs)) == names_of(view)


def test_request_columns_are_those_of_the_questions(features, tables):
    config = load_model_config(FOLDER)
    rows = tables["entity_rows"]
    declared = {field.name for field in features.sources["timetable"].schema}
    assert set(config.entity_rows.request_columns) == declared
    assert declared <= set(rows.columns)
    said = config.entity_rows
    assert {said.label, said.event_timestamp, said.label_timestamp} <= set(rows.columns)
    assert set(config.evaluation.slices) <= set(rows.columns)
    assert rows[said.label].unique().sort().to_list() == [0, 1]


def test_model_yaml_names_existing_features_only(views, on_demand):
    config = load_model_config(FOLDER)
    names = {name for view in [*views, *on_demand] for name in names_of(view)}
    assert set(config.validation.columns) <= names
    assert set(config.validation.ignore) <= names
    assert set(config.inputs.exclude) | set(config.inputs.categorical) <= names


def test_the_model_reads_neither_the_answer_nor_a_moment(features):
    config = load_model_config(FOLDER)
    service = {
        feature.name
        for projection in features.services["flight_delay"].feature_view_projections
        for feature in projection.features
    }
    assert not service & {"late", "label_timestamp", "event_timestamp", "arr_delay", "dep_delay"}
    assert service & {"aircraft_last_landed", "scheduled_departure"} <= set(config.inputs.exclude)


def test_gates_hold_for_the_raw_sources(tables, views):
    """Ranges of model.yaml against every row of the sources, joined or not."""
    gates = load_model_config(FOLDER).validation
    checked = 0
    for view in views:
        table = tables[view.batch_source.name]
        for name, gate in gates.columns.items():
            if name not in names_of(view):
                continue
            column = table[name].drop_nulls()
            below = 0 if gate.min is None else int((column < gate.min).sum())
            above = 0 if gate.max is None else int((column > gate.max).sum())
            outside = below + above
            allowed = gate.max_out_of_range
            allowed = gates.max_out_of_range if allowed is None else allowed
            assert outside <= allowed * column.len(), name
            checked += 1
            if gate.categories:
                assert set(column) <= set(gate.categories), name
    assert checked > 25
