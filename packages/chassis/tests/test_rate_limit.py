"""Rate limits and their response headers."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import pytest
from running import serving
from starlette.requests import Request

from chassis.auth import new_token
from chassis.problems import Problem
from chassis.rate_limit import MAX_CALLERS, RateLimit


def test_there_is_no_rate_limit_by_default() -> None:
    with serving() as service, httpx2.Client(base_url=service.url) as client:
        responses = [client.get("/v1/hello") for _ in range(20)]
    assert {response.status_code for response in responses} == {200}
    assert not any("ratelimit" in name for name in responses[-1].headers)


def test_an_excess_request_gets_429_with_retry_after() -> None:
    with serving(HELLO_RATE_LIMIT="3/minute") as limited, httpx2.Client(base_url=limited.url) as client:
        responses = [client.get("/v1/hello", headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(4)]
        assert [response.status_code for response in responses] == [200, 200, 200, 429]  # the header is ignored
        assert [response.headers["ratelimit"].split(";")[1] for response in responses] == ["r=2", "r=1", "r=0", "r=0"]
        assert {response.headers["ratelimit-policy"] for response in responses} == {'"default";q=3;w=60'}
        rejected = responses[-1]
        assert rejected.json()["type"] == "/problems/rate-limited"
        assert 18 <= int(rejected.headers["retry-after"]) <= 20  # each request takes a third of the minute
        reset = rejected.headers["ratelimit"].split(";t=")[1]
        assert 55 <= int(reset) <= 60
        assert any("HELLO_TRUSTED_PROXIES" in line for line in limited.log)  # a proxy's clients would share its address
        # Probes are not limited, and do not count.
        for path in ("/livez", "/readyz", "/health"):
            for _ in range(5):
                probe = client.get(path)
                assert probe.status_code == 200
                assert "ratelimit" not in probe.headers


def test_the_limit_applies_per_token_or_per_address_without_a_valid_one(tmp_path: Path) -> None:
    (ann, line), (bob, other) = new_token("ann", ["read"]), new_token("bob", ["read"])
    (tmp_path / "tokens").write_text(f"{line}\n{other}\n")
    settings = {"HELLO_AUTH": "tokens", "HELLO_AUTH_TOKEN_FILE": str(tmp_path / "tokens")}
    with (
        serving(HELLO_RATE_LIMIT="3/minute", HELLO_TRUSTED_PROXIES="127.0.0.0/8", **settings) as limited,
        httpx2.Client(base_url=limited.url) as client,
    ):

        def statuses(token: str, address: str, number: int = 4) -> list[int]:
            headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": address}
            return [client.get("/v1/hello", headers=headers).status_code for _ in range(number)]

        assert statuses(ann, "10.0.0.1") == [200, 200, 200, 429]
        assert statuses(ann, "10.0.0.2", 1) == [429]  # from any address
        assert statuses(bob, "10.0.0.1") == [200, 200, 200, 429]
        # Clients that guess tokens are counted too, by address.
        guesses = [statuses(f"guess-{n}", "10.0.0.3", 1)[0] for n in range(4)]
        assert guesses == [401, 401, 401, 429]
        assert statuses("guess", "10.0.0.4", 1) == [401]
        # The address that the proxy added counts, not those that the client sent.
        assert statuses("guess", "10.9.9.9, 10.0.0.3", 1) == [429]
        # An IPv6 subscriber has a whole network of addresses.
        guesses = [statuses("guess", f"2001:db8:0:1::{n}", 1)[0] for n in range(4)]
        assert guesses == [401, 401, 401, 429]
        assert statuses("guess", "2001:db8:0:2::1", 1) == [401]
        assert statuses("guess", "not:an:address") == [401, 401, 401, 429]


async def _acquire(limit: RateLimit, caller: str) -> Request:
    request = Request({"type": "http", "state": {}})
    await limit.acquire(request, caller)
    return request


async def test_the_limit_does_not_reset_at_clock_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = RateLimit("6/minute")
    for _ in range(6):
        await _acquire(limit, "ann")
    with pytest.raises(Problem) as raised:
        await _acquire(limit, "ann")
    assert raised.value.headers == {"Retry-After": "10"}
    now += 10  # as Retry-After says
    await _acquire(limit, "ann")
    with pytest.raises(Problem):
        await _acquire(limit, "ann")
    now += 60
    for _ in range(6):
        await _acquire(limit, "ann")


async def test_the_remaining_quota_decreases_by_one_despite_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 12345.678)  # a request's share of the minute is not an integer
    limit = RateLimit("100/minute")
    headers = [dict((await _acquire(limit, "ann")).state.rate_limit_headers) for _ in range(100)]
    assert [header[b"ratelimit"].split(b";")[1] for header in headers] == [b"r=%d" % n for n in reversed(range(100))]


async def test_inactive_callers_are_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = RateLimit("10/second")
    for n in range(1000):
        await _acquire(limit, f"address {n}")
    now += 1
    for _ in range(600):
        now += 1
        await _acquire(limit, "ann")
    assert limit.tracked_callers() == 1


async def test_the_number_of_tracked_callers_is_bounded() -> None:
    limit = RateLimit("2/day")
    await _acquire(limit, "ann")
    for n in range(MAX_CALLERS + 500):
        if n == MAX_CALLERS // 2:
            await _acquire(limit, "ann")
        await _acquire(limit, f"address {n}")
    assert limit.tracked_callers() == MAX_CALLERS
    with pytest.raises(Problem):  # recently active callers are evicted last
        await _acquire(limit, "ann")
