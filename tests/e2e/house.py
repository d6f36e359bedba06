"""The service in a browser, and what somebody does there."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from playwright.sync_api import Request as PageRequest

#: Milliseconds after which a test has failed that waits for a sandbox or a model.
PATIENCE = 200_000


@dataclass
class House:
    """The service, a key that may everything, and the browser."""

    url: str
    key: str
    browser: Browser
    pictures: Path
    state: Any = None  # cookies of a session that nobody ends

    def visit(self, **settings: Any) -> BrowserContext:
        """A browser that knows nothing yet."""
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        context.set_default_timeout(PATIENCE)
        return context

    def signed_in(self, **settings: Any) -> BrowserContext:
        """A browser in which somebody is signed in."""
        if self.state is None:
            with self.visit() as context:
                sign_in(context.new_page(), self)
                self.state = context.storage_state()
        return self.visit(storage_state=self.state, **settings)

    def api(self, method: str, path: str, **more: Any) -> Any:
        """The JSON that the API answers."""
        headers = {"Authorization": f"Bearer {self.key}", "Prefer": "wait=60"}
        answer = httpx.request(method, self.url + path, headers=headers, timeout=90, trust_env=False, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def picture(self, page: Page, name: str) -> None:
        """Keep how a page looks."""
        page.screenshot(path=self.pictures / f"{name}.png")


def sign_in(page: Page, house: House) -> None:
    """Sign in with the key."""
    page.goto(house.url + "/")
    page.get_by_label("API key").fill(house.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def badge(page: Page) -> Locator:
    """What says how a run stands."""
    return page.locator("h1 .badge")


def submit(page: Page, house: House, source: str, kind: str = "Code") -> None:
    """Fill the form of new runs in, send it, and be at the run."""
    page.goto(f"{house.url}/new")
    page.get_by_role("radio", name=kind).check()
    page.get_by_label("Code or task").fill(source)
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile("/runs/[0-9a-f-]{36}$"))


def weight(house: House, path: str) -> int:
    """Bytes of all that a page loads, before compression, but for what a program left."""
    loaded: list[PageRequest] = []

    def note(request: PageRequest) -> None:
        loaded.append(request)

    with house.signed_in() as context:
        page = context.new_page()
        page.on("requestfinished", note)
        page.goto(house.url + path, wait_until="load")
        answers = [request.response() for request in list(loaded) if "/artifacts/" not in request.url]
        return sum(len(answer.body()) for answer in answers if answer is not None)
