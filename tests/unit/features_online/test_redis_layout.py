"""The codec held against Feast's own protobuf code, which is the definition of the layout."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.features import redis_layout as layout

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
F64 = st.floats(allow_nan=False)
F32 = st.floats(width=32, allow_nan=False)
TEXT = st.text(max_size=300)

SCALARS = {
    "int64": INT64,
    "int32": INT32,
    "float64": F64,
    "float32": F32,
    "string": TEXT,
    "bytes": st.binary(max_size=300),
    "bool": st.booleans(),
    "timestamp": st.integers(-(2**40), 2**40),
}
PROTO_NAME = {"float64": "double", "float32": "float", "timestamp": "unix_timestamp"}


def proto_field(kind: str) -> str:
    base, _, _list = kind.partition("_list")
    return PROTO_NAME.get(base, base) + ("_list_val" if kind.endswith("_list") else "_val")


def proto(kind: str, value: object) -> Value:
    message = Value()
    if kind.endswith("_list"):
        target = getattr(message, proto_field(kind))
        target.val.extend(value)
        target.SetInParent()
    else:
        setattr(message, proto_field(kind), value)
    return message


@pytest.mark.parametrize("kind", sorted(SCALARS))
def test_scalars_are_feasts_bytes_and_come_back(kind):
    @given(SCALARS[kind])
    def check(value):
        wire = layout.encode_value(value, layout.KINDS[kind])
        assert wire == proto(kind, value).SerializeToString()
        found, back = layout.decode_value(wire)
        assert (found.name, back) == (kind, value)
        assert type(back) is type(value)

    check()


@pytest.mark.parametrize("kind", sorted(SCALARS))
def test_lists_are_feasts_bytes_and_come_back(kind):
    @given(st.lists(SCALARS[kind], max_size=40))
    def check(values):
        name = f"{kind}_list"
        wire = layout.encode_value(values, layout.KINDS[name])
        assert wire == proto(name, values).SerializeToString()
        found, back = layout.decode_value(wire)
        assert (found.name, back) == (name, values)

    check()


@pytest.mark.parametrize("kind", ["json", "uuid", "time_uuid", "decimal"])
def test_text_like_kinds(kind):
    message = Value()
    setattr(message, f"{kind}_val", '{"a": 1}')
    assert layout.encode_value('{"a": 1}', layout.KINDS[kind]) == message.SerializeToString()
    assert layout.decode_value(message.SerializeToString()) == (layout.KINDS[kind], '{"a": 1}')


def test_every_kind_has_the_number_feast_gives_it():
    for name, kind in layout.KINDS.items():
        assert Value.DESCRIPTOR.fields_by_number[kind.number].name == proto_field(name)


def test_nulls_are_nothing():
    assert layout.encode_value(None, layout.KINDS["int64"]) == b""
    assert layout.encode_value(math.nan, layout.KINDS["float64"]) == b""
    assert python_values_to_proto_values([math.nan, 1.0], ValueType.DOUBLE)[0] == Value()
    for nothing in (None, b"", Value(null_val=0).SerializeToString()):
        assert layout.decode_value(nothing) == (None, None)
    not_a_time = Value(unix_timestamp_val=layout.NULL_TIMESTAMP).SerializeToString()
    assert layout.decode_value(not_a_time) == (None, None)


@given(st.binary(max_size=40))
def test_any_bytes_either_decode_or_say_why_not(data):
    try:
        kind, value = layout.decode_value(data)
    except ValueError:
        return
    assert (kind is None) == (value is None)


@pytest.mark.parametrize("kind", sorted(SCALARS))
def test_a_value_cut_short_is_an_error(kind):
    sample = {"string": "hello", "bytes": b"hello", "bool": True}.get(kind, 1_000_000)
    wire = layout.encode_value(sample, layout.KINDS[kind])
    with pytest.raises(ValueError):
        layout.decode_value(wire[:-1])


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)))
def test_event_times_are_feasts_bytes(moment):
    aware = moment.replace(tzinfo=UTC)
    expected = Timestamp()
    expected.FromDatetime(aware)
    micros = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    wire = layout.encode_event_time(micros)
    assert wire == expected.SerializeToString()
    assert layout.decode_event_time(wire) == micros


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_fields_are_feasts_murmur(view, feature):
    assert layout.feature_field(view, feature) == _mmh3(f"{view}:{feature}")


KEY_VALUES = {
    "int64": (INT64, "int64_val"),
    "int32": (INT32, "int32_val"),
    "string": (TEXT, "string_val"),
    "bytes": (st.binary(max_size=50), "bytes_val"),
    "timestamp": (INT64, "unix_timestamp_val"),
}


@st.composite
def entities(draw):
    names = draw(st.lists(st.text(min_size=1, max_size=12), min_size=0, max_size=4, unique=True))
    kinds = [draw(st.sampled_from(sorted(KEY_VALUES))) for _ in names]
    return {n: (k, draw(KEY_VALUES[k][0])) for n, k in zip(names, kinds, strict=True)}


@given(entities(), st.text(min_size=1, max_size=20))
def test_keys_are_feasts_keys(values, project):
    message = EntityKey(
        join_keys=list(values),
        entity_values=[Value(**{KEY_VALUES[k][1]: v}) for k, v in values.values()],
    )
    assert layout.entity_key(project, values) == _redis_key(project, message, 3)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("a", "int64"), (1.5, "int64"), (2**40, "int32"), (5, "string"), (1, "bool")],
)
def test_a_key_value_of_another_type_is_refused(value, kind):
    with pytest.raises(Exception) as caught:
        layout.key_value(value, kind)
    assert isinstance(caught.value, ValueError | TypeError | AttributeError | layout.struct.error)
