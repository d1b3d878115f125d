"""Who is let into the console, how often they may speak, and that one operator speaks at a time."""

import pytest
from gwm.console.access import LEASE_TIME, OPERATOR, VIEWER, Access, OperatorLease, RateLimit
from hypothesis import given
from hypothesis import strategies as st

ACCESS = Access({"right": OPERATOR, "look": VIEWER}, ("127.0.0.1:8600", "localhost:8600"))
OURS = "http://127.0.0.1:8600"


@pytest.mark.parametrize(
    "host, origin, token, socket, status",
    [
        ("127.0.0.1:8600", None, "right", False, 0),
        ("localhost:8600", "http://localhost:8600", "look", True, 0),
        ("127.0.0.1:8600", OURS, "right", True, 0),
        ("127.0.0.1:8600", None, "right", True, 403),  # no page opens a socket without
        ("127.0.0.1:8600", "http://evil.example", "right", True, 403),
        ("127.0.0.1:8600", "http://evil.example", "right", False, 403),
        ("127.0.0.1:8600", "null", "right", False, 403),
        ("127.0.0.1:8600", "https://127.0.0.1:8600", "right", True, 403),
        ("127.0.0.1:8600", "http://127.0.0.1:9", "right", True, 403),
        ("rebound.example:8600", "http://rebound.example:8600", "right", True, 421),
        ("127.0.0.1", OURS, "right", False, 421),
        ("", None, "right", False, 421),
        ("127.0.0.1:8600", OURS, "", True, 401),
        ("127.0.0.1:8600", None, "righ", False, 401),
        ("127.0.0.1:8600", None, "right ", False, 401),
        ("127.0.0.1:8600", None, "rïght", False, 401),
    ],
)
def test_only_our_page_with_a_token_gets_in(host, origin, token, socket, status):
    found, reason = ACCESS.refuses(host, origin, token, socket)
    assert found == status and bool(reason) == bool(status)


def test_a_forwarded_port_that_is_another_is_told_what_would_be_right():
    """`ssh -L 9000:127.0.0.1:8600`: kimi-code #1157, phoenix #1096."""
    _, reason = ACCESS.refuses("localhost:9000", None, "right", False)
    assert reason.startswith(
        "Host 'localhost:9000' is not this console, http://127.0.0.1:8600 is (through ssh -L"
    )


def test_a_token_has_its_role():
    assert [ACCESS.role(token) for token in ("right", "look", "other")] == [OPERATOR, VIEWER, ""]


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_a_budget_never_allows_more_than_its_rate_and_burst(gaps):
    budget, now, allowed = RateLimit(5.0, 8.0), 0.0, 0
    for gap in gaps:
        now += gap
        allowed += budget.spend(now)
    assert allowed <= 8 + 5 * now


def test_a_patient_client_is_never_refused():
    budget = RateLimit(5.0, 1.0)
    assert all(budget.spend(0.21 * k) for k in range(100))


def test_the_lease_is_the_first_speakers_until_silence():
    lease = OperatorLease()
    assert lease.take(1, 0.0) and not lease.take(2, 1.0) and lease.take(1, 1.5)
    assert not lease.take(2, 1.5 + LEASE_TIME) and lease.take(2, 1.6 + LEASE_TIME)
    assert not lease.take(1, 1.7 + LEASE_TIME)
    lease.give(1)  # not theirs to give
    assert not lease.take(1, 1.8 + LEASE_TIME)
    lease.give(2)
    assert lease.take(1, 1.8 + LEASE_TIME)
