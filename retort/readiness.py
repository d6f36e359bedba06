"""Ask a running service whether it is ready, and if not, why."""

import http.client
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Readiness:
    """What /readyz said."""

    ok: bool
    why_not: str = ""


def reachable_host(host: str) -> str:
    """Where to knock at a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104


def service_url(host: str, port: int) -> str:
    """The address to show to people on this machine."""
    host = reachable_host(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ask(host: str, port: int, timeout_s: float = 2.0) -> Readiness:
    """One look, directly: a proxy in the environment has no business between us and our own process."""
    connection = http.client.HTTPConnection(reachable_host(host), port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(65536)
    except ConnectionRefusedError:
        return Readiness(False, "the API does not answer yet")
    except (OSError, http.client.HTTPException) as reason:
        return Readiness(False, f"the API does not answer ({reason})")
    finally:
        connection.close()
    if answer.status == 200:
        return Readiness(True)
    return Readiness(False, _explain(body) or f"/readyz answers {answer.status}")


def _explain(body: bytes) -> str:
    """The reasons in a /readyz document, whose every part is `{"ready": …, "why_not": …}`."""
    try:
        document: Any = json.loads(body)
    except ValueError:
        return ""
    parts = document.items() if isinstance(document, dict) else ()
    return "; ".join(
        f"{name}: {part.get('why_not') or 'not ready'}"
        for name, part in parts
        if isinstance(part, dict) and part.get("ready") is False
    )
