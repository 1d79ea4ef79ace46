"""In the cluster of `make up`: throughput of one pod through the ingress, and how it scales with twice as many pods."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.ladder import NEW
from bench.machine import ADDRESS, ROOT, BenchmarkError, run

CONTEXT, NAMESPACE, HOST = "kind-task-platform", "task-api-bench", "task-api-bench.localhost"
KUBECONFIG = ROOT / ".kube/config"
RUNS, SECONDS, CONNECTIONS = 3, 10, 48


def measure(log: Callable[[str], None]) -> dict[str, object]:
    """GET of one task; PostgreSQL is the bundled one, in a namespace created for this and deleted afterwards."""
    with _namespace():
        port = run("docker", "port", "task-platform-control-plane", "443/tcp").strip().rpartition(":")[2]
        _install(1, "500m")
        task = f"/v1/tasks/{json.loads(_curl(port, '/v1/tasks', NEW))['id']}"
        one = _load(port, task, log, "1 pod of 500m")
        _install(3, "100m")
        three = _load(port, task, log, "3 pods of 100m")
        _install(6, "100m")
        six = _load(port, task, log, "6 pods of 100m")
    return {"one_500m": one, "three_100m": three, "six_100m": six}


def _install(replicas: int, cpu: str) -> None:
    tag = run("scripts/image-tag.sh").strip()
    values = {
        "image.repository": "task-api",
        "image.tag": tag,
        "autoscaling.enabled": "false",
        "replicaCount": str(replicas),
        "ingress.host": HOST,
        "resources.requests.cpu": "50m",
        "resources.limits.cpu": cpu,
    }
    settings = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    run(
        "helm", "upgrade", "--install", "task-api", "platform/helm/task-api", "--kubeconfig", KUBECONFIG,
        "--kube-context", CONTEXT, "--namespace", NAMESPACE, *settings, "--wait", "--timeout", "180s",
    )  # fmt: skip
    _kubectl("rollout", "status", "deployment/task-api", "--timeout=180s")
    time.sleep(15)  # old pods are still draining, and startup used up the CPU quota


def _load(port: str, path: str, log: Callable[[str], None], what: str) -> dict[str, float]:
    rates, busy, p99 = [], [], []
    for _ in range(RUNS):
        before, start = _busy_seconds(), time.monotonic()
        output = run(
            "wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", str(SECONDS), "--header",
            f"Host: {HOST}", "--script", ROOT / "bench/load.lua", f"https://{ADDRESS}:{port}", "--", "path", path, "",
        )  # fmt: skip
        result = json.loads(output.splitlines()[-1])
        if result["failed"]:
            raise BenchmarkError(f"{result['failed']} requests failed with {what}:\n{output}")
        rates.append(result["requests"] / result["seconds"])
        p99.append(result["p99_ms"])
        busy.append((_busy_seconds() - before) / (time.monotonic() - start))
        log(f"{what}: {rates[-1]:.0f}/s, {busy[-1]:.2f} cores used on this machine")
    return {"per_second": statistics.median(rates), "p99_ms": statistics.median(p99), "cores": statistics.median(busy)}


def _busy_seconds() -> float:
    """Busy time of all cores together, of all processes."""
    user, nice, system, _idle, _wait, irq, soft, steal, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + soft + steal) / 100


def _curl(port: str, path: str, body: str) -> str:
    return run(
        "curl", "--silent", "--show-error", "--fail", "--insecure", "--retry", "10", "--retry-all-errors", "--header",
        f"Host: {HOST}", "--json", body, f"https://{ADDRESS}:{port}{path}",
    )  # fmt: skip


def _kubectl(*arguments: str) -> str:
    return run("kubectl", "--kubeconfig", KUBECONFIG, "--context", CONTEXT, "--namespace", NAMESPACE, *arguments)


@contextlib.contextmanager
def _namespace() -> Iterator[None]:
    if not KUBECONFIG.exists():
        raise BenchmarkError("there is no local cluster. Create it: make up")
    _kubectl("create", "namespace", NAMESPACE)
    try:
        yield
    finally:
        _kubectl("delete", "namespace", NAMESPACE)
