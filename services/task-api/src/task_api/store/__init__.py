"""Where tasks are kept: one protocol, three kinds of storage, chosen by a URL."""

from chassis.postgres.database import Limits
from chassis.storage import StoreBusy, StoreUnavailable
from task_api.store.protocol import (
    ANSWER_HOURS,
    Answer,
    ChangesPurged,
    KeyInUse,
    Names,
    OtherHistory,
    Store,
    StoredChange,
    VersionConflict,
    Write,
    WrongPosition,
)
from task_api.store.url import check_url, from_url

__all__ = [
    "ANSWER_HOURS",
    "Answer",
    "ChangesPurged",
    "KeyInUse",
    "Limits",
    "Names",
    "OtherHistory",
    "Store",
    "StoreBusy",
    "StoreUnavailable",
    "StoredChange",
    "VersionConflict",
    "Write",
    "WrongPosition",
    "check_url",
    "from_url",
]
