"""Processes of a service that begin with its imports done, as forks of a Python that has them.

The imports are most of what a start takes, and the tests start the service more than a hundred times. From the fork
on such a process is what `python -m PACKAGE` is: its own arguments, environment, files, signals and end.
What reads the environment before that, the interpreter and the C library, is not asked again: a test of that, or of the
start itself, takes subprocess.Popen.
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

RECORD = 16
"""How long what is said of a process is: its id, and later its exit code."""


class Forked:
    """A process, as far as subprocess.Popen[str] has it for these tests. The command begins with sys.executable.

    preloaded: the module whose imports are done when it begins. path: PYTHONPATH while they are.
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
        with contextlib.ExitStack() as given:
            if isinstance(stderr, int):
                assert stderr == subprocess.PIPE
                reading, writing = os.pipe()
                self.stderr = os.fdopen(reading)
                given.callback(os.close, writing)
            else:
                writing = stderr.fileno()
            self._status, saying = os.pipe()
            given.callback(os.close, saying)
            asked = {"command": command[1:], "environment": dict(env), "folder": str(Path.cwd())}
            socket.send_fds(
                _parent(preloaded, path), [json.dumps(asked).encode() + b"\n"], [stdout.fileno(), writing, saying]
            )
        self.pid = int(os.read(self._status, RECORD))

    def poll(self) -> int | None:
        """Its exit code, or what ended it, negative; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        if (code := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = int(os.read(self._status, RECORD))
            os.close(self._status)
        return self.returncode


@functools.cache
def _parent(preloaded: str, path: str) -> socket.socket:
    """The connection to the Python that is forked, which ends with it."""
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [sys.executable, __file__, str(its.fileno()), preloaded],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # the last first
    return ours


# --- the Python that is forked ----------------------------------------------------------


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    importlib.import_module(sys.argv[2])
    del sys.modules[sys.argv[2]]  # it is run anew, in each fork
    gc.freeze()  # what is shared is not to be copied for being looked at
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        asked, files = b"", list[int]()
        while not asked.endswith(b"\n"):
            data, more, _, _ = socket.recv_fds(connection, 1 << 16, 3)
            if not data:
                return
            asked, files = asked + data, files + more
        if os.fork() == 0:
            connection.close()
            break
        for file in files:
            os.close(file)
    _watch(files)
    _become(**json.loads(asked))


def _reap(*_: object) -> None:
    """Takes note of those that watched and have ended; so their processes' time counts as that of the tests."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(files: list[int]) -> None:
    """Forks again, and returns in the new process. The other one says what became of it."""
    stdout, stderr, status = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (pid := os.fork()) == 0:
        os.close(status)
        os.setsid()
        for file, standard in ((stdout, 1), (stderr, 2)):
            os.dup2(file, standard)
            os.close(file)
        return
    os.write(status, str(pid).encode().rjust(RECORD))
    os.close(stdout)  # with the process the last end of a pipe is closed
    os.close(stderr)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody asks any more
        os.write(status, str(code).encode().rjust(RECORD))
    os._exit(0)


def _become(command: list[str], environment: dict[str, str], folder: str) -> NoReturn:
    """Is what Python is with this command, `-m MODULE` or a file first."""
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
