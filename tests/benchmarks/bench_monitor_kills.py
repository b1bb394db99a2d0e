"""Two hundred kills of the operator between drift and the run that it leads to; runs are counted.

    ZEROSKEW_CRDS=… python tests/benchmarks/bench_monitor_kills.py

Needs a kube-apiserver (`make servers`) and the CRDs of KServe and Gateway API. It ends
with 1 if any decision became no run, or more than one.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from kfp_stand_in import KfpStandIn
from monitor_kills import PIPELINE, retrain_while_killed
from operator_stage import PROGRAMS, operator_stage
from server_programs import absent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if "ZEROSKEW_CRDS" not in os.environ:
        print("not run: ZEROSKEW_CRDS must name the folder with the CRDs")
        return 0
    if reason := absent(*PROGRAMS):
        print(f"not run: {reason}")
        return 0
    beside = Path(sys.executable).parent / "kubectl"
    kubectl = str(beside) if beside.is_file() else shutil.which("kubectl")
    folder, began = Path(tempfile.mkdtemp(prefix="zeroskew-kills-")), time.monotonic()
    crds = Path(os.environ["ZEROSKEW_CRDS"])
    with (
        KfpStandIn(pipelines=(PIPELINE,)) as kfp,
        operator_stage(
            kubectl,
            crds,
            folder,
            serving=False,
            ZEROSKEW_KFP=kfp.url,
            ZEROSKEW_KFP_SETTLE_SECONDS="60",
        ) as stage,
    ):
        runs = retrain_while_killed(
            stage, kfp, folder, kills=given.kills, seed=given.seed, seconds=7200
        )
    print(
        f"{given.kills} kills, {runs} decisions in {time.monotonic() - began:.0f} s: "
        "exactly one run for each"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
