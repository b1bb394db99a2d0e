"""The breaker against a slow, obvious model of it, over random sequences."""

from hypothesis import given
from hypothesis import strategies as st

from zeroskew.serving.circuit_breaker import CircuitBreaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    limit=st.integers(1, 5),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60),
)
def test_it_opens_after_failures_in_a_row_and_tries_again_later(limit, steps):
    clock = Clock()
    breaker = CircuitBreaker(limit, 1.0, clock)
    row, closed_until = 0, 0.0
    for works, pause in steps:
        clock.now += pause
        allowed = row < limit or clock.now >= closed_until
        assert breaker.allows() == allowed
        assert breaker.open == (row >= limit)
        if not allowed:
            continue
        if works:
            breaker.succeeded()
            row = 0
        else:
            breaker.failed()
            row += 1
            if row >= limit:
                closed_until = clock.now + 1.0


def test_opening_is_counted_once_per_outage():
    breaker = CircuitBreaker(2, 0.0, Clock())
    for _ in range(5):
        breaker.failed()
    breaker.succeeded()
    for _ in range(2):
        breaker.failed()
    assert breaker.times_opened == 2
