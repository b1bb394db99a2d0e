"""What a rollout makes goes when it goes, by the real garbage collector."""

import json
import runpy
import time
from pathlib import Path

import pytest
import yaml

from zeroskew.rollout.http_route import http_route
from zeroskew.rollout.rollout_spec import parse_spec
from zeroskew.rollout.traffic_plan import alone
from zeroskew.rollout.version_objects import version_objects

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
CONFTEST = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
_OTHER = runpy.run_path(str(Path(__file__).with_name("test_modelrollout_crd.py")))
KINDS = "inferenceservices,servingruntimes,httproutes,poddisruptionbudgets"


@pytest.fixture(scope="module")
def served(control_plane):
    """CRDs of everything that a rollout makes."""
    folder = CONFTEST["crd_folder"]()
    texts = [(folder / name).read_text() for name in ("kserve.yaml", "gateway-api.yaml")]
    texts.append(_OTHER["CRD"].read_text())
    documents = [each for text in texts for each in yaml.safe_load_all(text) if each]
    control_plane.install(
        [each for each in documents if each["kind"] == "CustomResourceDefinition"]
    )
    return control_plane


def test_deleting_a_rollout_takes_its_objects(served):
    space = "owned"
    served.kubectl("create", "namespace", space)
    manifest = _OTHER["made"](space)
    served.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(manifest))
    found = served.get("modelrollout", "flight-delay", "-n", space)
    owner = {
        "apiVersion": found["apiVersion"], "kind": found["kind"], "name": "flight-delay",
        "uid": found["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    spec = parse_spec(found["spec"])
    objects = version_objects(spec, "flight-delay", space, owner=owner)
    objects.append(http_route(alone(spec.entrance, "3"), "flight_delay", space, owner=owner))
    stranger = version_objects(spec, "other", space)[0]
    served.kubectl(
        "apply", "--server-side", "--warnings-as-errors", "-f", "-",
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects, stranger]}),
    )  # fmt: skip
    assert len(served.get(KINDS, "-n", space)["items"]) == 5
    served.kubectl("delete", "modelrollout", "flight-delay", "-n", space)
    # The collector learns of new kinds within half a minute.
    deadline = time.monotonic() + 120
    while len(left := served.get(KINDS, "-n", space)["items"]) > 1:
        assert time.monotonic() < deadline, [each["metadata"]["name"] for each in left]
        time.sleep(0.5)
    assert [each["metadata"]["name"] for each in left] == [stranger["metadata"]["name"]]
