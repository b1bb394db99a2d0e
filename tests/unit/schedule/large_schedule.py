"""A PipelineSchedule's spec in which every field is said."""


def large_schedule():
    return {
        "pipelineRef": {"name": "fraud-training", "versionName": "v 3", "experiment": "nightly",
                        "serviceAccount": "runner"},
        "schedule": "0 5 * * mon-fri",
        "timeZone": "Europe/Berlin",
        "parameters": [{"name": "end_time", "valueFrom": "scheduledTime"},
                       {"name": "start_time", "value": "now-90d"}],
        "suspend": False,
        "concurrencyPolicy": "Forbid",
        "missed": {"policy": "RunAll", "startingDeadline": "6h", "limit": 3},
        "runDeadline": "10h",
        "historyLimit": 5,
    }  # fmt: skip
