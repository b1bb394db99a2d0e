"""SIGKILL at random moments: the same final state, no act twice, no invariant broken.

tests/benchmarks/bench_operator_kills.py does the same two hundred times.
"""

import pytest
from operator_kills import roll_out_while_killed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


def test_killed_again_and_again_it_ends_as_if_nothing_had_been(stage, tmp_path):
    promoted = roll_out_while_killed(stage, tmp_path, rollouts=4, kills=20, seconds=500)
    assert promoted >= 8
