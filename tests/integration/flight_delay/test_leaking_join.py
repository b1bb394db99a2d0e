"""A leaking join looks better offline, and is worse where it counts."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines.flight_delay import leak_study
from pipelines.flight_delay.raw import Raw, read_raw

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def summer() -> Raw:
    raw = read_raw()
    chosen = pl.datetime("year", "month", "day").is_between(
        datetime(2013, 6, 1), datetime(2013, 9, 10)
    )
    return Raw(raw.flights.filter(chosen), raw.weather, raw.planes, raw.airports, raw.airlines, "")


@pytest.fixture(scope="module")
def outcomes(summer: Raw) -> dict[str, leak_study.Outcome]:
    found = leak_study.study(summer, iterations=40, cut=datetime(2013, 8, 15, tzinfo=UTC))
    return {outcome.name: outcome for outcome in found}


@pytest.mark.parametrize("leak", ["joined by the timetable", "joined by the day"])
def test_a_leak_claims_more_and_delivers_less(outcomes, leak):
    honest, leaking = outcomes["joined point in time"], outcomes[leak]
    assert leaking.offline_auc > honest.offline_auc + 0.03
    assert leaking.online_auc < honest.online_auc - 0.01
    assert leaking.offline_log_loss < honest.offline_log_loss
    assert leaking.online_log_loss > honest.online_log_loss


def test_what_the_honest_join_claims_is_what_it_delivers(outcomes):
    honest = outcomes["joined point in time"]
    assert honest.offline_auc == honest.online_auc
    assert honest.offline_log_loss == honest.online_log_loss


def test_the_features_are_worth_their_work(outcomes):
    honest = outcomes["joined point in time"]
    assert honest.online_auc > outcomes["airport's last hour, logistic"].online_auc + 0.03
    assert honest.online_log_loss < outcomes["base rate"].online_log_loss - 0.03


def test_a_study_without_a_side_says_so(summer: Raw):
    with pytest.raises(ValueError, match="both sides of 2014-01-01"):
        leak_study.study(summer, cut=datetime(2014, 1, 1, tzinfo=UTC))
