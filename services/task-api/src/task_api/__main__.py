"""Command line: `python -m task_api serve`, `token new`, `openapi`, or one of the domain's."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

import uvloop

from chassis import logs
from task_api import domain
from task_api.app import create_app
from task_api.auth import SCOPES, new_token
from task_api.server import CannotListen, serve
from task_api.settings import InvalidSettings, Settings, read_settings


def main() -> int:
    """Runs one command; returns its exit code. What a user can repair ends in one line, not in a traceback."""
    arguments = _parse()
    logs.configure()
    try:
        match arguments.command:
            case "serve":
                given = {"host": arguments.host, "port": arguments.port}
                settings = read_settings(**{name: value for name, value in given.items() if value is not None})
                uvloop.run(serve(create_app(settings), settings, fd=arguments.fd))
            case "token":
                try:
                    token, line = new_token(arguments.name, arguments.scope)
                except ValueError as error:
                    print(error, file=sys.stderr)
                    return 1
                print(f"The token, shown only now: {token}\nIts line for TASKS_AUTH_TOKEN_FILE:", file=sys.stderr)
                print(line)
            case "openapi":
                print(json.dumps(create_app(Settings()).openapi(), indent=2))
            case other:
                _, do = domain.COMMANDS[other]
                asyncio.run(do(read_settings()))
    except (CannotListen, InvalidSettings, domain.CannotOpen) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m task_api", description=f"The {domain.TITLE}.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serving = commands.add_parser("serve", help="serve the API until SIGTERM or Ctrl-C")
    serving.add_argument("--host", help="address to listen on (else TASKS_HOST, else 127.0.0.1)")
    serving.add_argument("--port", type=int, help="TCP port to listen on (else TASKS_PORT, else 8000)")
    serving.add_argument("--fd", type=int, help="number of a socket that listens already, to serve on that one")
    for name, (text, _) in domain.COMMANDS.items():
        commands.add_parser(name, help=text)
    tokens = commands.add_parser("token", help="make API tokens").add_subparsers(required=True, metavar="COMMAND")
    new = tokens.add_parser("new", help="print a new token, and its line for TASKS_AUTH_TOKEN_FILE")
    new.add_argument("--name", required=True, help="whose it is")
    new.add_argument("--scope", action="append", required=True, choices=SCOPES, help="may be given twice")
    commands.add_parser("openapi", help="print the OpenAPI document")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
