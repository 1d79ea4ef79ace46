"""Time zones by their IANA names."""

from __future__ import annotations

import functools
import zoneinfo
from datetime import UTC, tzinfo


def zone_of(name: str | None) -> tzinfo:
    """The zone of this name, which `check_time_zone` accepted; UTC for None."""
    return UTC if name is None else zoneinfo.ZoneInfo(name)


def check_time_zone(name: str) -> str:
    """Returns the name of an existing zone, or raises ValueError."""
    if name not in _names():
        raise ValueError(f"{name[:40]!r} is not an IANA time zone, such as 'Europe/Berlin' or 'UTC'.")
    return name


@functools.cache
def _names() -> frozenset[str]:
    # Not ZoneInfo(name) itself: it opens a file, and accepts any case on a case-insensitive file system.
    return frozenset(zoneinfo.available_timezones())
