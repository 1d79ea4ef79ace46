"""In the cluster of `make up`: what one pod serves through the ingress, and what twice as many pods serve."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.ladder import NEW
from bench.machine import ADDRESS, ROOT, CannotMeasure, run

CONTEXT, NAMESPACE, HOST = "kind-task-platform", "task-api-bench", "task-api-bench.localhost"
KUBECONFIG = ROOT / ".kube/config"
RUNS, SECONDS, CONNECTIONS = 3, 10, 48


def measure(say: Callable[[str], None]) -> dict[str, object]:
    """GET of one task; PostgreSQL is the chart's own, in the namespace that is made for this and removed."""
    with _namespace():
        port = run("docker", "port", "task-platform-control-plane", "443/tcp").strip().rpartition(":")[2]
        _install(1, "500m")
        task = f"/v1/tasks/{json.loads(_curl(port, '/v1/tasks', NEW))['id']}"
        one = _load(port, task, say, "1 pod of 500m")
        _install(3, "100m")
        three = _load(port, task, say, "3 pods of 100m")
        _install(6, "100m")
        six = _load(port, task, say, "6 pods of 100m")
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
    time.sleep(15)  # what the old pods still drain, and a start's debt with the CPU limit


def _load(port: str, path: str, say: Callable[[str], None], what: str) -> dict[str, float]:
    rates, busy, p99 = [], [], []
    for _ in range(RUNS):
        before, start = _busy_seconds(), time.monotonic()
        output = run(
            "wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", str(SECONDS), "--header",
            f"Host: {HOST}", "--script", ROOT / "bench/load.lua", f"https://{ADDRESS}:{port}", "--", "path", path, "",
        )  # fmt: skip
        said = json.loads(output.splitlines()[-1])
        if said["failed"]:
            raise CannotMeasure(f"{said['failed']} requests failed with {what}:\n{output}")
        rates.append(said["requests"] / said["seconds"])
        p99.append(said["p99_ms"])
        busy.append((_busy_seconds() - before) / (time.monotonic() - start))
        say(f"{what}: {rates[-1]:.0f}/s, {busy[-1]:.2f} cores busy on this machine")
    return {"per_second": statistics.median(rates), "p99_ms": statistics.median(p99), "cores": statistics.median(busy)}


def _busy_seconds() -> float:
    """How long all cores together were busy, with whatever."""
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
        raise CannotMeasure("there is no local cluster. Next: make up")
    _kubectl("create", "namespace", NAMESPACE)
    try:
        yield
    finally:
        _kubectl("delete", "namespace", NAMESPACE)
