"""Service processes forked from a Python process that has already imported the service.

Imports take most of the startup time, and the tests start the service more than a hundred times. After the fork the
process is equivalent to `python -m PACKAGE`: its own arguments, environment, files, signals and exit code.
The interpreter and the C library have read their environment variables before the fork: a test of those, or of startup
itself, needs subprocess.Popen.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

RECORD_BYTES = 16
"""Length of a status record of a process: first its ID, then its exit code."""


class ForkedProcess:
    """A process with the subset of subprocess.Popen[str] that these tests use. The command starts with sys.executable.

    preloaded: the module whose imports are done before the fork. path: PYTHONPATH during these imports.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        stdout: IO[Any],
        stderr: IO[Any] | int,
        *,
        preloaded: str,
        path: str,
    ) -> None:
        self.args = command
        self.returncode: int | None = None
        self.stderr: IO[str] | None = None
        with contextlib.ExitStack() as cleanup:
            if isinstance(stderr, int):
                assert stderr == subprocess.PIPE
                read_end, stderr_end = os.pipe()
                self.stderr = os.fdopen(read_end)
                cleanup.callback(os.close, stderr_end)
            else:
                stderr_end = stderr.fileno()
            self._status, status_end = os.pipe()
            cleanup.callback(os.close, status_end)
            request = {"command": command[1:], "environment": dict(env), "folder": str(Path.cwd())}
            socket.send_fds(
                _fork_server(preloaded, path),
                [json.dumps(request).encode() + b"\n"],
                [stdout.fileno(), stderr_end, status_end],
            )
        self.pid = int(os.read(self._status, RECORD_BYTES))

    def poll(self) -> int | None:
        """The exit code, or the negative signal number; None while the process runs."""
        return self._exit_code(0)

    def wait(self, timeout: float | None = None) -> int:
        if (code := self._exit_code(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _exit_code(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = int(os.read(self._status, RECORD_BYTES))
            os.close(self._status)
        return self.returncode


@functools.cache
def _fork_server(preloaded: str, path: str) -> socket.socket:
    """The connection to the fork server, which exits when the connection is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), preloaded],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # runs before process.wait
    return ours


# --- the fork server --------------------------------------------------------------------


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    importlib.import_module(sys.argv[2])
    del sys.modules[sys.argv[2]]  # each fork runs it
    gc.freeze()  # otherwise garbage collection would copy shared pages
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        request, files = b"", list[int]()
        while not request.endswith(b"\n"):
            data, more, _, _ = socket.recv_fds(connection, 1 << 16, 3)
            if not data:
                return
            request, files = request + data, files + more
        if os.fork() == 0:
            connection.close()
            break
        for file in files:
            os.close(file)
    _fork_and_report(files)
    _run_command(**json.loads(request))


def _reap(*_: object) -> None:
    """Reaps the intermediate processes that have exited, so that CPU time is attributed to the tests."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork_and_report(files: list[int]) -> None:
    """Forks again, and returns in the child. The parent reports the child's ID and exit code."""
    stdout, stderr, status = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (pid := os.fork()) == 0:
        os.close(status)
        os.setsid()
        for file, standard in ((stdout, 1), (stderr, 2)):
            os.dup2(file, standard)
            os.close(file)
        return
    os.write(status, str(pid).encode().rjust(RECORD_BYTES))
    os.close(stdout)  # so that the pipe closes when the child exits
    os.close(stderr)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # the reader is gone
        os.write(status, str(code).encode().rjust(RECORD_BYTES))
    os._exit(0)


def _run_command(command: list[str], environment: dict[str, str], folder: str) -> NoReturn:
    """Runs the command as Python does: `-m MODULE` or a file comes first."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        sys.path.insert(0, str(Path(command[0]).parent))
        runpy.run_path(command[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    main()
