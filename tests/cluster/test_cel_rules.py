"""What a real API server says to each CEL rule of our CRDs.

Every rule has an object that breaks it, and no other, and one that just keeps it.
"""

import copy
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dry_run import DryRun

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
_CHECKS = SimpleNamespace(**runpy.run_path(str(ROOT / "tests/unit/rollout/crd_checks.py")))
_MONITORS = runpy.run_path(str(ROOT / "tests/unit/monitoring/large_monitor.py"))
_WORLD = runpy.run_path(str(ROOT / "tests/unit/rollout/rollout_world.py"))
KINDS = {"modelrollouts": "ModelRollout", "driftmonitors": "DriftMonitor"}
CRDS = {
    plural: yaml.safe_load((ROOT / f"manifests/crds/zeroskew.dev_{plural}.yaml").read_text())
    for plural in KINDS
}


def rollout():
    """A spec with everything in it that a rule reads."""
    spec = _WORLD["manifest"]()
    spec["service"]["timeout"] = "2s"
    spec["analysis"]["metrics"] = [
        {"name": "a", "type": "LatencyRatio", "thresholdRange": {"min": 0, "max": 2},
         "quantile": 0.5},
    ]  # fmt: skip
    spec["strategy"] = {"steps": [{"pause": {"duration": "1m"}}, {"analysis": {"duration": "1m"}}]}
    return spec


SPECS = {"modelrollouts": rollout, "driftmonitors": _MONITORS["large_monitor"]}
WEIGHTS = [{"setWeight": 5}, {"setWeight": 50}]
MIRROR = {"setMirror": {"percent": 5}}
OFF = {"setMirror": {"percent": 0}}
LONG_NAME = "metadata.name"


# By kind and the schema's path: a word of the message, changes that break the rule, and such that
# keep it.
PAIRS = {
    "modelrollouts": {
        "": [("the name may have", [{LONG_NAME: "a" * 39}], [{LONG_NAME: "a" * 38}])],
        "service.timeout": [
            ("must be between", [{"service.timeout": "0ms"}, {"service.timeout": "10m1ms"}],
             [{"service.timeout": "1ms"}, {"service.timeout": "10m"}]),
        ],
        "strategy.steps": [
            ("weights never fall", [{"strategy.steps": WEIGHTS[::-1]}],
             [{"strategy.steps": WEIGHTS}, {"strategy.steps": [WEIGHTS[0]] * 32}]),
            ("only one pause", [{"strategy.steps": [{"pause": {}}] * 2}],
             [{"strategy.steps": [{"pause": {}}, *[{"pause": {"duration": "1s"}}] * 31]}]),
            ("before the first setWeight",
             [{"strategy.steps": [*WEIGHTS, MIRROR]},
              {"strategy.steps": [MIRROR, OFF, WEIGHTS[0], OFF, MIRROR, WEIGHTS[1]]}],
             [{"strategy.steps": [MIRROR, OFF, *WEIGHTS]}, {"strategy.steps": [MIRROR] * 32},
              {"strategy.steps": [OFF, WEIGHTS[0], OFF, WEIGHTS[1], OFF]}]),
        ],
        "strategy.steps[].analysis.duration": [
            ("must be between",
             [{"strategy.steps.1.analysis.duration": end} for end in ("999ms", "720h1ms")],
             [{"strategy.steps.1.analysis.duration": end} for end in ("1s", "720h")]),
        ],
        "strategy.steps[].pause.duration": [
            ("must be between",
             [{"strategy.steps.0.pause.duration": end} for end in ("999ms", "720h1ms")],
             [{"strategy.steps.0.pause.duration": end} for end in ("1s", "720h")]),
        ],
        "analysis.interval": [
            ("must be between",
             [{"analysis.interval": end} for end in ("9s999ms", "24h1s")],
             [{"analysis.interval": end} for end in ("10s", "24h")]),
        ],
        "analysis.metrics[]": [
            ("have a quantile", [{"analysis.metrics.0.type": "AUC"}],
             [{"analysis.metrics.0.type": "ScoreDifference"}]),
        ],
        "analysis.metrics[].thresholdRange": [
            ("min must not be above max", [{"analysis.metrics.0.thresholdRange.min": 2.5}],
             [{"analysis.metrics.0.thresholdRange.min": 2}]),
        ],
    },
    "driftmonitors": {
        "": [("the name may have", [{LONG_NAME: "a" * 39}], [{LONG_NAME: "a" * 38}])],
        ".": [
            ("trigger.cooldown must not be shorter",
             [{"trigger.cooldown": "4m59s"}], [{"trigger.cooldown": "5m"}]),
            ("name the pipeline", [{"trigger.pipelineRef": None}],
             [{"trigger.pipelineRef": None, "trigger.policy": "Disabled"},
              {"trigger.pipelineRef": None, "trigger.dryRun": True}]),
        ],
        "interval": [
            ("must be between",
             [{"interval": "999ms"}, {"interval": "24h1ms", "trigger.cooldown": "48h"}],
             [{"interval": "1s"}, {"interval": "24h", "trigger.cooldown": "48h"}]),
        ],
        "moderateInterval": [
            ("must be between",
             [{"moderateInterval": end} for end in ("999ms", "24h1ms")],
             [{"moderateInterval": end} for end in ("1s", "24h")]),
        ],
        "window.duration": [
            ("must be between",
             [{"window.duration": end} for end in ("59s999ms", "2160h1ms")],
             [{"window.duration": end} for end in ("1m", "2160h")]),
        ],
        "source": [
            ("Prometheus needs its address", [{"source.uri": None}],
             [{"source.uri": None, "source.type": "Profiles"}]),
            ("is no place for the type",
             [{"source.uri": "s3://b/log"}, {"source.type": "Profiles"}],
             [{"source.uri": "https://p"}, {"source.uri": "/log", "source.type": "Predictions"}]),
        ],
        "metrics[]": [
            ("have features",
             [{"metrics.1.minFeatures": 2}, {"metrics.1.features": {"exclude": ["a"]}},
              {"metrics.1.features": {"include": ["a"]}}],
             [{"metrics.1.features": {"include": ["*"]}}, {"metrics.1.minFeatures": 1},
              {"metrics.0.type": "NullRate"}]),
            ("need a thresholdRange",
             [{"metrics.1.thresholdRange": None},
              {"metrics.0.type": "Freshness", "metrics.0.thresholdRange": None}],
             [{"metrics.0.thresholdRange": None}]),
        ],
        "metrics[].thresholdRange": [
            ("min must not be above max", [{"metrics.0.thresholdRange": {"min": 0.3, "max": 0.2}}],
             [{"metrics.0.thresholdRange": {"min": 0.2, "max": 0.2}}]),
        ],
        "metrics[].maxAge": [
            ("must be between",
             [{"metrics.1.maxAge": end} for end in ("999ms", "720h1ms")],
             [{"metrics.1.maxAge": end} for end in ("1s", "720h")]),
        ],
        "trigger.parameters[]": [
            ("exactly one of value and valueFrom",
             [{"trigger.parameters.0.value": "now"}, {"trigger.parameters.0.valueFrom": None}],
             [{"trigger.parameters.0": {"name": "end_time", "value": "now"}}]),
        ],
        "trigger.cooldown": [
            ("must be between",
             [{"trigger.cooldown": "720h1ms"}],
             [{"trigger.cooldown": "720h"}, {"trigger.cooldown": "1s", "interval": "1s"}]),
        ],
        "trigger.retry.backoff": [
            ("must be between",
             [{"trigger.retry.backoff": end} for end in ("999ms", "720h1ms")],
             [{"trigger.retry.backoff": end} for end in ("1s", "720h")]),
        ],
        "trigger.runDeadline": [
            ("must be between",
             [{"trigger.runDeadline": end} for end in ("999ms", "720h1ms")],
             [{"trigger.runDeadline": end} for end in ("1s", "720h")]),
        ],
        "trigger.labels.maxDelay": [
            ("must be between",
             [{"trigger.labels.maxDelay": end} for end in ("999ms", "720h1ms")],
             [{"trigger.labels.maxDelay": end} for end in ("1s", "720h")]),
        ],
    },
}  # fmt: skip


def rules_of(plural):
    """(path, message) of every rule; "." is the spec, "" the object."""
    (version,) = CRDS[plural]["spec"]["versions"]
    for path, node in _CHECKS.walk(version["schema"]["openAPIV3Schema"]):
        short = path.removeprefix(".spec").removeprefix(".") or ("." if path else "")
        for rule in node.get("x-kubernetes-validations", ()):
            yield short, rule["message"]


def changed(plural, changes):
    """The whole object with `changes` of its spec by dotted path; None takes a field away."""
    made = {
        "apiVersion": "zeroskew.dev/v1alpha1",
        "kind": KINDS[plural],
        "metadata": {"name": changes.get(LONG_NAME, "a")},
        "spec": SPECS[plural](),
    }
    for path, value in changes.items():
        if path == LONG_NAME:
            continue
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
        here = made["spec"]
        for part in parents:
            here = here[part]
        if value is None:
            del here[last]
        else:
            here[last] = copy.deepcopy(value)
    return made


@pytest.fixture(scope="session")
def crds(cluster):
    cluster.install(list(CRDS.values()))
    return cluster


def asking(cluster, plural):
    return DryRun(cluster, plural, "default")


@pytest.mark.parametrize("plural", KINDS)
def test_each_rule_has_a_pair_and_each_pair_a_rule(plural):
    rules = list(rules_of(plural))
    assert len(rules) == len(set(rules))
    pairs = [(path, word) for path, known in PAIRS[plural].items() for word, *_ in known]
    for path, message in rules:
        assert [1 for at, word in pairs if at == path and word in message] == [1], (path, message)
    assert len(pairs) == len(rules)


CASES = [
    pytest.param(plural, word, refused, taken, id=f"{plural}:{path or '-'}:{word}")
    for plural, paths in PAIRS.items()
    for path, known in paths.items()
    for word, refused, taken in known
]


@pytest.mark.parametrize(("plural", "word", "refused", "taken"), CASES)
def test_a_rule_refuses_what_breaks_it_and_nothing_else(crds, plural, word, refused, taken):
    server = asking(crds, plural)
    for changes in refused:
        refusal = server.create(changed(plural, changes))
        assert refusal, changes
        assert refusal.causes, refusal
        for _, message in refusal.causes:
            assert word in message, (changes, refusal)
    for changes in taken:
        assert server.create(changed(plural, changes)) is None, changes
