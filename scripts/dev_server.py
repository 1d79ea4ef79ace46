"""Serves a service and reloads it on changes. Runs on Linux, in the image's `dev` stage.

    python dev_server.py PACKAGE HOST PORT

HOST is an IPv4 address, or :: for all IPv6 and IPv4 addresses.

The parent imports the third-party packages, and forks a child that imports the service and the chassis, which are in
the same folder, and runs the service's command `serve` on the parent's sockets. On a change it forks the next child:
clients wait in the meantime and are not rejected. If a child exits unexpectedly, as after a syntax error, the next one
answers every request with the last output.

Once a child serves, the next one is preforked. It imports everything that precedes the last saved file in
import order, since that file is likely to be saved again, and waits there. If the next change only affects files that
it has not read, it resumes from there; otherwise it exits, and a new child starts from scratch.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib.util
import json
import os
import runpy
import select
import selectors
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from threading import Thread
from typing import Any

QUIET_SECONDS = 0.01
"""Files saved together, as by `git checkout`, follow each other faster."""
STALLED_SECONDS = 5.0
"""How long a file that is being written delays the reload if nothing more is written."""
KILL_AFTER_SECONDS = 1.0
"""How long requests in flight and open streams may keep the old code running."""
BACKLOG = 2048
FAMILY_UNAVAILABLE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
"""Both as in chassis/server.py."""
INOTIFY_LIMITS = {errno.EMFILE, errno.ENOSPC}
"""Too many instances or too many watches."""
TAIL_BYTES = 20_000
"""How much of a child's output is kept for the error response after it exits."""
SIGNALS = {signal.SIGTERM, signal.SIGINT}
PREFORK_DELAY = 0.2
"""Seconds between a child's first output and the fork of the next one, so that the first responses have the CPU."""
STALE_EXIT_CODE = 75
"""Exit code of a preforked child that cannot resume: it read a file that changed, or could not import one
(EX_TEMPFAIL)."""

# Including the creation of the application, which imports more than importing the service does.
LIST_MODULES = """
import contextlib, os, runpy, sys
sys.argv[1:] = ["openapi"]
with contextlib.suppress(SystemExit), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    runpy.run_module({package!r}, run_name="__main__")
print(*sys.modules)
"""

Work = Callable[[], None]
libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Changes below a folder, by inotify(7)."""

    IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
    IN_Q_OVERFLOW, IN_ISDIR = 0x4000, 0x40000000
    CHANGES = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[int, str] = {}
        self._changed: set[str] = set()
        self._being_written: set[tuple[int, str]] = set()
        self._last = 0.0
        self._fd = self._check_result(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._watch_folders()

    def fileno(self) -> int:
        return self._fd

    def deadline(self) -> float | None:
        """When to serve the changes, if there are any. Not while a file is being written: half of a migration would be
        applied."""
        quiet = STALLED_SECONDS if self._being_written else QUIET_SECONDS
        return self._last + quiet if self._changed else None

    def take(self) -> list[str]:
        """The paths changed since the last call, relative to the folder."""
        names = sorted(self._changed)
        self._changed.clear()
        self._being_written.clear()
        return names

    def read(self) -> None:
        """Reads the pending events."""
        events, at = os.read(self._fd, 65536), 0
        self._last = time.monotonic()
        while at < len(events):
            folder, mask, _, length = struct.unpack_from("iIII", events, at)
            name = os.fsdecode(events[at + 16 : at + 16 + length].rstrip(b"\0"))
            at += 16 + length
            if mask & (self.IN_ISDIR | self.IN_Q_OVERFLOW):
                self._watch_folders()
            if mask & self.IN_Q_OVERFLOW:
                self._being_written.clear()
            path = Path(self._folders.get(folder, "")) / name
            if mask & self.IN_MODIFY or (mask & self.IN_CREATE and self._will_be_written(path)):
                self._being_written.add((folder, name))
            elif mask & (self.CHANGES | self.IN_Q_OVERFLOW) and name != "__pycache__":
                self._being_written.discard((folder, name))
                self._changed.add(str(path))

    def _will_be_written(self, path: Path) -> bool:
        """Whether a created path is a new file, which will be closed once it is written. A folder or a link is not."""
        with suppress(OSError):
            status = (self._root / path).lstat()
            return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        return False

    def _watch_folders(self) -> None:
        for folder, folders, _ in os.walk(self._root):
            with suppress(ValueError):
                folders.remove("__pycache__")
            number = libc.inotify_add_watch(self._fd, os.fsencode(folder), self.IN_MODIFY | self.CHANGES)
            if number >= 0 or Path(folder).is_dir():  # else it is already gone
                self._folders[self._check_result(number)] = os.path.relpath(folder, self._root)

    def _check_result(self, result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            hint = " To raise the kernel's limits, see `make doctor`." if code in INOTIFY_LIMITS else ""
            sys.exit(f"Cannot watch {self._root}: {os.strerror(code)}.{hint}")
        return result


@dataclass
class Child:
    pid: int
    stderr: int
    """The read end of its pipe."""
    tail: bytes = b""
    kill_at: float | None = None
    """Set once it was asked to exit."""
    change_pipe: int | None = None
    """If it is preforked: the write end of a pipe that sends it the changes."""

    def end(self) -> None:
        if self.kill_at is None:
            os.kill(self.pid, signal.SIGTERM)
            self.kill_at = time.monotonic() + KILL_AFTER_SECONDS

    def resume(self, changed: Sequence[str]) -> bool:
        """Sends the changes to a preforked child. False if it has exited, or the message is too long."""
        assert self.change_pipe is not None
        message = json.dumps(changed).encode() + b"\n"
        with suppress(BrokenPipeError):
            return len(message) <= select.PIPE_BUF and os.write(self.change_pipe, message) > 0
        return False


class PreforkedChild:
    """In a preforked child: tracks the files that it has read, and pauses before importing the expected ones.

    Until then it must have no visible effect: it runs no command, and its output stays in the pipe.
    """

    def __init__(self, root: Path, expected: Sequence[str], change_pipe: int) -> None:
        self._root = root.resolve()
        self._expected = {(self._root / path).resolve() for path in expected}
        self._change_pipe = change_pipe
        self._existing = {path.resolve() for path in self._root.rglob("*.py")}
        self._opened: set[Path] = set()
        self.resumed = False
        sys.addaudithook(self._record_open)
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Sequence[str] | None = None, _: object = None) -> ModuleSpec | None:
        """Finds nothing itself. Pauses if the other finders would find an expected file, none of which has been read
        yet."""
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve() in self._expected:
            self.wait()
        return None

    def wait(self) -> None:
        """Returns on a change if that only affects unread files; otherwise exits the process."""
        if self.resumed:
            return
        sys.meta_path.remove(self)
        files = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
        unread = self._existing - self._opened - {Path(file).resolve() for file in files if file}
        with os.fdopen(self._change_pipe) as pipe:
            message = pipe.readline()  # empty if the parent has exited
        changed = [(self._root / path).resolve() for path in json.loads(message or "[]")]
        # A created or deleted file may change what a previous import finds.
        if not changed or not all(path in unread and path.is_file() for path in changed):
            os._exit(STALE_EXIT_CODE)
        self.resumed = True
        importlib.invalidate_caches()

    def _record_open(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.resumed and event == "open" and isinstance(arguments[0], str):
            self._opened.add(Path(arguments[0]).resolve())


class DevServer:
    """The parent. It must not have threads: a fork copies the locks that a thread holds, but not the thread."""

    def __init__(self, package: str, host: str, port: int) -> None:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f"No package {package} on the path: {sys.path}")
        self._package = package
        self._root = Path(spec.origin).parent.parent
        self._watch = Watch(self._root)
        self._listeners = listen(host, port)
        self._selector = selectors.PollSelector()
        self._selector.register(self._watch, selectors.EVENT_READ, self._watch.read)
        self._children: list[Child] = []
        self._failure: str | None = None
        self._has_preloaded = False
        self._shared_modules: list[str] = []
        """Modules in the watched folder that the service imports from other packages: the chassis."""
        self._preforked: Child | None = None
        self._preforked_is_stale = False
        self._prefork_at: float | None = None
        self._expected = [f"{package}/__init__.py"]

    def run(self) -> Work:
        """Forks and watches until a signal stops it. Returns in a child, with the function to run there."""
        for sig in SIGNALS:
            signal.signal(sig, signal.default_int_handler)
        work: Work | None = self._serve
        try:
            while True:
                if work is not None:
                    if self._fork() == 0:
                        return work
                    self._preload()
                if self._prefork_at is not None and self._prefork_at <= time.monotonic():
                    self._prefork_at = None
                    reading, writing = os.pipe()
                    if self._fork(change_pipe=writing) == 0:
                        return partial(self._serve_preforked, reading)
                    os.close(reading)
                work = self._wait()
        except KeyboardInterrupt:
            for sig in SIGNALS:
                signal.signal(sig, signal.SIG_IGN)
            self._kill_preforked()
            self._end_children()
            while self._children:
                self._wait()
            sys.exit()

    def _wait(self) -> Work | None:
        """Waits for the next event. Returns the function for the next child, if one is needed."""
        events = [child.kill_at for child in self._children] + [self._watch.deadline(), self._prefork_at]
        deadlines = [event for event in events if event is not None]
        timeout = max(0, min(deadlines) - time.monotonic()) if deadlines else None
        for key, _ in self._selector.select(timeout):
            key.data()
        now = time.monotonic()
        for child in self._children:
            if child.kill_at is not None and child.kill_at <= now:
                os.kill(child.pid, signal.SIGKILL)
        if (due := self._watch.deadline()) is not None and due <= now:
            changed = self._watch.take()
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            log(f"Changed: {', '.join(changed[:5])}{more}")
            self._failure = self._prefork_at = None
            self._preforked_is_stale = False
            self._end_children()
            self._expected = changed
            return None if self._resume_preforked(changed) else self._serve
        if self._preforked_is_stale:
            self._preforked_is_stale = False
            return self._serve
        if self._failure is not None and not self._children:  # the old code still accepts connections until it exits
            failure, self._failure = self._failure, None
            return partial(serve_failure, failure, self._listeners)
        return None

    def _fork(self, *, change_pipe: int | None = None) -> int:
        """change_pipe: of a preforked child. Its output is read once it resumes."""
        read_end, write_end = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # none may reach the child while it has the parent's handlers
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            os.dup2(write_end, sys.stderr.fileno())
            for sig in SIGNALS:
                signal.signal(sig, signal.SIG_DFL)
        elif change_pipe is not None:
            self._preforked = Child(pid, read_end, change_pipe=change_pipe)
        else:
            self._follow(Child(pid, read_end))
        os.close(write_end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid

    def _follow(self, child: Child) -> None:
        self._children.append(child)
        self._selector.register(child.stderr, selectors.EVENT_READ, partial(self._relay, child))

    def _resume_preforked(self, changed: Sequence[str]) -> bool:
        """Whether a preforked child resumes with these changes."""
        child = self._preforked
        if child is None or not child.resume(changed):
            self._kill_preforked()
            return False
        self._preforked = None
        self._follow(child)
        return True

    def _kill_preforked(self) -> None:
        child, self._preforked = self._preforked, None
        if child is not None:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            for end in (child.stderr, child.change_pipe):
                assert end is not None
                os.close(end)

    def _relay(self, child: Child) -> None:
        """Forwards its output, or handles its exit."""
        if output := os.read(child.stderr, 65536):
            sys.stderr.buffer.write(output)
            sys.stderr.flush()
            child.tail = (child.tail + output)[-TAIL_BYTES:]
            if self._preforked is None and self._has_preloaded and self._prefork_at is None and child.kill_at is None:
                self._prefork_at = time.monotonic() + PREFORK_DELAY
            return
        self._selector.unregister(child.stderr)
        os.close(child.stderr)
        if child.change_pipe is not None:
            os.close(child.change_pipe)
        self._children.remove(child)
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        if child.kill_at is None and child.change_pipe is not None and code == STALE_EXIT_CODE:
            self._preforked_is_stale = True
        elif child.kill_at is None:
            end = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
            reason = f"{self._package} exited unexpectedly ({end})"
            log(f"{reason}: every request gets its last output as the response, until a file is saved")
            self._failure = f"{reason}. It restarts when a file is saved. Its last output:\n\n" + child.tail.decode(
                errors="replace"
            )

    def _end_children(self) -> None:
        for child in self._children:
            child.end()

    def _preload(self) -> None:
        """Imports the service's modules from outside the watched folder, once; concurrently with the first child, which
        imports them itself."""
        if self._has_preloaded:
            return
        watched = {path.stem for path in self._root.iterdir()}
        command = [sys.executable, "-c", LIST_MODULES.format(package=self._package)]
        listed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        for name in listed.stdout.split():
            if (top := name.partition(".")[0]) not in watched:
                with suppress(Exception):
                    importlib.import_module(name)
            elif top != self._package:
                self._shared_modules.append(name)
        self._has_preloaded = bool(listed.stdout)  # else the service is currently broken
        gc.collect()
        gc.freeze()  # a child's garbage collector would traverse it, and copy its pages

    def _serve_preforked(self, change_pipe: int) -> None:
        """Imports everything that `_serve` needs, and pauses before the expected changes. Then serves."""
        importlib.invalidate_caches()
        sys.argv = [self._package]
        preforked = PreforkedChild(self._root, self._expected, change_pipe)
        main = f"{self._package}.__main__"
        try:
            for name in self._shared_modules:
                with suppress(ModuleNotFoundError):  # deleted since they were listed
                    importlib.import_module(name)
            importlib.import_module(main)
            preforked.wait()
        except BaseException:
            if preforked.resumed:
                raise
            os._exit(STALE_EXIT_CODE)
        del sys.modules[main]  # it is run again
        self._serve()

    def _serve(self) -> None:
        importlib.invalidate_caches()
        sys.argv = [self._package, "serve", *(f"--fd={listener.detach()}" for listener in self._listeners)]
        runpy.run_module(self._package, run_name="__main__", alter_sys=True)


def listen(host: str, port: int) -> list[socket.socket]:
    """One socket for an IPv4 address; for :: one for all IPv4 addresses and, unless IPv6 is disabled, one for all IPv6
    addresses."""
    if host != "::":
        return [socket.create_server((host, port), backlog=BACKLOG)]
    listeners = [socket.create_server(("", port), backlog=BACKLOG)]
    try:
        listeners.append(socket.create_server(("::", port), family=socket.AF_INET6, backlog=BACKLOG))
    except OSError as error:
        if error.errno not in FAMILY_UNAVAILABLE:
            raise
    return listeners


def serve_failure(failure: str, listeners: list[socket.socket]) -> None:
    """Responds to every request with status 500 and this text."""

    class FailureHandler(BaseHTTPRequestHandler):
        def __getattr__(self, name: str) -> Work:
            if name.startswith("do_"):  # GET, POST and all other methods
                return self._answer
            raise AttributeError(name)

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))  # an unread body would reset the connection
            self.send_response(500)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(failure.encode())

        def log_message(self, format: str, *args: object) -> None:
            """No-op: the failure was already logged once."""

    for listener in listeners:
        server = ThreadingHTTPServer(("", 0), FailureHandler, bind_and_activate=False)
        server.socket = listener
        # SIGTERM stops it: `shutdown`, for which it polls, is never called.
        Thread(target=server.serve_forever, kwargs={"poll_interval": 60}).start()


def log(text: str) -> None:
    print(f"dev server: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    DevServer(sys.argv[1], sys.argv[2], int(sys.argv[3])).run()()
