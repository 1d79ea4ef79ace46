"""The page of docs/tour.md, served from a different origin than the API, in Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from running import SERVICE, eventually, serving

TOUR = SERVICE.parents[1] / "docs/tour.md"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
REPORT = """<script>
const report = (line) => fetch("/", { method: "POST", body: line });
new MutationObserver(() => report(document.querySelector("pre").textContent))
  .observe(document.querySelector("pre"), { childList: true });
addEventListener("unhandledrejection", (event) => report(`failed: ${event.reason}`));
addEventListener("error", (event) => report(`failed: ${event.message}`));
</script>"""


@contextmanager
def served(page: list[str], reports: list[str]) -> Iterator[str]:
    """The origin of a server of the page that receives its reports, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("".join(page).encode())

        def do_POST(self) -> None:
            reports.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self._answer(b"")

        def log_message(self, format: str, *_arguments: object) -> None:
            pass

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def browser_program() -> str:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program is not None, f"there is none of {BROWSERS}"
    return program


@contextmanager
def opened(url: str, profile: Path) -> Iterator[None]:
    """Shows the page in Chromium until the end of the block."""
    with (profile.parent / "chromium.log").open("w") as log:
        browser = subprocess.Popen(
            [browser_program(), *QUIET, f"--user-data-dir={profile}", url], stdout=log, stderr=log, env={**os.environ}
        )
        try:
            yield
        finally:
            browser.terminate()
            browser.wait()


@pytest.mark.full
@pytest.mark.chromium
@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "another-origin"])
def test_a_cross_origin_page_creates_updates_and_follows_tasks(allowed: bool, tmp_path: Path) -> None:
    (block,) = re.findall(r"```html\n(.*?)```", TOUR.read_text(), re.DOTALL)
    page: list[str] = []
    reports: list[str] = []
    with served(page, reports) as origin:
        settings = {"TASKS_CORS_ORIGINS": origin if allowed else "http://localhost:1"}
        with serving(TASKS_DATABASE_URL=f"sqlite:///{tmp_path}/tasks.db", **settings) as service:
            assert "http://127.0.0.1:8000" in block
            page.append(block.replace("<script", f"{REPORT}<script", 1).replace("http://127.0.0.1:8000", service.url))
            if not allowed:  # an EventSource only reports that it failed, and reconnects
                page[0] = page[0].replace('changes.addEventListener("open"', 'changes.addEventListener("error"')
            with opened(origin, tmp_path / "profile"):
                if allowed:
                    expected = {
                        'created: 201 "v1"',
                        'changed: 200 "v2"',
                        "too late: 412 /problems/version-mismatch",
                        "followed: Sow seeds",
                    }
                    eventually(
                        lambda: any(set(report.split("\n")) >= expected for report in reports), "the page did it all"
                    )
                else:
                    eventually(lambda: any("Failed to fetch" in report for report in reports), "the page was refused")


@pytest.mark.full
@pytest.mark.chromium
@pytest.mark.parametrize(("color_scheme", "is_dark"), [(0, True), (1, False)], ids=["dark", "light"])
def test_the_documentation_follows_the_color_scheme_of_the_browser(
    color_scheme: int, is_dark: bool, tmp_path: Path
) -> None:
    options = [f"--user-data-dir={tmp_path}", f"--blink-settings=preferredColorScheme={color_scheme}", "--dump-dom"]
    with serving() as service:
        command = [browser_program(), *QUIET, *options, f"{service.url}/docs"]
        page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert ('<html class="dark-mode">' in page) is is_dark
