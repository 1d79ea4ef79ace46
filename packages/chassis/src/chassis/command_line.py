"""The command line of a service: `serve`, `token new`, `openapi`, or one of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

import uvloop

from chassis import logs
from chassis.app import create_app
from chassis.auth import SCOPES, new_token
from chassis.server import CannotListen, serve
from chassis.service import Service
from chassis.settings import InvalidSettings, read_settings


def main(service: type[Service]) -> int:
    """Runs one command; returns its exit code. What a user can repair ends in one line, not in a traceback."""
    arguments = _parse(service)
    settings = service.settings
    clear: tuple[type[Exception], ...] = (CannotListen, InvalidSettings, *service.cannot_open)
    logs.configure()
    try:
        match arguments.command:
            case "serve":
                given = {"host": arguments.host, "port": arguments.port}
                read = read_settings(settings, **{name: value for name, value in given.items() if value is not None})
                if arguments.default_host and "host" not in read.model_fields_set:
                    read = read.model_copy(update={"host": arguments.default_host})
                uvloop.run(serve(create_app(service, read), read, fds=arguments.fd))
            case "token":
                try:
                    token, line = new_token(arguments.name, arguments.scope, prefix=service.credential_prefix)
                except ValueError as error:
                    print(error, file=sys.stderr)
                    return 1
                variable = settings.variable("auth_token_file")
                print(f"The token, shown only now: {token}\nIts line for {variable}:", file=sys.stderr)
                print(line)
            case "openapi":
                print(json.dumps(create_app(service, read_settings(settings)).openapi(), indent=2))
            case other:
                (command,) = (command for command in service.commands if command.name == other)
                given_to_it = [getattr(arguments, name) for name in command.arguments]
                asyncio.run(command.run(service(read_settings(settings)), *given_to_it))
    except clear as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parse(service: type[Service]) -> argparse.Namespace:
    package = service.name.replace("-", "_")
    variable = service.settings.variable
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=f"The {service.title}.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serving = commands.add_parser("serve", help="serve the API until SIGTERM or Ctrl-C")
    serving.add_argument("--host", help=f"address to listen on (else {variable('host')}, else that of --default-host)")
    serving.add_argument("--default-host", help="where none is named (127.0.0.1; the image has ::, every address)")
    serving.add_argument("--port", type=int, help=f"TCP port to listen on (else {variable('port')}, else 8000)")
    serving.add_argument(
        "--fd",
        type=int,
        action="append",
        default=[],
        help="a socket that listens already, by number; may be repeated",
    )
    for command in service.commands:
        its = commands.add_parser(command.name, help=command.help)
        for name, what in command.arguments.items():
            its.add_argument(name, help=what, metavar=name.upper())
    tokens = commands.add_parser("token", help="make API tokens").add_subparsers(required=True, metavar="COMMAND")
    new = tokens.add_parser("new", help=f"print a new token, and its line for {variable('auth_token_file')}")
    new.add_argument("--name", required=True, help="whose it is")
    new.add_argument("--scope", action="append", required=True, choices=SCOPES, help="may be given twice")
    commands.add_parser("openapi", help="print the OpenAPI document")
    return parser.parse_args()
