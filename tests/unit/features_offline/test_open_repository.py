"""Opening a model's folder: what is applied when, what hashes the same, what is told when wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zeroskew.errors import ConfigError, DataError, FeatureStoreError
from zeroskew.features import definition_hashes, definitions
from zeroskew.features.repository import feature_row, open_repository


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def version(folder: Path, service: str = "fares") -> str:
    return open_repository(folder).schema_version(service)


def test_features_and_their_types_in_service_order(model_folder):
    repository = open_repository(model_folder)
    assert repository.project == "taxi"
    assert list(repository.feature_types("fares").items()) == [
        ("rating", "float64"),
        ("trips", "int64"),
        ("sky", "string"),
        ("weighted", "float64"),
    ]
    assert repository.feature_types("plain") == {"rating": "float64"}
    assert set(repository.definitions.feature_views) == {"stats", "weather"}
    assert set(repository.definitions.on_demand) == {"weighted"}
    assert set(repository.definitions.services) == {"fares", "plain"}
    assert set(repository.definitions.entities) == {"driver", "city"}


def test_the_feature_row(model_folder):
    repository = open_repository(model_folder)
    row = feature_row(repository, "fares", exclude=["weighted"], categorical=["trips"])
    assert row.numeric == ("rating",)
    assert row.categorical == ("trips", "sky")
    for said in ({"exclude": ["nothing"]}, {"categorical": ["nothing"]}):
        with pytest.raises(ConfigError, match="has no feature 'nothing'") as caught:
            feature_row(repository, "fares", **said)
        assert "rating, trips, sky, weighted" in str(caught.value)
    with pytest.raises(ConfigError, match="rating is a float64 and cannot be a category"):
        feature_row(repository, "fares", categorical=["rating"])
    with pytest.raises(ConfigError, match="leaves no input"):
        feature_row(repository, "plain", exclude=["rating"])


def test_the_registry_is_written_when_definitions_change_and_only_then(model_folder):
    registry = Path(os.environ["ZEROSKEW_REGISTRY"])
    open_repository(model_folder)
    before = registry.read_bytes()
    open_repository(model_folder)
    assert registry.read_bytes() == before
    edit(model_folder / "features.py", "hours=6", "hours=7")
    repository = open_repository(model_folder)
    assert registry.read_bytes() != before
    assert repository.store.get_feature_view("stats").ttl.total_seconds() == 7 * 3600


def test_what_is_no_longer_defined_leaves_the_registry(model_folder):
    open_repository(model_folder)
    features = model_folder / "features.py"
    edit(features, 'plain = FeatureService(name="plain", features=[stats[["rating"]]])\n', "")
    edit(features, "[stats, weather, weighted]", "[stats, weighted]")
    text = features.read_text()
    cut = text.index("weather = FeatureView"), text.index("request = RequestSource")
    features.write_text(text[: cut[0]] + text[cut[1] :])
    store = open_repository(model_folder).store
    assert [s.name for s in store.list_feature_services()] == ["fares"]
    assert [v.name for v in store.list_feature_views()] == ["stats"]
    assert "weather_source" not in [s.name for s in store.list_data_sources()]
    assert [v.name for v in store.list_on_demand_feature_views()] == ["weighted"]


def test_another_project_in_the_same_registry_is_left_alone(model_folder, tmp_path):
    open_repository(model_folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "features.py").write_text((model_folder / "features.py").read_text())
    (other / "feature_store.yaml").write_text(
        (model_folder / "feature_store.yaml").read_text().replace("project: taxi", "project: bus")
    )
    open_repository(other)
    assert open_repository(model_folder).store.get_feature_service("fares").name == "fares"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hours=6", "hours=7"),
        ("rating * distance", "rating + distance"),
        ('Field(name="trips", dtype=Int64)', 'Field(name="trips", dtype=Float64)'),
        ('field_mapping={"trip_count": "trips"}', 'field_mapping={"unused": "trips"}'),
        ('created_timestamp_column="created",', ""),
        ("[stats, weather, weighted]", "[stats, weighted]"),
        ("[stats, weather, weighted]", "[weather, stats, weighted]"),
    ],
)
def test_the_schema_version_follows_what_decides_a_value(model_folder, old, new):
    before = version(model_folder)
    edit(model_folder / "features.py", old, new)
    assert version(model_folder) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# A comment that changes nothing.", "# Another one."),
        ('    return {\n        "weighted": [', '    return {"weighted": ['),
        ('name="driver", join_keys', 'name="driver", description="who drives", join_keys'),
        ("/stats.parquet", "/./stats.parquet"),
        ('features=[stats[["rating"]]]', "features=[weather]"),
    ],
)
def test_the_schema_version_ignores_the_rest(model_folder, old, new):
    before = version(model_folder)
    edit(model_folder / "features.py", old, new)
    assert version(model_folder) == before


def test_the_schema_version_follows_code_beside_features_py(model_folder):
    """A function that the request-time function calls counts, in whichever file it stands."""
    (model_folder / "prices.py").write_text(
        "RATE = 2\n\ndef price(x):\n    return double(x)\n\ndef double(x):\n    return RATE * x\n"
        "\ndef unrelated(x):\n    return x\n"
    )
    features = model_folder / "features.py"
    edit(features, "DATA = ", "from . import prices\n\nDATA = ")
    edit(features, "rating * distance", "prices.price(rating) * distance")
    seen = [version(model_folder)]
    edit(model_folder / "prices.py", "RATE * x", "RATE + x")
    seen.append(version(model_folder))
    edit(model_folder / "prices.py", "RATE = 2", "RATE = 3")
    seen.append(version(model_folder))
    assert len(set(seen)) == 3
    edit(model_folder / "prices.py", "    return x\n", "    return -x\n")
    assert version(model_folder) == seen[-1]


def test_hashes_are_the_same_in_every_process(model_folder):
    """Sets and dicts are ordered differently under every PYTHONHASHSEED."""
    code = (
        "import sys, pathlib; from zeroskew.features.repository import open_repository as o;"
        "from zeroskew.features.definition_hashes import definitions_hash as d;"
        "from zeroskew.features.definitions import load_definitions as l;"
        "print(o(sys.argv[1]).schema_version('fares'), d(l(pathlib.Path(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(model_folder)],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    mine = definition_hashes.definitions_hash(definitions.load_definitions(model_folder))
    assert done.stdout.strip().splitlines()[-1] == f"{version(model_folder)} {mine}"


def test_two_models_may_both_have_a_transforms_module(model_folder, tmp_path):
    for folder, factor in ((model_folder, 2), (tmp_path / "second", 3)):
        folder.mkdir(exist_ok=True)
        (folder / "transforms.py").write_text(f"FACTOR = {factor}\n")
        text = (model_folder / "features.py").read_text()
        if "import transforms" not in text:
            text = text.replace("DATA = ", "import transforms\nDATA = ")
        (folder / "features.py").write_text(text)
    first = definitions.load_definitions(model_folder)
    second = definitions.load_definitions(tmp_path / "second")
    factors = [
        d.on_demand["weighted"].feature_transformation.udf.__globals__["transforms"].FACTOR
        for d in (first, second)
    ]
    assert factors == [2, 3]
    assert "transforms" not in sys.modules


# --- what is told --------------------------------------------------------------------------------


def complaint(folder: Path, kind=ConfigError) -> str:
    with pytest.raises(kind) as caught:
        open_repository(folder)
    assert caught.value.where
    return str(caught.value)


def test_a_folder_without_its_files(tmp_path, model_folder):
    text = complaint(tmp_path)
    assert f"{tmp_path}: there is no feature_store.yaml" in text
    (model_folder / "features.py").unlink()
    assert "there is no features.py" in complaint(model_folder)


def test_a_variable_that_is_not_set(model_folder, monkeypatch):
    monkeypatch.delenv("ZEROSKEW_REGISTRY")
    text = complaint(model_folder)
    assert (
        "feature_store.yaml:3: `registry` names the environment variable ZEROSKEW_REGISTRY" in text
    )
    assert "export ZEROSKEW_REGISTRY=" in text


def test_a_variable_that_features_py_wants(model_folder, monkeypatch):
    monkeypatch.delenv("ZEROSKEW_DATA")
    text = complaint(model_folder)
    assert "features.py:8: the environment variable ZEROSKEW_DATA is not set" in text


def test_offline_work_needs_no_online_store(model_folder):
    repository = open_repository(model_folder)
    assert repository.config.online_store.connection_string == "${ZEROSKEW_REDIS}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("project: [taxi\n", "is not YAML"),
        ("just text\n", "holds no settings"),
        ("provider: local\nregistry: r.db\n", "`project` is missing"),
        ("project: taxi\n", "`registry` is missing"),
        ("project: taxi\nregistry: r.db\nprovider: local\noffline_store: {type: nope}\n", "nope"),
        ("project: ta xi\nregistry: r.db\nprovider: local\n", "ta xi"),
    ],
)
def test_a_wrong_feature_store_yaml(model_folder, content, told):
    (model_folder / "feature_store.yaml").write_text(content)
    text = complaint(model_folder)
    assert "feature_store.yaml" in text
    assert told in text


def test_a_syntax_error_in_features_py(model_folder):
    edit(model_folder / "features.py", "ttl=timedelta(hours=6),", "ttl=timedelta(hours=6,")
    text = complaint(model_folder)
    assert "features.py:" in text
    assert "syntax error" in text


def test_an_error_while_features_py_runs(model_folder):
    edit(model_folder / "features.py", "entities=[driver]", "entities=[drivr]")
    text = complaint(model_folder)
    line = 1 + (model_folder / "features.py").read_text()[:-1].split("drivr")[0].count("\n")
    assert f"features.py:{line}: NameError: name 'drivr' is not defined" in text


def test_a_request_time_function_that_fails_on_sample_values(model_folder):
    """Feast tries it when the definitions are applied."""
    edit(model_folder / "features.py", "rating * distance", "rating / (distance * 0)")
    text = complaint(model_folder)
    line = 1 + (model_folder / "features.py").read_text().split("rating / ")[0].count("\n")
    assert f"features.py:{line}: Feast refuses the definitions: ZeroDivisionError" in text


def test_two_definitions_of_one_name(model_folder):
    edit(
        model_folder / "features.py",
        "plain = FeatureService",
        'other = FeatureService(name="fares", features=[stats])\nplain = FeatureService',
    )
    assert "two different definitions are called 'fares'" in complaint(model_folder)


def test_a_service_or_view_that_is_not_there(model_folder):
    repository = open_repository(model_folder)
    with pytest.raises(ConfigError, match="there is no feature service 'fars'") as caught:
        repository.service("fars")
    assert "it defines: fares, plain" in str(caught.value)
    with pytest.raises(ConfigError, match="there is no feature view 'x'"):
        repository.view("x")


def test_a_registry_cut_short(model_folder):
    open_repository(model_folder)
    registry = Path(os.environ["ZEROSKEW_REGISTRY"])
    registry.write_bytes(registry.read_bytes()[:-40])
    text = complaint(model_folder, FeatureStoreError)
    assert "is not one of Feast's, or is cut short" in text
    assert str(registry) in text


def test_a_registry_that_cannot_be_written(model_folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZEROSKEW_REGISTRY", str(tmp_path / "file" / "registry.db"))
    text = complaint(model_folder, FeatureStoreError)
    assert "file/registry.db: the registry cannot be read or written" in text


def test_types_to_infer_from_a_table_that_is_not_there(model_folder):
    edit(
        model_folder / "features.py",
        'schema=[Field(name="sky", dtype=String)],',
        "",
    )
    (Path(os.environ["ZEROSKEW_DATA"]) / "taxi" / "weather.parquet").unlink()
    text = complaint(model_folder, DataError)
    assert "weather.parquet" in text


def test_types_inferred_from_a_table(model_folder):
    edit(model_folder / "features.py", 'schema=[Field(name="sky", dtype=String)],', "")
    edit(model_folder / "features.py", ", value_type=ValueType.STRING", "")
    repository = open_repository(model_folder)
    assert repository.feature_types("fares")["sky"] == "string"
    again = open_repository(model_folder)
    assert again.feature_types("fares") == repository.feature_types("fares")
    assert again.schema_version("fares") == repository.schema_version("fares")
