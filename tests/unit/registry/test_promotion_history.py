"""Promotion and rollback: what aliases, stages and history say, whoever dies or interferes."""

import dataclasses
import os
import shutil
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroskew.errors import AliasConflict, ConfigError, RegistryError
from zeroskew.registry.promotions import Promotion, before, champions

NAME = "flight_delay"


@pytest.fixture
def three(registry, files, record):
    """A registry with versions 1, 2 and 3, none promoted."""
    for number in (1, 2, 3):
        assert registry.register(NAME, record(f"data {number}"), files) == number
    return registry


def state(registry) -> dict:
    versions = registry.versions(NAME)
    return {
        "aliases": registry.aliases(NAME),
        "stages": [v.stage for v in versions],
        "history": [(e.number, e.action, e.version, e.replaced) for e in registry.history(NAME)],
    }


def test_promotion_moves_aliases_and_stages_and_is_remembered(three) -> None:
    first = three.promote(NAME, 1, "the first", expected_champion=None)
    three.set_alias(NAME, "challenger", 2, expected=None)
    second = three.promote(NAME, 2, "better by 0.004 AUC", expected_champion=1)
    assert state(three) == {
        "aliases": {"champion": 2, "previous": 1},
        "stages": ["Archived", "Production", "Staging"],
        "history": [(1, "promote", 1, None), (2, "promote", 2, 1)],
    }
    assert three.history(NAME) == [first, second]
    assert second.reason == "better by 0.004 AUC"
    assert second.identity == three.version(NAME, 2).tags["identity"]
    assert second.at.endswith("+00:00")
    assert "@" in second.by
    assert three.champion(NAME) == 2


def test_promoting_the_champion_again_changes_nothing(three) -> None:
    entry = three.promote(NAME, 1, "the first")
    assert three.promote(NAME, 1, "again") == entry
    assert three.promote(NAME, 1, "again", expected_champion=None) == entry
    assert len(three.history(NAME)) == 1


def test_rollback_walks_back_through_the_champions(three) -> None:
    for number in (1, 2, 3):
        three.promote(NAME, number, "next")
    assert three.rollback(NAME, "worse").version == 2
    assert state(three)["aliases"] == {"champion": 2, "previous": 1}
    assert state(three)["stages"] == ["Archived", "Production", "Archived"]
    assert three.rollback(NAME, "still worse", expected_champion=2).version == 1
    assert three.rollback(NAME, "still worse", expected_champion=2).number == 5, "done already"
    assert state(three)["aliases"] == {"champion": 1}
    with pytest.raises(RegistryError, match="no earlier champion"):
        three.rollback(NAME, "to nowhere")
    three.promote(NAME, 3, "mended", expected_champion=1)
    assert state(three)["aliases"] == {"champion": 3, "previous": 1}


def test_rollback_passes_over_deleted_versions_and_history_keeps_them(three) -> None:
    for number in (1, 2, 3):
        three.promote(NAME, number, "next")
    deleted = three.version(NAME, 2).tags["identity"]
    three.backend.client.delete_model_version(NAME, "2")
    assert three.rollback(NAME, "worse").version == 1
    assert [e.version for e in three.history(NAME)] == [1, 2, 3, 1]
    assert three.history(NAME)[1].identity == deleted


def test_expectations_are_compared_before_anything_is_written(three) -> None:
    with pytest.raises(AliasConflict, match="points to nothing, not to version 3"):
        three.promote(NAME, 1, "first", expected_champion=3)
    three.promote(NAME, 1, "first")
    untouched = state(three)
    with pytest.raises(AliasConflict, match="points to version 1, not to nothing"):
        three.promote(NAME, 2, "next", expected_champion=None)
    with pytest.raises(AliasConflict, match="version 1, not to version 2"):
        three.rollback(NAME, "worse", expected_champion=2)
    with pytest.raises(AliasConflict, match="`challenger` points to nothing, not to version 1"):
        three.set_alias(NAME, "challenger", 2, expected=1)
    assert state(three) == untouched
    three.set_alias(NAME, "challenger", 2, expected=None)
    three.set_alias(NAME, "challenger", 2, expected=None)
    three.set_alias(NAME, "challenger", 3, expected=2)
    three.set_alias(NAME, "challenger", None, expected=3)
    assert state(three) == untouched


def test_what_cannot_be_promoted(three) -> None:
    with pytest.raises(RegistryError, match=r"no version 9[\s\S]*it has: 1, 2, 3"):
        three.promote(NAME, 9, "why not")
    with pytest.raises(ConfigError, match="reason is required"):
        three.promote(NAME, 1, "  ")
    with pytest.raises(ConfigError, match="2,000 are kept"):
        three.promote(NAME, 1, "x" * 2_001)
    with pytest.raises(RegistryError, match="history would have a hole"):
        three.set_alias(NAME, "champion", 1)
    with pytest.raises(RegistryError, match="not an alias"):
        three.set_alias(NAME, "v3", 1)
    client = three.backend.client
    run_id = three.version(NAME, 1).run_id
    other = client.create_model_version(NAME, client.get_run(run_id).info.artifact_uri, run_id)
    with pytest.raises(RegistryError, match="not registered by zeroskew"):
        three.promote(NAME, int(other.version), "made by hand")
    assert state(three)["history"] == []
    assert three.promote(NAME, 1, "x" * 2_000).reason == "x" * 2_000


def test_archive_sets_a_challenger_aside_but_never_the_champion(three) -> None:
    three.promote(NAME, 1, "first")
    three.set_alias(NAME, "challenger", 2)
    with pytest.raises(RegistryError, match="nobody to challenge"):
        three.set_alias(NAME, "challenger", 1)
    three.archive(NAME, 2)
    assert state(three)["aliases"] == {"champion": 1}
    assert state(three)["stages"] == ["Production", "Archived", "Staging"]
    with pytest.raises(RegistryError, match="is the champion"):
        three.archive(NAME, 1)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_killed_at_any_write_the_next_call_completes_it_once(
    three, open_registry, home, action, after, death
) -> None:
    three.promote(NAME, 1, "first")
    three.promote(NAME, 2, "second")
    three.set_alias(NAME, "challenger", 3)

    def act(registry) -> Promotion:
        if action == "promote":
            return registry.promote(NAME, 3, "third", expected_champion=2)
        return registry.rollback(NAME, "worse", expected_champion=2)

    database = home / "mlflow/mlflow.db"
    shutil.copy(database, home / "before.db")
    whole = open_registry()
    writes = death.at(whole, 10**6).__dict__["writes"]
    act(whole)
    wanted = state(open_registry())
    assert wanted["aliases"]["champion"] == (3 if action == "promote" else 1)
    assert len(writes) >= 6
    for deadly in range(1, len(writes) + 1):
        shutil.copy(home / "before.db", database)
        registry = open_registry()
        death.at(registry, deadly, after=after)
        with pytest.raises(death.Killed):
            act(registry)
        again = open_registry()
        entry = act(again)
        assert state(again) == wanted, (writes[:deadly], after)
        assert entry == again.history(NAME)[-1]


def test_settle_completes_what_was_broken_off(three, open_registry, death) -> None:
    three.promote(NAME, 1, "first")
    dying = open_registry()
    death.at(dying, 3)
    with pytest.raises(death.Killed):
        dying.promote(NAME, 2, "second")
    assert three.champion(NAME) == 1
    three.settle(NAME)
    assert state(three)["aliases"] == {"champion": 2, "previous": 1}
    assert len(state(three)["history"]) == 2


def test_a_broken_off_promotion_is_completed_before_another_one(three, open_registry, death):
    three.promote(NAME, 1, "first")
    dying = open_registry()
    death.at(dying, 1, after=True)
    with pytest.raises(death.Killed):
        dying.promote(NAME, 2, "second")
    with pytest.raises(AliasConflict, match="points to version 2, not to version 1"):
        three.promote(NAME, 3, "third", expected_champion=1)
    assert state(three)["aliases"] == {"champion": 2, "previous": 1}
    three.promote(NAME, 3, "third", expected_champion=2)
    assert [e.version for e in three.history(NAME)] == [1, 2, 3]


def test_an_alias_moved_by_another_tool_is_found_and_recorded(three) -> None:
    three.promote(NAME, 1, "first")
    three.backend.client.set_registered_model_alias(NAME, "champion", "2")
    with pytest.raises(AliasConflict):
        three.promote(NAME, 3, "third", expected_champion=1)
    three.promote(NAME, 3, "third", expected_champion=2)
    assert [(e.action, e.version) for e in three.history(NAME)] == [
        ("promote", 1), ("found", 2), ("promote", 3),
    ]  # fmt: skip
    assert state(three)["aliases"] == {"champion": 3, "previous": 2}
    three.backend.client.delete_registered_model_alias(NAME, "champion")
    three.promote(NAME, 1, "back to the roots", expected_champion=None)
    assert [e.action for e in three.history(NAME)][-2:] == ["found", "promote"]


def test_the_log_refuses_to_be_rewritten(three) -> None:
    from mlflow.exceptions import MlflowException

    three.promote(NAME, 1, "first")
    run_id = three.backend.client.get_registered_model(NAME).tags["promotions_run"]
    with pytest.raises(MlflowException, match="not allowed"):
        three.backend.client.log_param(run_id, "000001", "it was always version 2")
    assert three.history(NAME)[0].version == 1


def test_a_damaged_log_is_said_to_be(three, home) -> None:
    for number in (1, 2, 3):
        three.promote(NAME, number, "next")
    with sqlite3.connect(home / "mlflow/mlflow.db") as connection:
        connection.execute("DELETE FROM params WHERE key = '000002'")
    with pytest.raises(RegistryError, match="entry 000002 is missing"):
        three.history(NAME)
    with sqlite3.connect(home / "mlflow/mlflow.db") as connection:
        connection.execute("UPDATE params SET value = '{' WHERE key = '000001'")
    with pytest.raises(RegistryError, match="entry 000001 cannot be read"):
        three.rollback(NAME, "worse")


def test_without_the_lock_the_log_still_lets_one_writer_in(three, open_registry, monkeypatch):
    """As through a server: both read the same log, then both claim the next entry."""
    three.promote(NAME, 1, "first")
    rival = open_registry()
    for registry in (three, rival):
        registry.backend.database = None
    from zeroskew.registry.promotions import PromotionLog

    claim = PromotionLog.claim

    def overtaken(self, after, **entry):
        monkeypatch.setattr(PromotionLog, "claim", claim)
        rival.promote(NAME, 3, "quicker", expected_champion=1)
        return claim(self, after, **entry)

    monkeypatch.setattr(PromotionLog, "claim", overtaken)
    with pytest.raises(AliasConflict, match="at the same time: version 3"):
        three.promote(NAME, 2, "slower", expected_champion=1)
    assert state(three)["aliases"] == {"champion": 3, "previous": 1}
    assert [e.version for e in three.history(NAME)] == [1, 3]


def test_a_lock_held_by_another_program_is_waited_for_and_then_named(three, monkeypatch) -> None:
    import fcntl

    from zeroskew.registry import backend

    monkeypatch.setattr(backend, "LOCK_SECONDS", 0.2)
    path = three.backend.database.with_name("mlflow.db.lock")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RegistryError, match=r"another process has been writing[\s\S]*fuser"):
            three.promote(NAME, 1, "first")
    three.promote(NAME, 1, "first")
    assert os.path.exists(path)


actions = st.lists(st.tuples(st.sampled_from(["promote", "rollback"]), st.integers(1, 5)))


@given(actions)
def test_the_stack_of_champions_is_what_a_list_with_pops_says(steps) -> None:
    """Entries as the registry would write them, against a plain list."""
    entries: list[Promotion] = []
    model: list[int] = []
    for action, version in steps:
        now = model[-1] if model else None
        if action == "promote":
            if version == now:
                continue
            model.append(version)
        else:
            target = before(model, {1, 2, 3, 4, 5}) if model else None
            if target is None:
                continue
            model.pop()
            assert model[-1] == target
            version = target
        entries.append(Promotion(len(entries) + 1, action, version, now, "r", "t", "b"))
        assert champions(entries) == model
    assert all(dataclasses.is_dataclass(entry) for entry in entries)
