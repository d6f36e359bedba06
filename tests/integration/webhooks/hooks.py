"""What tests of webhooks share: time as it is scaled here, and a caller of the service.

What takes seconds and hours in earnest takes hundredths and seconds here.
"""

from typing import Any
from uuid import UUID

import httpx

from tests.conftest import Services
from tests.harness import eventually
from tests.integration.api.harness import Server, Store

KEY = "a key for the secrets of webhooks, in tests alone"
ALLOWED = {"webhook_networks": "127.0.0.1/32", "webhook_http": "true"}
SCALED = {
    "webhook_timeout_s": "1",
    "webhook_retry_s": "0.05",
    "webhook_retry_most_s": "0.4",
    "webhook_poll_s": "0.05",
}


class Hooks:
    """The service with one caller, and what the tests do with it."""

    def __init__(self, services: Services, server: Server) -> None:
        self.store = Store(services.database_url, services.redis_url)
        headers = {"Authorization": f"Bearer {self.store.key('alice')}"}
        self.client = httpx.Client(base_url=server.url, headers=headers, timeout=60)

    def create(self, url: str, **fields: Any) -> dict[str, Any]:
        """A webhook."""
        answer = self.client.post("/v1/webhooks", json={"url": url, **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def ended(self) -> str:
        """A job that has ended: its id."""
        job: str = self.client.post("/v1/jobs", json={"code": "1"}).json()["id"]
        self.store.finish(UUID(job))
        return job

    def ping(self, hook: dict[str, Any]) -> str:
        """A test message: its id."""
        sent: str = self.client.post(f"{hook['links']['self']}/test").json()["id"]
        return sent

    def log(self, hook: dict[str, Any], **params: str) -> list[dict[str, Any]]:
        """The deliveries of a webhook, newest first."""
        path = hook["links"]["deliveries"]
        found: list[dict[str, Any]] = self.client.get(path, params={"limit": "200", **params}).json()[
            "deliveries"
        ]
        return found

    def read(self, hook: dict[str, Any]) -> dict[str, Any]:
        """The webhook as it is now."""
        found: dict[str, Any] = self.client.get(hook["links"]["self"]).json()
        return found

    def arrived(self, hook: dict[str, Any], count: int) -> None:
        """Wait until so many are delivered."""
        eventually(
            lambda: len(self.log(hook, state="delivered")) == count, lambda: f"all arrive: {self.log(hook)}"
        )

    def failing(self, hook: dict[str, Any]) -> dict[str, Any]:
        """Wait until the newest has failed once or more: the delivery."""
        eventually(lambda: self.log(hook)[0]["last_error"] is not None, "it fails")
        return self.log(hook)[0]
