"""Serves a service while it is being changed. Runs on Linux, in the image's `dev` stage.

    python dev_server.py PACKAGE HOST PORT

HOST may be ::, for every address, of IPv6 and of IPv4.

The parent has imported the third-party packages, and forks a child that imports the service and the chassis, which lie
side by side, and runs the service's command `serve` on the parent's sockets. On a change it forks the next: clients
wait meanwhile and are not refused. After a child that ends by itself, as at a line that cannot be parsed, the next
answers every request with what that one said last.

Once a child serves, the next is forked ahead of time. It imports what comes before the file that was saved last, since
that is mostly saved again, and waits there. If what is saved next is only what it has not read, it goes on from there;
otherwise it ends, and one begins from the start.
"""

from __future__ import annotations

import ctypes
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
"""Files that are saved together, as by `git checkout`, follow each other faster."""
STALLED_SECONDS = 5.0
"""How long a file that is being written holds up the others, where nothing more is written."""
END_SECONDS = 1.0
"""How long an open stream may keep the old code."""
TAIL_BYTES = 20_000
"""How much of what a child said is kept for the answer after its end."""
SIGNALS = {signal.SIGTERM, signal.SIGINT}
AHEAD_SECONDS = 0.2
"""How long after a child's first word the next one is forked, so that the first answers have the CPU."""
NOT_TAKEN = 75
"""The exit code of a child that has read something that changed (EX_TEMPFAIL)."""

# With its application made: that imports more than the import of the service does.
NAME_MODULES = """
import contextlib, os, runpy, sys
sys.argv[1:] = ["openapi"]
with contextlib.suppress(SystemExit), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    runpy.run_module({package!r}, run_name="__main__")
print(*sys.modules)
"""

Work = Callable[[], None]
libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """What is written, made, moved or deleted below a folder, by inotify(7)."""

    MODIFY, CREATE = 0x2, 0x100
    CHANGES = 0x8 | 0xC0 | CREATE | 0x200  # closed after writing, moved, made, deleted
    OVERFLOW, FOLDER = 0x4000, 0x40000000

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[int, str] = {}
        self._changed: set[str] = set()
        self._being_written: set[tuple[int, str]] = set()
        self._last = 0.0
        self._fd = self._checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._watch_folders()

    def fileno(self) -> int:
        return self._fd

    def due_at(self) -> list[float]:
        """When what changed is to be served, if something did. Not while a file is being written: half of a migration
        would be applied."""
        quiet = STALLED_SECONDS if self._being_written else QUIET_SECONDS
        return [self._last + quiet] if self._changed else []

    def take(self) -> list[str]:
        """What changed since the last call: paths below the folder."""
        names = sorted(self._changed)
        self._changed.clear()
        self._being_written.clear()
        return names

    def read(self) -> None:
        """Takes the events that are there."""
        events, at = os.read(self._fd, 65536), 0
        self._last = time.monotonic()
        while at < len(events):
            folder, mask, _, length = struct.unpack_from("iIII", events, at)
            name = os.fsdecode(events[at + 16 : at + 16 + length].rstrip(b"\0"))
            at += 16 + length
            if mask & (self.FOLDER | self.OVERFLOW):
                self._watch_folders()
            if mask & self.OVERFLOW:
                self._being_written.clear()
            path = Path(self._folders.get(folder, "")) / name
            if mask & self.MODIFY or (mask & self.CREATE and self._is_open(path)):
                self._being_written.add((folder, name))
            elif mask & (self.CHANGES | self.OVERFLOW) and name != "__pycache__":
                self._being_written.discard((folder, name))
                self._changed.add(str(path))

    def _is_open(self, path: Path) -> bool:
        """Whether what was made will be closed: a file will, a folder or a link has nothing to write."""
        with suppress(OSError):
            made = (self._root / path).lstat()
            return stat.S_ISREG(made.st_mode) and made.st_nlink == 1
        return False

    def _watch_folders(self) -> None:
        for folder, folders, _ in os.walk(self._root):
            with suppress(ValueError):
                folders.remove("__pycache__")
            number = libc.inotify_add_watch(self._fd, os.fsencode(folder), self.MODIFY | self.CHANGES)
            if number >= 0 or Path(folder).is_dir():  # else it is gone already
                self._folders[self._checked(number)] = os.path.relpath(folder, self._root)

    def _checked(self, result: int) -> int:
        if result < 0:
            error = os.strerror(ctypes.get_errno())
            sys.exit(f"Cannot watch {self._root}: {error}. How to let the kernel watch more, says `make doctor`.")
        return result


@dataclass
class Child:
    pid: int
    stderr: int
    """The end of a pipe from which it is read."""
    tail: bytes = b""
    kill_at: float | None = None
    """Set once it was told to end."""
    go: int | None = None
    """Of one that was forked ahead of time: the end of a pipe to write to it what changed."""

    def end(self) -> None:
        if self.kill_at is None:
            os.kill(self.pid, signal.SIGTERM)
            self.kill_at = time.monotonic() + END_SECONDS

    def go_on(self, changed: Sequence[str]) -> bool:
        """Tells one that was forked ahead of time what changed. False if it has ended, or has no place for so much."""
        assert self.go is not None
        message = json.dumps(changed).encode() + b"\n"
        with suppress(BrokenPipeError):
            return len(message) <= select.PIPE_BUF and os.write(self.go, message) > 0
        return False


class Ahead:
    """What a child that was forked ahead of time has read, and how its imports wait before what they are not to read.

    Until then it must not be seen from outside: it has no command, and what it says stays in the pipe.
    """

    def __init__(self, root: Path, awaited: Sequence[str], go: int) -> None:
        self._root = root.resolve()
        self._awaited = {(self._root / path).resolve() for path in awaited}
        self._go = go
        self._there = {path.resolve() for path in self._root.rglob("*.py")}
        self._opened: set[Path] = set()
        self.has_gone_on = False
        sys.addaudithook(self._note)
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Sequence[str] | None = None, _: object = None) -> ModuleSpec | None:
        """Finds nothing. Waits if the others would find one of those files, of which nothing was read yet."""
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.origin is not None and Path(spec.origin).resolve() in self._awaited:
            self.wait()
        return None

    def wait(self) -> None:
        """Returns once something has changed, if that is only what was not read; otherwise ends the process."""
        if self.has_gone_on:
            return
        sys.meta_path.remove(self)
        files = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
        unread = self._there - self._opened - {Path(file).resolve() for file in files if file}
        with os.fdopen(self._go) as pipe:
            message = pipe.readline()  # nothing, if the parent has ended
        changed = [(self._root / path).resolve() for path in json.loads(message or "[]")]
        # A file that is new or gone may change what an import finds that was done already.
        if not changed or not all(path in unread and path.is_file() for path in changed):
            os._exit(NOT_TAKEN)
        self.has_gone_on = True
        importlib.invalidate_caches()

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.has_gone_on and event == "open" and isinstance(arguments[0], str):
            self._opened.add(Path(arguments[0]).resolve())


class DevServer:
    """The parent. No thread may run in it: a fork copies the locks that a thread holds, and not the thread."""

    def __init__(self, package: str, host: str, port: int) -> None:
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            sys.exit(f"There is no package {package} on the path: {sys.path}")
        self._package = package
        self._root = Path(found.origin).parent.parent
        self._watch = Watch(self._root)
        self._listeners = listen(host, port)
        self._selector = selectors.PollSelector()
        self._selector.register(self._watch, selectors.EVENT_READ, self._watch.read)
        self._children: list[Child] = []
        self._failure: str | None = None
        self._has_preloaded = False
        self._beside: list[str] = []
        """The modules in the watched folder that the service has from other packages: the chassis."""
        self._ahead: Child | None = None
        self._is_not_taken = False
        self._fork_ahead_at: float | None = None
        self._awaited = [f"{package}/__init__.py"]

    def run(self) -> Work:
        """Forks and watches until a signal ends it. Returns in a child, with what that has to do."""
        for sig in SIGNALS:
            signal.signal(sig, signal.default_int_handler)
        work: Work | None = self._serve
        try:
            while True:
                if work is not None:
                    if self._fork() == 0:
                        return work
                    self._preload()
                if self._fork_ahead_at is not None and self._fork_ahead_at <= time.monotonic():
                    self._fork_ahead_at = None
                    reading, writing = os.pipe()
                    if self._fork(go=writing) == 0:
                        return partial(self._serve_ahead, reading)
                    os.close(reading)
                work = self._wait()
        except KeyboardInterrupt:
            for sig in SIGNALS:
                signal.signal(sig, signal.SIG_IGN)
            self._drop_ahead()
            self._end_children()
            while self._children:
                self._wait()
            sys.exit()

    def _wait(self) -> Work | None:
        """Until something happens. Returns what the next child has to do, where there has to be one."""
        ends = [child.kill_at for child in self._children if child.kill_at is not None]
        deadlines = [*ends, *self._watch.due_at(), *filter(None, [self._fork_ahead_at])]
        timeout = max(0, min(deadlines) - time.monotonic()) if deadlines else None
        for key, _ in self._selector.select(timeout):
            key.data()
        now = time.monotonic()
        for child in self._children:
            if child.kill_at is not None and child.kill_at <= now:
                os.kill(child.pid, signal.SIGKILL)
        if any(due <= now for due in self._watch.due_at()):
            changed = self._watch.take()
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            say(f"Changed: {', '.join(changed[:5])}{more}")
            self._failure = self._fork_ahead_at = None
            self._is_not_taken = False
            self._end_children()
            self._awaited = changed
            return None if self._goes_on(changed) else self._serve
        if self._is_not_taken:
            self._is_not_taken = False
            return self._serve
        if self._failure is not None:
            failure, self._failure = self._failure, None
            return partial(answer_with, failure, self._listeners)
        return None

    def _fork(self, *, go: int | None = None) -> int:
        """go: of one that is forked ahead of time. What that says is read once it goes on."""
        ours, theirs = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # none may reach the child while it has the parent's handlers
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            os.dup2(theirs, sys.stderr.fileno())
            for sig in SIGNALS:
                signal.signal(sig, signal.SIG_DFL)
        elif go is not None:
            self._ahead = Child(pid, ours, go=go)
        else:
            self._follow(Child(pid, ours))
        os.close(theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid

    def _follow(self, child: Child) -> None:
        self._children.append(child)
        self._selector.register(child.stderr, selectors.EVENT_READ, partial(self._relay, child))

    def _goes_on(self, changed: Sequence[str]) -> bool:
        """Whether a child that was forked ahead of time takes it from here."""
        child = self._ahead
        if child is None or not child.go_on(changed):
            self._drop_ahead()
            return False
        self._ahead = None
        self._follow(child)
        return True

    def _drop_ahead(self) -> None:
        child, self._ahead = self._ahead, None
        if child is not None:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            for end in (child.stderr, child.go):
                assert end is not None
                os.close(end)

    def _relay(self, child: Child) -> None:
        """Passes on what it says; or it has ended."""
        if said := os.read(child.stderr, 65536):
            sys.stderr.buffer.write(said)
            sys.stderr.flush()
            child.tail = (child.tail + said)[-TAIL_BYTES:]
            if self._ahead is None and self._has_preloaded and self._fork_ahead_at is None and child.kill_at is None:
                self._fork_ahead_at = time.monotonic() + AHEAD_SECONDS
            return
        self._selector.unregister(child.stderr)
        os.close(child.stderr)
        if child.go is not None:
            os.close(child.go)
        self._children.remove(child)
        code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
        if child.kill_at is None and child.go is not None and code == NOT_TAKEN:
            self._is_not_taken = True
        elif child.kill_at is None:
            how = f"{self._package} has ended by itself (exit code {code})"
            say(f"{how}: every request is answered with what it said last, until a file is saved")
            self._failure = f"{how}. It starts again when a file is saved. What it said last:\n\n" + child.tail.decode(
                errors="replace"
            )

    def _end_children(self) -> None:
        for child in self._children:
            child.end()

    def _preload(self) -> None:
        """Imports what the service has from outside the watched folder, once; beside the first child, which does so
        itself."""
        if self._has_preloaded:
            return
        watched = {path.stem for path in self._root.iterdir()}
        command = [sys.executable, "-c", NAME_MODULES.format(package=self._package)]
        listed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        for name in listed.stdout.split():
            if (top := name.partition(".")[0]) not in watched:
                with suppress(Exception):
                    importlib.import_module(name)
            elif top != self._package:
                self._beside.append(name)
        self._has_preloaded = bool(listed.stdout)  # else the service is broken just now
        gc.collect()
        gc.freeze()  # the garbage collector of a child would look through it, and copy its pages

    def _serve_ahead(self, go: int) -> None:
        """Imports all that `_serve` will want, and waits before what is going to change. Then serves."""
        importlib.invalidate_caches()
        sys.argv = [self._package]
        ahead = Ahead(self._root, self._awaited, go)
        main = f"{self._package}.__main__"
        try:
            for name in self._beside:
                with suppress(ModuleNotFoundError):  # it has gone since they were listed
                    importlib.import_module(name)
            importlib.import_module(main)
            ahead.wait()
        except BaseException:
            if ahead.has_gone_on:
                raise
            os._exit(NOT_TAKEN)
        del sys.modules[main]  # it is run anew
        self._serve()

    def _serve(self) -> None:
        importlib.invalidate_caches()
        sys.argv = [self._package, "serve", *(f"--fd={listener.detach()}" for listener in self._listeners)]
        runpy.run_module(self._package, run_name="__main__", alter_sys=True)


def listen(host: str, port: int) -> list[socket.socket]:
    """As the service itself does; where IPv6 is switched off, on IPv4 alone."""
    if host != "::":
        return [socket.create_server((host, port), backlog=2048)]
    listeners = [socket.create_server(("", port), backlog=2048)]
    with suppress(OSError):
        listeners.append(socket.create_server(("::", port), family=socket.AF_INET6, backlog=2048))
    return listeners


def answer_with(failure: str, listeners: list[socket.socket]) -> None:
    """Answers every request with status 500 and this text."""

    class Answer(BaseHTTPRequestHandler):
        def __getattr__(self, name: str) -> Work:
            if name.startswith("do_"):  # GET, POST and what else there is
                return self._answer
            raise AttributeError(name)

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))  # unread, it would reset the connection
            self.send_response(500)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(failure.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the failure is in the log once."""

    for listener in listeners:
        server = ThreadingHTTPServer(("", 0), Answer, bind_and_activate=False)
        server.socket = listener
        Thread(target=server.serve_forever, args=[60]).start()  # SIGTERM ends it


def say(text: str) -> None:
    print(f"dev server: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    DevServer(sys.argv[1], sys.argv[2], int(sys.argv[3])).run()()
