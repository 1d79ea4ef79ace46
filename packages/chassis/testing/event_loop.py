"""Event loop of a project's tests: `pytest_plugins = ["event_loop"]` in conftest.py."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The same as in production: uvloop."""
    return "asyncio", {"use_uvloop": True}
