"""A plan, its HTTPRoute, and the plan read back."""

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.rollout.http_route import http_route, needed_features, read_http_route
from zeroskew.rollout.traffic_plan import (
    Backend,
    Entrance,
    GatewayRef,
    Mirror,
    TrafficPlan,
    alone,
    shared,
)

ENTRANCE = Entrance(
    path="/v2/models/flight_delay", timeout="2s", hosts=("a.example.com",),
    gateways=(GatewayRef("ml", "gateways"), GatewayRef("inside", None, "http")),
)  # fmt: skip
ENTRANCES = st.builds(
    Entrance,
    path=st.sampled_from(["/v2/models/a", "/x"]),
    timeout=st.sampled_from(["1s", "1m30s"]),
    port=st.integers(1, 65535),
    hosts=st.lists(st.sampled_from(["a.b", "*.c.d"]), unique=True).map(tuple),
    gateways=st.lists(
        st.builds(GatewayRef, st.sampled_from("ab"), st.sampled_from([None, "n"]),
                  st.sampled_from([None, "s"])),
        min_size=1, unique=True,
    ).map(tuple),
)  # fmt: skip


@st.composite
def plans(draw):
    entrance = draw(ENTRANCES)
    weight = draw(st.sampled_from([0, 1, 5, 50, 99, 100]))
    mirror = draw(st.sampled_from([0, 1, 50, 100])) if weight == 0 else 0
    return shared(entrance, "41", "42", weight=weight, mirror=mirror)


def stored(manifest):
    """As an API server returns it: with its defaults, a generation and another order."""
    found = copy.deepcopy(manifest)
    found["metadata"] |= {"generation": 3, "uid": "1", "managedFields": []}
    return dict(reversed(found.items()))


@given(plans())
def test_what_is_read_back_is_what_was_written(plan):
    seen = read_http_route(stored(http_route(plan, "flight_delay", "models")), "flight_delay")
    assert seen.plan == plan
    assert seen.exists
    assert not seen.live


@given(plans(), st.data())
def test_a_route_that_says_anything_else_is_no_plan(plan, data):
    found = stored(http_route(plan, "flight_delay", "models"))
    rule = found["spec"]["rules"][0]
    match data.draw(st.integers(0, 7)):
        case 0:
            rule["backendRefs"][0]["weight"] += 1
        case 1:
            rule["backendRefs"][0]["name"] = "somebody-else"
        case 2:
            rule["filters"] = [{"type": "URLRewrite", "urlRewrite": {"hostname": "x"}}]
        case 3:
            found["spec"]["rules"].append(copy.deepcopy(rule))
        case 4:
            del rule["backendRefs"][0]["filters"]
        case 5:
            rule["matches"][0]["method"] = "POST"
        case 6:
            found["spec"]["rules"] = None
        case 7:
            rule["matches"][0]["path"]["type"] = "Exact"
    assert read_http_route(found, "flight_delay").plan is None


def test_there_is_no_route():
    assert read_http_route(None, "flight_delay") == replace(read_http_route(None, "x"))
    assert not read_http_route(None, "flight_delay").exists


def report(name, namespace, *, generation=3, accepted="True", resolved="True", section=None):
    parent = {"name": name, "namespace": namespace}
    return {
        "parentRef": parent | ({"sectionName": section} if section else {}),
        "controllerName": "example.com/gateway",
        "conditions": [
            {"type": "Accepted", "status": accepted, "reason": "R",
             "observedGeneration": generation},
            {"type": "ResolvedRefs", "status": resolved, "reason": "R", "message": "M",
             "observedGeneration": generation},
        ],
    }  # fmt: skip


BOTH = [report("ml", "gateways"), report("inside", "models", section="http")]


@pytest.mark.parametrize(
    ("reports", "live", "message"),
    [
        (BOTH, True, ""),
        (BOTH[:1], False, "inside has not looked"),
        ([], False, "has not looked"),
        ([BOTH[0], report("inside", "models", section="https")], False, "inside has not looked"),
        ([report("ml", "gateways", generation=2), BOTH[1]], False, ""),
        ([report("ml", "gateways", accepted="False"), BOTH[1]], False, "Accepted: R"),
        ([report("ml", "gateways", resolved="False"), BOTH[1]], False, "ResolvedRefs: R M"),
        ([report("ml", "gateways", accepted="False"), *BOTH], True, ""),
        ([{"parentRef": {"name": "ml", "namespace": "gateways"}}, BOTH[1]], False, ""),
    ],
)
def test_it_is_live_when_every_gateway_took_this_generation(reports, live, message):
    found = stored(http_route(alone(ENTRANCE, "1"), "flight_delay", "models"))
    found["status"] = {"parents": reports}
    seen = read_http_route(found, "flight_delay")
    assert seen.live is live
    assert message in seen.message


@given(plans())
def test_every_backend_is_told_its_role_over_what_came_from_outside(plan):
    (rule,) = http_route(plan, "flight_delay", "models")["spec"]["rules"]
    for reference, backend in zip(rule["backendRefs"], plan.backends, strict=True):
        (each,) = reference["filters"]
        assert set(each["requestHeaderModifier"]) == {"set"}
        assert {one["name"]: one["value"] for one in each["requestHeaderModifier"]["set"]} == {
            "x-zeroskew-role": backend.role, "x-zeroskew-version": backend.version,
        }  # fmt: skip
        assert reference["name"] == f"flight-delay-{backend.version}-predictor"


def test_all_is_mirrored_without_a_percentage_which_few_gateways_know():
    whole = http_route(shared(ENTRANCE, "1", "2", weight=0, mirror=100), "m", "n")
    part = http_route(shared(ENTRANCE, "1", "2", weight=0, mirror=10), "m", "n")
    mirrors = [each["spec"]["rules"][0]["filters"][0]["requestMirror"] for each in (whole, part)]
    assert "percent" not in mirrors[0]
    assert mirrors[1]["percent"] == 10
    assert needed_features(0) < needed_features(0, 100) < needed_features(10)


@pytest.mark.parametrize(
    "build",
    [
        lambda: shared(ENTRANCE, "1", "2", weight=5, mirror=5),
        lambda: shared(ENTRANCE, "1", "2", weight=101, mirror=0),
        lambda: shared(ENTRANCE, "1", "2", weight=0, mirror=101),
        lambda: shared(ENTRANCE, "1", "1", weight=5, mirror=0),
        lambda: shared(ENTRANCE, "1", "1", weight=0, mirror=5),
        lambda: TrafficPlan(ENTRANCE, ()),
        lambda: TrafficPlan(ENTRANCE, (Backend("1", 50), Backend("2", 49, "canary"))),
        lambda: TrafficPlan(ENTRANCE, (Backend("1", 50), Backend("2", 50))),
        lambda: TrafficPlan(ENTRANCE, (Backend("1", 100), Backend("2", 0, "canary"))),
        lambda: TrafficPlan(ENTRANCE, (Backend("1", 100, "canary"),), Mirror("2", 5)),
    ],
)
def test_what_must_not_exist_cannot_be_built(build):
    with pytest.raises(ValueError):
        build()
