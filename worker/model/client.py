"""The only door to model gateways: one aiohttp session per process."""

from types import TracebackType
from typing import Self

import aiohttp

from worker.model.gateways import Gateway
from worker.model.types import ModelAnswer, ModelCall


class GatewayClient:
    """Asks gateways. Used as `async with GatewayClient() as client`, in one event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        gateway: Gateway,
        call: ModelCall,
        *,
        request_id: str,
        deadline_s: float,
    ) -> ModelAnswer:
        """The model's answer, within `deadline_s` seconds and the gateway's own deadlines.

        Raises:
            ModelError: there is no answer; its kind says what may help.
        """
        raise NotImplementedError
