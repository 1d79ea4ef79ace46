"""The behaviour of this service, on a real PostgreSQL. Behaviour common to all services: see packages/chassis/."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from chassis.app import create_app
from your_service.models import Note
from your_service.service import YourService
from your_service.settings import Settings
from your_service.store import NoteStore


@pytest.fixture
def settings(postgres_url: str) -> Settings:
    return Settings(database_url=SecretStr(postgres_url))


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(YourService, settings)) as client:
        yield client


def test_a_note_survives_a_restart(api: TestClient, settings: Settings) -> None:
    response = api.post("/v1/notes", json={"text": "Milk"})
    assert response.status_code == 201
    with TestClient(create_app(YourService, settings)) as restarted:
        assert restarted.get(f"/v1/notes/{response.json()['id']}").json() == response.json()
        health = restarted.get("/health").json()
    assert (health["notes_total"], health["checks"]["storage"]["status"]) == (1, "ok")


def test_the_newest_notes_come_first(api: TestClient) -> None:
    for text in ("Milk", "Bread", "Salt"):
        api.post("/v1/notes", json={"text": text})
    assert [note["text"] for note in api.get("/v1/notes?limit=2").json()] == ["Salt", "Bread"]


def test_a_missing_note_is_a_404_problem(api: TestClient) -> None:
    response = api.get(f"/v1/notes/{uuid4()}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("text", ["", "x" * 1001, "a\0b"])
def test_an_invalid_text_is_rejected(api: TestClient, text: str) -> None:
    response = api.post("/v1/notes", json={"text": text})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/text")
    assert api.get("/v1/notes").json() == []


async def test_a_note_added_twice_is_stored_once(settings: Settings) -> None:
    store, note = NoteStore(settings), Note(id=uuid4(), text="Milk", created_at=datetime.now(UTC))
    await store.open()
    for _ in range(2):
        await store.add(note)
    assert await store.newest(10) == [note]
    await store.close()
