"""Names are checked before anything is made: alone, and together with the namespace."""

import pytest

from zeroskew.errors import ConfigError
from zeroskew.rollout.names import LONGEST, LONGEST_WITH_NAMESPACE, check_versions, service_name


@pytest.mark.parametrize("name", [8, 20, 40])
def test_kserves_address_holds_a_name_and_its_namespace(name):
    """`<name>-predictor-<namespace>` has 63 characters at most."""
    rollout, space = "r" * (name - 2), "n" * (LONGEST_WITH_NAMESPACE - name)
    assert len(f"{service_name(rollout, 1, space)}-predictor-{space}") == 63
    with pytest.raises(ConfigError, match=f"{name} \\+ {len(space) + 1} characters"):
        service_name(rollout, 1, space + "n")
    with pytest.raises(ConfigError, match="shorter name"):
        service_name(rollout, 10, space)


def test_a_name_alone_has_a_limit_too():
    assert len(f"isvc.{service_name('r' * (LONGEST - 2), 1, 'n')}-predictor") == 63
    with pytest.raises(ConfigError, match="may have 48"):
        service_name("r" * (LONGEST - 1), 1, "n")


def test_a_rollout_has_room_for_the_versions_to_come():
    check_versions("r" * 20, 1, "n" * 26)
    with pytest.raises(ConfigError, match="together"):
        check_versions("r" * 20, 1, "n" * 27)
    with pytest.raises(ConfigError, match="cannot be a namespace"):
        check_versions("r", 1, "N")
