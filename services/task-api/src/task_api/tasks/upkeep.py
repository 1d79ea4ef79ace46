"""Removes what is past its time: deleted tasks after 30 days, changes likewise, answers to keys after 24 hours."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from random import SystemRandom

from task_api.store import ANSWER_HOURS, Store, StoreUnavailable
from task_api.tasks import rules

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0


async def purge(store: Store, *, now: datetime) -> int:
    """Purges once; returns the number of tasks removed. Several pods may do it at the same time."""
    return await store.purge(
        deleted_before=rules.is_purgeable_before(now), answers_before=now - timedelta(hours=ANSWER_HOURS)
    )


async def keep_up(store: Store) -> None:
    """Purges every hour until it is cancelled, in each pod at another minute."""
    while True:
        await asyncio.sleep(EVERY_SECONDS * SystemRandom().uniform(0.5, 1.0))
        try:
            removed = await purge(store, now=datetime.now(UTC))
        except StoreUnavailable as error:
            log.warning("Nothing was purged, the next try is in an hour: %s", error)
        except Exception:
            log.exception("Nothing was purged, the next try is in an hour")
        else:
            log.info("Purged %d tasks that were deleted over %d days ago", removed, rules.UNDELETE_DAYS)
