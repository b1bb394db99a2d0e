"""A model with a past: versions in a real registry, a real prediction log, reports of each kind."""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from zeroskew.features.audit_result import AuditResult, FeatureCounts
from zeroskew.monitoring.monitor_state import Decision
from zeroskew.monitoring.performance import LivePerformance, Performance
from zeroskew.monitoring.reports import Report, write_report
from zeroskew.profiles import Profile
from zeroskew.record import Measure, VersionRecord
from zeroskew.registry import Registry
from zeroskew.rollout.rollout_state import to_json
from zeroskew.serving.prediction_log import LogSchema, LogSettings, PredictionBatch, PredictionLog
from zeroskew.steps.audit import keep_report

BROWSER = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("browser.py"))))
START = datetime(2026, 3, 1, 6, tzinfo=UTC)
DAYS, FEATURES, ROWS = 6, 12, 600
NAMES = tuple(f"feature_{i}" for i in range(FEATURES))
MODEL_YAML = """
name: orders
feature_service: orders_v1
entity_rows: {path: rows.parquet, label: fraud}
"""


class Past:
    """Everything is below `folder`, as the embedded stack has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.log = folder / "home", folder / "home" / "predictions"
        self.model = folder / "orders"
        self.model.mkdir(parents=True)
        (self.model / "model.yaml").write_text(MODEL_YAML)
        self.environment = {"ZEROSKEW_HOME": str(self.home)}

    def settle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The environment names this home, and nothing that another test has left in it."""
        for name in [name for name in os.environ if name.startswith("ZEROSKEW_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("ZEROSKEW_HOME", str(self.home))

    def register(self) -> None:
        mlflow = self.home / "mlflow"
        mlflow.mkdir(parents=True)
        registry = Registry(f"sqlite:///{mlflow}/mlflow.db", str(mlflow / "artifacts"))
        graph = self.folder / "model.onnx"
        for number, auc in ((1, 0.71), (2, 0.74)):
            graph.write_bytes(b"graph %d" % number)
            record = VersionRecord(
                model="orders", data_hash=f"{number}abc" * 16, feature_service="orders_v1",
                feature_schema_version="d00d" * 16, code_sha="c0ffee" * 6 + "c0ff",
                training_seconds=12.5, metrics={"auc": Measure(auc, auc - 0.01, auc + 0.01)},
                verdict="first" if number == 1 else "wins", compared_by="auc",
                compared_against=None if number == 1 else 1, margin=0.002,
                difference=None if number == 1 else Measure(0.03, 0.02, 0.04),
            )  # fmt: skip
            made = registry.register("orders", record, {"export/model.onnx": graph})
            registry.promote("orders", made, f"better, says test {number}")

    def serve(self) -> None:
        """Version 2; feature_3 drifts from the fourth day on."""
        random = np.random.default_rng(3)
        trained = {name: random.normal(size=5000) for name in NAMES}
        schema = LogSchema(
            "orders", "2", {"who": "int64", **dict.fromkeys(NAMES, "float64")}, NAMES, ("orders",),
            Profile.learn(trained).to_json(),
            Profile.learn({"score": random.random(5000).astype(np.float32)}).to_json(),
        )  # fmt: skip
        log = PredictionLog(
            schema, LogSettings(flush_seconds=0.2), spool=self.folder / "spool", sink=str(self.log)
        )
        for day in range(DAYS):
            at = round((START + timedelta(days=day)).timestamp() * 1e6)
            values = {name: random.normal(size=ROWS) for name in NAMES}
            if day >= 3:
                values["feature_3"] += 2.0
            log.append(
                PredictionBatch(
                    [f"{day}-{i}" for i in range(ROWS)], [0] * ROWS, [at] * ROWS,
                    {"who": [*range(ROWS)], **{n: v.tolist() for n, v in values.items()}},
                    np.zeros((FEATURES, ROWS), np.uint8),
                    np.full((1, ROWS), at - 3_600_000_000, np.int64),
                    random.random(ROWS).astype(np.float32), ["champion"] * ROWS, [None] * ROWS,
                    500, False, answered_at=at,
                )
            )  # fmt: skip
        log.close()
        assert log.counters().written == DAYS * ROWS

    def report(self) -> None:
        """One of each kind, as their makers keep them."""
        end = START + timedelta(days=DAYS)

        def measured(start: datetime | None, auc: float) -> Performance:
            return Performance("2", "users", "", start, 600, 550, 90, auc, auc - 0.05, auc + 0.05)

        days = [measured(START + timedelta(days=day), 0.75 - day / 99) for day in range(DAYS)]
        rows = (measured(None, 0.7321), *days)
        write_report(str(self.log), LivePerformance("orders", end, 1000, 917, rows).report("2"))

        counts = FeatureCounts("feature_5", "float64", "orders", 3593, 7, 0, 0,
                               {"mismatch": {"late_data": 7}})  # fmt: skip
        keep_report(
            AuditResult(
                "orders", "orders_v1", "d00d", ("2",), ("champion",), None, None, "answered_at",
                1.0, 3600, 7, (counts,), (), (), "day", {}, {}, end.isoformat(), 0.5,
            ),
            str(self.log),
        )  # fmt: skip

        decision = Decision(
            checksum="abcdef012345" * 5, reason="PSI", message="a decision",
            dominant_metric="feature-psi", failed_metrics=("feature-psi",), model="orders",
            champion="2", generation=1, window_start=START, window_end=end, rows=3600, at=end,
        )  # fmt: skip
        write_report(
            str(self.log),
            Report("decision", "orders", "2", end, 0.9, 0.9, 0.9, 3600, "a decision",
                   {"decision": to_json(decision)}),
            name=decision.short,
        )  # fmt: skip


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    made = Past(tmp_path_factory.mktemp("past"))
    made.register()
    made.serve()
    made.report()
    return made


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    program = BROWSER.find_browser()
    if program is None:
        pytest.skip("no browser: install chromium, or set ZEROSKEW_BROWSER")
    with BROWSER.Browser(program, tmp_path_factory.mktemp("browser")) as opened:
        yield opened
