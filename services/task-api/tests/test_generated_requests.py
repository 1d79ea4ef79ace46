"""The service conforms to its OpenAPI document: generated requests, single and in sequences."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from conftest import SUMMARY
from prometheus_client.parser import text_string_to_metric_families
from running import SERVICE, Service, environment, run, serving

EXAMPLES, FUZZ_EXAMPLES = 8, 100
"""For each operation, in each of schemathesis's phases except `coverage`, which has one for each bound in the
document."""
SOME = "examples,fuzzing,stateful"
SHARE = {"postgresql": "examples,coverage,fuzzing,stateful", "sqlite": SOME, "memory": SOME}
"""The phases without a seed. Requests of `coverage` rarely reach the storage."""
CASES = {"postgresql": 1500, "sqlite": 150, "memory": 150}
DOCUMENT = SERVICE / "openapi.json"


@pytest.mark.generated
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "kind", ["sqlite", *(pytest.param(kind, marks=pytest.mark.full) for kind in ("memory", "postgresql"))]
)
def test_generated_requests_conform_to_the_openapi_document(
    kind: str,
    seed: int | None,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """All checks of schemathesis, all phases if there is a seed, and tokens, so that every documented status can
    occur."""
    urls = {"sqlite": f"sqlite:///{tmp_path}/tasks.db", "memory": "memory://"}
    url = urls.get(kind) or request.getfixturevalue("postgres_url")
    made = run("token", "new", "--name", "fuzz", "--scope", "read", "--scope", "write")
    (tmp_path / "tokens").write_text(made.stdout)
    (token,) = re.findall(r"once: (\S+)", made.stderr)
    report = tmp_path / "report.json"
    with serving(
        TASKS_DATABASE_URL=url, TASKS_AUTH="tokens", TASKS_AUTH_TOKEN_FILE=str(tmp_path / "tokens")
    ) as service:
        done = subprocess.run(
            [
                Path(sys.executable).parent / "schemathesis",
                *("--no-color", "run", f"{service.url}/openapi.json"),
                *("--phases", SHARE[kind if seed is None else "postgresql"]),
                *("--max-examples", str(EXAMPLES if seed is None else FUZZ_EXAMPLES)),
                *("--seed", str(1 if seed is None else seed), "--generation-database", "none", "--continue-on-failure"),
                *("--report", "json", "--report-json-path", report),
            ],
            cwd=SERVICE,  # schemathesis.toml is here
            env=environment(SCHEMATHESIS_HOOKS="tests/schemathesis_hooks.py", TASK_API_TOKEN=token, PYTHONPATH="."),
            capture_output=True,
            text=True,
            check=False,
        )
        answers = answered(service, token)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["test_cases"]["generated"] >= CASES[kind]
    assert found["test_cases"]["with_failures"] == found["test_cases"]["errored"] == 0
    assert not any(found["warnings"].values()), found["warnings"]
    assert found["operations"]["tested"] == found["operations"]["total"]

    lines = [f"{found['test_cases']['generated']} generated requests on {kind}, and how many were answered with 2xx:"]
    for (method, path), statuses in answers.items():
        succeeded = sum(statuses[status] for status in statuses if status < 300)
        lines.append(f"  {method:6} {path:28} {succeeded:5} of {statuses.total():5}")
        missed = [status for status in documented(method, path) if status < 300 and not statuses[status]]
        assert not missed, f"{method} {path} was never answered with {missed}"
    record_property(SUMMARY, "\n".join(lines))


def documented(method: str, path: str) -> list[int]:
    """The documented statuses of an operation."""
    operation = json.loads(DOCUMENT.read_text())["paths"][path][method.lower()]
    return [int(status) for status in operation["responses"]]


def answered(service: Service, token: str) -> dict[tuple[str, str], Counter[int]]:
    """How often each operation returned each status, from the service's own metrics."""
    paths = json.loads(DOCUMENT.read_text())["paths"]
    found = {(method.upper(), path): Counter[int]() for path, methods in paths.items() for method in methods}
    exposed = httpx2.get(f"{service.url}/metrics", headers={"Authorization": f"Bearer {token}"}).text
    for family in text_string_to_metric_families(exposed):
        for sample in family.samples:
            operation = sample.labels.get("method", ""), sample.labels.get("route", "")
            if sample.name == "http_requests_total" and operation in found:
                found[operation][int(sample.labels["status"])] += int(sample.value)
    return found
