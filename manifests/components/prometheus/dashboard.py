"""Prints dashboard.yaml: a Grafana dashboard as a ConfigMap for its sidecar.

    python manifests/components/prometheus/dashboard.py > …/prometheus/dashboard.yaml

A dashboard is mostly coordinates and identifiers; here are the questions and their expressions.
"""

from __future__ import annotations

import json
import sys
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${source}"}
OF_MODEL = 'namespace=~"$namespace",model=~"$model"'
Query = tuple[str, str]
"""Expression and the name of its lines."""

ROWS: list[tuple[str, list[tuple[str, str, list[Query]]]]] = [
    ("Serving", [
        ("Requests a second", "reqps", [
            (f"sum by (model, version, outcome) (zeroskew:requests:rate_5m{{{OF_MODEL}}})",
             "{{model}} {{version}} {{outcome}}"),
        ]),
        ("p99 by stage", "s", [
            (f"zeroskew:stage_seconds:p99_5m{{{OF_MODEL}}}", "{{model}} {{version}} {{stage}}"),
        ]),
        ("Failed requests", "percentunit", [
            (f"zeroskew:requests:failed_ratio_5m{{{OF_MODEL}}}", "{{model}} {{version}}"),
        ]),
        ("Missing and stale values", "percentunit", [
            (f"topk(10, zeroskew:values:absent_ratio_15m{{{OF_MODEL}}})",
             "{{model}} {{feature}} {{status}}"),
        ]),
        ("Age of served values", "s", [
            (f"zeroskew:feature_age_seconds:mean_15m{{{OF_MODEL}}}", "{{model}} {{view}}"),
        ]),
        ("Prediction log", "short", [
            (f"sum by (model, version) (zeroskew_log_spooled_rows{{{OF_MODEL}}})",
             "{{model}} {{version}} on its disk"),
            (f'sum by (model, version) (increase(zeroskew_log_rows_total{{{OF_MODEL},'
             'fate="dropped"}[10m]))', "{{model}} {{version}} dropped in 10 minutes"),
        ]),
    ]),
    ("Drift", [
        ("PSI and other metrics, the largest", "short", [
            (f"topk(10, zeroskew_drift_value{{{OF_MODEL}}})", "{{model}} {{metric}} {{feature}}"),
        ]),
        ("State: 0 stable, 1 moderate, 2 significant, below 0 blind", "short", [
            (f"zeroskew_drift_state{{{OF_MODEL}}}", "{{monitor}} {{metric}}"),
        ]),
        ("Predictions in the window", "short", [
            (f"zeroskew_drift_samples{{{OF_MODEL}}}", "{{monitor}} {{version}}"),
        ]),
        ("Runs that drift has started", "short", [
            ('sum by (monitor, outcome) (increase(zeroskew_retrainings_total{namespace=~'
             '"$namespace"}[1d]))', "{{monitor}} {{outcome}}"),
        ]),
    ]),
    ("Truth", [
        ("AUC on labels that have arrived", "short", [
            ('zeroskew_live_auc{model=~"$model"}', "{{model}} {{version}} {{role}}"),
        ]),
        ("Predictions that have a label", "percentunit", [
            ('zeroskew_label_coverage{model=~"$model"}', "{{model}} {{version}} {{role}}"),
        ]),
        ("Served otherwise than learned from", "percentunit", [
            ('topk(10, zeroskew_consistency_mismatch_ratio{model=~"$model"})',
             "{{model}} {{version}} {{feature}}"),
        ]),
        ("Lag of the online store", "s", [
            ('zeroskew_materialisation_lag_seconds{model=~"$model"}', "{{model}} {{view}}"),
        ]),
        ("Entities near their TTL, or beyond", "percentunit", [
            ('zeroskew_near_expiry_ratio{model=~"$model"}'
             ' + zeroskew_expired_ratio{model=~"$model"}', "{{model}} {{view}}"),
        ]),
    ]),
    ("Operator", [
        ("Rollouts by phase", "short", [("zeroskew_rollouts", "{{phase}}")]),
        ("Monitors by phase", "short", [
            ("sum by (phase) (zeroskew_monitor_phase)", "{{phase}}"),
        ]),
        ("p99 of a turn", "s", [
            ("histogram_quantile(0.99, sum by (le) (rate(zeroskew_operator_reconcile_seconds_bucket"
             "[5m])))", "turn"),
            ("histogram_quantile(0.99, sum by (le) (rate(zeroskew_monitor_seconds_bucket[5m])))",
             "measurement"),
        ]),
        ("Turns that failed", "short", [
            ("sum by (reason) (rate(zeroskew_operator_failures_total[5m]))", "{{reason}}"),
        ]),
    ]),
]  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Grafana's own JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append(_panel(len(panels), "row", title, 0, y, 24, 1))
        y += 1
        for number, (name, unit, queries) in enumerate(row):
            x, wide = number % 3 * 8, 8
            panels.append(
                _panel(len(panels), "timeseries", name, x, y + number // 3 * 8, wide, 8)
                | {
                    "datasource": SOURCE,
                    "fieldConfig": {"defaults": {"unit": unit, "min": None}, "overrides": []},
                    "options": {"legend": {"displayMode": "list", "placement": "bottom"},
                                "tooltip": {"mode": "multi", "sort": "desc"}},
                    "targets": [
                        {"datasource": SOURCE, "expr": expression, "legendFormat": legend,
                         "refId": chr(ord("A") + index)}
                        for index, (expression, legend) in enumerate(queries)
                    ],
                }
            )  # fmt: skip
        y += (len(row) + 2) // 3 * 8
    return {
        "uid": "zeroskew", "title": "Zeroskew", "tags": ["zeroskew"], "schemaVersion": 39,
        "editable": False, "refresh": "1m", "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [
            {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
            _variable("namespace", "label_values(zeroskew_drift_samples, namespace)"),
            _variable("model", "label_values(zeroskew_requests_total, model)"),
        ]},
        "panels": panels,
    }  # fmt: skip


def _panel(number: int, kind: str, title: str, x: int, y: int, w: int, h: int) -> dict[str, Any]:
    place = {"x": x, "y": y, "w": w, "h": h}
    return {"id": number + 1, "type": kind, "title": title, "gridPos": place}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2,
        "multi": True, "includeAll": True, "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip


def as_yaml() -> str:
    """The text of dashboard.yaml."""
    text = json.dumps(dashboard(), indent=1).replace("\n", "\n    ")
    return f"""# Made by dashboard.py beside it: change that.
apiVersion: v1
kind: ConfigMap
metadata:
  name: zeroskew-dashboard
  labels:
    app.kubernetes.io/name: prometheus
    app.kubernetes.io/part-of: zeroskew
    grafana_dashboard: "1"
data:
  zeroskew.json: |-
    {text}
"""


if __name__ == "__main__":
    sys.stdout.write(as_yaml())
