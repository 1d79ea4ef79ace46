"""Command line: `python -m hello serve`; `--help` names the other commands."""

from __future__ import annotations

import sys

from chassis.command_line import main
from hello.service import Hello

if __name__ == "__main__":
    sys.exit(main(Hello))
