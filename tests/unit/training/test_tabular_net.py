"""The network: what is learnt by counting, what survives export, what a checkpoint keeps."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import TrainingError
from zeroskew.features.row import MISSING, FeatureRow
from zeroskew.training.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from zeroskew.training.module import CLIP, TabularNet
from zeroskew.training.optimise import Hyperparameters, make_network
from zeroskew.training.vocabulary import learn_statistics

HYPER = Hyperparameters((16, 8), 1e-3, 1e-4, 0.2, 4)
ROW = FeatureRow(("a", "b", "c"), ("x", "y"))


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    numeric = draw.normal(size=(count, 3)).astype(np.float32) * [1, 100, 1e-3]
    numeric[draw.random((count, 3)) < 0.2] = np.nan
    categorical = draw.choice([MISSING, -5, 17, 2**31 - 1, -(2**31)], size=(count, 2))
    return numeric.astype(np.float32), categorical.astype(np.int32)


def network(seed: int = 3) -> TabularNet:
    return make_network(learn_statistics(*rows(500), max_categories=3), HYPER, seed).eval()


def test_categories_have_rows_of_their_own() -> None:
    statistics = learn_statistics(
        np.zeros((6, 0), np.float32),
        np.array([[9], [9], [-4], [-4], [7], [MISSING]], np.int32),
        max_categories=2,
    )
    assert statistics.vocabularies[0].tolist() == [-4, 9]
    net = make_network(statistics, HYPER, 0)
    asked = torch.tensor([[MISSING], [7], [123], [-4], [9]], dtype=torch.int32)
    _, index = net.prepare(torch.zeros(5, 0), asked)
    missing, cut_off, unknown, first, second = index[:, 0].tolist()
    assert cut_off == unknown
    assert len({missing, unknown, first, second}) == 4


def test_ties_in_the_vocabulary_are_cut_the_same_way_every_time() -> None:
    codes = np.array([[5], [3], [8], [5], [3], [8]], np.int32)
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        statistics = learn_statistics(np.zeros((6, 0), np.float32), codes[order], 2)
        assert statistics.vocabularies[0].tolist() == [3, 5]


@given(
    st.lists(st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=40)
)
def test_a_missing_number_counts_as_the_median(values: list[float]) -> None:
    column = np.array(values, np.float32)[:, None]
    statistics = learn_statistics(column, np.zeros((len(values), 0), np.int32), 1)
    present = column[~np.isnan(column)]
    if present.size == 0:
        assert statistics.median[0] == statistics.scale[0] == 0.0
        return
    assert statistics.median[0] == np.float32(np.median(present.astype(np.float64)))
    net = make_network(statistics, HYPER, 0)
    none = torch.zeros(2, 0, dtype=torch.int32)
    dense, _ = net.prepare(torch.tensor([[np.nan], [float(statistics.median[0])]]), none)
    assert dense[0, 0] == dense[1, 0]
    assert dense[:, 1].tolist() == [1.0, 0.0]
    assert torch.isfinite(dense).all()
    assert dense[:, 0].abs().max() <= CLIP


def test_a_constant_column_says_nothing_and_breaks_nothing() -> None:
    column = np.full((50, 1), 7.0, np.float32)
    net = make_network(learn_statistics(column, np.zeros((50, 0), np.int32), 1), HYPER, 0).eval()
    none = torch.zeros(2, 0, dtype=torch.int32)
    with torch.no_grad():
        scores = net(torch.tensor([[7.0], [1e30]]), none)
    assert scores[0] == scores[1]


@pytest.mark.parametrize("kinds", ["both", "numeric", "categorical"])
def test_the_exported_graph_scores_like_torch(kinds: str, tmp_path: Path) -> None:
    numeric, categorical = rows(300, seed=9)
    numeric = numeric if kinds != "categorical" else numeric[:, :0]
    categorical = categorical if kinds != "numeric" else categorical[:, :0]
    net = make_network(learn_statistics(numeric, categorical, 2), HYPER, 1).eval()
    info = CheckpointInfo(
        FeatureRow(ROW.numeric[: numeric.shape[1]], ROW.categorical[: categorical.shape[1]]),
        "hash", net.architecture.to_json(),
    )  # fmt: skip
    from zeroskew.export.onnx_graph import export_onnx

    folder = save_checkpoint(tmp_path / "checkpoint", net, info)
    graph = export_onnx(folder, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(graph.path))
    numeric[:5] *= 1e20
    feeds = {"numeric": numeric, "categorical": categorical}
    wanted = {item.name for item in session.get_inputs()}
    got = session.run(["score"], {k: v for k, v in feeds.items() if k in wanted})[0]
    with torch.no_grad():
        expected = net(torch.tensor(numeric), torch.tensor(categorical)).numpy()
    assert got.shape == (300, 1)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert ((got > 0) & (got < 1)).all()


def test_a_checkpoint_comes_back_bit_by_bit(tmp_path: Path) -> None:
    net = network()
    info = CheckpointInfo(
        ROW, "abc", net.architecture.to_json(), HYPER.to_json(), 3, 5, 1.5, (0.9, -0.1), {"l": 0.4}
    )
    folder = save_checkpoint(tmp_path / "c", net, info)
    save_checkpoint(folder, net, info)
    again, said = load_checkpoint(folder)
    for name, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert said == info
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("damage", ["cut", "json", "other", "gone"])
def test_a_damaged_checkpoint_is_one_clear_message(tmp_path: Path, damage: str) -> None:
    net = network()
    folder = save_checkpoint(
        tmp_path / "c", net, CheckpointInfo(ROW, "abc", net.architecture.to_json())
    )
    weights, description = folder / "model.safetensors", folder / "checkpoint.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "json":
        description.write_text("{")
    elif damage == "other":
        description.write_text(description.read_text().replace('"numeric": 3', '"numeric": 4'))
    else:
        description.unlink()
    with pytest.raises(TrainingError) as caught:
        load_checkpoint(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in caught.value.what


def test_a_full_disk_keeps_the_checkpoint_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    info = CheckpointInfo(ROW, "abc", net.architecture.to_json())
    folder = save_checkpoint(tmp_path / "c", net, info)
    before = (folder / "model.safetensors").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(TrainingError, match="No space left"):
        save_checkpoint(folder, network(seed=8), info)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(5, 40))
def test_shards_part_the_rows_evenly(workers: int, count: int) -> None:
    from zeroskew.training.optimise import Rows

    numeric = np.arange(count, dtype=np.float32)[:, None]
    whole = Rows(numeric, np.zeros((count, 0), np.int32), np.zeros(count, np.float32))
    shards = [whole.shard(rank, workers) for rank in range(workers)]
    assert len({len(shard) for shard in shards}) == 1
    seen = np.concatenate([shard.numeric[:, 0] for shard in shards])
    assert len(set(seen.tolist())) == len(seen) >= count - workers
    assert whole.tail(3).numeric[:, 0].tolist() == list(range(count - 3, count))
