"""The service of a few lines as a process of its own, for the tests beside this file."""

from __future__ import annotations

from pathlib import Path

from programs import Program

TESTS = Path(__file__).parent
PROGRAM = Program("hello", "HELLO_", (TESTS, TESTS.parent / "src"))

environment, refused, serving = PROGRAM.environment, PROGRAM.refused, PROGRAM.serving
