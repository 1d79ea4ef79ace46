"""Sends real load through the local ingress and shows what the autoscaler makes of it.

    python -m scripts.load NAME --path /v1/tasks --port 8443 --context CONTEXT    for as long as --seconds says
    python -m scripts.load NAME ... --picture FILE.svg                             and until the replicas are back

The load goes to 127.0.0.1 and nowhere else, and ends by itself. wrk makes it in slices of a few seconds: each opens its
connections anew, so that pods which were started meanwhile get their share.
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

from scripts.picture import Sample, draw

ADDRESS = "127.0.0.1"
MOST_SECONDS = 600
MOST_CONNECTIONS = 200
INTERRUPTED = 130  # as a shell says it
MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class CannotLoad(Exception):
    """The load cannot be sent or watched; the message says why and what to do."""


@dataclass(frozen=True)
class Slice:
    """What wrk says of a few seconds."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Requests that were not answered with 2xx or 3xx, or not at all."""


def read_wrk(output: str) -> Slice:
    """Raises CannotLoad where the output has no figures."""
    quantiles = {
        int(name): float(number) * MILLISECONDS[unit]
        for name, number, unit in re.findall(r"^ +(50|99)% +([\d.]+)(us|ms|s|m) *$", output, re.MULTILINE)
    }
    rate = re.search(r"^Requests/sec: +([\d.]+)$", output, re.MULTILINE)
    if rate is None or quantiles.keys() != {50, 99}:
        raise CannotLoad(f"wrk gave no figures. It said:\n{output}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failed = (int(refused[1]) if refused else 0) + (sum(map(int, broken.groups())) if broken else 0)
    return Slice(float(rate[1]), quantiles[50], quantiles[99], failed)


@dataclass(frozen=True)
class Scaling:
    """What the HPA and its Deployment are at this moment."""

    least: int
    target_percent: int
    window_seconds: int
    """How long the HPA waits before it takes pods away."""
    cpu_percent: int | None
    wanted: int
    ready: int


class Cluster:
    def __init__(self, service: str, context: str) -> None:
        self._command = ["kubectl", "--context", context, "get", f"hpa/{service}", f"deployment/{service}"]

    def scaling(self) -> Scaling:
        done = subprocess.run([*self._command, "--output", "json"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotLoad(f"{done.stderr.strip()}\nIs the service deployed? Do it: make up")
        hpa, deployment = json.loads(done.stdout)["items"]
        # A new HPA has no figures yet, and one whose pods are all new has none for a moment.
        current = (hpa["status"].get("currentMetrics") or [{}])[0].get("resource", {}).get("current", {})
        return Scaling(
            least=hpa["spec"]["minReplicas"],
            target_percent=hpa["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
            window_seconds=hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
            cpu_percent=current.get("averageUtilization"),
            wanted=hpa["status"].get("desiredReplicas", 0),
            ready=deployment["status"].get("readyReplicas", 0),
        )


class Load:
    def __init__(self, service: str, port: int, path: str, connections: int) -> None:
        self._command = [
            *("wrk", "--latency", "--threads", "1", "--connections", str(connections), "--timeout", "5s"),
            *("--header", f"Host: {service}.local"),
        ]
        self._url = f"https://{ADDRESS}:{port}{path}"

    def for_seconds(self, seconds: int) -> Slice:
        command = [*self._command, "--duration", f"{seconds}s", self._url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotLoad(f"wrk ended with {done.stdout}{done.stderr}\nDoes the service answer? make status")
        return read_wrk(done.stdout)


def watch(arguments: argparse.Namespace) -> Iterator[Sample]:
    """Load, a sample for each slice of it; and where a picture is wanted no load, until the replicas are back."""
    cluster = Cluster(arguments.service, arguments.context)
    load = Load(arguments.service, arguments.port, arguments.path, arguments.connections)
    began = time.monotonic()
    while time.monotonic() - began < arguments.seconds:
        done = load.for_seconds(arguments.slice)
        yield sample(began, cluster.scaling(), done)
    ended = time.monotonic()
    back = 0
    # Three times back: a picture that ends with the fall does not show where it ended.
    while arguments.picture and back < 3 and time.monotonic() - ended < arguments.patience:
        now = cluster.scaling()
        yield sample(began, now, None)
        back = back + 1 if now.ready == now.wanted == now.least else 0
        time.sleep(arguments.slice)


def sample(began: float, now: Scaling, done: Slice | None) -> Sample:
    return Sample(
        seconds=round(time.monotonic() - began, 1),
        requests_per_second=done.requests_per_second if done else 0,
        p50_ms=done.p50_ms if done else None,
        p99_ms=done.p99_ms if done else None,
        failed=done.failed if done else 0,
        cpu_percent=now.cpu_percent,
        wanted=now.wanted,
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
        f"  CPU {cpu} % of the request  replicas {sample.ready} of {sample.wanted}{failed}"
    )


def run(arguments: argparse.Namespace) -> int:
    start = Cluster(arguments.service, arguments.context).scaling()
    print(
        f"{arguments.connections} connections to https://{ADDRESS}:{arguments.port}{arguments.path} for"
        f" {arguments.seconds} s; the HPA aims at {start.target_percent} % of the CPU request"
    )
    samples: list[Sample] = []
    interrupted = False
    try:
        for taken in watch(arguments):
            samples.append(taken)
            print(line(taken), flush=True)
    except KeyboardInterrupt:
        interrupted = True
    if not samples:
        return INTERRUPTED
    loaded = [taken for taken in samples if taken.p50_ms is not None]
    most = max(taken.ready for taken in samples)
    failed = sum(taken.failed for taken in samples)
    print(
        f"\n{sum(taken.requests_per_second for taken in loaded) / len(loaded):.0f} req/s on average, {failed} failed,"
        f" replicas from {start.ready} to {most} and now {samples[-1].ready}"
    )
    if arguments.picture is None:
        return INTERRUPTED if interrupted else 1 if failed else 0
    title = f"{arguments.service}: {arguments.connections} connections for {arguments.seconds} s"
    note = f"Pods go {start.window_seconds} s after the load, as values-dev.yaml has it; the chart's default is 300 s."
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    arguments.picture.write_text(draw(samples, title=title, note=note, target_percent=start.target_percent))
    print(f"The picture: {arguments.picture}")
    if interrupted:
        return INTERRUPTED
    if most <= start.least:
        print("The HPA started no pod: more connections (CONNECTIONS=100), or see why: make status", file=sys.stderr)
        return 1
    if samples[-1].ready != start.least:
        print(f"The replicas are not back at {start.least} within {arguments.patience} s: make status", file=sys.stderr)
        return 1
    return 1 if failed else 0


def parse(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts.load", description="Load through the local ingress.")
    parser.add_argument("service")
    parser.add_argument("--port", type=int, required=True, help=f"HTTPS port of {ADDRESS}")
    parser.add_argument("--context", required=True, help="the cluster's, for kubectl")
    parser.add_argument("--path", required=True)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--slice", type=int, default=5, help="seconds between two lines")
    parser.add_argument("--patience", type=int, default=300, help="seconds for the replicas to come back")
    parser.add_argument("--picture", type=Path, help="SVG to write")
    arguments = parser.parse_args(given)
    if not 1 <= arguments.seconds <= MOST_SECONDS:
        parser.error(f"{arguments.seconds} seconds: it may be 1 to {MOST_SECONDS}")
    if not 1 <= arguments.connections <= MOST_CONNECTIONS:
        parser.error(f"{arguments.connections} connections: it may be 1 to {MOST_CONNECTIONS}")
    return arguments


def main() -> int:
    try:
        return run(parse())
    except CannotLoad as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
