"""`make load` and `make demo-hpa`, with recorded output of wrk and of a cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from defusedxml.ElementTree import fromstring
from manifests import REPOSITORY, VALUES_FILES, one, render
from scripts.load import LoadFailed, Slice, read_wrk
from scripts.picture import Sample, draw

SVG = "{http://www.w3.org/2000/svg}"

WRK = """\
Running 2s test @ http://127.0.0.1:18765/v1/tasks?page_size=20
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     9.89ms   22.76ms 157.81ms   92.64%
    Req/Sec     1.17k   496.94     2.03k    68.42%
  Latency Distribution
     50%    2.46ms
     75%    5.05ms
     90%   21.75ms
     99%  135.31ms
  2276 requests in 2.06s, 415.64KB read
Requests/sec:   1102.90
Transfer/sec:    201.41KB
"""


def test_results_of_wrk_are_parsed() -> None:
    assert read_wrk(WRK) == Slice(requests_per_second=1102.90, p50_ms=2.46, p99_ms=135.31, failed=0)


def test_units_are_converted_to_milliseconds() -> None:
    done = read_wrk(WRK.replace("2.46ms", "870.00us").replace("135.31ms", "1.25s"))
    assert (done.p50_ms, done.p99_ms) == (0.87, 1250)


def test_space_that_wrk_prints_after_whole_seconds_is_accepted() -> None:
    assert read_wrk(WRK.replace("135.31ms", "  1.06s ")).p99_ms == 1060


def test_failed_requests_are_counted_for_any_reason() -> None:
    more = "  Socket errors: connect 1, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 40\nRequests/sec:"
    assert read_wrk(WRK.replace("Requests/sec:", more)).failed == 46


def test_output_without_results_is_shown() -> None:
    with pytest.raises(LoadFailed, match="unable to connect"):
        read_wrk("unable to connect to 127.0.0.1:8443 Connection refused\n")


# Seconds, requests/s, p50, p99, CPU %, desired, ready: an HPA that scales up immediately and down in steps.
RECORDED = [
    (5, 940.0, 21.0, 96.0, 3, 3, 3),
    (20, 1010.0, 20.0, 88.0, 212, 7, 3),
    (35, 1480.0, 14.0, 61.0, 190, 10, 7),
    (60, 1620.0, 12.0, 55.0, 120, 10, 10),
    (120, 1610.0, 12.0, 52.0, 118, 10, 10),
    (150, 0.0, None, None, None, 10, 10),
    (165, 0.0, None, None, 2, 3, 10),
    (170, 0.0, None, None, 2, 3, 3),
]
SAMPLES = [Sample(t, rate, p50, p99, 0, cpu, desired, ready) for t, rate, p50, p99, cpu, desired, ready in RECORDED]


def picture() -> ElementTree.Element:
    text = draw(SAMPLES, title="task-api: <50>", note="30 s, not 300", target_percent=70)
    return parsed(text)


def parsed(text: str) -> ElementTree.Element:
    root: ElementTree.Element = fromstring(text)
    return root


def test_picture_is_xml_with_a_description() -> None:
    texts = [text.text or "" for text in picture().iter(f"{SVG}text")]
    assert {"task-api: <50>", "30 s, not 300", "replicas", "CPU, % of the request", "latency, ms"} <= set(texts)
    assert {"ready", "desired by the HPA", "p50", "p99", "target, 70 %"} <= set(texts)


def test_replicas_are_drawn_as_steps_up_to_the_maximum_and_back() -> None:
    ready = next(path.attrib["d"] for path in picture().iter(f"{SVG}path"))
    assert "L" not in ready
    heights = [float(part.partition("V")[2]) for part in ready.split("H")[1:]]
    assert min(heights) == heights[3]  # 10 replicas: the highest point
    assert heights[-1] == max(heights)  # 3 again, as at the start
    assert float(ready.split("H")[0].split()[1]) == heights[-1]


def test_without_load_no_latency_is_drawn() -> None:
    p50 = [path.attrib["d"] for path in picture().iter(f"{SVG}path")][4]
    assert p50.count("L") == len([sample for sample in SAMPLES if sample.p50_ms is not None]) - 1


def test_line_is_interrupted_where_data_is_missing() -> None:
    cpu = [path.attrib["d"] for path in picture().iter(f"{SVG}path")][2]
    assert cpu.count("M") == 2  # the HPA had no metrics at 150 s


def test_every_line_is_inside_the_picture() -> None:
    root = picture()
    width, height = (float(number) for number in root.attrib["viewBox"].split()[2:])
    for path in root.iter(f"{SVG}path"):
        for point in path.attrib["d"].replace("M", "L").replace("H", "L").replace("V", " ").split("L")[1:]:
            x, y = map(float, point.split())
            assert 0 <= x <= width
            assert 0 <= y <= height


class Stage:
    """A wrk and a kubectl on a separate PATH; the cluster returns one state of the HPA after the other."""

    def __init__(self, folder: Path, replicas: list[int], metric: str = "resource") -> None:
        self.folder = folder
        states = folder / "states"
        states.mkdir()
        for number, ready in enumerate(replicas):
            items = [hpa(ready, metric), {"status": {"readyReplicas": ready}}]
            (states / str(number)).write_text(json.dumps({"items": items}))
        self._tool(
            "kubectl",
            f"""echo "$@" >> {folder}/kubectl.log
            cd {states}; for state in $(ls | sort -n); do :; done; first=$(ls | sort -n | head -n 1); cat "$first"
            if [ "$first" != "$state" ]; then rm "$first"; fi""",
        )
        (folder / "output").write_text(WRK)
        self._tool("wrk", f'echo "$@" >> {folder}/wrk.log; sleep 1; cat {folder}/output')

    def _tool(self, name: str, script: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.folder / name).chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "scripts.load", "task-api", "--path", "/v1/tasks?page_size=20"),
                *("--port", "8443", "--context", "kind-x", *arguments),
            ],
            cwd=REPOSITORY,
            env={"PATH": f"{self.folder}:/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # As in a terminal: a shell without job control starts background processes with SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments) as running:
            out, err = running.communicate(timeout=60)
        return subprocess.CompletedProcess(running.args, running.returncode, out, err)


def hpa(ready: int, metric: str) -> dict[str, object]:
    return {
        "spec": {
            "minReplicas": 3,
            "metrics": [{metric: {"target": {"averageUtilization": 70}}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 30}},
        },
        "status": {
            "desiredReplicas": ready,
            "currentMetrics": [{metric: {"current": {"averageUtilization": 20 * ready}}}],
        },
    }


@pytest.mark.parametrize("metric", ["resource", "containerResource"])
def test_load_targets_only_this_machine_and_each_slice_prints_a_line(tmp_path: Path, metric: str) -> None:
    stage = Stage(tmp_path, [3], metric)
    done = stage.run("--seconds", "2", "--slice", "1")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "wrk.log").read_text().splitlines()
    assert calls
    for call in calls:
        assert call.endswith("--header Host: task-api.local --duration 1s https://127.0.0.1:8443/v1/tasks?page_size=20")
    lines = [line for line in done.stdout.splitlines() if "req/s  p50" in line]
    assert len(lines) == len(calls)
    assert "1103 req/s  p50    2 ms  p99   135 ms  CPU   60 % of the request  replicas 3 of 3" in lines[0]
    assert "--context kind-x" in (tmp_path / "kubectl.log").read_text()


def test_demo_waits_until_the_replicas_are_back_and_writes_a_picture(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [3, 3, 6, 10, 10, 6, 3])
    done = stage.run("--seconds", "3", "--slice", "1", "--picture", str(tmp_path / "reports/demo.svg"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "replicas 3 -> 10 (peak) -> 3" in done.stdout
    text = (tmp_path / "reports/demo.svg").read_text()
    assert "Scale-down stabilization: 30 s (values-dev.yaml)" in text


def test_demo_without_scaling_fails_with_next_steps(tmp_path: Path) -> None:
    done = Stage(tmp_path, [3]).run("--seconds", "1", "--slice", "1", "--picture", str(tmp_path / "demo.svg"))
    assert done.returncode == 1
    assert "The HPA did not scale up: use more connections" in done.stderr


def test_demo_fails_if_replicas_do_not_scale_down(tmp_path: Path) -> None:
    done = Stage(tmp_path, [3, 3, 9]).run(
        "--seconds", "2", "--slice", "1", "--patience", "2", "--picture", str(tmp_path / "demo.svg")
    )
    assert done.returncode == 1
    assert "Not scaled down to 3 replicas within 2 s" in done.stderr


def test_failed_requests_fail_the_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [3])
    (tmp_path / "output").write_text(WRK.replace("Requests/sec:", "  Non-2xx or 3xx responses: 7\nRequests/sec:"))
    done = stage.run("--seconds", "1", "--slice", "1")
    assert done.returncode == 1
    assert "7 FAILED" in done.stdout


@pytest.mark.parametrize("bound", [("--seconds", "601"), ("--connections", "201"), ("--seconds", "0")])
def test_unlimited_load_is_rejected(tmp_path: Path, bound: tuple[str, str]) -> None:
    done = Stage(tmp_path, [3]).run(*bound)
    assert done.returncode == 2
    assert "must be 1 to" in done.stderr


def test_only_the_local_cluster_scales_down_this_quickly() -> None:
    windows = {
        name: one("HorizontalPodAutoscaler", render(*arguments))["spec"]["behavior"]["scaleDown"][
            "stabilizationWindowSeconds"
        ]
        for name, arguments in VALUES_FILES.items()
        if not name.startswith("ci/")
    }
    assert windows == {"values-dev.yaml": 30, "values-production.yaml": 300}


def test_interrupted_demo_draws_the_existing_data(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [3])
    picture = tmp_path / "demo.svg"
    with stage.start("--seconds", "60", "--slice", "1", "--picture", str(picture)) as running:
        assert running.stdout is not None
        while "req/s" not in (line := running.stdout.readline()):
            assert line, "it exited early"
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "replicas 3 -> 3 (peak) -> 3" in output
    assert f"Wrote {picture}" in output
    assert parsed(picture.read_text()).tag == f"{SVG}svg"
