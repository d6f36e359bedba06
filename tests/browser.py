"""A real browser for tests: the system's Chromium, driven by Playwright, without a screen."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, sync_playwright

#: Names under which distributions install it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "the browser tests need Chromium or Chrome, and none is on PATH. `make test` installs it on Debian and "
    "Ubuntu as root (apt-get install chromium); elsewhere install it, or name it in RETORT_TEST_BROWSER."
)


def program() -> str | None:
    """The browser's program, if there is one."""
    named = os.environ.get("RETORT_TEST_BROWSER")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that shows nothing."""
    found = program()
    assert found is not None, MISSING
    with sync_playwright() as playwright:
        # As root its own sandbox does not start; what it visits here is ours, on loopback.
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield opened
        finally:
            opened.close()


class Seen:
    """What a page did that it must not do: errors, scripts that ran, requests to anywhere but us."""

    def __init__(self, page: Page, origin: str) -> None:
        self.wrong: list[str] = []
        self._origin = origin
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("console", self._console)
        page.on("request", self._request)

    def _dialog(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.wrong.append(f"console: {line.text}")

    def _request(self, request: Request) -> None:
        here = (self._origin, self._origin.replace("127.0.0.1", "localhost"))
        if not request.url.startswith((*here, "data:", "blob:")):
            self.wrong.append(f"request: {request.url}")
