"""Lineage answers its six questions, and says so where it cannot."""

import re

import pytest
from rich.console import Console

from zeroskew.errors import RegistryError
from zeroskew.record import Measure

NAME = "flight_delay"


def draw(tree) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tree)
    return console.export_text()


def row(text: str, name: str) -> str:
    """What stands behind `name` in the tree."""
    (found,) = re.findall(rf"[├└]── {re.escape(name)} +(.*)", text)
    return found.strip()


@pytest.fixture
def told(registry, files, record):
    registry.register(NAME, record("d1"), files)
    registry.register(
        NAME,
        record(
            "d2" * 32, data_rows=84_231, data_start="2013-04-01", data_end="2013-07-01",
            held_out_rows=12_634, compared_against=1, verdict="wins", margin=0.002,
            compared_by="auc", difference=Measure(0.004, 0.001, 0.007),
            verdict_reason="AUC [0.744] against 0.740", image="registry.example/trainer:1",
            plans={"SM89-11.4": "b" * 64}, precision_reason="long " * 1_500,
        ),
        files,
    )  # fmt: skip
    registry.promote(NAME, 1, "the first")
    registry.promote(NAME, 2, "better [see report]", expected_champion=1)
    return registry


def test_the_six_questions_are_answered(told) -> None:
    text = draw(told.lineage(NAME, "champion"))
    assert text.startswith(f"{NAME} version 2  champion Production")
    for question in (
        "which data", "which code", "which features", "at what cost", "how good",
        "beaten whom, by how much",
    ):  # fmt: skip
        assert question in text
    assert row(text, "training set") == ("d2" * 32)[:16]
    assert row(text, "rows") == "84,231"
    assert row(text, "range") == "2013-04-01 to 2013-07-01"
    assert row(text, "commit") == "c" * 40
    assert row(text, "schema version") == "f" * 16
    assert row(text, "training time") == "41.5 s"
    assert row(text, "compute") == "0.0231 EUR"
    assert row(text, "auc") == "0.7400 [0.7300, 0.7500]"
    assert row(text, "champion") == "version 1"
    assert row(text, "difference") == "0.0040 [0.0010, 0.0070] auc"
    assert row(text, "margin") == "0.002"
    assert row(text, "reason") == "AUC [0.744] against 0.740"
    assert row(text, "plan SM89-11.4") == "b" * 12
    assert "#2 promote: version 2 instead of version 1" in text
    assert "better [see report]" in text
    assert "#1" not in text, "the first promotion is not this version's"


def test_what_is_missing_is_said(told, files, record) -> None:
    client = told.backend.client
    for tag in ("code_sha", "metrics", "difference", "compared_against", "compute_cost"):
        client.delete_model_version_tag(NAME, "2", tag)
    client.set_model_version_tag(NAME, "2", "onnx_sha256", "{broken")
    told.note(NAME, 2, {"route": "weight 100"})
    client.delete_run(told.version(NAME, 2).run_id)
    text = draw(told.lineage(NAME, 2))
    for name in ("commit", "compute", "champion", "difference"):
        assert row(text, name) == "not recorded"
    assert row(text, "onnx_sha256") == "unreadable"
    assert row(text, "route") == "weight 100"
    assert "its run was deleted" in text
    with pytest.raises(RegistryError, match="onnx_sha256"):
        _ = told.version(NAME, 2).record


def test_a_version_of_another_tool_and_one_that_is_gone(told) -> None:
    client = told.backend.client
    run = client.get_run(told.version(NAME, 1).run_id)
    other = client.create_model_version(NAME, run.info.artifact_uri, run.info.run_id)
    text = draw(told.lineage(NAME, int(other.version)))
    assert "nothing vouches for its files" in text
    assert row(text, "training set") == "not recorded"

    identity = told.version(NAME, 1).tags["identity"]
    client.delete_model_version(NAME, "1")
    text = draw(told.lineage(NAME, 1))
    assert "version 1  deleted" in text
    assert identity[:12] in text
    assert "#1 promote: version 1" in text
    assert "#2 promote: version 2 instead of version 1" in text
    with pytest.raises(RegistryError, match="no version 77"):
        told.lineage(NAME, 77)
