"""The command line of a service: `serve`, `token new`, `openapi` and the commands of `Service.commands`."""

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
    """Runs one command; returns its exit code. Errors that the user can fix are one line, not a traceback."""
    arguments = _parse(service)
    settings = service.settings
    user_errors: tuple[type[Exception], ...] = (CannotListen, InvalidSettings, *service.open_errors)
    logs.configure()
    try:
        match arguments.command:
            case "serve":
                flags = {"host": arguments.host, "port": arguments.port}
                loaded = read_settings(settings, **{name: value for name, value in flags.items() if value is not None})
                if arguments.default_host and "host" not in loaded.model_fields_set:
                    loaded = loaded.model_copy(update={"host": arguments.default_host})
                uvloop.run(serve(create_app(service, loaded), loaded, fds=arguments.fd))
            case "token":
                try:
                    token, line = new_token(arguments.name, arguments.scope, prefix=service.credential_prefix)
                except ValueError as error:
                    print(error, file=sys.stderr)
                    return 1
                variable = settings.variable("auth_token_file")
                print(f"The token, shown only once: {token}\nIts line for {variable}:", file=sys.stderr)
                print(line)
            case "openapi":
                print(json.dumps(create_app(service, read_settings(settings)).openapi(), indent=2))
            case name:
                (command,) = (command for command in service.commands if command.name == name)
                values = [getattr(arguments, argument) for argument in command.arguments]
                asyncio.run(command.run(service(read_settings(settings)), *values))
    except user_errors as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parse(service: type[Service]) -> argparse.Namespace:
    package = service.name.replace("-", "_")
    variable = service.settings.variable
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=f"The {service.title}.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serving = commands.add_parser("serve", help="serve the API until SIGTERM or Ctrl-C")
    serving.add_argument("--host", help=f"address to listen on (else {variable('host')}, else --default-host)")
    serving.add_argument("--default-host", help="address if none is set (127.0.0.1; in the image ::, all addresses)")
    serving.add_argument("--port", type=int, help=f"TCP port to listen on (else {variable('port')}, else 8000)")
    serving.add_argument(
        "--fd",
        type=int,
        action="append",
        default=[],
        help="file descriptor of a listening socket; may be repeated",
    )
    for command in service.commands:
        subparser = commands.add_parser(command.name, help=command.help)
        for name, description in command.arguments.items():
            subparser.add_argument(name, help=description, metavar=name.upper())
    tokens = commands.add_parser("token", help="create API tokens").add_subparsers(required=True, metavar="COMMAND")
    new = tokens.add_parser("new", help=f"print a new token and its line for {variable('auth_token_file')}")
    new.add_argument("--name", required=True, help="name of its owner")
    new.add_argument("--scope", action="append", required=True, choices=SCOPES, help="may be repeated")
    commands.add_parser("openapi", help="print the OpenAPI document")
    return parser.parse_args()
