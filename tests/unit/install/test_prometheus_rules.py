"""Rules and dashboard: promtool tries every alert, and nothing is asked that nobody tells."""

import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from operators.monitor_collector import MonitorCollector
from operators.schedule.collector import ScheduleCollector
from zeroskew.serving import metrics_publisher

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "manifests/components/prometheus"
TRIED = Path(__file__).with_name("prometheus_rules.test.yaml")
RULES = yaml.safe_load((FOLDER / "rules.yaml").read_text())
ALL = [rule for group in RULES["spec"]["groups"] for rule in group["rules"]]
DASHBOARD = json.loads(
    yaml.safe_load((FOLDER / "dashboard.yaml").read_text())["data"]["zeroskew.json"]
)


def promtool(*arguments, cwd):
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = os.environ.get("ZEROSKEW_PROMETHEUS") or str(cache / "zeroskew/prometheus")
    program = shutil.which("promtool", path=os.pathsep.join([folder, os.environ["PATH"]]))
    if program is None:
        pytest.skip(f"no promtool in {folder}: run scripts/install_prometheus.sh")
    return subprocess.run(
        [program, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def beside(tmp_path):
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES["spec"]))
    (tmp_path / TRIED.name).write_text(TRIED.read_text())
    return tmp_path


def test_promtool_takes_the_rules_and_every_alert_does_as_it_should(beside):
    for command in (("check", "rules", "rules.yaml"), ("test", "rules", TRIED.name)):
        done = promtool(*command, cwd=beside)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_where_it_fires_and_where_it_must_not():
    tried = {}
    for test in yaml.safe_load(TRIED.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            tried.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    quiet_elsewhere = {"ZeroskewRequestsFail"}  # The same moment has a model that must not fire.
    for rule in ALL:
        if name := rule.get("alert"):
            assert tried[name] == {True, False} or name in quiet_elsewhere, name
    assert set(tried) == {rule["alert"] for rule in ALL if "alert" in rule}


def test_a_broken_rule_would_be_found(beside):
    rules = (beside / "rules.yaml").read_text()
    (beside / "rules.yaml").write_text(rules.replace("> 0.02", "> 2"))
    assert promtool("test", "rules", TRIED.name, cwd=beside).returncode != 0


def told():
    """Names that servers and the operator tell, and those that rules record."""
    import prometheus_client

    import operators.operator_metrics  # noqa: F401

    names = set(metrics_publisher.HELP)
    for family in prometheus_client.REGISTRY.collect():
        names |= {family.name + end for end in ("", "_total", "_bucket", "_count", "_sum")}
    for family in ScheduleCollector().collect():
        names |= {family.name, f"{family.name}_total" if family.type == "counter" else family.name}
    names |= {family.name for family in MonitorCollector(SimpleNamespace(watched={})).collect()}
    return names | {rule["record"] for rule in ALL if "record" in rule}


def asked(expression):
    return set(re.findall(r"\bzeroskew[_:][a-z0-9_:]+", expression))


def test_nothing_is_asked_that_nobody_tells(beside):
    known = told()
    for rule in ALL:
        assert asked(rule["expr"])
        assert asked(rule["expr"]) <= known, rule
    expressions = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
    ]
    for expression in expressions:
        assert asked(expression)
        assert asked(expression) <= known, expression
    # They are expressions at all.
    filled = [re.sub(r"\$\w+", "x", each) for each in expressions]
    rules = [{"record": f"a:b{number}", "expr": each} for number, each in enumerate(filled)]
    (beside / "d.yaml").write_text(yaml.safe_dump({"groups": [{"name": "d", "rules": rules}]}))
    done = promtool("check", "rules", "d.yaml", cwd=beside)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_what_its_maker_prints_and_lays_no_panel_over_another():
    made = runpy.run_path(str(FOLDER / "dashboard.py"))
    assert (FOLDER / "dashboard.yaml").read_text() == made["as_yaml"]()
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_alert_says_what_to_do():
    headings = {
        line.lstrip("# ").lower().replace(" ", "-")
        for line in (ROOT / "manifests/README.md").read_text().splitlines()
        if line.startswith("#")
    }
    for rule in ALL:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("info", "warning", "critical")
            notes = rule["annotations"]
            assert notes["summary"]
            assert notes["description"]
            path, _, anchor = notes["runbook_url"].partition("#")
            assert path == "manifests/README.md"
            assert anchor in headings, anchor
