"""Which gateways can copy as a step says, and what observed shares show of them."""

import itertools

import numpy as np
import pytest

from zeroskew.rollout.rollout_state import MirrorShare
from zeroskew.rollout.routes.gateway_controllers import (
    KNOWN_CONTROLLERS,
    MIRROR,
    PART_MIRROR,
    mirror_support,
)
from zeroskew.rollout.routes.mirror_share import as_asked

ENVOY = "gateway.envoyproxy.io/gatewayclass-controller"
CONTOUR = "projectcontour.io/gateway-controller"
TRAEFIK = "traefik.io/gateway-controller"
ALL, PART = {MIRROR}, {MIRROR, PART_MIRROR}


@pytest.mark.parametrize(
    ("controller", "listed", "needed", "mirrors"),
    [
        # Without a list, the controller's name tells.
        (ENVOY, None, PART, True),
        (CONTOUR, None, PART, False),
        (CONTOUR, None, ALL, True),
        (TRAEFIK, None, ALL, False),
        ("example.com/gateway", None, PART, None),
        ("", None, ALL, None),
        # The list is about the version that runs: it decides.
        (CONTOUR, PART, PART, True),
        (ENVOY, ALL, PART, False),
        ("example.com/gateway", PART, PART, True),
        ("example.com/gateway", {"HTTPRoutePortRedirect"}, ALL, False),
        # Steps without a mirror need nothing.
        (TRAEFIK, None, set(), True),
        ("example.com/gateway", None, set(), True),
    ],
)
def test_a_list_decides_and_else_what_the_controllers_source_shows(
    controller, listed, needed, mirrors
):
    found = mirror_support("ml", controller, listed, needed)
    assert found.mirrors is mirrors
    assert bool(found.message) is (mirrors is not True)


def test_a_refusal_names_the_product_and_a_way_out():
    text = mirror_support("edge", CONTOUR, None, PART).message
    assert "GatewayClass edge is of Contour, which copies every request" in text
    assert "mirror 100 percent" in text
    assert "steps without setMirror" in mirror_support("edge", TRAEFIK, None, ALL).message
    assert PART_MIRROR in mirror_support("edge", ENVOY, ALL, PART).message


def test_what_is_known_of_controllers_is_one_of_the_two_features():
    for known in KNOWN_CONTROLLERS.values():
        assert known.features <= PART
        assert PART_MIRROR not in known.features or MIRROR in known.features


@pytest.mark.parametrize("percent", [1, 5, 10, 50, 90, 99])
def test_a_gateway_that_does_as_asked_is_not_accused_and_others_are_found_out(percent):
    random = np.random.default_rng(percent)
    for requests in (100, 400, 2_000, 50_000):
        for copies in random.binomial(requests, percent / 100, 2_000):
            assert as_asked(MirrorShare(percent, requests, int(copies))) is not False
    assert as_asked(MirrorShare(percent, 50_000, 50_000 * percent // 100)) is True
    for copies in (0, 50_000):
        assert as_asked(MirrorShare(percent, 50_000, copies)) is False


def test_few_requests_prove_nothing_and_content_never_comes_before_suspicion_could():
    for percent, requests in itertools.product(range(1, 101), (0, 50, 99)):
        assert as_asked(MirrorShare(percent, requests, requests)) is None
    for percent, requests in itertools.product(range(1, 100), (100, 300, 1_000, 10_000)):
        for copies in range(0, requests + 1, max(1, requests // 50)):
            if as_asked(MirrorShare(percent, requests, copies)):
                assert as_asked(MirrorShare(percent, requests, 0)) is False
                assert as_asked(MirrorShare(percent, requests, requests)) is False


@pytest.mark.parametrize(("copies", "fits"), [(1000, True), (900, True), (300, False), (0, False)])
def test_of_all_requests_half_is_plainly_not_all(copies, fits):
    assert as_asked(MirrorShare(100, 1000, copies)) is fits
