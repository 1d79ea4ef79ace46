"""How tests are distributed to the workers of pytest-xdist. In conftest.py: pytest_plugins = ["workers"]."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

OWN_SERVERS = (
    "test_other_histories",
    "test_poolers",
    "test_refused_connections",
    "test_server_checks",
    "test_synchronous_standby",
)
"""Files whose tests share servers of the file: in each worker they would start them again, for 2 to 5 s of CPU."""


class ByServer(LoadScopeScheduling):
    """Schedules each test on the next free worker, but all tests of a file with its own servers on one.

    The mark xdist_group would be shorter, but xdist 3.8 does not see it with pytest 9.2 (findings/xdist-groups.sh).
    """

    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.partition("::")[0]).stem
        return name if name in OWN_SERVERS else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByServer:
    return ByServer(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Two more than processors, since many tests wait: on two processors that took a quarter off the time."""
    return (os.cpu_count() or 1) + 2
