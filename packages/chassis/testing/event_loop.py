"""The event loop of the tests of a project: `pytest_plugins = ["event_loop"]` in conftest.py."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """That which services run on."""
    return "asyncio", {"use_uvloop": True}
