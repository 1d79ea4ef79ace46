"""How generated requests differ from what the OpenAPI document alone leads to; SCHEMATHESIS_HOOKS names this file."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import strategies as st

# The schema cannot say which places were given out. One is known to everybody.
schemathesis.openapi.format("place-in-feed", st.just("now"))

# Nor which rules of recurrence there are, and which time zones.
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

# Nor that the first and the last years there are cannot be kept.
DAYS = st.dates(date(3, 1, 1), date(9997, 12, 31))
OFFSETS = st.sampled_from(["Z", "+00:00", "-11:30", "+14:00"])
schemathesis.openapi.format("date", DAYS.map(str))
schemathesis.openapi.format(
    "date-time", st.builds(lambda day, time, offset: f"{day}T{time}{offset}", DAYS, st.times(), OFFSETS)
)


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """Every request with a key is a new one.

    Generated keys are often the same, and then 422 would be right; a repetition has tests of its own.
    """
    if case.headers.get("Idempotency-Key"):
        case.headers["Idempotency-Key"] = str(uuid4())
