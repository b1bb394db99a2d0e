"""A `DriftMonitor.spec` in which every field is said."""


def large_monitor():
    return {
        "modelRef": {"name": "fraud"},
        "suspend": False,
        "interval": "5m",
        "moderateInterval": "1m",
        "window": {"duration": "6h", "minSamples": 2000},
        "source": {"type": "Prometheus", "uri": "http://prometheus:9090"},
        "roles": ["champion"],
        "metrics": [
            {"name": "psi", "type": "PSI", "thresholdRange": {"max": 0.2}, "minFeatures": 2,
             "features": {"include": ["*"], "exclude": ["id_*"]}, "failureLimit": 3,
             "inconclusiveLimit": 4, "severity": "error", "dryRun": False},
            {"name": "auc", "type": "Performance", "thresholdRange": {"min": 0.7}, "maxAge": "24h"},
        ],
        "trigger": {
            "policy": "Automatic", "action": "Retrain", "when": "Any",
            "pipelineRef": {"name": "fraud-training", "versionName": "v 3", "experiment": "nightly",
                            "serviceAccount": "runner"},
            "parameters": [{"name": "end_time", "valueFrom": "windowEnd"},
                           {"name": "start_time", "value": "now-90d"}],
            "cooldown": "12h", "retry": {"limit": 2, "backoff": "5m"},
            "concurrencyPolicy": "Forbid", "maxRunsPerWeek": 2,
            "runDeadline": "10h", "labels": {"minFraction": 0.5, "maxDelay": "24h"},
            "runHistoryLimit": 5, "dryRun": False,
        },
    }  # fmt: skip
