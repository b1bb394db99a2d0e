"""Who is told of what, in which words: settings, templates and the rule of repeating."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.notifications import (
    Attempt,
    Notification,
    body_of,
    next_attempt,
    parse_notifications,
    render,
)

TOLD = Notification(
    "0a1b", "ModelRollout", "team", "flight_delay", "Warning", "RolledBack", "p99 <2> & more",
    "2026-11-30T12:00:00Z",
)  # fmt: skip


def settings(**changes):
    destination = {"name": "a", "url": "https://hooks.example/x"} | changes
    given = {name: value for name, value in destination.items() if value is not None}
    return parse_notifications(json.dumps({"destinations": [given]}))


def test_a_slack_message_and_a_webhook_say_the_same():
    slack = body_of("slack", None, TOLD, "https://k.example/{{ namespace }}/{{ name }}")
    assert slack == {
        "text": ":warning: *ModelRollout team/flight_delay* RolledBack\np99 &lt;2&gt; &amp; more\n"
        "<https://k.example/team/flight_delay|status>"
    }
    plain = body_of("webhook", None, TOLD)
    assert plain["text"] == ("Warning: ModelRollout team/flight_delay: RolledBack: p99 <2> & more")
    assert {name: plain[name] for name in ("id", "kind", "reason", "time", "link")} == {
        "id": "0a1b", "kind": "ModelRollout", "reason": "RolledBack",
        "time": "2026-11-30T12:00:00Z", "link": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "http://hooks.example/x"}, "without TLS"),
        ({"url": "ftp://hooks.example/x"}, "no URL of https"),
        ({"url": None}, "either `url` or `url_from`"),
        ({"url_from": {"env": "A"}}, "either `url` or `url_from`"),
        ({"url": None, "url_from": {"env": "A", "file": "/b"}}, "either `env` or `file`"),
        ({"url": None, "url_from": {"file": "relative"}}, "file"),
        ({"name": "Not a name"}, "name"),
        ({"type": "pager"}, "type"),
        ({"types": ["Error"]}, "types"),
        ({"atempts": 3}, "atempts"),
        ({"template": "{% for a in b %}{% endfor %}"}, "only fields, conditions and filters"),
        ({"template": "{{ ''.__class__ }}"}, "only fields, conditions and filters"),
        ({"template": "{{ name.upper() }}"}, "only fields, conditions and filters"),
        ({"template": "{{ 'x' * 1000000000 }}"}, "only fields, conditions and filters"),
        ({"template": "{{ self }}"}, "none of the fields"),
        ({"template": "{{ name|center(1000000000) }}"}, "not one of the filters"),
        ({"template": "{{ name"}, "the template is wrong"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(changes, said):
    with pytest.raises(ConfigError) as refused:
        settings(**changes)
    assert said in str(refused.value)
    assert "hooks.example/x" not in str(refused.value), "an address may be a secret"


def test_two_of_one_name_and_other_files_are_refused():
    one = {"name": "a", "url": "https://h.example"}
    with pytest.raises(ConfigError, match="the same name"):
        parse_notifications(json.dumps({"destinations": [one, one]}))
    for text in ("- a", "a: [", "x" * 300_000):
        with pytest.raises(ConfigError):
            parse_notifications(text)


def test_only_what_was_asked_for_is_told():
    (chosen,) = settings(
        reasons=["Rolled*", "RunFailed"], kinds=["ModelRollout"], namespaces=["team-?", "team"]
    ).destinations
    told = {"kind": "ModelRollout", "namespace": "team", "type": "Warning", "reason": "RolledBack"}

    def wants(**changes):
        fields = told | changes
        return chosen.wants(Notification(id="", name="n", message="", time="", **fields))

    assert wants()
    assert wants(namespace="team-b", reason="RunFailed")
    for other in (
        {"type": "Normal"}, {"kind": "DriftMonitor"}, {"namespace": "other"}, {"reason": "Promoted"}
    ):  # fmt: skip
        assert not wants(**other)


@given(st.text(max_size=6000), st.booleans())
def test_a_text_is_bounded_and_never_fails(message, slack):
    told = Notification("1", "K", "n", "n", "Normal", "R", message, "t")
    assert len(render("{{ message }}", told, slack=slack)) <= 3000


@given(
    st.integers(0, 599), st.integers(1, 30), st.integers(1, 20), st.floats(0, 1),
    st.none() | st.floats(-1e9, 1e9),
)  # fmt: skip
def test_it_is_tried_again_where_that_helps_and_not_for_ever(status, number, most, jitter, asked):
    pause = next_attempt(Attempt(number, status, asked), most, jitter)
    again = status == 0 or status >= 500 or status in (408, 425, 429)
    assert (pause is not None) == (again and number < most)
    if pause is not None:
        assert 0.5 <= pause <= 300
        assert asked is None or pause >= min(max(asked, 0), 300)


def test_pauses_grow():
    pauses = [next_attempt(Attempt(number, 500), 20, 1.0) for number in range(1, 9)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
