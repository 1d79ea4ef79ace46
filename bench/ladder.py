"""The baseline ladder: the same requests on every level between PostgreSQL and the service, interleaved in a single
run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench import database
from bench.build import CURRENT, Build, earlier
from bench.database import ID_FORMAT, STATISTICS, Database
from bench.machine import (
    ADDRESS,
    BENCH_PYTHON,
    OTHER_CORE,
    ROOT,
    SERVER_CORE,
    SERVICE_PYTHON,
    BenchmarkError,
    Server,
    cpu_seconds,
    free_port,
    run,
    serving,
)

RUNS = 6
"""An even number: half of them go through the rungs backwards."""
SECONDS = 2
WARM_UP_SECONDS = 1
COUNTED_SECONDS = 1
CONNECTIONS = 16
POOL = 5
"""The service's default. Every rung has the same number of connections to PostgreSQL."""
ROWS = 10_000
BEFORE = os.environ.get("BEFORE", "773f4e26")
"""The commit of the rungs "5 before", any Git revision. By default the last without any batching: the next one commits
concurrent writes to SQLite together, then follow PostgreSQL's reads and writes, and cached lists."""
FULL_SHARE = 0.85
"""With less of its core than this, the service's requests/s depend on the machine rather than on the service."""
SETTLE_SECONDS = 0.2
WRITES = ("post", "keyed")

RUNGS = {
    "pgbench": "1 pgbench, prepared",
    "loop": "2 asyncpg, no HTTP",
    "constant": "3 raw ASGI, constant bytes",
    "raw": "4 raw ASGI + asyncpg",
    "service": "5 the service",
    "bare": "5 without its middleware",
    "before": "5 before",
    "sqlite": "5 on SQLite",
    "sqlite_before": "5 before, on SQLite",
    "conventional": "6 conventional FastAPI + SQLAlchemy",
    "go": "7 Go, net/http + pgx",
    "go_batched": "7 Go, batched",
}
ON_SQLITE = ("sqlite", "sqlite_before")
SELECTED = ("service", "before", "go", "go_batched")
"""Also measured with other numbers of clients."""
GO_SERVER = ROOT / ".tools/bench-go/server"


@dataclass(frozen=True)
class Load:
    """What the clients send. request: as load.lua names it."""

    request: str
    rungs: tuple[str, ...]
    clients: int = CONNECTIONS


LOADS = {
    "get": Load("get", tuple(RUNGS)),
    "post": Load("post", tuple(RUNGS)),
    "list": Load("list", tuple(rung for rung in RUNGS if rung not in ON_SQLITE)),
    "keyed": Load("keyed", ("service", "before")),
    **{
        f"{request}_{clients}": Load(request, SELECTED, clients)
        for request in ("get", "post", "list")
        for clients in (1, 64)
    },
}


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
    postgres_us: float | None = None
    """PostgreSQL's CPU time per request: all of its processes."""
    statements: float | None = None
    commits: float | None = None
    """Statements, and transactions that wrote, per request."""


Results = dict[str, dict[str, list[Figures]]]
"""By load and rung, a list of runs."""


def measure(log: Callable[[str], None]) -> dict[str, object]:
    """Runs everything. Each run measures all rungs before the next run starts, so that changes on this machine
    affect all of them equally; ratios are within a run. Every other run goes through the rungs backwards: of two that
    are equal the first is up to 3 % faster."""
    results: Results = {name: {rung: [] for rung in load.rungs} for name, load in LOADS.items()}
    with earlier(BEFORE) as (commit, before), _ladder(before) as rungs:
        for number in range(RUNS):
            for name, load in LOADS.items():
                for rung in load.rungs[:: -1 if number % 2 else 1]:
                    if rung not in rungs:
                        continue
                    figures = rungs[rung](load)
                    results[name][rung].append(figures)
                    cpu = ""
                    if figures.cpu_us is not None and figures.busy is not None:
                        cpu = f"{figures.cpu_us:7.0f} us of CPU per request, {figures.busy:4.0%} of the core"
                        if (rung, name) == ("service", "get") and figures.busy < FULL_SHARE:
                            cpu += f", less than {FULL_SHARE:.0%}: requests/s are limited by something else"
                    log(f"run {number + 1} of {RUNS}  {name:7}  {RUNGS[rung]:35} {figures.per_second:8.0f}/s {cpu}")
    figures_by_load = {
        name: {rung: [asdict(one) for one in runs] for rung, runs in by_rung.items() if runs}
        for name, by_rung in results.items()
    }
    return {**figures_by_load, "before": commit}


@contextlib.contextmanager
def _ladder(before: Build) -> Iterator[Mapping[str, Callable[[Load], Figures]]]:
    """Every rung as a function that measures it. All servers run all the time: when idle they cost nothing."""
    with contextlib.ExitStack() as stack:
        db = stack.enter_context(database.running(STATISTICS))
        db.execute("CREATE EXTENSION pg_stat_statements")
        db.count_statements("none")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers: dict[str, Server] = {}

        def serve(name: str, *command: str | Path, **environment: str) -> None:
            port = free_port()
            argv = [str(part).replace("PORT", str(port)) for part in command]
            servers[name] = stack.enter_context(serving(*argv, port=port, log=folder / f"{name}.log", **environment))

        settings = {"TASKS_DATABASE_URL": db.url, "TASKS_DATABASE_POOL_SIZE": str(POOL)}
        service_environment = {**settings, "PYTHONPATH": CURRENT.path}
        serve("service", *CURRENT.command("PORT"), **service_environment)
        servers["service"].wait_until_ready()
        db.fill(1, ROWS)
        fixture = _fixture(servers["service"], **service_environment)
        db.delete_new()
        uvicorn = (BENCH_PYTHON, "-m", "uvicorn", "--port", "PORT", "--app-dir", "bench/rungs")
        quiet = ("--no-access-log", "--no-server-header")
        rung_environment = {"BENCH_FIXTURE": fixture, "BENCH_POOL": str(POOL), "BENCH_DATABASE_URL": db.url}
        serve("constant", *uvicorn, *quiet, "raw:constant", BENCH_FIXTURE=fixture)
        serve("raw", *uvicorn, *quiet, "raw:database", **rung_environment)
        serve("before", *before.command("PORT"), **settings, PYTHONPATH=before.path)
        serve("bare", SERVICE_PYTHON, "bench/rungs/bare.py", "serve", "--port", "PORT", **service_environment)
        serve("conventional", *uvicorn, "conventional:app", **rung_environment)
        if GO_SERVER.exists():
            serve("go", GO_SERVER, "PORT", **rung_environment)
            serve("go_batched", GO_SERVER, "PORT", "batched", **rung_environment)
        servers["before"].wait_until_ready()
        _compare_responses(servers, db)

        def by_wrk(name: str) -> Callable[[Load], Figures]:
            def measured(load: Load) -> Figures:
                figures = wrk(servers[name], load.request, db, clients=load.clients)
                if name not in SELECTED or load.clients != CONNECTIONS:
                    return figures
                statements, commits = _count(servers[name], load.request, db)
                return replace(figures, statements=statements, commits=commits)

            return measured

        rungs = {name: by_wrk(name) for name in servers}
        rungs["pgbench"] = lambda load: _pgbench(load.request, fixture, db)
        rungs["loop"] = lambda load: _loop(load.request, rung_environment, db)
        rungs["sqlite"] = lambda load: _on_sqlite(CURRENT, load)
        rungs["sqlite_before"] = lambda load: _on_sqlite(before, load)
        for name, server in servers.items():
            for load in LOADS.values():
                if name in load.rungs and load.clients == CONNECTIONS:
                    wrk(server, load.request, db, seconds=WARM_UP_SECONDS)
        yield rungs


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
    paths = [*(f"/v1/tasks/{ID_FORMAT % n}" for n in (7, ROWS, *range(100, 130))), "/v1/tasks"]
    expected = [service.get(path) for path in paths]
    with ThreadPoolExecutor(CONNECTIONS) as clients:  # concurrent requests, which are batched
        for name in servers.keys() - {"constant"}:
            for path, own, response in zip(paths, expected, clients.map(servers[name].get, paths), strict=True):
                if response != own if name in ("raw", "bare") else _comparable(response) != _comparable(own):
                    raise BenchmarkError(
                        f"{RUNGS[name]}: response of {path} is\n{response[:600]!r}\nexpected\n{own[:600]!r}"
                    )
        keys = json.loads(service.get("/v1/tasks", "POST", NEW)).keys()
        for name in servers.keys() - {"constant"}:
            posts = [clients.submit(servers[name].get, "/v1/tasks", "POST", NEW) for _ in range(CONNECTIONS)]
            for created in [json.loads(post.result()) for post in posts]:
                service.get(f"/v1/tasks/{created['id']}")  # raises BenchmarkError if it is not stored
                if created.keys() != keys:
                    raise BenchmarkError(f"{RUNGS[name]}: response of POST has other fields than the service's")
    db.delete_new()


def _comparable(body: bytes) -> object:
    """Without the cursor, whose format differs."""
    found = json.loads(body)
    found.pop("next_cursor", None)
    return found


def wrk(
    server: Server,
    request: str,
    db: Database | None,
    *,
    clients: int = CONNECTIONS,
    seconds: int = SECONDS,
    id_format: str = ID_FORMAT,
) -> Figures:
    """db: the server's PostgreSQL, if it has one."""
    before, postgres_before = cpu_seconds(server.pid), db.cpu_seconds() if db else 0
    result = _send(server, request, clients, seconds, id_format)
    time.sleep(SETTLE_SECONDS)
    cpu, requests = cpu_seconds(server.pid) - before, result["requests"]
    # At the end wrk leaves a request on each connection that the server still processes and wrk does not count.
    processed = requests + clients
    busy = cpu / processed * requests / result["seconds"]
    postgres_us = (db.cpu_seconds() - postgres_before) / processed * 1e6 if db else None
    if db and request in WRITES:
        db.delete_new()
    per_second, cpu_us = requests / result["seconds"], cpu / processed * 1e6
    return Figures(per_second, result["p50_ms"], result["p99_ms"], cpu_us, busy, postgres_us)


def _count(server: Server, request: str, db: Database) -> tuple[float, float]:
    """Statements, and transactions that wrote, per request: in a run of its own, since counting takes CPU time."""
    db.count_statements("top")
    before = db.counts()
    processed = _send(server, request, CONNECTIONS, COUNTED_SECONDS)["requests"] + CONNECTIONS
    time.sleep(SETTLE_SECONDS)
    after = db.counts()
    db.count_statements("none")
    if request in WRITES:
        db.delete_new()
    return (after[0] - before[0]) / processed, (after[1] - before[1]) / processed


def _send(server: Server, request: str, clients: int, seconds: int, id_format: str = ID_FORMAT) -> dict[str, Any]:
    """What load.lua prints."""
    output = run(
        "wrk", "--threads", "1", "--connections", str(clients), "--duration", str(seconds), "--script",
        ROOT / "bench/load.lua", f"http://{ADDRESS}:{server.port}", "--", request, str(ROWS), id_format,
        core=OTHER_CORE,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    if result["failed"]:
        raise BenchmarkError(f"{result['failed']} requests of {request} failed:\n{output}")
    return result


def _on_sqlite(build: Build, load: Load) -> Figures:
    """On a new file with one task, which is the one that GET reads."""
    # Not in the folder for temporary files: where that is in memory, a COMMIT costs nothing.
    with tempfile.TemporaryDirectory(dir=ROOT / ".tools") as folder:
        port = free_port()
        environment = {"TASKS_DATABASE_URL": f"sqlite:///{folder}/tasks.db", "PYTHONPATH": build.path}
        with serving(*build.command(str(port)), port=port, log=Path(folder) / "log", **environment) as server:
            server.wait_until_ready()
            task = json.loads(server.get("/v1/tasks", "POST", NEW))["id"]
            wrk(server, load.request, None, seconds=WARM_UP_SECONDS, id_format=task)
            return wrk(server, load.request, None, id_format=task)


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
        "NULL", "NULL", "0", "NULL", "NULL", "NULL", "0", "'{}'", "now()", "now()", "NULL", "NULL", "1", "'2026-12-01'",
        "ARRAY['water', 'the', 'plants']", "'created'", "repeat('x', 480)",
    ]  # fmt: skip
    statement = re.sub(r"\$(\d+)", lambda found: values[int(found[1]) - 1], statement)
    return " ".join(statement.split()) + ";"


PGBENCH: Mapping[str, Callable[[str], str]] = {
    "get": _get_script,
    "list": lambda statement: f"{statement};",
    "post": _post_script,
}
