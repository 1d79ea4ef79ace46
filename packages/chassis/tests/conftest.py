"""What all tests of the chassis share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Tests run on the event loop that services run on."""
    return "asyncio", {"use_uvloop": True}
