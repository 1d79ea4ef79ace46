"""Where the code that the tests run lies."""

from __future__ import annotations

from pathlib import Path

SERVICE = Path(__file__).parent.parent
CHASSIS = SERVICE.parents[1] / "packages/chassis"
SOURCES = (SERVICE / "src", CHASSIS / "src")
