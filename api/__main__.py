"""`python -m api`: serves the API with the settings it was built for."""

import gc
import socket

import uvicorn

from api.main import create_app
from api.protocol import BoundedProtocol
from api.services import Services
from api.settings import load_settings


class Server(uvicorn.Server):
    """Sends waiting clients away before it waits for requests to end, so that stopping takes no minute."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._services.waiting.close()
        await super().shutdown(sockets)


def main() -> None:
    """Serve until told to stop."""
    settings = load_settings()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        host=settings.host,
        port=settings.port,
        log_config=None,  # ours is set already
        access_log=False,  # ours has request ids and no query strings
        server_header=False,
        proxy_headers=False,  # nothing here believes an address
        timeout_keep_alive=75,  # longer than what proxies keep, so that they close first
        timeout_graceful_shutdown=10,
    )
    # What is loaded by now stays: the collector need not look at it again during requests.
    gc.collect()
    gc.freeze()
    Server(config, app.state.services).run()


if __name__ == "__main__":
    main()
