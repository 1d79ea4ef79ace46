"""How the tests find a database."""

from __future__ import annotations

import gc

import pytest
from databases import docker_is_available


def test_a_docker_that_does_not_answer_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/listens.sock")
    assert not docker_is_available()
    gc.collect()  # what is still open would be a warning here, and so an error
