"""The service as a separate process, for the tests in this folder."""

from __future__ import annotations

from pathlib import Path

from programs import DEADLINE_SECONDS, Process, Program, Service, eventually

__all__ = ["DEADLINE_SECONDS", "Process", "Service", "eventually"]

SERVICE = Path(__file__).parent.parent
SOURCES = (SERVICE / "src", SERVICE.parents[1] / "packages/chassis/src")
PROGRAM = Program("task_api", "TASKS_", SOURCES)
SERVE = PROGRAM.serve

environment, start, serving = PROGRAM.environment, PROGRAM.start, PROGRAM.serving
run, expect_error = PROGRAM.run, PROGRAM.expect_error
