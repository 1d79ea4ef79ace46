"""Invalid requests, generated from a seed: typical of broken, careless and hostile clients."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from dataclasses import dataclass, field

# The sleep exceeds every timeout: executing it would be noticed.
SQL = [
    "'; DROP TABLE tasks; --",
    "' OR '1'='1",
    "1; SELECT pg_sleep(60)",
    "\\'; COPY tasks TO PROGRAM 'id'; --",
    "$1",
    "%' UNION SELECT version() --",
    "title); DELETE FROM tasks; --",
]
LINES = [
    'x\r\n{"level": "error", "event": "forged"}',
    "x\n\n2026-01-01 root logged in",
    "\x1b[2J\x1b[31mforged",
    "\u2028forged\u2029",
    "%0d%0aSet-Cookie:%20a=b",
]
FILES = [
    "/v1/tasks/../../etc/passwd",
    "/v1/tasks/..%2f..%2fetc%2fpasswd",
    "/v1/tasks/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
    "/docs/..%2f..%2f..%2fetc/passwd",
    "/.git/config",
    "/.env",
]
PATHS = [
    "/v1/tasks/%2e%2e/%2e%2e/metrics",
    "//v1//tasks",
    "/v1/tasks/",
    "/v1/tasks;jsessionid=1",
    "/v1/tasks/%00",
    "/v1/tasks/%c0%ae%c0%ae",
    "/v1/tasks/%ff%fe",
    "/v1/tasks%0d%0aX-Forged:%20yes",
    "/V1/TASKS",
    "/v1/tasks/00000000-0000-0000-0000-000000000000:undelete:undelete",
    "/v1/tasks:batch:batch",
    "/v1/tasks.ics.ics",
    "/docs/../livez",
    "http://elsewhere.example/v1/tasks",
    "*",
    "/v1/tasks?" + "a=b&" * 500,
    "/" + "a" * 6000,
]
VALUES: list[object] = [
    None,
    True,
    -1,
    0,
    1e308,
    10**400,
    "",
    "x" * 100_000,
    "\x00",
    "\ud800",
    [],
    [[]],
    {},
    {"": ""},
    {"__proto__": {"admin": True}},
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:60+14:00",
    "2026-02-30",
    "FREQ=SECONDLY;COUNT=999999999",
    "FREQ=YEARLY;BYMONTHDAY=31;BYMONTH=2",
    "RRULE:FREQ=DAILY;FREQ=DAILY",
    "\u202egnirts\u202c",
    "\U0001f600" * 300,
]
FIELDS = [
    *("title", "description", "status", "priority", "due_at", "due_on", "start_at", "labels", "project", "parent"),
    *("assignee", "percent_done", "recurrence", "position", "metadata", "id", "version", "created_at"),
]
QUERIES = [
    *("status", "priority", "label", "project", "parent", "assignee", "due_before", "due_after", "updated_since", "q"),
    *("deleted", "sort", "page_size", "cursor"),
]


@dataclass(frozen=True)
class Bad:
    """One request. Without `raw` it is built from the other fields as valid HTTP/1.1."""

    kind: str
    method: str = "GET"
    path: str = "/v1/tasks"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes = b""
    only: tuple[str, ...] = ()
    """Allowed prefixes of the response's status; empty: anything but a 5xx."""

    def encoded(self, host: str, token: str) -> bytes:
        if self.raw:
            return self.raw.replace(b"HOST", host.encode())
        headers = {"Host": host, "Authorization": f"Bearer {token}", **self.headers}
        if self.body or self.method in {"POST", "PATCH", "PUT"}:
            headers = {"Content-Type": "application/json", "Content-Length": str(len(self.body)), **headers}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class Real:
    """Values issued by the service, to be forged and replayed."""

    task: str
    cursor: str
    since: str
    token: str


def quoted(text: str) -> str:
    """Percent-encodes every byte, which is valid everywhere."""
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


def changed(chance: random.Random, text: str) -> str:
    """An issued value with one character changed."""
    at = chance.randrange(len(text))
    other = chance.choice((string.ascii_letters + string.digits + "-_=.").replace(text[at], ""))
    return text[:at] + other + text[at + 1 :]


def broken(chance: random.Random, text: str) -> str:
    """An issued value that is truncated, doubled, or prefixed."""
    return chance.choice([text[: chance.randrange(1, len(text))], text + text, chance.choice("aZ9-_.") + text])


def deep_json(chance: random.Random, _real: Real) -> Bad:
    depth = chance.choice([10, 100, 1_000, 10_000, 100_000])
    opening, closing = chance.choice([("[", "]"), ('{"a":', "}"), ('[{"metadata":', "}]")])
    body = opening * depth + "1" + (closing * depth if chance.random() < 0.7 else "")
    if chance.random() < 0.5:
        body = f'{{"title": "deep", "metadata": {{"a": {body}}}}}'
    return Bad("deep JSON", "POST", chance.choice(["/v1/tasks", "/v1/tasks:batch"]), body=body.encode())


def not_utf8(chance: random.Random, _real: Real) -> Bad:
    title = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 60)))
    body = chance.choice(
        [
            b'{"title": "' + title + b'"}',
            title,
            '{"title": "utf-16"}'.encode("utf-16"),
            b'\xef\xbb\xbf{"title": "bom"}',
            b'{"title": "\\ud800"}',
            b'{"title": "\\u0000"}',
            b'{"title": "\xed\xa0\x80"}',
            b'{"title": NaN, "position": Infinity}',
            b'{"title": "a", "title": "b", "position": 1e999}',
            b'{"title": "a", "percent_done": ' + b"9" * 5000 + b"}",
        ]
    )
    return Bad("invalid UTF-8 and JSON", "POST", body=body)


def wrong_values(chance: random.Random, real: Real) -> Bad:
    fields = {name: chance.choice(VALUES) for name in chance.sample(FIELDS, chance.choice([1, 1, 2, 3]))}
    body = json.dumps({"title": "wrong values", **fields}).encode()
    if chance.random() < 0.3:
        items = [{"action": chance.choice(["create", "update", "erase"]), "task": fields, "id": real.task}]
        body = json.dumps({"items": items * chance.choice([1, 2, 101]), "atomic": chance.choice([True, "x"])}).encode()
        return Bad("wrong values", "POST", "/v1/tasks:batch", body=body)
    if chance.random() < 0.5:
        headers = {
            "Content-Type": chance.choice(["application/merge-patch+json", "text/plain", "x", "application/xml"])
        }
        return Bad("wrong values", "PATCH", f"/v1/tasks/{real.task}", headers, body)
    return Bad("wrong values", "POST", body=body)


def too_large(chance: random.Random, _real: Real) -> Bad:
    """Larger than the service's limit (1 MiB), and below nginx's limit here (2 MiB); or above both."""
    kind, rejected = "oversized bodies", ("413",)
    size = chance.choice([1024 * 1024 + 1, 1_500_000])
    if chance.random() < 0.5:
        # Announced and never sent: the response must still arrive.
        headers = {"Content-Length": str(chance.choice([size, 10**12])), "Connection": "close"}
        return Bad(kind, "POST", headers=headers, only=rejected)
    return Bad(kind, "POST", body=b'{"title": "' + b"x" * size + b'"}', only=rejected)


def header_bombs(chance: random.Random, _real: Real) -> Bad:
    headers = chance.choice(
        [
            {f"X-Bomb-{n}": "x" * 100 for n in range(chance.choice([50, 200, 1000]))},
            {"X-Bomb": "x" * chance.choice([4_000, 7_900, 20_000, 60_000])},
            {"Cookie": "; ".join(f"a{n}=b" for n in range(800))},
            {"If-Match": ",".join('"v1"' for _ in range(1_000))},
            {"Accept": ",".join("text/html;q=0.1" for _ in range(400))},
            {"Range": "bytes=" + ",".join(f"{n}-" for n in range(800))},
        ]
    )
    return Bad("header bombs", headers=headers)


def injection(chance: random.Random, real: Real) -> Bad:
    text = chance.choice(SQL + LINES)
    name = chance.choice(QUERIES)
    flat = text.replace("\r", "").replace("\n", "")
    return chance.choice(
        [
            Bad("SQL and log injection", path=f"/v1/tasks?{name}={quoted(text)}"),
            Bad("SQL and log injection", path=f"/v1/tasks/{quoted(text)}"),
            Bad("SQL and log injection", path=f"/v1/changes?since={quoted(text)}"),
            Bad("SQL and log injection", headers={"X-Request-ID": flat, "traceparent": flat, "User-Agent": flat}),
            Bad("SQL and log injection", "POST", headers={"Idempotency-Key": flat}, body=b'{"title": "x"}'),
            Bad("SQL and log injection", "POST", body=json.dumps({"title": text, "labels": [text]}).encode()),
            Bad("SQL and log injection", "DELETE", f"/v1/tasks/{real.task}", {"If-Match": flat}),
        ]
    )


def path_tricks(chance: random.Random, _real: Real) -> Bad:
    method = chance.choice(["GET", "POST", "DELETE", "PATCH", "PUT", "OPTIONS", "HEAD"])
    path = chance.choice(FILES + PATHS)
    return Bad("path tricks", method, path, only=("4",) if path in FILES else ())


def wrong_methods(chance: random.Random, real: Real) -> Bad:
    method = chance.choice(["TRACE", "PROPFIND", "FOO", "get", "PUT", "LINK", "M-SEARCH", "A" * 50])
    return Bad("wrong methods", method, chance.choice(["/v1/tasks", f"/v1/tasks/{real.task}", "/health", "/"]))


def forged_tokens(chance: random.Random, real: Real) -> Bad:
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    forged = chance.choice(
        [
            f"Bearer {changed(chance, real.token)}",
            f"Bearer {broken(chance, real.token)}",
            "Bearer",
            "Bearer ",
            f"Basic {base64.b64encode(real.token.encode()).decode()}",
            f"bearer {real.token} {real.token}",
            f"Bearer {none}.{none}.",
            f"Bearer {quoted(real.token)}",
            "Bearer " + "x" * 5_000,
            "Bearer \u00e9\u00e9",
        ]
    )
    path, headers = f"/v1/tasks/{real.task}", {"Authorization": forged}
    return Bad("forged tokens", path=path, headers=headers, only=("401", "400 by nginx"))


def forged_cursors(chance: random.Random, real: Real) -> Bad:
    kind, rejected = "forged and replayed cursors", ("400", "422")
    cursor, since = broken(chance, real.cursor), broken(chance, real.since)
    # Neither is signed: with another character it may be a valid position of another task, where reading may start.
    somewhere = [changed(chance, text) for text in (real.cursor, real.since)]
    return chance.choice(
        [
            Bad(kind, path=f"/v1/tasks?page_size=1&cursor={quoted(cursor)}", only=rejected),
            Bad(kind, path=f"/v1/tasks?sort=-priority&cursor={quoted(real.cursor)}", only=rejected),
            Bad(kind, path=f"/v1/tasks?project=x&cursor={quoted(real.cursor)}", only=rejected),
            Bad(kind, path=f"/v1/tasks?page_size=1&cursor={quoted(somewhere[0])}", only=("200", *rejected)),
            Bad(kind, path=f"/v1/changes?page_size=1&since={quoted(since)}", only=("200", "410", *rejected)),
            Bad(kind, path=f"/v1/changes?page_size=1&since={quoted(somewhere[1])}", only=("200", "410", *rejected)),
            Bad(kind, path="/v1/changes?page_size=1", headers={"Last-Event-ID": since}),
        ]
    )


def replayed_keys(chance: random.Random, _real: Real) -> Bad:
    key = chance.choice(["replayed", "replayed-too", "x" * 255, "x" * 256, "a b", "\u00e9", ""])
    body = json.dumps({"title": f"under a key {chance.randrange(3)}"}).encode()
    return Bad("replayed keys", "POST", headers={"Idempotency-Key": key}, body=body)


def not_http(chance: random.Random, _real: Real) -> Bad:
    head = b"POST /v1/tasks HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
    raw = chance.choice(
        [
            b"\x00\x01\x02\x03\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /v1/tasks\r\n\r\n",
            b"GET /v1/tasks HTTP/9.9\r\nHost: HOST\r\n\r\n",
            b"GET /v1/tasks HTTP/1.1\r\n\r\n",
            b"GET /v1/tasks HTTP/1.1\r\nHost: HOST\r\nHost: elsewhere\r\n\r\n",
            b"GET /v1/tasks HTTP/1.1\r\nHost: HOST\r\n folded: header\r\n\r\n",
            b"GET /v1/tasks HTTP/1.1\r\nHost: HOST\r\nno colon\r\n\r\n",
            b"GET /v1/tasks HTTP/1.1\nHost: HOST\n\n",
            b"GET /v1/ta\x00sks HTTP/1.1\r\nHost: HOST\r\n\r\n",
            head + b"Content-Length: -1\r\n\r\n",
            head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
            head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\nabc\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nabc\r\n",
            head + b"Expect: 200-maybe\r\nContent-Length: 2\r\n\r\n{}",
            head + b"Content-Length: 2\r\n\r\n{}GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /v1/tasks HTTP/1.1\r\nHost: HOST\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            bytes(chance.randrange(256) for _ in range(200)) + b"\r\n\r\n",
        ]
    )
    return Bad("malformed HTTP", raw=raw)


KINDS: list[tuple[Callable[[random.Random, Real], Bad], float]] = [
    (wrong_values, 22),
    (injection, 18),
    (forged_cursors, 10),
    (forged_tokens, 8),
    (replayed_keys, 8),
    (path_tricks, 10),
    (not_utf8, 10),
    (deep_json, 4),
    (header_bombs, 4),
    (wrong_methods, 3),
    (not_http, 3),
    (too_large, 0.3),  # these are large
]


def bad_requests(seed: int, count: int, real: Real) -> list[Bad]:
    """The same requests for the same seed and real values."""
    chance = random.Random(seed)
    makers, weights = zip(*KINDS, strict=True)
    return [make(chance, real) for make in chance.choices(makers, weights, k=count)]
