"""Responses when the storage is unavailable or overloaded."""

from __future__ import annotations

import pytest
from hello.service import Hello
from starlette.testclient import TestClient

from chassis.app import create_app
from chassis.storage import StoreBusy, StoreUnavailable


@pytest.mark.parametrize(
    ("error", "type_"), [(StoreUnavailable, "storage-unavailable"), (StoreBusy, "overloaded")], ids=["lost", "busy"]
)
def test_an_unavailable_or_overloaded_storage_is_a_503_with_retry_after(
    error: type[StoreUnavailable], type_: str
) -> None:
    async def lost() -> None:
        raise error("10.0.0.7 is gone")

    app = create_app(Hello, Hello.settings())
    app.get("/v1/lost")(lost)
    with TestClient(app) as client:
        response = client.get("/v1/lost")
    assert response.status_code == 503
    assert response.json()["type"] == f"/problems/{type_}"
    assert response.headers["retry-after"] == "1"
    assert "10.0.0.7" not in response.text
    outcome_is_unknown = error is StoreUnavailable
    assert ("Idempotency-Key" in response.json()["detail"]) == outcome_is_unknown
