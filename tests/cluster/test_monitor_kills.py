"""SIGKILL at random moments between a measurement and the run that it leads to: exactly one run.

tests/benchmarks/bench_monitor_kills.py does the same two hundred times.
"""

import pytest
from kfp_stand_in import KfpStandIn
from monitor_kills import PIPELINE, retrain_while_killed
from operator_stage import operator_stage

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


def test_killed_again_and_again_every_decision_is_one_run(cluster_parts, tmp_path):
    with (
        KfpStandIn(pipelines=(PIPELINE,)) as kfp,
        operator_stage(
            *cluster_parts,
            tmp_path,
            serving=False,
            ZEROSKEW_KFP=kfp.url,
            ZEROSKEW_KFP_SETTLE_SECONDS="60",
        ) as stage,
    ):
        assert retrain_while_killed(stage, kfp, tmp_path, kills=20, seconds=300) == 40
