"""The schema of the tasks: what chassis.migrations applies, a folder for each kind of database."""

from pathlib import Path

FOLDER = Path(__file__).parent
