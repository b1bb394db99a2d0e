"""Two hundred kills of the operator at random moments of rollouts; what must hold is judged.

    ZEROSKEW_CRDS=… python tests/benchmarks/bench_operator_kills.py

Needs the tests' servers (`make servers`), KServe's manager among them, and Gateway API's CRDs. It
ends with 1 if any rollout ended otherwise than it should, or an act was done twice.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from operator_kills import roll_out_while_killed
from operator_stage import PROGRAMS, operator_stage
from server_programs import absent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rollouts", type=int, default=8)
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
    folder = Path(tempfile.mkdtemp(prefix="zeroskew-kills-"))
    began = time.monotonic()
    with operator_stage(kubectl, Path(os.environ["ZEROSKEW_CRDS"]), folder) as stage:
        promoted = roll_out_while_killed(
            stage, folder, rollouts=given.rollouts, kills=given.kills, seed=given.seed,
            seconds=7200,
        )  # fmt: skip
    print(
        f"{given.kills} kills, {promoted} promotions of {given.rollouts} rollouts in "
        f"{time.monotonic() - began:.0f} s: every state as wished, no act twice"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
