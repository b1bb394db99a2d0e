"""The CustomResourceDefinition of ModelRollout.

python -m zeroskew.rollout.crd > manifests/crds/zeroskew.dev_modelrollouts.yaml
"""

from __future__ import annotations

import sys

from zeroskew.rollout.crd_schema import GROUP, VERSION, Definition
from zeroskew.rollout.names import LONGEST
from zeroskew.rollout.rollout_spec import RolloutSpec
from zeroskew.rollout.rollout_state import RolloutStatus

__all__ = ["GROUP", "KIND", "MODEL_ROLLOUT", "PLURAL", "VERSION"]

KIND, PLURAL = "ModelRollout", "modelrollouts"

MODEL_ROLLOUT = Definition(
    kind=KIND,
    plural=PLURAL,
    short="mro",
    description="Brings a model version to its users: shadow, canary, promotion, or back.",
    spec=RolloutSpec,
    status=RolloutStatus,
    columns=(
        ("Phase", "string", ".status.phase", 0),
        ("Wanted", "string", ".spec.modelRef.version", 0),
        ("Stable", "string", ".status.stable", 0),
        ("Weight", "integer", ".status.run.weight", 0),
        ("Mirror", "integer", ".status.run.mirror", 0),
        ("Pairs", "integer", ".status.run.tally.pairs", 1),
        ("Suspended", "boolean", ".spec.suspend", 1),
        ("Message", "string", ".status.message", 1),
        ("Age", "date", ".metadata.creationTimestamp", 0),
    ),
    # "-" and nine digits of a version follow it in an InferenceService's name.
    longest_name=LONGEST - 10,
    made_by="zeroskew.rollout.crd",
)

if __name__ == "__main__":
    sys.stdout.write(MODEL_ROLLOUT.as_yaml())
