"""The example services as separate processes, for the tests in this folder."""

from __future__ import annotations

from pathlib import Path

from programs import Program

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"
SOURCES = (TESTS, SOURCE)
PROGRAM = Program("hello", "HELLO_", SOURCES)
NOTES = Program("notes", "NOTES_", SOURCES)

environment, expect_error, serving = PROGRAM.environment, PROGRAM.expect_error, PROGRAM.serving
