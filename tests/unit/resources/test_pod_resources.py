"""`resources` of model.yaml: small requests by default, and errors with their line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.model_config import parse_model_config
from zeroskew.pod_resources import STEPS, PodResources, Resources, cores, mebibytes

ROOT = Path(__file__).parents[3]
MODEL = """name: m
feature_service: s
entity_rows: {path: p, label: l}
"""


def resources(text):
    return parse_model_config(MODEL + text).resources


def test_every_component_can_be_named_and_nothing_else():
    components = {path.parent.name for path in ROOT.glob("components/*/component.py")}
    assert set(STEPS) == components


@pytest.mark.parametrize("step", STEPS)
def test_by_default_a_step_fits_a_node_with_two_cores_and_asks_for_no_gpu(step):
    amounts = Resources().of(step)
    # Of two cores, the node's own pods and Kubeflow's leave less than one.
    assert cores(amounts.cpu) <= 0.5
    assert mebibytes(amounts.memory) <= 2048
    assert cores(amounts.cpu_limit) >= cores(amounts.cpu)
    assert mebibytes(amounts.memory_limit) >= mebibytes(amounts.memory)
    assert Resources().gpu == 0


def test_a_step_says_more_than_the_default_which_says_more_than_the_table():
    found = resources(
        "resources:\n"
        "  default: {requests: {cpu: 200m}, limits: {memory: 6Gi}}\n"
        "  join: {requests: {cpu: 1.5}, limits: {cpu: 8, memory: 64Gi}}\n"
    )
    assert found.of("join") == PodResources("1.5", "2Gi", "8", "64Gi")
    assert found.of("gate") == PodResources("200m", "512Mi", "1", "6Gi")
    assert found.of("register").cpu == "200m"


def test_what_is_not_written_yields_to_what_is():
    found = resources(
        "resources:\n  gate: {limits: {memory: 256Mi}}\n  join: {requests: {memory: 32Gi}}\n"
    )
    assert (found.of("gate").memory, found.of("gate").memory_limit) == ("256Mi", "256Mi")
    assert (found.of("join").memory, found.of("join").memory_limit) == ("32Gi", "32Gi")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("resources:\n  join: {requests: {cpu: 4 cores}}", 5, ("'4 cores'", "500m")),
        ("resources:\n  join:\n    limits:\n      memory: 1.5Gi", 7, ("'1.5Gi'", "512Mi")),
        ("resources:\n  join:\n    limits: {memory: 500m}", 6, ("'500m'", "memory")),
        ("resources:\n  train:\n    requests: {cpu: 0}", 6, ("'0'", "CPU")),
        ("resources:\n  joins: {}", 5, ("unknown field", "join, ")),
        ("resources:\n  gpu: -1", 5, ("resources.gpu",)),
        (
            "resources:\n  gpu: 0\n  join: {requests: {cpu: 2}, limits: {cpu: 500m}}", 6,
            ("limit of cpu, 500m", "request, 2"),
        ),
        (
            "resources:\n  default: {limits: {memory: 1Gi}}\n  join: {requests: {memory: 2Gi}}", 4,
            ("join", "limit of memory, 1Gi", "`default`"),
        ),
        ("resources: {cpu: 4}", 4, ("unknown field `resources.cpu`", "train")),
        ("serving: {memory: 2 GB}", 4, ("'2 GB'", "4Gi")),
    ],
)  # fmt: skip
def test_a_wrong_amount_is_an_error_with_its_line(text, line, words):
    with pytest.raises(ConfigError) as caught:
        resources(text)
    message = str(caught.value)
    assert f"model.yaml:{line}: " in message
    for word in words:
        assert word in message


@given(millis=st.integers(1, 10**6))
def test_cores_are_what_kubernetes_reads(millis):
    assert cores(f"{millis}m") == pytest.approx(millis / 1000)
    assert cores(f"{millis}") == millis


@given(amount=st.integers(1, 10**4), power=st.integers(1, 4))
def test_mebibytes_are_what_kubernetes_reads(amount, power):
    unit = ("Ki", "Mi", "Gi", "Ti")[power - 1]
    assert mebibytes(f"{amount}{unit}") == pytest.approx(amount * 1024**power / 2**20)
    unit = ("", "", "M", "G", "T")[power]
    power = power if unit else 0
    amount = amount if unit else amount * 2**20
    assert mebibytes(f"{amount}{unit}") == pytest.approx(amount * 1000**power / 2**20)
