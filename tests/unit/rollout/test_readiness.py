"""Ready is what serves its own spec in full; everything else has a reason."""

import pytest

from zeroskew.rollout.readiness import SOURCE, TEMPLATE, version_seen

URI = "s3://models/flight_delay/3"


def conditions(**states):
    return [
        {"type": kind, "status": status, "message": f"{kind} says"}
        for kind, status in states.items()
    ]


def service(*, status=None, spec=None, **meta):
    return {
        "metadata": {"annotations": {TEMPLATE: "abc"}, **meta},
        "spec": {"predictor": {"minReplicas": 2, "model": {"storageUri": URI}, **(spec or {})}},
        "status": {
            "deploymentMode": "Standard",
            "conditions": conditions(PredictorReady="True", IngressReady="True", Ready="True"),
            "modelStatus": {"transitionStatus": "UpToDate"},
            **(status or {}),
        },
    }


def deployment(*, uri=URI, generation=4, observed=4, replicas=2, updated=2, available=2, **status):
    return {
        "metadata": {"generation": generation},
        "spec": {"template": {"metadata": {"annotations": {SOURCE: uri}}}},
        "status": {
            "observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated,
            "availableReplicas": available, **status,
        },
    }  # fmt: skip


def test_it_is_ready():
    seen = version_seen(service(), deployment())
    assert (seen.exists, seen.ready, seen.available, seen.reason) == (True, True, True, "")
    assert seen.template == "abc"


def test_growing_under_load_is_not_unready():
    assert version_seen(service(), deployment(replicas=7, updated=7, available=3)).ready


STUCK = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
FAILED = {
    "modelStatus": {
        "transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": {"message": "no bucket"}
    }
}  # fmt: skip


@pytest.mark.parametrize(
    ("isvc", "deployed", "available", "reason"),
    [
        (service(), None, False, "has not made its Deployment"),
        (service(), deployment(uri="s3://models/flight_delay/2"), True, "still of s3://"),
        (service(), deployment(observed=3), True, "not looked at"),
        (service(), deployment(replicas=3, updated=1, available=3), True, "2 of 3 pods are of an"),
        (service(), deployment(available=1), True, "1 of 2 pods answer"),
        (service(), deployment(replicas=0, updated=0, available=0), False, "0 of 2 pods answer"),
        (service(spec={"minReplicas": 0}), deployment(replicas=0, updated=0, available=0), False,
         "0 of 1 pods answer"),
        (service(), deployment(conditions=[STUCK]), True, "ProgressDeadlineExceeded"),
        (service(status=FAILED), deployment(), True, "no bucket"),
        (service(status={"modelStatus": {"transitionStatus": "InProgress"}}), deployment(), True,
         "InProgress"),
        (service(status={"conditions": []}), deployment(), True, "does not say PredictorReady"),
        (service(status={"conditions": conditions(PredictorReady="True", Ready="False")}),
         deployment(), True, "Ready is False: Ready says"),
        (service(status={"conditions": conditions(
            PredictorReady="True", TransformerReady="Unknown", Ready="True")}),
         deployment(), True, "TransformerReady is Unknown"),
        (service(status={"conditions": conditions(Stopped="True", Ready="True")}), deployment(),
         True, "stopped"),
        (service(status={"deploymentMode": "Knative"}), deployment(), True, "Knative"),
        (service(deletionTimestamp="2026-11-01T00:00:00Z"), deployment(), False, "deleted"),
        (None, None, False, "no InferenceService"),
    ],
)  # fmt: skip
def test_what_is_not_ready_says_why(isvc, deployed, available, reason):
    seen = version_seen(isvc, deployed)
    assert not seen.ready
    assert seen.available is available
    assert reason in seen.reason


def test_nothing_that_an_api_server_leaves_out_is_a_reason_to_fail():
    assert not version_seen({}, {}).ready
    assert not version_seen({"metadata": {}, "spec": {}}, {"status": {}}).ready
