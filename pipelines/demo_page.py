"""The demo's result as one HTML page: what was trained, how good it is, what is proven."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.consistency import Consistency
from pipelines.demo import Round, int8_against_fp32, summary_rows, value_text
from pipelines.demo_rollout import RolledOut
from pipelines.demo_serving import RATE, STAGES, Served
from pipelines.demo_story import Story
from zeroskew.evaluation import Metrics
from zeroskew.pages import Badge, Page, Tile, horizontal_bars
from zeroskew.pages.page import Tone
from zeroskew.steps.evaluation_page import curves

BADGES = {
    "first": Badge("first version", "plain"),
    "wins": Badge("challenger wins", "good"),
    "loses": Badge("champion stays", "warn"),
}


def write_page(
    path: Path,
    rounds: Sequence[Round],
    consistency: Consistency,
    served: Served,
    story: Story,
    seconds: float,
) -> None:
    """Write the page to `path`. Raises `DataError` if it cannot be written."""
    last = rounds[-1]
    page = Page(
        "Will this flight be late?",
        "336,776 flights out of New York in 2013, asked at their scheduled departure whether they "
        "will arrive more than 15 minutes late",
        badge=BADGES[last.record.verdict],
    )
    page.note(last.record.verdict_reason, "good" if last.record.verdict == "wins" else "plain")
    auc = last.record.metrics["auc"]
    page.metrics(
        [
            Tile("AUC, held out", auc.value, f"{auc.low:.4f} to {auc.high:.4f}" if auc.low else ""),
            Tile("Rows joined", sum(item.record.data_rows or 0 for item in rounds), "both runs"),
            Tile(
                "Served ≠ joined",
                consistency.mismatches,
                f"of {consistency.values:,} values of {consistency.rows:,} flights",
            ),
            Tile("Seconds in all", round(seconds), "from raw flights to the last promotion"),
        ]
    )
    page.section("The versions", "Brackets hold the 95 % interval of the bootstrap.")
    page.table(
        ["", *(f"version {item.version}" for item in rounds)],
        [[label, *cells] for label, cells in summary_rows(tuple(rounds))],
        align="l" + "r" * len(rounds),
    )
    _served(page, served)
    _watched(page, story)
    _rolled_out(page, story.rolled_out)
    _looked_back(page, story)
    _curves(page, rounds)
    page.section(
        "INT8 against FP32",
        f"Time is that of {last.export.limits['latency']['batch']} rows in ONNX Runtime "
        f"({last.export.device}), measured while exporting. INT8 is there for GPUs; a CPU may "
        "well be slower with it.",
    )
    page.table(
        ["version", "INT8 against FP32, on validation rows", "graph"],
        [
            [item.version, int8_against_fp32(item.export), item.export.onnx_sha256["model.onnx"]]
            for item in rounds
        ],
    )
    page.section("Where the seconds went")
    page.figures((_seconds(item), "") for item in rounds)
    page.section("Which data, which code, which features")
    page.table(
        ["", *(f"version {item.version}" for item in rounds)],
        [
            ["training set", *(item.record.data_hash[:16] for item in rounds)],
            ["feature schema", *(item.record.feature_schema_version[:16] for item in rounds)],
            ["code", *(item.record.code_sha[:16] for item in rounds)],
            ["calibration rows", *(item.record.calibration_hash[:16] for item in rounds)],
        ],
        align="l" + "r" * len(rounds),
    )
    page.save(path)


def _watched(page: Page, story: Story) -> None:
    page.section(
        "Watched",
        f"Version {story.champion} from {story.began:%Y-%m-%d} to {story.ended:%Y-%m-%d}: every "
        "day a window of a fortnight, what was served against what was trained on.",
    )
    tones: dict[str, Tone] = {"Stable": "good", "Moderate": "warn", "Failed": "bad"}
    page.table(
        ["window up to", "version", "predictions", "metric", "state", "what was seen"],
        [
            [
                f"{each.window_end:%Y-%m-%d}", each.version, each.rows, metric.name,
                Badge(metric.state, tones.get(metric.state, "plain")), metric.message,
            ]
            for each in story.measurements
            for metric in each.metrics
            if metric.state in ("Failed", "Moderate")
        ][:40],
    )  # fmt: skip
    if story.decision is not None:
        decision = story.decision
        until = story.training_end[:10] or "what was known"
        page.note(
            f"Decision {decision.short} after {story.decided_after:,} requests: "
            f"{decision.message}. It started the training pipeline on {until}; "
            f"version {story.version} {story.verdict}.",
            "warn",
        )


def _looked_back(page: Page, story: Story) -> None:
    page.section(
        "What it was worth",
        "Measured on labels that had arrived when the clock stopped, a flight's last answer each: "
        "`users` are champion and canary together, `shadow` answered nobody.",
    )
    if story.performance is not None:
        rows = [r for r in story.performance.rows if not r.slice and r.start is None]
        page.table(
            ["version", "role", "answers", "with label", "AUC", "observed per expected"],
            [
                [
                    row.version, row.role, row.predictions, row.labelled,
                    "too few labels" if row.auc is None
                    else f"{row.auc:.4f} [{row.auc_low:.4f}, {row.auc_high:.4f}]",
                    "" if row.observed_per_expected is None else f"{row.observed_per_expected:.3f}",
                ]
                for row in rows
            ],
            align="llrrrr",
        )  # fmt: skip
    for each in story.audits:
        page.note(
            f"Audit of version {each.versions[0]}: {each.different} of {each.rows:,} logged "
            f"answers ({each.values:,} values) were served other features than the join gives.",
            "good" if not each.different else "warn",
        )


def _rolled_out(page: Page, rolled_out: Sequence[RolledOut]) -> None:
    page.section(
        "Rolled out",
        "Shadow, then 5, 25, 50 and 100 % behind Envoy, while users went on asking. The last one "
        "was broken on purpose: its scores are turned around.",
    )
    page.table(
        ["version", "outcome", "seconds", "requests meanwhile", "errors", "why"],
        [
            [
                each.version,
                Badge(each.phase, "good" if each.phase == "Succeeded" else "bad"),
                round(each.seconds),
                each.traffic.requests,
                len(each.traffic.errors),
                each.message,
            ]
            for each in rolled_out
        ],
    )
    for each in rolled_out:
        page.table(
            ["second", "what happened", ""],
            [[f"{at:.1f}", reason, text] for at, reason, text in each.told],
            caption=f"version {each.version}",
        )


def _served(page: Page, served: Served) -> None:
    page.section(
        "Served",
        f"Version {served.version} inside Triton, asked about {served.flights} flights of the next "
        f"four hours at {RATE:.0f} requests a second from the same machine. Stages are upper "
        "bounds of histogram buckets.",
    )
    page.table(
        ["milliseconds", "p50", "p99"],
        [
            ["whole request", *(f"{served.sent.milliseconds(p):.2f}" for p in (50, 99))],
            *(
                [label, *(f"≤ {value:g}" for value in served.stages[stage])]
                for stage, label in STAGES.items()
            ),
        ],
        align="lrr",
    )
    page.note(
        f"{served.logged:,} predictions in the log; {served.mismatches} of {served.compared:,} "
        "logged values differ from the point-in-time join of the same moment.",
        "good" if served.mismatches == 0 else "warn",
    )
    page.table(
        ["flight", "score", "what moved it most, and by how much", "outcome"],
        [
            [
                one.flight,
                f"{one.score:.2f}",
                "; ".join(f"{n} = {value_text(v)} ({by:+.2f})" for n, v, by in one.reasons),
                "late" if one.late else "on time",
            ]
            for one in served.explained
        ],
    )


def _curves(page: Page, rounds: Sequence[Round]) -> None:
    compared = {}
    for item in rounds:
        judged = json.loads(item.run.steps["evaluate"].artifacts["evaluation"].read_text())
        compared[f"version {item.version}"] = Metrics.from_json(judged["metrics"])
    page.section("Curves", "Each version on the test flights of its own run.")
    page.figures(curves(compared))


def _seconds(item: Round) -> Any:
    steps = item.run.steps
    return horizontal_bars(
        [name.replace("-", " ") for name in steps],
        [step.seconds for step in steps.values()],
        title=f"version {item.version}: seconds per step",
        texts=[f"{step.seconds:.1f} s" for step in steps.values()],
        width=520,
    )
