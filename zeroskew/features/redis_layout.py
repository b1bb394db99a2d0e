"""Feast's Redis layout, byte for byte: where an entity's values are and how each one is written.

    key    u32le number of join keys
           | per join key, sorted: u32le 2, u32le length, UTF-8 name
           | per value: u32le value type, u32le length, bytes
           | UTF-8 project name
    field  Murmur3 (32 bit, seed 0, little endian) of "view:feature"; `_ts:view` for the event time
    value  `feast.types.Value` on the wire; nothing at all for a null
    time   `google.protobuf.Timestamp` on the wire

All views of one entity share one hash. This is entity key serialization version 3 of Feast 0.67
(`feast/infra/key_encoding_utils.py`, `online_stores/redis.py`); the tests hold this module against
that code. Standard library and mmh3 only: it runs inside the model server.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mmh3

NULL_TIMESTAMP = -(1 << 63)
"""What Feast writes for a null UNIX_TIMESTAMP that came as NaT."""

_MASK64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Kind:
    """One Feast value type: its field number in `feast.types.Value` and how its bytes read."""

    name: str
    number: int
    """Field number in the Value message."""
    form: str
    """`varint`, `bool`, `f64`, `f32`, `text`, `bytes`; of the elements if `repeated`."""
    repeated: bool = False
    bits: int = 64
    """Width of the integer a varint stands for."""

    @property
    def tag(self) -> bytes:
        """Key of the field on the wire (number and wire type)."""
        wire = (
            2 if self.repeated else {"varint": 0, "bool": 0, "f64": 1, "f32": 5}.get(self.form, 2)
        )
        return varint(self.number << 3 | wire)


def varint(value: int) -> bytes:
    """Protobuf base-128 varint of a signed 64-bit integer (negatives take ten bytes)."""
    value &= _MASK64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Unsigned value of the varint at `position`, and where it ends.

    Raises `IndexError` if `data` ends inside it, `ValueError` if it is longer than ten bytes.
    """
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & _MASK64, position
        shift += 7
        if shift > 63:
            raise ValueError("varint of more than ten bytes")


def _signed(value: int, bits: int = 64) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("bytes", 1, "bytes"),
        Kind("string", 2, "text"),
        Kind("int32", 3, "varint", bits=32),
        Kind("int64", 4, "varint"),
        Kind("float64", 5, "f64"),
        Kind("float32", 6, "f32"),
        Kind("bool", 7, "bool"),
        Kind("timestamp", 8, "varint"),
        Kind("bytes_list", 11, "bytes", repeated=True),
        Kind("string_list", 12, "text", repeated=True),
        Kind("int32_list", 13, "varint", repeated=True, bits=32),
        Kind("int64_list", 14, "varint", repeated=True),
        Kind("float64_list", 15, "f64", repeated=True),
        Kind("float32_list", 16, "f32", repeated=True),
        Kind("bool_list", 17, "bool", repeated=True),
        Kind("timestamp_list", 18, "varint", repeated=True),
        Kind("json", 32, "text"),
        Kind("uuid", 36, "text"),
        Kind("time_uuid", 37, "text"),
        Kind("decimal", 44, "text"),
    )
}
"""Value types by name. The name is Feast's in lower case, with floats called by their width,
`timestamp` (UTC seconds) for UNIX_TIMESTAMP."""

_BY_TAG: Mapping[bytes, Kind] = {kind.tag: kind for kind in KINDS.values()}


def encode_value(value: Any, kind: Kind) -> bytes:
    """A `feast.types.Value` as Feast serialises it; `None` and NaN are no bytes at all.

    A scalar of `kind` (an integer of UTC seconds for a timestamp), or for a repeated kind a
    sequence of them. Raises `struct.error`, `TypeError` or `OverflowError` on what cannot be one.
    """
    if value is None or (kind.form in ("f64", "f32") and not kind.repeated and value != value):
        return b""
    if not kind.repeated:
        return kind.tag + _encode_scalar(value, kind)
    if kind.form in ("text", "bytes"):
        body = b"".join(b"\x0a" + _encode_scalar(item, kind) for item in value)
    else:
        if kind.form in ("f64", "f32"):
            packed = struct.pack(f"<{len(value)}{'d' if kind.form == 'f64' else 'f'}", *value)
        else:
            packed = b"".join(_encode_scalar(item, kind) for item in value)
        body = b"\x0a" + varint(len(packed)) + packed if packed else b""
    return kind.tag + varint(len(body)) + body


def _encode_scalar(value: Any, kind: Kind) -> bytes:
    form = kind.form
    if form == "f64":
        return struct.pack("<d", value)
    if form == "f32":
        return struct.pack("<f", value)
    if form == "bool":
        return b"\x01" if value else b"\x00"
    if form == "varint":
        number = int(value)
        if not -(1 << (kind.bits - 1)) <= number < 1 << (kind.bits - 1):
            raise OverflowError(f"{number} does not fit {kind.name}")
        return varint(number)
    data = value.encode("utf-8") if isinstance(value, str) else bytes(value)
    return varint(len(data)) + data


def decode_value(data: bytes | None) -> tuple[Kind | None, Any]:
    """What stands in one field: its kind and Python value; `(None, None)` for a null or nothing.

    Raises `ValueError` on bytes that are no Value, or one of a kind this library does not read.
    """
    if not data:
        return None, None
    try:
        _, after = read_varint(data, 0)
        kind = _BY_TAG.get(data[:after])
        if kind is None:
            if data[:after] == b"\x98\x01":  # null_val, the explicit null of newer writers
                return None, None
            raise ValueError(f"no known Feast value: tag {data[:after].hex()}")
        value, after = _DECODERS["list" if kind.repeated else kind.form](data, after, kind)
        if after != len(data):
            raise ValueError(f"{len(data) - after} bytes after the value")
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"cut short or not a Feast value: {error}") from None
    if kind.name == "timestamp" and value == NULL_TIMESTAMP:
        return None, None
    return kind, value


def _decode_varint(data: bytes, at: int, kind: Kind) -> tuple[int, int]:
    value, at = read_varint(data, at)
    return _signed(value, kind.bits), at


def _decode_bool(data: bytes, at: int, kind: Kind) -> tuple[bool, int]:
    value, at = read_varint(data, at)
    return value != 0, at


def _decode_f64(data: bytes, at: int, kind: Kind) -> tuple[float, int]:
    return struct.unpack_from("<d", data, at)[0], at + 8


def _decode_f32(data: bytes, at: int, kind: Kind) -> tuple[float, int]:
    return struct.unpack_from("<f", data, at)[0], at + 4


def _decode_bytes(data: bytes, at: int, kind: Kind) -> tuple[bytes, int]:
    length, at = read_varint(data, at)
    if at + length > len(data):
        raise IndexError("a string is cut short")
    return data[at : at + length], at + length


def _decode_text(data: bytes, at: int, kind: Kind) -> tuple[str, int]:
    value, at = _decode_bytes(data, at, kind)
    return value.decode("utf-8"), at


def _decode_list(data: bytes, at: int, kind: Kind) -> tuple[list[Any], int]:
    body, end = _decode_bytes(data, at, kind)
    decode = _DECODERS[kind.form]
    items: list[Any] = []
    at = 0
    while at < len(body):
        mark, at = body[at], at + 1
        if kind.form in ("text", "bytes"):
            item, at = decode(body, at, kind)
            items.append(item)
        elif mark == 0x0A:  # packed, as every current writer does
            packed, at = _decode_bytes(body, at, kind)
            inner = 0
            while inner < len(packed):
                item, inner = decode(packed, inner, kind)
                items.append(item)
        else:  # one element, unpacked
            item, at = decode(body, at, kind)
            items.append(item)
    return items, end


_DECODERS: Mapping[str, Callable[[bytes, int, Kind], tuple[Any, int]]] = {
    "varint": _decode_varint,
    "bool": _decode_bool,
    "f64": _decode_f64,
    "f32": _decode_f32,
    "text": _decode_text,
    "bytes": _decode_bytes,
    "list": _decode_list,
}


def encode_event_time(micros: int) -> bytes:
    """`google.protobuf.Timestamp` of microseconds since the epoch (may be negative)."""
    seconds, rest = divmod(micros, 1_000_000)
    out = b"\x08" + varint(seconds) if seconds else b""
    return out + b"\x10" + varint(rest * 1000) if rest else out


def decode_event_time(data: bytes) -> int:
    """Microseconds since the epoch; nanoseconds are cut off. No bytes are the epoch itself.

    Raises `ValueError` on bytes that are no Timestamp.
    """
    if len(data) == 6 and data[0] == 0x08 and data[5] < 0x80:
        # Whole seconds of 1978 to 3058, the usual: five bytes of varint.
        _, a, b, c, d, e = data
        if a & b & c & d & 0x80:
            low = a & 0x7F | (b & 0x7F) << 7 | (c & 0x7F) << 14
            return (low | (d & 0x7F) << 21 | e << 28) * 1_000_000
    seconds = nanos = at = 0
    try:
        while at < len(data):
            tag, at = data[at], at + 1
            value, at = read_varint(data, at)
            if tag == 0x08:
                seconds = _signed(value)
            elif tag == 0x10:
                nanos = _signed(value, 32)
            else:
                raise ValueError(f"no Timestamp: tag {tag:#x}")
    except IndexError:
        raise ValueError("a Timestamp is cut short") from None
    return seconds * 1_000_000 + nanos // 1000


def feature_field(view: str, feature: str) -> bytes:
    """Hash field of a feature: Murmur3 of "view:feature", four bytes."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def event_time_field(view: str) -> bytes:
    """Hash field of a view's event time."""
    return f"_ts:{view}".encode()


_KEY_TYPE = {"bytes": 1, "string": 2, "int32": 3, "int64": 4, "timestamp": 8}
KEY_KINDS = frozenset(_KEY_TYPE)
"""Kinds that Feast's entity keys can have."""


def key_head(join_keys: Sequence[str]) -> bytes:
    """The part of a key that only the names decide. `join_keys` must be sorted."""
    out = struct.pack("<I", len(join_keys))
    for name in join_keys:
        encoded = name.encode("utf-8")
        out += struct.pack("<II", 2, len(encoded)) + encoded
    return out


def key_value(value: Any, kind: str) -> bytes:
    """One entity value inside a key, with its type and length.

    Raises `TypeError`, `ValueError` or `struct.error` on a value that is not of that kind.
    """
    if kind in ("int64", "timestamp", "int32"):
        number = int(value)
        if number != value and not isinstance(value, str):
            raise ValueError(f"{value!r} is no integer")
        data = struct.pack("<i" if kind == "int32" else "<q", number)
    elif kind == "string":
        data = value.encode("utf-8")
    elif kind == "bytes":
        data = bytes(value)
    else:
        raise ValueError(f"an entity cannot be a {kind}")
    return struct.pack("<II", _KEY_TYPE[kind], len(data)) + data


def entity_key(project: str, values: Mapping[str, tuple[str, Any]]) -> bytes:
    """The Redis key of one entity; `values` is join key → (kind, value)."""
    names = sorted(values)
    body = b"".join(key_value(values[name][1], values[name][0]) for name in names)
    return key_head(names) + body + project.encode("utf-8")
