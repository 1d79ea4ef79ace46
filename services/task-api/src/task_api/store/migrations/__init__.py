"""Schema migrations, applied by chassis.migrations: one folder per database."""

from pathlib import Path

FOLDER = Path(__file__).parent
