"""Command line: `python -m notes serve`; `--help` names the other commands."""

from __future__ import annotations

import sys

from chassis.command_line import main
from notes.service import Notes

if __name__ == "__main__":
    sys.exit(main(Notes))
