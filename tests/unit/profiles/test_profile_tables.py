"""Whole tables: every container gives the same profile; refusals are clear; verdicts."""

import datetime as dt
import decimal
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from zeroskew.errors import DataError, SchemaError
from zeroskew.profiles import MIN_SAMPLES, Profile, compare, drift, psi

RAW = {
    "amount": [1.5, None, 3.0, 2.0, 2.0],
    "count": [1, 2, 3, 2, 2],
    "flag": [True, False, True, True, False],
    "name": ["a", None, "b", "a", "a"],
    "when": [dt.datetime(2024, 1, d, tzinfo=dt.UTC) for d in range(1, 6)],
}


def test_every_container_gives_the_same_profile():
    frame = pl.DataFrame(RAW)
    assert frame.schema["when"] == pl.Datetime("us", "UTC")
    expected = Profile.learn(RAW)
    containers = {
        "polars": frame,
        "chunks": pl.concat([frame[:2], frame[2:]], rechunk=False),
        "polars columns": dict(zip(frame.columns, frame.get_columns(), strict=True)),
        "pandas": frame.to_pandas(),
        "pandas nullable": frame.to_pandas().convert_dtypes(),
        "pandas arrow": frame.to_pandas(use_pyarrow_extension_array=True),
        "arrow": frame.to_arrow(),
        "categorical": frame.with_columns(pl.col("name").cast(pl.Categorical)),
        "dictionary": frame.with_columns(pl.col("name").cast(pl.Categorical)).to_arrow(),
        "numpy": {name: frame[name].to_numpy() for name in frame.columns},
        "arrow columns": {n: frame[n].to_arrow() for n in frame.columns},
    }
    for name, container in containers.items():
        assert Profile.learn(container) == expected, name
        assert expected.measure(container) == expected, name
    assert expected.columns["amount"].nulls == 1
    assert expected.columns["when"].low == dt.datetime(2024, 1, 1, tzinfo=dt.UTC).timestamp()


def test_integers_with_nulls_decimals_dates_and_spans_are_numbers():
    frame = pl.DataFrame(
        {
            "i": pl.Series([1, None, 3], dtype=pl.Int64),
            "d": [decimal.Decimal("1.5"), None, decimal.Decimal("2.5")],
            "day": [dt.date(1970, 1, 2), None, dt.date(1970, 1, 3)],
            "span": [dt.timedelta(seconds=5), None, dt.timedelta(seconds=7)],
        }
    )
    for table in (frame, frame.to_arrow(), frame.to_pandas(), frame.to_dict(as_series=False)):
        profile = Profile.learn(table)
        for name, low, high in (("i", 1, 3), ("d", 1.5, 2.5), ("day", 86400, 172800)):
            column = profile.columns[name]
            assert (column.smallest, column.largest, column.nulls) == (low, high, 1), name
        assert profile.columns["span"].smallest == 5


def test_a_column_without_any_value():
    for empty in ([None, None], pl.Series([None, None]), pa.nulls(2), pd.Series([None, None])):
        reference = Profile.learn({"x": empty})
        assert reference.columns["x"].nulls == 2
        assert reference.measure({"x": [1, "a"]}).columns["x"].unseen == 2
    floats = pl.Series([None, None], dtype=pl.Float64)
    assert Profile.learn({"x": floats}).columns["x"].kind == "numeric"


def test_no_rows_and_no_columns():
    empty = Profile.learn(pl.DataFrame(schema={"x": pl.Float64, "y": pl.String}))
    assert empty.rows == 0
    assert Profile.from_json(json.dumps(empty.to_json(), allow_nan=False)) == empty
    found = compare(empty, empty.measure({"x": [1.0], "y": ["a"]}))
    assert found["x"].verdict == found["y"].verdict == "inconclusive"
    assert math.isnan(found["x"].psi)
    assert Profile.learn({}).rows == 0


def test_refusals_name_the_column():
    reference = Profile.learn({"x": [1.0, 2.0], "y": ["a", "b"]})
    with pytest.raises(SchemaError, match=r"`x` holds text .*'oops'"):
        reference.measure({"x": ["oops", "1"], "y": ["a", "b"]})
    with pytest.raises(SchemaError, match="missing: y"):
        reference.measure({"x": [1.0]})
    with pytest.raises(SchemaError, match=r"`b` has 1 rows, `a` has 2"):
        Profile.learn({"a": [1, 2], "b": [1]})
    with pytest.raises(SchemaError, match="2 dimensions"):
        Profile.learn({"a": np.zeros((2, 2))})
    with pytest.raises(SchemaError, match="complex128"):
        Profile.learn({"a": np.zeros(2, complex)})
    with pytest.raises(SchemaError, match="more than once"):
        Profile.learn(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(SchemaError, match="no table"):
        Profile.learn(5)
    with pytest.raises(SchemaError, match="not a sequence"):
        Profile.learn({"a": "text"})


def test_profiles_with_other_bins_are_not_compared_or_merged():
    one = Profile.learn({"x": [1.0, 2.0, 3.0]})
    other = Profile.learn({"x": [1.0, 2.0, 4.0]})
    text = Profile.learn({"x": ["a", "b", "c"]})
    for act in (compare, Profile.merge):
        with pytest.raises(DataError, match=r"`x` was counted with other bins"):
            act(one, other)
        with pytest.raises(DataError, match=r"numeric in one profile and categorical"):
            act(one, text)
    with pytest.raises(DataError, match="different columns do not merge: y"):
        one.merge(Profile.learn({"x": [1.0, 2.0, 3.0], "y": [1, 1, 1]}))
    with pytest.raises(DataError, match="other bins"):
        psi(one.columns["x"], other.columns["x"])


def test_verdicts_follow_the_limits():
    reference = Profile.learn({"x": np.arange(100_000.0)})

    def moved(by, rows=50_000):
        column = 99_999 * np.linspace(0, 1, rows) ** (1 + by)
        return drift(reference.columns["x"], reference.measure({"x": column}).columns["x"])

    assert moved(0).verdict == "stable"
    assert moved(0.5).verdict == "moderate"
    assert 0.1 < moved(0.5).psi < 0.25
    assert moved(1).verdict == "significant"
    assert moved(1, rows=MIN_SAMPLES - 1).verdict == "inconclusive"
    assert moved(1, rows=MIN_SAMPLES).verdict == "significant"
    few = Profile.learn({"x": np.arange(499.0)})
    many = few.measure({"x": np.arange(10_000.0)})
    assert compare(few, many)["x"].verdict == "inconclusive", "a small reference counts as well"


def test_chance_alone_is_never_called_drift():
    rng = np.random.default_rng(3)
    reference = Profile.learn({"x": rng.integers(0, 90, 20_000).astype(str)})
    verdicts = [
        compare(reference, reference.measure({"x": rng.integers(0, 90, 600).astype(str)}))["x"]
        for _ in range(100)
    ]
    assert max(d.psi for d in verdicts) > 0.1, "noise over ninety categories looks like drift"
    assert {d.verdict for d in verdicts} <= {"stable", "inconclusive"}
    gone = reference.measure({"x": np.full(600, "5")})
    assert compare(reference, gone)["x"].verdict == "significant"


def test_compare_leaves_out_what_only_one_side_has():
    reference = Profile.learn({"x": [1.0], "y": [1.0]})
    assert list(compare(reference, reference.select(["y", "z"]))) == ["y"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw.update(format=9), "format 9"),
        (lambda raw: raw.update(rows=-1), "`rows`: -1 is no count"),
        (lambda raw: raw.pop("columns"), "no profile"),
        (lambda raw: raw["columns"]["x"].update(counts=[1]), "column `x`: 1 edges make 2 bins"),
        (lambda raw: raw["columns"]["x"].update(edges=["a"]), "column `x`: could not convert"),
        (lambda raw: raw["columns"]["x"].pop("edges"), "column `x`: 'edges' is missing"),
        (lambda raw: raw["columns"]["x"].update(edges=[math.inf]), "finite"),
        (lambda raw: raw["columns"]["x"].update(kind="odd"), "'odd' is missing or unknown"),
        (lambda raw: raw["columns"].update(x=3), "column `x`"),
        (lambda raw: raw["columns"]["y"].update(values=["a", "a"]), "each once"),
        (lambda raw: raw["columns"]["y"].update(counts=[1, True]), "True is no count"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, change, says):
    raw = Profile.learn({"x": [1.0, 2.0], "y": ["a", "b"]}).to_json()
    change(raw)
    (tmp_path / "p.json").write_text(json.dumps(raw))
    with pytest.raises(DataError) as caught:
        Profile.load(tmp_path / "p.json")
    assert says in str(caught.value)
    assert "p.json" in str(caught.value)


def test_files_are_written_whole_or_not_at_all(tmp_path):
    profile = Profile.learn({"x": ["\ud800", "b"]})
    path = tmp_path / "deep" / "profile.json"
    profile.save(path)
    assert Profile.load(path) == profile
    assert [p.name for p in path.parent.iterdir()] == ["profile.json"]
    with pytest.raises(DataError, match="no such profile"):
        Profile.load(tmp_path / "none.json")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="not valid JSON"):
        Profile.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not valid JSON"):
        Profile.load(path)
    with pytest.raises(DataError, match="cannot be written"):
        profile.save(path / "below-a-file.json")


def test_serving_pays_for_numpy_only():
    code = (
        "import sys, zeroskew.profiles; "
        "heavy = {'polars', 'pandas', 'pyarrow', 'feast', 'torch', 'pydantic', 'jinja2', 'rich'}; "
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_pandas_categorical_counts_only_what_is_there():
    series = pd.Series(pd.Categorical(["a", None, "a"], categories=["never", "a"]))
    column = Profile.learn({"x": series}).columns["x"]
    assert column.nulls == 1
    assert column.values == ("a",)


@pytest.mark.parametrize(
    "values",
    [["1", 1, True, None], [None, "a", math.nan], [decimal.Decimal("NaN"), "a"], [[1], "a", None]],
)
def test_mixed_objects_are_the_same_in_pandas_numpy_and_lists(values):
    expected = Profile.learn({"x": values})
    array = np.empty(len(values), object)
    array[:] = values
    assert Profile.learn({"x": array}) == expected
    assert Profile.learn({"x": pd.Series(array)}) == expected
