"""Search and fit with a real Ray: learns, repeats itself, resumes, shares rows among workers."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from zeroskew.errors import TrainingError
from zeroskew.features.row import FeatureRow
from zeroskew.model_config import ModelConfig, parse_model_config
from zeroskew.training.checkpoint import load_checkpoint

pytestmark = [pytest.mark.integration, pytest.mark.timeout(280)]

TOKEN = "0123456789abcdef" * 4
YAML = """
name: made
feature_service: made
entity_rows: {{path: rows.parquet, label: late}}
training:
  trials: 3
  search_epochs: 2
  search_rows: 3000
  epochs: 6
  patience: 3
  batch_size: 256
  {more}
  space:
    hidden: [[32, 16]]
    learning_rate: {{low: {low}, high: {high}, log: true}}
"""


def config(more: str = "seed: 7", low: str = "0.003", high: str = "0.01") -> ModelConfig:
    return parse_model_config(YAML.format(more=more, low=low, high=high))


def made(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A label that takes a number, a missing flag and a category to predict."""
    draw = np.random.default_rng(seed)
    numeric = draw.normal(size=(count, 4)).astype(np.float32)
    numeric[draw.random(count) < 0.3, 1] = np.nan
    categorical = draw.choice([11, -22, 33, 44], size=(count, 2)).astype(np.int32)
    logit = 1.5 * numeric[:, 0] + 2.0 * np.isnan(numeric[:, 1]) - 1.5 * (categorical[:, 0] == 33)
    label = draw.random(count) < 1 / (1 + np.exp(1.0 - logit))
    return numeric, categorical, label.astype(np.float32)


@dataclass
class MadeSet:
    """Encoded rows with the face of a training set; how real ones are read is tested elsewhere."""

    manifest = SimpleNamespace(content_hash="made-rows")
    row = FeatureRow(("a", "b", "c", "d"), ("x", "y"))
    label: float | None = None

    def encode(self, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numeric, categorical, label = made(4000 if split == "train" else 1500, len(split))
        if self.label is not None:
            label[:] = self.label
        return numeric, categorical, label


@pytest.fixture(autouse=True)
def made_set(monkeypatch: pytest.MonkeyPatch) -> None:
    import zeroskew.training.train as module

    monkeypatch.setattr(module, "TrainingSet", SimpleNamespace(open=lambda _: MadeSet()))


def scores(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    net, _ = load_checkpoint(folder)
    numeric, categorical, label = made(4000, 99)
    with torch.no_grad():
        return net(torch.tensor(numeric), torch.tensor(categorical))[:, 0].numpy(), label


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    import zeroskew.training.train as module

    folder = tmp_path_factory.mktemp("train")
    keep = module.TrainingSet
    module.TrainingSet = SimpleNamespace(open=lambda _: MadeSet())  # type: ignore
    seen: list[tuple[str, int, int]] = []
    try:
        result = module.train(
            "made", config(), folder / "one", state=folder / "state",
            on_progress=lambda *step: seen.append(step),
        )  # fmt: skip
    finally:
        module.TrainingSet = keep  # type: ignore
    return folder, result, seen


def test_it_learns_what_a_linear_model_of_the_numbers_cannot(trained) -> None:  # type: ignore
    _, result, _ = trained
    score, label = scores(result.checkpoint)
    numeric, categorical, _ = made(4000, 99)
    ideal = roc_auc_score(
        label,
        1.5 * numeric[:, 0] + 2.0 * np.isnan(numeric[:, 1]) - 1.5 * (categorical[:, 0] == 33),
    )
    assert roc_auc_score(label, score) > ideal - 0.01
    assert roc_auc_score(label, score) > roc_auc_score(label, numeric[:, 0]) + 0.03
    assert abs(score.mean() - label.mean()) < 0.03


def test_the_result_says_what_happened(trained) -> None:  # type: ignore[no-untyped-def]
    _, result, seen = trained
    assert len(result.trials) == 3
    assert [t["loss"] for t in result.trials] == sorted(t["loss"] for t in result.trials)
    assert result.seconds["total"] == pytest.approx(
        result.seconds["search"] + result.seconds["fit"], abs=0.01
    )
    written = json.loads((result.checkpoint / "result.json").read_text())
    assert written["hyperparameters"] == result.hyperparameters
    assert ("search: trials", 3, 3) in seen
    assert result.validation["log_loss"] <= result.validation["log_loss_uncalibrated"] + 1e-6


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_a_finished_search_is_kept(trained) -> None:  # type: ignore
    import zeroskew.training.train as module

    folder, result, _ = trained
    seen: list[str] = []
    again = module.train(
        "made", config(), folder / "two", state=folder / "state",
        on_progress=lambda what, *_: seen.append(what),
    )  # fmt: skip
    one, _ = load_checkpoint(result.checkpoint)
    two, _ = load_checkpoint(again.checkpoint)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    assert "search (done before)" in seen


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Address of a Ray that somebody else started."""
    from zeroskew.training.ray_session import QUIET

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scratch = tempfile.mkdtemp(prefix="zs-", dir="/tmp")  # sockets' paths must be short
    head = subprocess.Popen(
        [
            Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={port}",
            "--node-ip-address=127.0.0.1", "--num-cpus=3", "--include-dashboard=false",
            f"--temp-dir={scratch}", "--disable-usage-stats",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | QUIET | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"127.0.0.1:{port}"
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if scratch.encode() in entry.read_bytes():
                os.kill(int(entry.parent.name), signal.SIGKILL)
    head.wait(30)
    shutil.rmtree(scratch, ignore_errors=True)


def in_a_process_of_its_own(arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Train in a fresh Python: Ray reads its authentication once per process."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_train as made
import zeroskew.training.train as module
from types import SimpleNamespace
module.TrainingSet = SimpleNamespace(open=lambda _: made.MadeSet())
print("CPUs", module.train("made", {arguments}).cpus)
"""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, env=kept | environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
def test_two_workers_of_a_given_cluster_share_the_rows(cluster, tmp_path: Path) -> None:
    wanted = f"made.config('workers: 2'), {str(tmp_path / 'both')!r}, ray_address={cluster!r}"
    refused = in_a_process_of_its_own(wanted)
    assert "does not answer" in refused.stderr
    assert "RAY_AUTH_TOKEN" in refused.stderr
    done = in_a_process_of_its_own(wanted, RAY_AUTH_TOKEN=TOKEN)
    assert done.stdout.endswith("CPUs 3.0\n"), done.stderr
    score, label = scores(tmp_path / "both")
    numeric, _, _ = made(4000, 99)
    assert roc_auc_score(label, score) > roc_auc_score(label, numeric[:, 0]) + 0.03
    host, _, port = cluster.partition(":")
    socket.create_connection((host, int(port)), timeout=5).close()  # left to its owner


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path) -> None:
    import zeroskew.training.train as module

    with pytest.raises(TrainingError, match=r"127\.0\.0\.1:1: Ray does not answer") as caught:
        module.train("made", config(), tmp_path / "c", ray_address="127.0.0.1:1")
    assert "ZEROSKEW_RAY" in str(caught.value)


def test_a_search_space_that_cannot_work_is_one_message(tmp_path: Path) -> None:
    import zeroskew.training.train as module

    with pytest.raises(TrainingError) as caught:
        module.train("made", config(low="1e18", high="1e20"), tmp_path / "c")
    assert "every one of the 3 trials failed" in str(caught.value)
    assert "the loss of epoch 1 is not a number" in str(caught.value)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("label", "batch", "words"),
    [(1.0, 256, "nothing to learn"), (np.nan, 256, "neither 0 nor 1"), (None, 9999, "batch_size")],
)
def test_rows_that_cannot_train(
    label: float | None, batch: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zeroskew.training.train as module

    monkeypatch.setattr(module, "TrainingSet", SimpleNamespace(open=lambda _: MadeSet(label)))
    settings = config().model_copy(
        update={"training": config().training.model_copy(update={"batch_size": batch})}
    )
    with pytest.raises(TrainingError, match=words):
        module.train("made", settings, tmp_path / "c")


INTERRUPTED = """
import sys
sys.path.insert(0, {tests!r})
import test_train as made
import zeroskew.training.train as module
from types import SimpleNamespace
module.TrainingSet = SimpleNamespace(open=lambda _: made.MadeSet())
print("started", flush=True)
module.train("made", made.config(), {out!r}, state={state!r},
             on_progress=lambda *step: print(*step, flush=True))
"""


def ray_processes() -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = entry.read_bytes()
        except OSError:
            continue
        if b"raylet" in text or b"gcs_server" in text or text.startswith(b"ray::"):
            found.add(int(entry.parent.name))
    return found


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_and_the_next_run_goes_on(tmp_path: Path) -> None:
    before = ray_processes()
    program = INTERRUPTED.format(
        tests=str(Path(__file__).parent), out=str(tmp_path / "c"), state=str(tmp_path / "state")
    )
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "home")  # a container's user may have no home
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, start_new_session=True, stdin=subprocess.DEVNULL,
        env={k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
        | {"HOME": nowhere},
    )  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("search: trials 1"):
            break
    else:
        raise AssertionError("training ended before a trial did")
    os.kill(child.pid, signal.SIGINT)
    child.communicate(timeout=90)
    assert child.returncode != 0
    assert not (tmp_path / "c").exists()
    deadline = time.monotonic() + 30
    while ray_processes() - before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not ray_processes() - before

    import zeroskew.training.train as module

    result = module.train("made", config(), tmp_path / "c", state=tmp_path / "state")
    assert len(result.trials) == 3
    assert (tmp_path / "c" / "model.safetensors").is_file()
