"""How the tests find a database."""

from __future__ import annotations

import gc

import pytest
from databases import docker_is_available


def test_an_unreachable_docker_leaks_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/listens.sock")
    assert not docker_is_available()
    gc.collect()  # what is still open would be a warning here, and so an error
