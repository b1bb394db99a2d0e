"""The example through the platform's own doors: repository, join, training set, gates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import pipelines.flight_delay as package
from pipelines.flight_delay import leak_study
from pipelines.flight_delay.data import prepare
from zeroskew.features.repository import Repository, feature_row, open_repository
from zeroskew.model_config import ModelConfig, load_model_config

if TYPE_CHECKING:
    from zeroskew.features.training_set import TrainingSet

pytestmark = pytest.mark.integration
FOLDER = Path(str(package.__file__)).parent


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_model_config(FOLDER)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("flights")
    prepare(str(root))
    return root


@pytest.fixture(scope="module")
def repository(data: Path) -> Iterator[Repository]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROSKEW_DATA", str(data))
        patch.setenv("ZEROSKEW_REGISTRY", str(data / "registry.db"))
        patch.setenv("ZEROSKEW_REDIS", "127.0.0.1:1")
        yield open_repository(FOLDER)


@pytest.fixture(scope="module")
def tables(data: Path) -> dict[str, pl.DataFrame]:
    return {path.stem: pl.read_parquet(path) for path in (data / "flight_delay").glob("*.parquet")}


@pytest.fixture(scope="module")
def built(
    repository: Repository, config: ModelConfig, tables, tmp_path_factory
) -> tuple[TrainingSet, pl.DataFrame]:
    from zeroskew.features.training_set import build_training_set

    said = config.entity_rows
    row = feature_row(
        repository,
        config.feature_service,
        exclude=config.inputs.exclude,
        categorical=config.inputs.categorical,
    )
    start, end = datetime(2013, 2, 15, tzinfo=UTC), datetime(2013, 4, 15, tzinfo=UTC)
    rows = tables["entity_rows"].filter(
        pl.col("event_timestamp").is_between(start, end, closed="left")
    )
    training_set = build_training_set(
        repository,
        service=config.feature_service,
        entity_rows=rows,
        label=said.label,
        event_timestamp=said.event_timestamp,
        start=start,
        end=end,
        label_timestamp=said.label_timestamp,
        validation=config.split.validation,
        test=config.split.test,
        row=row,
        out=tmp_path_factory.mktemp("set") / "training_set",
    )
    return training_set, rows


def test_the_registry_takes_every_definition(repository: Repository):
    types = repository.feature_types("flight_delay")
    assert len(types) == 58
    assert types["temperature"] == "float64"
    assert types["airport_overdue"] == "int64"
    assert types["weekday"] == "string"
    assert list(types)[-1] == "aircraft_slack"


def test_opening_again_changes_nothing(repository: Repository):
    again = open_repository(FOLDER)
    assert again.schema_version("flight_delay") == repository.schema_version("flight_delay")


def test_feast_joins_what_the_plain_join_gives(repository: Repository, tables):
    """Feast's own API over our store, request-time features included."""
    rows = tables["entity_rows"].sample(3000, seed=11)
    job = repository.store.get_historical_features(
        rows.to_pandas(), repository.service("flight_delay")
    )
    through_feast = pl.from_arrow(job.to_arrow())
    plain = leak_study.join(rows, tables)
    assert isinstance(through_feast, pl.DataFrame)
    assert through_feast.height == rows.height
    names = list(repository.feature_types("flight_delay"))
    for name in names:
        mine, theirs = plain[name], through_feast[name]
        if mine.dtype.is_numeric():
            mine, theirs = mine.cast(pl.Float64), theirs.cast(pl.Float64).fill_nan(None)
        assert mine.equals(theirs.alias(name), null_equal=True), name
    assert plain["airport_overdue"].null_count() < 100
    assert plain["temperature"].null_count() < 100


def test_training_set_holds_the_features_and_not_the_answer(built, config: ModelConfig):
    training_set, rows = built
    parts = {name: training_set.read(name) for name in ("train", "validation", "test")}
    kept = sum(part.height for part in parts.values())
    purged = rows.height - kept
    assert 0 < purged < 1000  # in the air at one of the cuts, or diverted
    last = parts["train"]["event_timestamp"].max()
    assert last < parts["validation"]["event_timestamp"].min()
    assert parts["train"]["label_timestamp"].max() <= parts["validation"]["event_timestamp"].min()
    assert not set(training_set.row.names) & {"late", "label_timestamp", "arr_delay"}
    assert not set(training_set.row.names) & set(config.inputs.exclude)
    numeric, categorical, label = training_set.encode("train")
    assert numeric.shape[1] + categorical.shape[1] == 57
    assert 0.1 < label.mean() < 0.4


@pytest.fixture(scope="module")
def year(tables) -> pl.DataFrame:
    """Every third question of the year with its features; a third is quicker and as true."""
    return leak_study.join(tables["entity_rows"].gather_every(3), tables)


@pytest.mark.parametrize(
    ("reference", "later"),
    [((1, 3), (4, 6)), ((4, 6), (7, 9)), ((7, 9), (10, 12)), ((1, 6), (7, 12)), ((1, 8), (1, 12))],
    ids=str,
)
def test_one_year_of_real_flights_passes_the_gates(
    year, repository, config: ModelConfig, reference, later
):
    """Seasons are no alarm, whichever quarter a champion was trained on."""
    from zeroskew.profiles import Profile
    from zeroskew.validation import validate

    types = repository.feature_types("flight_delay")

    def months(first: int, last: int) -> pl.DataFrame:
        return year.filter(pl.col("event_timestamp").dt.month().is_between(first, last)).select(
            list(types)
        )

    learnt = Profile.learn(months(*reference))
    report = validate(months(*later), types, config.validation, learnt, where=f"months {later}")
    report.raise_if_failed()


def test_a_broken_feed_does_not_pass(built, repository, config: ModelConfig):
    from zeroskew.errors import ValidationFailed
    from zeroskew.validation import validate

    training_set, _ = built
    types = repository.feature_types("flight_delay")
    rows = training_set.read("train").select(list(types))
    broken = {
        "humidity in thousandths": rows.with_columns(humidity=pl.col("humidity") * 10),
        "no weather": rows.with_columns(temperature=pl.lit(None, pl.Float64)),
        "a fourth airport": rows.with_columns(airport=pl.lit("Teterboro")),
    }
    for what, frame in broken.items():
        with pytest.raises(ValidationFailed):
            validate(frame, types, config.validation, None, where=what).raise_if_failed()


def test_the_flights_own_network_multiplies_in_int8(built, config: ModelConfig, tmp_path: Path):
    """The real rows through the real module, quantized within the model's own limits, planned."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed")
    import torch

    from zeroskew.export.export import export_model
    from zeroskew.export.tensorrt_builder import build_plan
    from zeroskew.training import optimise
    from zeroskew.training.checkpoint import CheckpointInfo, save_checkpoint
    from zeroskew.training.vocabulary import learn_statistics

    training_set, _ = built
    rows = optimise.Rows(*training_set.encode("train"))
    statistics = learn_statistics(rows.numeric, rows.categorical, config.inputs.max_categories)
    hyper = optimise.Hyperparameters((128, 64), 2e-3, 1e-3, 0.1, 8)
    network, device = optimise.make_network(statistics, hyper, 7), torch.device("cpu")
    optimise.run_epochs(
        optimise.LogitsOf(network), rows.prepared(network, device), hyper, epochs=2,
        batch_size=1024, positive_weight=1.0, seed=7, after_epoch=lambda _: True, device=device,
    )  # fmt: skip
    save_checkpoint(
        tmp_path / "checkpoint",
        network.eval(),
        CheckpointInfo(
            row=training_set.row,
            training_set=training_set.manifest.content_hash,
            architecture=network.architecture.to_json(),
            seed=7,
            epochs=2,
        ),
    )
    planned = config.model_copy(
        update={"export": config.export.model_copy(update={"tensorrt": ("SM89",)})}
    )
    record = export_model(
        tmp_path / "checkpoint",
        training_set.folder,
        planned,
        tmp_path / "exported",
        plan_cache=tmp_path / "cache",
    )
    assert record.precision == "int8", record.precision_reason
    (said,) = record.plan_files
    plan = build_plan(
        tmp_path / "exported/model.onnx", target="SM89", cache=tmp_path / "cache",
        max_batch=record.max_batch, opt_batch=planned.export.latency.batch,
    )  # fmt: skip
    assert plan.cached
    assert plan.key == said["key"]
    assert len(plan.int8_products) == 2
    for product in plan.int8_products:
        assert any(product in x.nodes and x.multiplies_int8 for x in plan.layers)
    assert plan.weights_in_plan
    copied = tmp_path / "exported/plans" / said["file"]
    assert copied.read_bytes() == plan.path.read_bytes()
