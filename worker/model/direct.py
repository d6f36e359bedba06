"""A plain composition without resilience, until `worker.model.port.Models` has its own."""

import asyncio
import threading
from dataclasses import replace
from decimal import Decimal
from types import TracebackType
from typing import Self
from uuid import uuid4

from worker.model.client import GatewayClient
from worker.model.gateways import Gateways
from worker.model.types import ModelAnswer, ModelCall, ModelError
from worker.model.want import (
    AUTO,
    BudgetExceeded,
    CallRecord,
    CallStatus,
    Choice,
    Generated,
    ModelsFailed,
    NoModel,
    Want,
)


class Direct:
    """Asks the first gateway that serves the model, once."""

    def __init__(self, gateways: Gateways) -> None:
        self._gateways = gateways
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="models", daemon=True)
        self._client = GatewayClient()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._client.__aenter__(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._client.__aexit__(None, None, None), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def generate(self, want: Want) -> Generated:
        """One call."""
        names = (
            [name for each in self._gateways.all for name in each.models]
            if want.model == AUTO
            else [want.model]
        )
        names = [name for name in names if name not in want.avoid]
        gateway = next((g for name in names for g in self._gateways.serving(name)), None)
        if gateway is None:
            raise NoModel("no gateway serves the model")
        model = self._gateways.catalogue.get(names[0])
        if want.budget_usd is not None and want.budget_usd <= Decimal("0.0001"):
            raise BudgetExceeded("the next call could cost more than is left")
        call = ModelCall(
            model=model.name,
            messages=want.messages,
            system=want.system,
            temperature=want.temperature or 0.2,
            max_tokens=want.max_tokens or 4096,
        )
        request_id = str(uuid4())
        base = CallRecord(
            request_id,
            model.name,
            gateway.name,
            CallStatus.FAILED,
            1,
            0,
            temperature=want.temperature,
            max_tokens=want.max_tokens,
        )
        asked = self._client.ask(gateway, call, request_id=request_id, deadline_s=want.deadline_s)
        try:
            answer: ModelAnswer = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        except ModelError as e:
            record = replace(base, failure=e.kind, detail=e.detail, http_status=e.status)
            if want.on_call is not None:
                want.on_call(record)
            raise ModelsFailed(str(e), calls=(record,), last=e) from None
        cost = self._gateways.catalogue.cost(model.name, answer.usage, gateway.prices)
        record = replace(
            base,
            status=CallStatus.OK,
            model_version=answer.model_version,
            scripted=answer.scripted,
            text=answer.text,
            finish=answer.finish,
            usage=answer.usage,
            price=None if cost is None else cost.price,
            cost_usd=None if cost is None else cost.usd,
            latency_s=answer.latency_s,
            first_byte_s=answer.first_byte_s,
        )
        if want.on_call is not None:
            want.on_call(record)
        choice = Choice(model.name, gateway.name, "it is the first")
        return Generated(answer, choice, (record,), record.cost_usd)
