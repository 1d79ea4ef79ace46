"""How tests find a database."""

from __future__ import annotations

import gc

import pytest
from databases import docker_is_available


def test_an_unreachable_docker_leaks_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/listens.sock")
    assert not docker_is_available()
    gc.collect()  # a socket still open would cause a warning here, which is an error
