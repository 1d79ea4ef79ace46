"""Command line: `python -m your_service serve`; `--help` lists the other commands."""

from chassis.command_line import main
from your_service.service import YourService

if __name__ == "__main__":
    raise SystemExit(main(YourService))
