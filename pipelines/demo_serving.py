"""The demo's second half: the champion behind a real Triton, asked about flights it never saw.

The store holds what was known at one moment; flights that leave in the hours after it are asked
about, at 300 requests a second. What came of them is known by now, and so is what the log must say:
every feature that was served is compared with the point-in-time join of that moment.
"""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.replay import Sent, replay, request_body
from zeroskew.endpoints import Endpoints

if TYPE_CHECKING:
    import polars as pl

RATE, SECONDS = 300.0, 10.0
STAGES = {"lookup": "feature lookup", "model": "model", "log": "log"}


@dataclass(frozen=True)
class Explained:
    """One answer, and what moved it."""

    flight: str
    score: float
    reasons: tuple[tuple[str, Any, float], ...]
    """Feature, value as served, and how much the score is higher than without the value."""
    late: bool


@dataclass(frozen=True)
class Served:
    """What the demo shows of serving."""

    version: int
    flights: int
    sent: Sent
    stages: dict[str, tuple[float, float]]
    """p50 and p99 in milliseconds, upper bounds of the histogram's buckets."""
    logged: int
    compared: int
    """Values of the log that were held against the join."""
    mismatches: int
    late_among_top: float
    late_share: float
    explained: tuple[Explained, ...]


def serve_later_flights(model: str | Path, moment: datetime, hours: int = 4) -> Served:
    """Serve the champion as of `moment` (UTC), up to which the store must have been filled."""
    import polars as pl

    from zeroskew.embedded.serving import serve_version
    from zeroskew.features.read_plan_compiler import compile_read_plan
    from zeroskew.features.repository import open_repository
    from zeroskew.model_config import load_model_config
    from zeroskew.registry import Registry

    config = load_model_config(model)
    endpoints = Endpoints.from_environment()
    repository = open_repository(model)
    plan = compile_read_plan(repository, config.feature_service)
    asked = config.entity_rows.event_timestamp
    flights = (
        pl.scan_parquet(Path(endpoints.data) / config.entity_rows.path)
        .filter(pl.col(asked) >= moment, pl.col(asked) < moment + timedelta(hours=hours))
        .sort(asked)
        .collect()
    )
    kinds = plan.entity_columns | plan.request_columns
    micros = round(moment.timestamp() * 1e6)
    bodies = [
        request_body(row, kinds, micros, f"flight-{number}")
        for number, row in enumerate(flights.iter_rows(named=True))
    ]
    log = Path(endpoints.prediction_log) / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    version = Registry.from_environment().resolve(config.name, "champion")
    server = serve_version(config.name, version, environment={"ZEROSKEW_PREDICTION_LOG": str(log)})
    try:
        # First requests find cold caches everywhere; no user's latency is theirs.
        replay(server.http, config.name, bodies, rate=100, seconds=1)
        sent = replay(server.http, config.name, bodies, rate=RATE, seconds=SECONDS)
        stages = stage_latencies(f"http://{server.metrics}/metrics")
    finally:
        server.stop()
    predictions = pl.scan_parquet(log / "**/*.parquet", hive_partitioning=False).collect()
    answered = predictions.unique("request_id", keep="first", maintain_order=True)
    compared, mismatches = _against_join(repository, config, flights, answered, moment)
    order = sorted(sent.scores, key=lambda number: -sent.scores[number])
    top = order[: max(len(order) // 10, 1)]
    late = flights[config.entity_rows.label].to_list()
    return Served(
        version=version,
        flights=flights.height,
        sent=sent,
        stages=stages,
        logged=predictions.height,
        compared=compared,
        mismatches=mismatches,
        late_among_top=sum(late[n] for n in top) / len(top),
        late_share=sum(late) / len(late),
        explained=_explain(
            config.name, version, flights, answered, (order[0], order[1], order[-1])
        ),
    )


def stage_latencies(url: str) -> dict[str, tuple[float, float]]:
    """p50 and p99 of each stage, milliseconds: the smallest bucket that holds that share."""
    with urllib.request.urlopen(url, timeout=10) as page:  # noqa: S310 (loopback)
        text = page.read().decode()
    buckets: dict[str, list[tuple[float, float]]] = {}
    for labels, value in re.findall(r"^zeroskew_stage_seconds_bucket\{(.*)\} (\S+)$", text, re.M):
        fields = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        bound = float(fields["le"].replace("+Inf", "inf"))
        buckets.setdefault(fields["stage"], []).append((bound, float(value)))
    found = {}
    for stage, counts in buckets.items():
        counts.sort()
        total = counts[-1][1]
        found[stage] = (
            next(bound for bound, count in counts if count >= 0.5 * total) * 1000,
            next(bound for bound, count in counts if count >= 0.99 * total) * 1000,
        )
    return found


def _against_join(
    repository: Any, config: Any, flights: pl.DataFrame, answered: pl.DataFrame, moment: datetime
) -> tuple[int, int]:
    """Values compared and values that differ: the log against the join of the same moment."""
    import polars as pl

    from zeroskew.features.service_join import join_service

    keys = [
        name for name in answered.columns if name in flights.columns and name != "event_timestamp"
    ]
    questions = flights.with_row_index("number").select(
        pl.format("flight-{}", "number").alias("request_id"),
        *[name for name in keys if name not in ("request_id",)],
        pl.lit(moment).dt.cast_time_unit("us").alias("event_timestamp"),
    )
    joined = join_service(repository, config.feature_service, questions)
    both = answered.join(joined, on="request_id", suffix="_joined", how="inner")
    compared = mismatches = 0
    for name in repository.feature_types(config.feature_service):
        served, wanted = both[name], both[f"{name}_joined"]
        compared += both.height
        mismatches += int((~served.eq_missing(wanted.cast(served.dtype))).sum())
    return compared, mismatches


def _explain(
    name: str, version: int, flights: pl.DataFrame, answered: pl.DataFrame, chosen: tuple[int, ...]
) -> tuple[Explained, ...]:
    """Score each answer again with one feature after the other taken away."""
    import tempfile

    from zeroskew.export.scoring import Scorer
    from zeroskew.features.row import FeatureRow
    from zeroskew.registry import Registry
    from zeroskew.steps.version_files import GRAPH

    with tempfile.TemporaryDirectory() as folder:
        files = Registry.from_environment().download(
            name, version, Path(folder) / "version", only=(GRAPH,)
        )
        scorer = Scorer(files / GRAPH)
    row = FeatureRow.from_json(json.loads(scorer.metadata["zeroskew.row"]))
    explained = []
    for number in chosen:
        logged = answered.filter(answered["request_id"] == f"flight-{number}").row(0, named=True)
        features = [n for n in row.names if logged[n] is not None]
        rows = {
            n: [logged[n], *(None if n == without else logged[n] for without in features)]
            for n in row.names
        }
        whole, *less = scorer.score(*row.encode(rows)).tolist()
        moved = sorted(
            zip(features, (whole - score for score in less), strict=True),
            key=lambda item: -abs(item[1]),
        )
        flight = flights.row(number, named=True)
        explained.append(
            Explained(
                flight=f"{flight['carrier']}{flight['flight']} {flight['origin']}→{flight['dest']}",
                score=whole,
                reasons=tuple((n, logged[n], by) for n, by in moved[:3]),
                late=bool(flight["late"]),
            )
        )
    return tuple(explained)
