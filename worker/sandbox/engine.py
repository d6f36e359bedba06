"""The one door to the container engine.

A thin, typed layer over the Docker SDK: each method is one call of the engine's API. Clients are per thread,
because their HTTP sessions are not made for sharing; they keep their connections open.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import docker
import docker.errors
import requests
from docker.transport import UnixHTTPAdapter
from docker.utils import kwargs_from_env

#: Seconds after which a call that the engine does not answer counts as failed.
CALL_TIMEOUT_S = 30


class EngineError(Exception):
    """The engine refused or failed a call."""


class EngineDown(EngineError):
    """The engine cannot be reached, or does not answer."""


class NoSuchContainer(EngineError):
    """The container is gone."""


class NoSuchImage(EngineError):
    """The engine lacks the image."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except docker.errors.ImageNotFound as e:
        raise NoSuchImage(str(e.explanation or e)) from e
    except docker.errors.NotFound as e:
        text = str(e.explanation or e)
        raise (NoSuchImage if "image" in text.lower() else NoSuchContainer)(text) from e
    except docker.errors.APIError as e:
        raise EngineError(str(e.explanation or e)) from e
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as e:
        raise EngineDown(f"the container engine does not answer: {e}") from e


class _OnePool(UnixHTTPAdapter):
    """One pool of connections to the local socket, whatever the path.

    The SDK makes a pool for each path, of which it keeps 25 in each thread with a connection open; and every
    container has paths of its own.
    """

    @classmethod
    def use(cls, client: docker.APIClient) -> None:
        """Let a client that talks to a local socket do so in this way."""
        theirs = client.get_adapter(client.base_url)
        if isinstance(theirs, UnixHTTPAdapter):
            client.mount("http+docker://", cls(theirs.socket_path, CALL_TIMEOUT_S))
            theirs.close()

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
        """The one pool, whatever the path."""
        return super().get_connection("http+docker://localhost", proxies)


class Attachment:
    """A raw stream to a container's stdin and stdout, to be closed by whoever asked for it."""

    def __init__(self, raw: Any) -> None:
        # Closing the HTTP response would close the socket, so both are kept together.
        self._raw = raw
        self.socket: socket.socket = raw._sock if hasattr(raw, "_sock") else raw

    def close(self) -> None:
        """Hang up."""
        response = getattr(self._raw, "_response", None)
        for end in (self.socket, response):
            if end is not None:
                try:
                    end.close()
                except OSError:
                    continue


class Engine:
    """Calls to the engine that the environment names (DOCKER_HOST, or the local socket)."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._version: str | None = None

    @property
    def _client(self) -> docker.APIClient:
        client: docker.APIClient | None = getattr(self._local, "client", None)
        if client is None:
            with _translated():
                options = kwargs_from_env()
                # The API version is asked for once, not once per thread.
                client = docker.APIClient(version=self._version or "auto", timeout=CALL_TIMEOUT_S, **options)
                self._version = client.api_version
                _OnePool.use(client)
            self._local.client = client
        return client

    def ping(self) -> None:
        """Return if the engine answers.

        Raises:
            EngineDown: it does not.
        """
        with _translated():
            self._client.ping()

    def version(self) -> dict[str, Any]:
        """The engine's and its parts' versions."""
        with _translated():
            return dict(self._client.version())

    def info(self) -> dict[str, Any]:
        """What the engine says of itself: runtimes, cgroup version, limits it supports."""
        with _translated():
            return dict(self._client.info())

    def create(self, config: dict[str, Any]) -> str:
        """Create a container from the body of a create call; its id."""
        with _translated():
            made = self._client.create_container_from_config(config, None, None)  # type: ignore[no-untyped-call]
            return str(made["Id"])

    def attach(self, container: str) -> Attachment:
        """Open the stream to a container. Before it is started, so that nothing it writes is missed."""
        with _translated():
            params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            return Attachment(self._client.attach_socket(container, params=params))

    def start(self, container: str) -> None:
        """Start a created container."""
        with _translated():
            self._client.start(container)

    def kill(self, container: str) -> None:
        """Kill a container at once. One that is gone or not running is as good as killed."""
        try:
            with _translated():
                self._client.kill(container)
        except NoSuchContainer:
            return
        except EngineError as e:
            if "is not running" not in str(e):
                raise

    def remove(self, container: str) -> None:
        """Kill and remove a container, with its anonymous volumes. May be called twice."""
        try:
            self._remove(container)
        except EngineError as e:
            if "is not running" not in str(e):
                raise
            self._remove(container)  # it ended by itself between the engine's look and its kill

    def _remove(self, container: str) -> None:
        try:
            with _translated():
                self._client.remove_container(container, force=True, v=True)
        except NoSuchContainer:
            return
        except EngineError as e:
            if "already in progress" not in str(e):
                raise

    def update(self, container: str, resources: dict[str, int]) -> None:
        """Change `spec.resources` of a running container."""
        with _translated():
            self._client.update_container(
                container,
                mem_limit=resources["Memory"],
                memswap_limit=resources["MemorySwap"],
                cpu_period=resources["CpuPeriod"],
                cpu_quota=resources["CpuQuota"],
            )

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        with _translated():
            return dict(self._client.inspect_container(container))

    def wait(self, container: str, timeout_s: int) -> int:
        """Wait for a container's end; its exit code.

        Raises:
            EngineDown: it did not end in time.
        """
        with _translated():
            return int(self._client.wait(container, timeout=timeout_s)["StatusCode"])

    def ran_out_of_memory(self, container: str, within_s: float) -> bool:
        """Whether the engine's events tell of an end of memory in a container, or do so within that time.

        `OOMKilled` of `inspect` says it only if the engine heard of that before it heard of the end, which are
        two ways, and a busy host turns their order round.
        """
        with _translated():
            client: Any = self._client  # typed for whole seconds; the engine knows parts of them
            events = client.events(
                since=1,
                until=f"{time.time() + within_s:.6f}",
                filters={"type": "container", "container": container, "event": "oom"},
            )
            with closing(events):
                return next(iter(events), None) is not None

    def image(self, image: str) -> dict[str, Any]:
        """What the engine knows of an image: its content id is `Id`.

        Raises:
            NoSuchImage: the engine lacks it.
        """
        with _translated():
            found: dict[str, Any] = self._client.inspect_image(image)  # type: ignore[no-untyped-call]
            return found

    def labelled(self, label: str, value: str) -> list[dict[str, Any]]:
        """All containers with a label, running or not: their ids and labels."""
        with _translated():
            return list(self._client.containers(all=True, filters={"label": f"{label}={value}"}))
