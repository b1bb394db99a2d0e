"""Ready is what serves its own spec in full; everything else has a reason."""

import pytest

from zeroskew.rollout.readiness import SOURCE, TEMPLATE, slim_deployment, version_seen

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


def deployment(
    *,
    uri=URI,
    image="triton:1",
    generation=4,
    observed=4,
    replicas=2,
    updated=2,
    available=2,
    template="abc",
    **status,
):
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": replicas, "template": {
            "metadata": {"annotations": {SOURCE: uri, TEMPLATE: template}},
            "spec": {"containers": [{"image": image}]},
        }},
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
REFUSED = {
    "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
    "message": 'pods "x" is forbidden: violates PodSecurity "restricted:latest"',
}  # fmt: skip
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
        (service(), deployment(template="abb"), True, "of an older template"),
        (service(), deployment(available=1, conditions=[REFUSED]), True, "violates PodSecurity"),
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


LOG = """2026-11-30 08:00:00.123 1 kserve INFO [storage.py:download():42] Copying contents
2026-11-30 08:00:01.456 1 kserve ERROR [storage.py:download():57] first try failed
2026-11-30 08:00:02.789 1 kserve ERROR [storage.py:download():61] no object at s3://models/3
2026-11-30 08:00:02.790 1 kserve INFO [storage.py:main():12] bye
"""
TRACEBACK = "Traceback (most recent call last):\n  File x.py\nRuntimeError: no such bucket\n\n"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (LOG, "2026-11-30 08:00:02.789 1 kserve ERROR [storage.py:download():61] no object at "
              "s3://models/3"),
        (TRACEBACK, "RuntimeError: no such bucket"),
        ("no bucket", "no bucket"),
        ("", "ModelLoadFailed"),
        ("x" * 5000, "x" * 1000),
    ],
)  # fmt: skip
def test_of_a_log_the_line_that_says_what_went_wrong(log, said):
    failure = {"message": log, "reason": "ModelLoadFailed"}
    status = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure}
    seen = version_seen(service(status={"modelStatus": status}), deployment())
    assert seen.reason == f"BlockedByFailedLoad: {said}"


def test_why_there_is_no_deployment_is_said_in_kserves_words():
    long = "fails to create service: invalid domain name"
    assert version_seen(service(), None, warning=long).reason.endswith(long)
    failed = service(status={"conditions": [
        {"type": "PredictorReady", "status": "False", "message": "no runtime"}
    ]})  # fmt: skip
    assert version_seen(failed, None, warning=long).reason.endswith("no runtime")


STARTED = deployment()
"""The pods that were ready once."""
SCALES = {
    "another replica is asked for, and nobody looked yet": (
        service(), deployment(generation=5, observed=4, replicas=2)),
    "its pod starts": (
        service(status={
            "conditions": conditions(PredictorReady="False", IngressReady="True", Ready="False"),
            "modelStatus": {"transitionStatus": "InProgress"},
        }),
        deployment(generation=5, observed=5, replicas=3, updated=3, available=2)),
    "its pod does not get its model": (
        service(status={
            "conditions": conditions(PredictorReady="False", Ready="False"), **FAILED
        }),
        deployment(replicas=3, updated=3, available=2)),
    "its pod may not be made": (
        service(status={"conditions": conditions(PredictorReady="False", Ready="False")}),
        deployment(replicas=2, updated=2, available=2, conditions=[REFUSED])),
    "it stops to try": (
        service(status={"conditions": conditions(PredictorReady="False", Ready="False")}),
        deployment(replicas=3, updated=3, available=2, conditions=[STUCK])),
    "one less is asked for, and nobody looked yet": (
        service(), deployment(generation=6, observed=5, replicas=3, updated=3, available=3)),
}  # fmt: skip


@pytest.mark.parametrize("what", list(SCALES))
def test_the_number_of_pods_changes_and_they_are_the_same(what):
    seen = version_seen(*SCALES[what])
    assert not seen.ready
    assert seen.steady
    assert seen.pods == version_seen(service(), STARTED).pods


@pytest.mark.parametrize(
    ("isvc", "deployed"),
    [
        (service(), deployment(replicas=2, updated=2, available=1)),
        (service(), deployment(replicas=3, updated=1, available=3)),
        (service(), deployment(uri="s3://models/flight_delay/2")),
        (service(), deployment(template="abb")),
        (service(), None),
        (service(status={"conditions": conditions(Stopped="True")}), deployment()),
        (service(status={"deploymentMode": "Knative"}), deployment()),
        (service(status={"modelStatus": {"transitionStatus": "InvalidSpec"}}), deployment()),
        (service(status={"conditions": conditions(TransformerReady="Unknown")}), deployment()),
        (service(deletionTimestamp="2026-11-01T00:00:00Z"), deployment()),
    ],
)
def test_what_is_not_about_numbers_alone_is_not_steady(isvc, deployed):
    assert not version_seen(isvc, deployed).steady


def test_the_digest_is_of_the_pods_and_not_of_their_number():
    pods = version_seen(service(), deployment()).pods
    assert version_seen(service(), deployment(replicas=9, generation=7)).pods == pods
    assert version_seen(service(), deployment(image="triton:2")).pods != pods
    assert version_seen(service(), slim_deployment(deployment())).pods == pods


def test_nothing_that_an_api_server_leaves_out_is_a_reason_to_fail():
    assert not version_seen({}, {}).ready
    assert not version_seen({"metadata": {}, "spec": {}}, {"status": {}}).ready
