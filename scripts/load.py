"""Sends load through the local ingress and shows how the autoscaler reacts.

    python -m scripts.load NAME --path /v1/tasks --port 8443 --context CONTEXT    for --seconds
    python -m scripts.load NAME ... --picture FILE.svg                             and until the scale-down

The load only goes to 127.0.0.1, and stops automatically. wrk sends it in slices of a few seconds: each opens new
connections, so that pods started in the meantime get their share.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.picture import Sample, draw

ADDRESS = "127.0.0.1"
MAX_SECONDS = 600
MAX_CONNECTIONS = 200
INTERRUPTED = 130  # 128 + SIGINT, as in a shell
MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class LoadFailed(Exception):
    """The load cannot be sent or observed; the message contains the reason and the next step."""


@dataclass(frozen=True)
class Slice:
    """wrk's results for a few seconds."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Requests without a 2xx or 3xx response, or without any."""


def read_wrk(output: str) -> Slice:
    """Raises LoadFailed if the output contains no results."""
    quantiles = {
        int(name): float(number) * MILLISECONDS[unit]
        for name, number, unit in re.findall(r"^ +(50|99)% +([\d.]+)(us|ms|s|m) *$", output, re.MULTILINE)
    }
    rate = re.search(r"^Requests/sec: +([\d.]+)$", output, re.MULTILINE)
    if rate is None or quantiles.keys() != {50, 99}:
        raise LoadFailed(f"wrk printed no results:\n{output}")
    rejected = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failed = (int(rejected[1]) if rejected else 0) + (sum(map(int, broken.groups())) if broken else 0)
    return Slice(float(rate[1]), quantiles[50], quantiles[99], failed)


@dataclass(frozen=True)
class Scaling:
    """Current state of the HPA and its Deployment."""

    min_replicas: int
    target_percent: int
    window_seconds: int
    """Stabilization window: how long the HPA waits before it scales down."""
    cpu_percent: int | None
    desired: int
    ready: int


class Cluster:
    def __init__(self, service: str, context: str) -> None:
        self._command = ["kubectl", "--context", context, "get", f"hpa/{service}", f"deployment/{service}"]

    def scaling(self) -> Scaling:
        result = subprocess.run([*self._command, "--output", "json"], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise LoadFailed(f"{result.stderr.strip()}\nIs the service deployed? Deploy it: make up")
        hpa, deployment = json.loads(result.stdout)["items"]
        # A new HPA has no metrics yet, nor has one whose pods are all new.
        current = _cpu((hpa["status"].get("currentMetrics") or [{}])[0]).get("current", {})
        return Scaling(
            min_replicas=hpa["spec"]["minReplicas"],
            target_percent=_cpu(hpa["spec"]["metrics"][0])["target"]["averageUtilization"],
            window_seconds=hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
            cpu_percent=current.get("averageUtilization"),
            desired=hpa["status"].get("desiredReplicas", 0),
            ready=deployment["status"].get("readyReplicas", 0),
        )


def _cpu(metric: dict[str, Any]) -> dict[str, Any]:
    """Of the pod or, with autoscaling.containerResource, of its container."""
    cpu: dict[str, Any] = metric.get("containerResource") or metric.get("resource", {})
    return cpu


class Load:
    def __init__(self, service: str, port: int, path: str, connections: int) -> None:
        self._command = [
            *("wrk", "--latency", "--threads", "1", "--connections", str(connections), "--timeout", "5s"),
            *("--header", f"Host: {service}.local"),
        ]
        self._url = f"https://{ADDRESS}:{port}{path}"

    def for_seconds(self, seconds: int) -> Slice:
        command = [*self._command, "--duration", f"{seconds}s", self._url]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise LoadFailed(f"wrk failed: {result.stdout}{result.stderr}\nIs the service responding? make status")
        return read_wrk(result.stdout)


def watch(arguments: argparse.Namespace) -> Iterator[Sample]:
    """Sends load and yields a sample per slice; with --picture, continues without load until the replicas are scaled
    down."""
    cluster = Cluster(arguments.service, arguments.context)
    load = Load(arguments.service, arguments.port, arguments.path, arguments.connections)
    started = time.monotonic()
    while time.monotonic() - started < arguments.seconds:
        result = load.for_seconds(arguments.slice)
        yield sample(started, cluster.scaling(), result)
    ended = time.monotonic()
    scaled_down = 0
    # Three samples at the minimum: a picture that ends with the drop does not show where it ends.
    while arguments.picture and scaled_down < 3 and time.monotonic() - ended < arguments.patience:
        now = cluster.scaling()
        yield sample(started, now, None)
        scaled_down = scaled_down + 1 if now.ready == now.desired == now.min_replicas else 0
        time.sleep(arguments.slice)


def sample(started: float, now: Scaling, result: Slice | None) -> Sample:
    return Sample(
        seconds=round(time.monotonic() - started, 1),
        requests_per_second=result.requests_per_second if result else 0,
        p50_ms=result.p50_ms if result else None,
        p99_ms=result.p99_ms if result else None,
        failed=result.failed if result else 0,
        cpu_percent=now.cpu_percent,
        desired=now.desired,
        ready=now.ready,
    )


def line(sample: Sample) -> str:
    minutes, seconds = divmod(int(sample.seconds), 60)
    latency = "no load                  "
    if sample.p50_ms is not None and sample.p99_ms is not None:
        latency = f"p50 {sample.p50_ms:4.0f} ms  p99 {sample.p99_ms:5.0f} ms"
    cpu = "   ?" if sample.cpu_percent is None else f"{sample.cpu_percent:4d}"
    failed = f"  {sample.failed} FAILED" if sample.failed else ""
    return (
        f"{minutes:2d}:{seconds:02d}  {sample.requests_per_second:6.0f} req/s  {latency}"
        f"  CPU {cpu} % of the request  replicas {sample.ready} of {sample.desired}{failed}"
    )


def run(arguments: argparse.Namespace) -> int:
    start = Cluster(arguments.service, arguments.context).scaling()
    print(
        f"{arguments.connections} connections to https://{ADDRESS}:{arguments.port}{arguments.path} for"
        f" {arguments.seconds} s; the HPA target is {start.target_percent} % of the CPU request"
    )
    samples: list[Sample] = []
    interrupted = False
    try:
        for current in watch(arguments):
            samples.append(current)
            print(line(current), flush=True)
    except KeyboardInterrupt:
        interrupted = True
    if not samples:
        return INTERRUPTED
    loaded = [current for current in samples if current.p50_ms is not None]
    peak = max(current.ready for current in samples)
    failed = sum(current.failed for current in samples)
    print(
        f"\n{sum(current.requests_per_second for current in loaded) / len(loaded):.0f} req/s on average, {failed} "
        "failed,"
        f" replicas {start.ready} -> {peak} (peak) -> {samples[-1].ready}"
    )
    if arguments.picture is None:
        return INTERRUPTED if interrupted else 1 if failed else 0
    title = f"{arguments.service}: {arguments.connections} connections for {arguments.seconds} s"
    note = f"Scale-down stabilization: {start.window_seconds} s (values-dev.yaml); the chart's default is 300 s."
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    arguments.picture.write_text(draw(samples, title=title, note=note, target_percent=start.target_percent))
    print(f"Wrote {arguments.picture}")
    if interrupted:
        return INTERRUPTED
    if peak <= start.min_replicas:
        print(
            "The HPA did not scale up: use more connections (CONNECTIONS=100), or see why: make status", file=sys.stderr
        )
        return 1
    if samples[-1].ready != start.min_replicas:
        print(
            f"Not scaled down to {start.min_replicas} replicas within {arguments.patience} s. See why: make status",
            file=sys.stderr,
        )
        return 1
    return 1 if failed else 0


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts.load", description="Load through the local ingress.")
    parser.add_argument("service")
    parser.add_argument("--port", type=int, required=True, help=f"HTTPS port of {ADDRESS}")
    parser.add_argument("--context", required=True, help="the cluster's, for kubectl")
    parser.add_argument("--path", required=True)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--slice", type=int, default=5, help="seconds per slice and output line")
    parser.add_argument("--patience", type=int, default=300, help="seconds to wait for the scale-down")
    parser.add_argument("--picture", type=Path, help="SVG to write")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.seconds <= MAX_SECONDS:
        parser.error(f"--seconds {arguments.seconds}: must be 1 to {MAX_SECONDS}")
    if not 1 <= arguments.connections <= MAX_CONNECTIONS:
        parser.error(f"--connections {arguments.connections}: must be 1 to {MAX_CONNECTIONS}")
    return arguments


def main() -> int:
    try:
        return run(parse())
    except LoadFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
