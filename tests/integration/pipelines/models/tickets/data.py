"""Synthetic tickets: reopened more often when the agent is busy and the product is young."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 60
TICKETS = 6_000
UTC_TIME = pl.Datetime("us", "UTC")
PRODUCTS = ("mail", "files", "chat")


def prepare(data_root, on_progress=None):
    """Write the tables below `<data_root>/tickets`, once. Knobs for tests: knobs.json there."""
    folder = Path(data_root) / "tickets"
    if (folder / "entity_rows.parquet").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    knobs_file = folder / "knobs.json"
    knobs = json.loads(knobs_file.read_text()) if knobs_file.exists() else {}
    random = np.random.default_rng(3)
    agents = _agents(random, knobs.get("broken_from_day", DAYS + 1))
    customers = _customers(random)
    agents.write_parquet(folder / "agents.parquet")
    customers.write_parquet(folder / "customers.parquet")
    _tickets(random, agents, customers).write_parquet(folder / "entity_rows.parquet")
    if on_progress:
        on_progress("tickets", 1, 1)


def _agents(random, broken_from_day):
    day = np.repeat(np.arange(DAYS), 40)
    load = random.gamma(3.0, 4.0, len(day)).clip(0, 60)
    load = np.where(day >= broken_from_day, load + 1_000, load)
    return pl.DataFrame(
        {
            "agent": np.tile(np.arange(40), DAYS),
            "event_timestamp": [START + timedelta(days=int(d)) for d in day],
            "created": [START + timedelta(days=int(d), minutes=5) for d in day],
            "agent_load": load,
            "agent_solved": random.poisson(20, len(day)),
        },
        schema_overrides={
            "event_timestamp": pl.Datetime("us", "UTC"),
            "created": pl.Datetime("us", "UTC"),
        },
    )


def _customers(random):
    n = 300
    return pl.DataFrame(
        {
            "customer": [f"c{i}" for i in range(n)],
            "event_timestamp": [START - timedelta(days=1)] * n,
            "product": random.choice(PRODUCTS, n, p=[0.5, 0.3, 0.2]),
            "seats": random.geometric(0.05, n),
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )


def _tickets(random, agents, customers):
    seconds = np.sort(random.integers(86_400, DAYS * 86_400, TICKETS))
    agent, customer = random.integers(0, 40, TICKETS), random.integers(0, 300, TICKETS)
    day = seconds // 86_400
    load = agents["agent_load"].to_numpy()[day * 40 + agent].clip(0, 60)
    chat = (customers["product"] == "chat").to_numpy()[customer]
    words = random.poisson(80, TICKETS)
    logit = -2.0 + 0.1 * load + 1.5 * chat - 0.005 * words
    reopened = random.random(TICKETS) < 1 / (1 + np.exp(-logit))
    asked = [START + timedelta(seconds=int(s)) for s in seconds]
    return pl.DataFrame(
        {
            "agent": agent,
            "customer": [f"c{c}" for c in customer],
            "words": words,
            "event_timestamp": asked,
            "label_timestamp": [moment + timedelta(days=1) for moment in asked],
            "reopened": reopened.astype(np.int64),
        },
        schema_overrides={
            "event_timestamp": pl.Datetime("us", "UTC"),
            "label_timestamp": pl.Datetime("us", "UTC"),
        },
    )
