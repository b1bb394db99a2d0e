"""A small trained checkpoint and its training set, as training would have left them.

Shared by the tests and the benchmark of the export: a known relation between features and label,
learnt by the real network in a second, without Ray.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import torch

from zeroskew.features.row import FeatureRow
from zeroskew.features.training_set import Manifest, TrainingSet
from zeroskew.training.checkpoint import CheckpointInfo, save_checkpoint
from zeroskew.training.module import TabularNet
from zeroskew.training.optimise import Hyperparameters
from zeroskew.training.optimise import make_network as fresh_network
from zeroskew.training.vocabulary import learn_statistics

AIRPORTS = ("Newark", "Kennedy", "La Guardia", "Zürich", "東京")
CARRIERS = tuple(f"carrier {number}" for number in range(40))


def make_frame(rows: int, numeric: int, *, seed: int = 0) -> pl.DataFrame:
    """Features with gaps and heavy tails, and a label that depends on them."""
    random = np.random.default_rng(seed)
    values = random.standard_t(4, size=(rows, numeric)).astype(np.float32)
    airport = random.integers(0, len(AIRPORTS), rows)
    carrier = random.integers(0, len(CARRIERS), rows)
    logit = values[:, 0] - 0.7 * np.abs(values[:, 1 % numeric]) + 0.5 * airport - 0.02 * carrier
    label = random.random(rows) < 1 / (1 + np.exp(-logit))
    values[random.random(values.shape) < 0.08] = np.nan
    columns: dict[str, object] = {
        f"n{column}": pl.Series(values[:, column]).fill_nan(None) for column in range(numeric)
    }
    columns["airport"] = [None if gone else AIRPORTS[index] for gone, index in
                          zip(random.random(rows) < 0.05, airport, strict=True)]  # fmt: skip
    columns["carrier"] = [CARRIERS[index] for index in carrier]
    columns["late"] = label.astype(np.int64)
    return pl.DataFrame(columns)


def make_training_set(
    folder: Path, *, rows: int = 6000, numeric: int = 10, categorical: bool = True
) -> TrainingSet:
    """A training set folder of `rows` rows, one sixth of them for validation, one for test."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = make_frame(rows, numeric)
    sixth = rows // 6
    sizes = {"train": rows - 2 * sixth, "validation": sixth, "test": sixth}
    start = 0
    for split, size in sizes.items():
        frame.slice(start, size).write_parquet(folder / f"{split}.parquet")
        start += size
    row = FeatureRow(
        tuple(f"n{column}" for column in range(numeric)),
        ("airport", "carrier") if categorical else (),
    )
    manifest = Manifest(
        content_hash=hashlib.sha256(frame.write_csv().encode()).hexdigest(),
        rows=sizes,
        time_range=("2013-01-01T00:00:00+00:00", "2013-07-01T00:00:00+00:00"),
        cuts=("2013-05-01T00:00:00+00:00", "2013-06-01T00:00:00+00:00"),
        purged={"train": 0, "validation": 0},
        feature_service="sample",
        feature_schema_version="1",
        code_sha="",
        label="late",
        event_timestamp="event_timestamp",
        label_timestamp=None,
        row=row.to_json(),
        entity_rows_hash="",
        filtered_by_created=True,
    )
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest)))
    return TrainingSet.open(folder)


def make_network(
    training_set: TrainingSet, *, hidden: tuple[int, ...] = (64, 32), steps: int = 150
) -> TabularNet:
    """A network trained for `steps` batches; the same one every time."""
    numeric, categorical, label = training_set.encode("train")
    statistics = learn_statistics(numeric, categorical, max_categories=32)
    hyper = Hyperparameters(hidden, learning_rate=3e-3, weight_decay=0.0, dropout=0.1, embedding=4)
    network = fresh_network(statistics, hyper, seed=7)
    network.slope.fill_(0.9)
    network.offset.fill_(-0.05)
    optimiser = torch.optim.Adam(network.parameters(), lr=hyper.learning_rate)
    tensors = [torch.tensor(array) for array in (numeric, categorical, label)]
    for _ in range(steps):
        at = torch.randint(len(label), (256,))
        score = network(tensors[0][at], tensors[1][at])[:, 0]
        loss = torch.nn.functional.binary_cross_entropy(score, tensors[2][at])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def make_checkpoint(folder: Path, training_set: TrainingSet, network: TabularNet) -> Path:
    """The checkpoint folder that training writes."""
    info = CheckpointInfo(
        row=training_set.row,
        training_set=training_set.manifest.content_hash,
        architecture=network.architecture.to_json(),
        seed=7,
        epochs=1,
    )
    return save_checkpoint(folder, network, info)
