"""The dev server runs the saved code. e2e/test_live_update.py tests it in the image, with Tilt's way of copying."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from manifests import REPOSITORY
from programs import eventually
from scripts import dev_server

pytestmark = pytest.mark.linux  # inotify(7) is Linux-only, like the image that runs the dev server

SECONDS = 60
MAIN = """
import http.server, os, socket, sys
from work import first, second

def main():
    command, *fds = sys.argv[1:]
    if command != "serve":
        return
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{os.getpid()} {second.VALUE}".encode())
        def log_message(self, *_):
            pass
    server = http.server.HTTPServer(("", 0), Answer, bind_and_activate=False)
    server.socket = socket.socket(fileno=int(fds[0].removeprefix("--fd=")))
    print("serves", file=sys.stderr, flush=True)
    server.serve_forever()

if __name__ == "__main__":
    main()
"""
COUNTED = """
from pathlib import Path
with (Path(__file__).parents[2] / Path(__file__).stem).open("a") as runs:
    runs.write("x")
"""
"""Outside of the folder that is watched, how often the module was run."""

# base stands for the chassis.
SOURCES = {
    "base/__init__.py": "",
    "base/ground.py": "VALUE = 'ground-0'\n" + COUNTED,
    "work/__init__.py": "",
    "work/first.py": "from base import ground\nVALUE = f'{ground.VALUE} first-0'\n" + COUNTED,
    "work/second.py": "from work import first\nVALUE = f'{first.VALUE} second-0'\n",
    "work/__main__.py": MAIN,
}


class Running:
    """A dev server with a service of a few lines."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self.folder = folder
        self._process = process
        self._port = port

    def save(self, path: str, text: str) -> None:
        """Replaces the file, like an editor."""
        new = self.folder.parent / "new"
        new.write_text(text)
        (self.folder / path).parent.mkdir(exist_ok=True)
        new.replace(self.folder / path)

    def edit(self, path: str, version: int) -> None:
        name = Path(path).stem
        text = (self.folder / path).read_text()
        old = next(line for line in text.splitlines() if "VALUE = " in line)
        self.save(path, text.replace(old, old[: old.index(f"{name}-")] + f"{name}-{version}'"))

    def fetch(self) -> tuple[int, str]:
        """Status and text; 0 while there is no response."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
            with contextlib.closing(connection):
                connection.request("GET", "/")
                response = connection.getresponse()
                return response.status, response.read().decode()
        return 0, ""

    def fails(self, error: str) -> None:
        """Waits until the response is this error."""
        eventually(lambda: (response := self.fetch())[0] == 500 and error in response[1], f"the response is {error}")

    def serves(self, values: str) -> None:
        """Waits until the response is this."""
        eventually(lambda: self._values() == values, f"expected {values}, got {self._values()}")

    def _values(self) -> str:
        return self.fetch()[1].partition(" ")[2]

    def runs(self, name: str) -> int:
        """How often the module was run."""
        return len((self.folder.parent / name).read_text())

    def wait_for_preload(self) -> None:
        """Waits until a preforked process has imported what it can, and reads its pipe."""

        def waits() -> bool:
            task = Path(f"/proc/{self._process.pid}/task/{self._process.pid}")
            with contextlib.suppress(OSError):  # one of them has exited
                children = (task / "children").read_text().split()
                return any("pipe_read" in Path(f"/proc/{child}/wchan").read_text() for child in children)
            return False

        eventually(waits, "a process waits for the next change")

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(SECONDS)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Running]:
    folder = tmp_path / "src"
    for path, text in SOURCES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, REPOSITORY / "scripts/dev_server.py", "work", "127.0.0.1", str(port)],
            # Bytecode is validated by the source's size and second: here a file is saved twice within a second.
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            stderr=log,
        )
    running = Running(folder, process, port)
    try:
        running.serves("ground-0 first-0 second-0")
        yield running
    finally:
        assert running.stop() == 0


def test_modules_before_the_resaved_file_are_not_run_again(dev: Running) -> None:
    dev.wait_for_preload()
    dev.edit("work/second.py", 1)
    dev.serves("ground-0 first-0 second-1")
    dev.wait_for_preload()
    before = dev.runs("ground"), dev.runs("first")
    dev.edit("work/second.py", 2)
    dev.serves("ground-0 first-0 second-2")
    assert (dev.runs("ground"), dev.runs("first")) == before


def test_other_packages_are_preloaded_before_the_first_save(dev: Running) -> None:
    dev.wait_for_preload()
    before = dev.runs("ground"), dev.runs("first")
    dev.edit("work/first.py", 1)
    dev.serves("ground-0 first-1 second-0")
    assert (dev.runs("ground"), dev.runs("first")) == (before[0], before[1] + 1)


def test_preloaded_file_is_reloaded_after_a_save(dev: Running) -> None:
    for version, path in enumerate(["work/second.py", "base/ground.py", "work/first.py", "base/ground.py"], start=1):
        dev.wait_for_preload()
        dev.edit(path, version)
    dev.serves("ground-4 first-3 second-1")


def test_file_read_as_text_is_reread_after_a_save(dev: Running) -> None:
    dev.save("work/number.py", "VALUE = 'number-0'\n")
    reads = "VALUE = Path(__file__).with_name('number.py').read_text()[9:17]\n"
    dev.save("work/first.py", "from pathlib import Path\n" + reads)
    dev.serves("number-0 second-0")
    dev.edit("work/second.py", 1)
    dev.serves("number-0 second-1")
    dev.wait_for_preload()  # before second.py: number.py was read
    dev.edit("work/number.py", 1)
    dev.serves("number-1 second-1")


def test_new_and_deleted_files_are_noticed_despite_preloading(dev: Running) -> None:
    looks = "VALUE = 'there' if Path(__file__).with_name('extra.py').exists() else 'nothing'\n"
    dev.save("work/first.py", "from pathlib import Path\n" + looks)
    dev.serves("nothing second-0")
    dev.edit("work/second.py", 1)
    dev.serves("nothing second-1")
    dev.wait_for_preload()
    dev.save("work/extra.py", "")
    dev.serves("there second-1")
    dev.wait_for_preload()
    (dev.folder / "work/extra.py").unlink()
    dev.serves("nothing second-1")


def test_syntax_error_is_returned_and_its_fix_is_served(dev: Running) -> None:
    for version in (1, 2):
        dev.wait_for_preload()
        dev.save("work/second.py", "def\n")
        dev.fails("SyntaxError")
        dev.save("work/second.py", f"from work import first\nVALUE = f'{{first.VALUE}} second-{version}'\n")
        dev.serves(f"ground-0 first-0 second-{version}")


def test_old_code_answers_no_more_once_an_error_is_returned(dev: Running) -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)  # until it is killed\n"
    dev.save("work/__main__.py", stubborn + MAIN)
    dev.edit("work/second.py", 1)
    dev.serves("ground-0 first-0 second-1")
    dev.save("work/__init__.py", "def")
    dev.fails("SyntaxError")
    assert {dev.fetch()[0] for _ in range(100)} == {500}


def test_the_signal_that_killed_the_service_is_reported(dev: Running) -> None:
    dev.save("work/__init__.py", "import os\nos.kill(os.getpid(), 9)\n")
    dev.fails("exited unexpectedly (killed by signal 9)")


@pytest.mark.parametrize(
    ("code", "is_limit"),
    [(errno.EMFILE, True), (errno.ENOSPC, True), (errno.EACCES, False)],
    ids=["EMFILE", "ENOSPC", "EACCES"],
)
def test_only_a_reached_limit_is_reported_with_how_to_raise_it(
    code: int, is_limit: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingLibc:
        def inotify_init1(self, _flags: int) -> int:
            ctypes.set_errno(code)
            return -1

    monkeypatch.setattr(dev_server, "libc", FailingLibc())
    with pytest.raises(SystemExit, match=os.strerror(code)) as error:
        dev_server.Watch(tmp_path)
    assert ("make doctor" in str(error.value)) == is_limit


def test_saved_code_runs_whatever_was_preloaded(dev: Running) -> None:
    """With any interval: the next process does not exist yet, imports, waits, or continues."""
    chance = random.Random(20261129)
    versions = {"base/ground.py": 0, "work/first.py": 0, "work/second.py": 0}
    for number in range(1, 31):
        for path in chance.sample(sorted(versions), chance.choice([1, 1, 1, 2, 3])):
            versions[path] = number
            dev.edit(path, number)
        time.sleep(chance.choice([0, 0.01, 0.05, 0.2, 0.3]))
        if chance.random() < 0.5:
            dev.serves(" ".join(f"{Path(path).stem}-{version}" for path, version in versions.items()))
    dev.serves(" ".join(f"{Path(path).stem}-{version}" for path, version in versions.items()))
