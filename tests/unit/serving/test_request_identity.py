"""Ids, roles and traces from the protocol and from headers."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from zeroskew.serving.request_identity import HEADER_PATTERN, LONGEST_ID, ROLES, identify

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_the_protocols_id_comes_first_then_the_gateways_then_ours():
    headers = json.dumps({"X-Request-Id": "gateway"})
    assert identify("mine", headers, "champion").request_id == "mine"
    assert identify("", headers, "champion").request_id == "gateway"
    ours = {identify("", "{}", "champion").request_id for _ in range(1000)}
    assert len(ours) == 1000


def test_the_role_is_the_headers_or_the_servers():
    assert identify("", '{"x-zeroskew-role": "shadow"}', "champion").role == "shadow"
    assert identify("", '{"x-zeroskew-role": "king"}', "canary").role == "canary"
    assert identify("", "", "canary").role == "canary"


def test_a_trace_is_taken_only_if_it_is_one():
    good = f"00-{TRACE}-{SPAN}-01"
    assert identify("", json.dumps({"traceparent": good}), "champion").trace_id == TRACE
    for bad in (good[:-1], good.upper(), f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
                "", 7, None, [good]):  # fmt: skip
        assert identify("", json.dumps({"traceparent": bad}), "champion").trace_id is None


@given(st.text(), st.one_of(st.text(), st.dictionaries(st.text(), st.text()).map(json.dumps)))
def test_nothing_that_is_sent_is_a_reason_to_fail(request_id, parameters):
    who = identify(request_id, parameters, "champion")
    assert 0 < len(who.request_id) <= LONGEST_ID
    assert who.role in ROLES


def test_the_pattern_forwards_these_headers_and_no_other():
    for header in ("x-request-id", "X-Request-ID", "Traceparent", "x-zeroskew-role"):
        assert re.fullmatch(HEADER_PATTERN, header)
    for header in ("authorization", "cookie", "x-request-id2"):
        assert not re.fullmatch(HEADER_PATTERN, header)


def test_a_copy_of_a_request_to_another_version_is_a_shadow():
    said = '{"x-zeroskew-role": "champion", "x-zeroskew-version": "41"}'
    assert identify("", said, "champion", "42").role == "shadow"
    assert identify("", said, "champion", "41").role == "champion"
    assert identify("", said, "champion").role == "champion"
    assert identify("", '{"x-zeroskew-version": ""}', "canary", "42").role == "canary"
