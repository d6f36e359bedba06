"""Somebody with a browser, as far as HTTP goes: cookies, forms with their tokens, no scripts."""

import re
from collections.abc import Mapping
from types import TracebackType
from uuid import UUID

import httpx

_TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


class Visitor:
    """A visitor of the pages. Redirects are not followed."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def get(self, path: str, **headers: str) -> httpx.Response:
        """A page."""
        return self.client.get(path, headers=headers)

    def token(self, path: str) -> str:
        """The token of the forms of a page."""
        found = _TOKEN.search(self.get(path).text)
        assert found is not None
        return found[1]

    def post(self, path: str, fields: Mapping[str, str], *, page: str | None = None) -> httpx.Response:
        """Send the form that is on a page, on that of `path` unless another is named."""
        return self.client.post(path, data={"token": self.token(page or path), **fields})

    def sign_in(self, key: str) -> None:
        """Sign in."""
        answer = self.post("/sign-in", {"key": key, "next": "/runs"})
        assert answer.status_code == 303, answer.text
        assert answer.headers["location"] == "/runs"


def submit(visitor: Visitor, source: str = "print(1)", **fields: str) -> UUID:
    """Fill the form of new runs in and send it; the run."""
    answer = visitor.post("/new", {"kind": "code", "source": source, **fields})
    assert answer.status_code == 303, answer.text
    return UUID(answer.headers["location"].removeprefix("/runs/"))
