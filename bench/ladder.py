"""The baseline ladder: the same requests on every level between PostgreSQL and the service, interleaved in a single
run."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import database
from bench.database import ID_FORMAT, Database
from bench.machine import (
    ADDRESS,
    BENCH_PYTHON,
    OTHER_CORE,
    ROOT,
    SERVER_CORE,
    SERVICE_PATH,
    SERVICE_PYTHON,
    BenchmarkError,
    Server,
    cpu_seconds,
    free_port,
    run,
    serving,
)

RUNS = 5
SECONDS = 2
WARM_UP_SECONDS = 1
CONNECTIONS = 16
POOL = 5
"""The service's default. Every rung has the same number of connections to PostgreSQL."""
ROWS = 10_000
KINDS = ("get", "post", "list")
FULL_SHARE = 0.85
"""With less of its core than this, the service's requests/s depend on the machine rather than on the service."""
SETTLE_SECONDS = 0.2

RUNGS = {
    "pgbench": "1 pgbench, prepared",
    "loop": "2 asyncpg, no HTTP",
    "constant": "3 raw ASGI, constant bytes",
    "raw": "4 raw ASGI + asyncpg",
    "service": "5 the service",
    "bare": "5 without its middleware",
    "conventional": "6 conventional FastAPI + SQLAlchemy",
    "go": "7 Go, net/http + pgx",
}
GO_SERVER = ROOT / ".tools/bench-go/server"


@dataclass(frozen=True)
class Figures:
    """Results of one rung in one run."""

    per_second: float
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: float | None
    """The server's CPU time per request, in microseconds."""
    busy: float | None
    """The server's share of its core: less if other processes ran there, or if it waited for others."""


Results = dict[str, dict[str, list[Figures]]]
"""By kind of request and rung, a list of runs."""


def measure(log: Callable[[str], None]) -> dict[str, object]:
    """Runs everything. Each run measures all rungs before the next run starts, so that changes on this machine
    affect all of them equally; ratios are within a run."""
    results: Results = {kind: {rung: [] for rung in RUNGS} for kind in KINDS}
    with _ladder() as rungs:
        for number in range(RUNS):
            for kind in KINDS:
                for name, rung in rungs.items():
                    figures = rung(kind)
                    results[kind][name].append(figures)
                    cpu = ""
                    if figures.cpu_us is not None and figures.busy is not None:
                        cpu = f"{figures.cpu_us:7.0f} us of CPU per request, {figures.busy:4.0%} of the core"
                        if (name, kind) == ("service", "get") and figures.busy < FULL_SHARE:
                            cpu += f", less than {FULL_SHARE:.0%}: requests/s are limited by something else"
                    log(f"run {number + 1} of {RUNS}  {kind:4}  {RUNGS[name]:35} {figures.per_second:8.0f}/s {cpu}")
    return {k: {r: [asdict(f) for f in runs] for r, runs in by.items() if runs} for k, by in results.items()}


@contextlib.contextmanager
def _ladder() -> Iterator[Mapping[str, Callable[[str], Figures]]]:
    """Every rung as a function that measures it. All servers run all the time: when idle they cost nothing."""
    with contextlib.ExitStack() as stack:
        db = stack.enter_context(database.running())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers: dict[str, Server] = {}

        def serve(name: str, *command: str | Path, **environment: str) -> None:
            port = free_port()
            argv = [str(part).replace("PORT", str(port)) for part in command]
            servers[name] = stack.enter_context(serving(*argv, port=port, log=folder / f"{name}.log", **environment))

        service_environment = {
            "TASKS_DATABASE_URL": db.url,
            "TASKS_DATABASE_POOL_SIZE": str(POOL),
            "PYTHONPATH": SERVICE_PATH,
        }
        serve("service", SERVICE_PYTHON, "-m", "task_api", "serve", "--port", "PORT", **service_environment)
        servers["service"].wait_until_ready()
        db.fill(1, ROWS)
        fixture = _fixture(servers["service"], **service_environment)
        db.delete_new()
        uvicorn = (BENCH_PYTHON, "-m", "uvicorn", "--port", "PORT", "--app-dir", "bench/rungs")
        quiet = ("--no-access-log", "--no-server-header")
        rung_environment = {"BENCH_FIXTURE": fixture, "BENCH_POOL": str(POOL), "BENCH_DATABASE_URL": db.url}
        serve("constant", *uvicorn, *quiet, "raw:constant", BENCH_FIXTURE=fixture)
        serve("raw", *uvicorn, *quiet, "raw:database", **rung_environment)
        serve("bare", SERVICE_PYTHON, "bench/rungs/bare.py", "serve", "--port", "PORT", **service_environment)
        serve("conventional", *uvicorn, "conventional:app", **rung_environment)
        if GO_SERVER.exists():
            serve("go", GO_SERVER, "PORT", **rung_environment)
        _compare_responses(servers, db)

        def by_wrk(server: Server) -> Callable[[str], Figures]:
            return lambda kind: wrk(server, kind, db)

        rungs: dict[str, Callable[[str], Figures]] = {name: by_wrk(server) for name, server in servers.items()}
        rungs["pgbench"] = lambda kind: _pgbench(kind, fixture, db)
        rungs["loop"] = lambda kind: _loop(kind, rung_environment, db)
        for rung in servers:
            for kind in KINDS:
                wrk(servers[rung], kind, db, seconds=WARM_UP_SECONDS)
        yield {name: rungs[name] for name in RUNGS if name in rungs}


def _fixture(service: Server, **environment: str) -> str:
    """Input for the rungs: the service's statements, and its responses."""
    statements = json.loads(run(SERVICE_PYTHON, "bench/rungs/fixture.py", **environment))
    page = service.get("/v1/tasks").decode()
    bodies = {"get": service.get(f"/v1/tasks/{ID_FORMAT % 1}").decode(), "list": page}
    bodies["post"] = service.get("/v1/tasks", "POST", NEW).decode()
    rows = {"rows": ROWS, "id": ID_FORMAT, "cursor": json.loads(page)["next_cursor"], "bodies": bodies}
    return json.dumps({**statements, **rows})


NEW = '{"title":"Water the plants","priority":"high","due_on":"2026-12-01","labels":["home"]}'


def _compare_responses(servers: Mapping[str, Server], db: Database) -> None:
    """Every rung must return the same response as the service, or the comparison is meaningless. Rung 4 byte by
    byte."""
    service = servers["service"]
    for path in (f"/v1/tasks/{ID_FORMAT % 7}", f"/v1/tasks/{ID_FORMAT % ROWS}", "/v1/tasks"):
        expected = service.get(path)
        for name in servers.keys() - {"constant"}:
            response = servers[name].get(path)
            if response != expected if name in ("raw", "bare") else _comparable(response) != _comparable(expected):
                raise BenchmarkError(
                    f"{RUNGS[name]}: response of {path} is\n{response[:600]!r}\nexpected\n{expected[:600]!r}"
                )
    keys = json.loads(service.get("/v1/tasks", "POST", NEW)).keys()
    for name, server in servers.items():
        if json.loads(server.get("/v1/tasks", "POST", NEW)).keys() != keys:
            raise BenchmarkError(f"{RUNGS[name]}: response of POST has other fields than the service's")
    db.delete_new()


def _comparable(body: bytes) -> object:
    """Without the cursor, whose format differs."""
    found = json.loads(body)
    found.pop("next_cursor", None)
    return found


def wrk(server: Server, kind: str, db: Database, *, seconds: int = SECONDS) -> Figures:
    before = cpu_seconds(server.pid)
    output = run(
        "wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", str(seconds), "--script",
        ROOT / "bench/load.lua", f"http://{ADDRESS}:{server.port}", "--", kind, str(ROWS), ID_FORMAT, core=OTHER_CORE,
    )  # fmt: skip
    time.sleep(SETTLE_SECONDS)
    cpu = cpu_seconds(server.pid) - before
    if kind == "post":
        db.delete_new()
    result = json.loads(output.splitlines()[-1])
    if result["failed"]:
        raise BenchmarkError(f"{result['failed']} requests of {kind} failed:\n{output}")
    requests = result["requests"]
    # At the end wrk leaves a request on each connection that the server still processes and wrk does not count.
    processed = requests + CONNECTIONS
    busy = cpu / processed * requests / result["seconds"]
    return Figures(requests / result["seconds"], result["p50_ms"], result["p99_ms"], cpu / processed * 1e6, busy)


def _loop(kind: str, environment: Mapping[str, str], db: Database) -> Figures:
    result = json.loads(run(BENCH_PYTHON, "bench/rungs/loop.py", kind, str(SECONDS), core=SERVER_CORE, **environment))
    if kind == "post":
        db.delete_new()
    requests, seconds, cpu = result["requests"], result["seconds"], result["cpu_seconds"]
    return Figures(requests / seconds, None, None, cpu / requests * 1e6, cpu / seconds)


def _pgbench(kind: str, fixture: str, db: Database) -> Figures:
    """In a separate container on the server's core: PostgreSQL's container has the other one."""
    script = PGBENCH[kind](json.loads(fixture)[kind])
    run("docker", "exec", "--interactive", db.container, "sh", "-c", f"cat > /tmp/{kind}.sql <<'END'\n{script}\nEND")
    db.execute("CREATE SEQUENCE IF NOT EXISTS bench_numbers CACHE 1000")
    output = run(
        "docker", "run", "--rm", "--network", "host", "--cpuset-cpus", SERVER_CORE, "--volumes-from", db.container,
        "--env", "PGPASSWORD=bench", database.image(), "sh", "-c",
        f"cat > /tmp/{kind}.sql <<'END'\n{script}\nEND\npgbench --host {ADDRESS} --port {db.port} --username postgres "
        f"--no-vacuum --protocol prepared --client {POOL} --jobs 1 --time {SECONDS} --file /tmp/{kind}.sql postgres",
    )  # fmt: skip
    if kind == "post":
        db.delete_new()
    found = re.search(r"^tps = ([\d.]+)", output, re.MULTILINE)
    if found is None:
        raise BenchmarkError(f"pgbench printed no result:\n{output}")
    return Figures(float(found[1]), None, None, None, None)


def _get_script(statement: str) -> str:
    uuid = "('01990000-0000-7000-8000-' || lpad(to_hex(:n::int), 12, '0'))::uuid"
    return f"\\set n random(1, {ROWS})\n{statement.replace('$1', uuid)};"


def _post_script(statement: str) -> str:
    uuid = "('019fffff-0000-7000-8000-' || lpad(to_hex(nextval('bench_numbers')), 12, '0'))::uuid"
    values = [
        uuid, "'Water the plants'", "NULL", "'todo'", "3", "NULL", "'2026-12-01'", "NULL", "ARRAY['home']", "NULL",
        "NULL", "NULL", "0", "NULL", "0", "'{}'", "now()", "now()", "NULL", "NULL", "1", "'2026-12-01'",
        "ARRAY['water', 'the', 'plants']", "'created'", "repeat('x', 480)",
    ]  # fmt: skip
    statement = re.sub(r"\$(\d+)", lambda found: values[int(found[1]) - 1], statement)
    return " ".join(statement.split()) + ";"


PGBENCH: Mapping[str, Callable[[str], str]] = {
    "get": _get_script,
    "list": lambda statement: f"{statement};",
    "post": _post_script,
}
