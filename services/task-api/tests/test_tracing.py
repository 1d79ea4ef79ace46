"""A traced request, including those that would take the fast path. What is common to all services is tested in
packages/chassis/tests/test_tracing.py."""

from __future__ import annotations

import httpx2
from collector import CALLER, TRACE, attributes, collecting, traceparent
from running import serving


def test_a_request_is_one_span_with_its_database_spans_and_no_secrets(postgres_url: str) -> None:
    with collecting() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER": "always_on"}
        with serving(TASKS_DATABASE_URL=postgres_url, **settings) as service:
            with httpx2.Client(base_url=service.url, headers=traceparent(sampled=True)) as client:
                task = client.post("/v1/tasks", json={"title": "s3cr3t"}).json()
                client.get(f"/v1/tasks/{task['id']}", headers={"Authorization": "Bearer s3cr3t"})
                client.get("/v1/tasks", params={"q": "s3cr3t"})
            assert service.stop() == 0  # flushes pending spans
    requests = collector.requests(TRACE)
    assert requests.keys() == {"POST /v1/tasks", "GET /v1/tasks/{task_id}", "GET /v1/tasks"}
    assert {request.parent_span_id.hex() for request in requests.values()} == {CALLER}
    statements = {name: collector.statements(request) for name, request in requests.items()}
    assert all(statements.values())
    assert len(collector.spans_of(TRACE)) == len(requests) + sum(map(len, statements.values()))
    (read,) = statements["GET /v1/tasks/{task_id}"]
    assert read.endswith("FROM tasks WHERE id = $1")
    route = attributes(requests["GET /v1/tasks/{task_id}"])
    assert (route["http.route"], route["http.response.status_code"]) == ("/v1/tasks/{task_id}", "200")
    assert attributes(requests["GET /v1/tasks"])["url.query"] == "REDACTED"
    assert not any("s3cr3t" in str(span) for span in collector.spans)
    assert collector.resource["service.name"] == "task-api"
