"""Mirroring as the operator knows it of a gateway, and as it finds it in the answers."""

from __future__ import annotations

import time

import pytest
from operator_stage import apply, manifest, register
from test_operator_judgement import SECTION, asked

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
CONTOUR = "projectcontour.io/gateway-controller"


def steps(percent):
    return (
        {"set_mirror": {"percent": percent}},
        {"analysis": {"duration": "1h"}},
        {"set_mirror": {"percent": 0}},
        {"set_weight": 50},
    )


def events(stage, space, reason):
    found = stage.cluster.get("events", "-n", space)["items"]
    return [each["message"] for each in found if each["reason"] == reason]


def test_a_part_is_refused_where_the_gateway_is_known_to_copy_everything(stage, tmp_path):
    register(stage.registry, tmp_path, "contoured")
    apply(
        stage.cluster,
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "contour"}, "spec": {"controllerName": CONTOUR},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "default"},
            "spec": {"gatewayClassName": "contour",
                     "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
        },
    )  # fmt: skip
    section = {"service": {"gateway_refs": [{"name": "edge", "namespace": "default"}]}}
    space = stage.namespace()
    stage.serve(space, 1, model="contoured")
    apply(stage.cluster, manifest(space, 2, "contoured", steps(20), section=section))
    found = stage.wait(
        space, lambda s: stage.conditions(s).get("Accepted", ("",))[0] == "False", name="contoured"
    )
    state, reason, message = stage.conditions(found)["Accepted"]
    assert (state, reason) == ("False", "MirrorUnsupported")
    assert "is of Contour, which copies every request" in message
    assert "mirror 100 percent" in message
    assert found["phase"] == "Pending"
    assert "run" not in found
    # The way out that the message names; there is no Contour here that would go on from there.
    apply(stage.cluster, manifest(space, 2, "contoured", steps(100), section=section))
    found = stage.wait(space, lambda s: "run" in s, name="contoured")
    assert stage.conditions(found)["Accepted"][0] == "True"
    assert stage.conditions(found)["MirrorSupported"][:2] == ("True", "Supported")


def test_copies_that_nobody_asked_for_are_seen_in_the_answers(stage, tmp_path):
    """The log is that of a gateway that copies everything, whatever it is known to do."""
    register(stage.registry, tmp_path, "uncertain")
    space = stage.namespace()
    stage.serve(space, 1, model="uncertain")
    roles = {"1": "champion", "2": "shadow"}
    with asked(stage, tmp_path, "uncertain", roles, lambda v, n: 0.3):
        apply(stage.cluster, manifest(space, 2, "uncertain", steps(20), section=SECTION))
        found = stage.wait(space, lambda s: s.get("run", {}).get("mirror") == 20, name="uncertain")
        assert stage.conditions(found)["MirrorSupported"][:2] == ("True", "Supported")
        assert events(stage, space, "MirrorNotReported") == []
        found = stage.wait(
            space,
            lambda s: stage.conditions(s)["MirrorSupported"][1] == "ShareDiffers",
            name="uncertain",
        )
        assert (
            "20 % of the requests were to be copied, and 100 %"
            in (stage.conditions(found)["MirrorSupported"][2])
        )
        assert len(events(stage, space, "MirrorShareDiffers")) == 1
        # Told, and no reason to stop: the challenger answers as the champion does.
        until = found["run"]["tally"]["until"]
        deadline = time.monotonic() + 60
        while (now := stage.status(space, "uncertain"))["run"]["tally"]["until"] == until:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert now["run"]["tally"]["outcome"] == "Passed"
        assert len(events(stage, space, "MirrorShareDiffers")) == 1
