"""Adapts generated requests beyond what the OpenAPI document can express; SCHEMATHESIS_HOOKS names this file."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import strategies as st

# The schema cannot express which cursors were issued. One is well-known.
schemathesis.openapi.format("place-in-feed", st.just("now"))

# Nor which recurrence rules and time zones are valid.
schemathesis.openapi.format(
    "rrule",
    st.sampled_from(
        [
            "FREQ=DAILY",
            "RRULE:FREQ=WEEKLY;BYDAY=MO,FR;COUNT=2",
            "BYDAY=-1FR;FREQ=MONTHLY",
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;UNTIL=20301231",
            "FREQ=HOURLY;INTERVAL=6",
        ]
    ),
)
schemathesis.openapi.format("time-zone", st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]))

# Nor that the first and last years cannot be stored.
DAYS = st.dates(date(3, 1, 1), date(9997, 12, 31))
OFFSETS = st.sampled_from(["Z", "+00:00", "-11:30", "+14:00"])
schemathesis.openapi.format("date", DAYS.map(str))
schemathesis.openapi.format(
    "date-time", st.builds(lambda day, time, offset: f"{day}T{time}{offset}", DAYS, st.times(), OFFSETS)
)


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """Every request with a key is a new one.

    Generated keys often repeat, and then 422 would be correct; retries have their own tests.
    """
    if case.headers.get("Idempotency-Key"):
        case.headers["Idempotency-Key"] = str(uuid4())
