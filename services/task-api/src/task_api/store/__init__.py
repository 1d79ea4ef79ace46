"""Storage of tasks: one interface, three backends, selected by URL."""

from chassis.postgres.database import Limits
from chassis.storage import StoreBusy, StoreUnavailable
from task_api.store.protocol import (
    IDEMPOTENCY_HOURS,
    ChangesPurged,
    IdempotencyKeyInUse,
    IdempotencyRecord,
    InvalidFeedCursor,
    Names,
    OtherHistory,
    Store,
    StoredChange,
    VersionConflict,
    Write,
)
from task_api.store.url import check_url, from_url

__all__ = [
    "IDEMPOTENCY_HOURS",
    "ChangesPurged",
    "IdempotencyKeyInUse",
    "IdempotencyRecord",
    "InvalidFeedCursor",
    "Limits",
    "Names",
    "OtherHistory",
    "Store",
    "StoreBusy",
    "StoreUnavailable",
    "StoredChange",
    "VersionConflict",
    "Write",
    "check_url",
    "from_url",
]
