"""Takes messages from the outbox while there is room, sends each in a task of its own, records what came."""

import asyncio
import logging
import random
import time

import orjson
from sqlalchemy.exc import SQLAlchemyError

from domain import logs
from domain.sealing import Sealer, Unsealable
from domain.webhooks import sign
from worker import faults
from worker.hooks import meters
from worker.hooks.outbox import Message, Outbox
from worker.hooks.pauses import pause_s
from worker.hooks.sender import Answer, Sender
from worker.hooks.settings import HookSettings

log = logging.getLogger(__name__)

#: Seconds that a message is ours beyond the deadline of a try, as recording may have to wait for the database.
_MARGIN_S = 20.0
_PARTING_S = 3.0  # for messages under way once we are told to stop
_FORGET_EVERY_S = 300.0
_FORGOTTEN_AT_ONCE = 1000
_LONGEST_WAIT_S = 30.0  # between two looks while the database is away


class Delivering:
    """See the module."""

    def __init__(self, outbox: Outbox, sender: Sender, sealer: Sealer, settings: HookSettings) -> None:
        self._outbox = outbox
        self._sender = sender
        self._sealer = sealer
        self._settings = settings
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()  # some message ended since we last looked

    def stop(self) -> None:
        """Take nothing more."""
        self._stopping.set()
        self._ended.set()

    async def run(self) -> None:
        """Until stopped."""
        forget_at = 0.0
        pause = self._settings.webhook_poll_s
        while not self._stopping.is_set():
            self._ended.clear()
            try:
                taken = await self._take()
                if time.monotonic() >= forget_at:
                    forget_at = time.monotonic() + _FORGET_EVERY_S
                    await self._forget()
                pause = self._settings.webhook_poll_s
            except SQLAlchemyError as error:
                log.warning("the outbox does not answer: %s", type(error).__name__)
                taken, pause = 0, min(2 * pause, _LONGEST_WAIT_S)
            if not taken:
                await self._pause(pause)
        if self._under_way:  # what takes longer is sent again, by whoever comes next
            await asyncio.wait(self._under_way, timeout=_PARTING_S)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until a message has ended, as that makes room."""
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return

    async def _take(self) -> int:
        room = self._settings.webhook_at_once - len(self._under_way)
        if room <= 0:
            return 0
        taken = await asyncio.to_thread(
            lambda: self._outbox.take(
                room,
                each=self._settings.webhook_at_once_each,
                lease_s=self._settings.webhook_timeout_s + _MARGIN_S,
            )
        )
        for message in taken:
            task = asyncio.create_task(self._deliver(message), name=str(message.id))
            self._under_way.add(task)
            task.add_done_callback(self._done)
        return len(taken)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._ended.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            told = {"delivery_id": task.get_name()}
            log.error("a message was left to be taken again", exc_info=error, extra=told)

    async def _deliver(self, message: Message) -> None:
        with logs.ids(delivery_id=str(message.id)):
            faults.at("hook_taken")
            began = time.monotonic()
            meters.UNDER_WAY.inc()
            try:
                answer = await self._send(message)
            finally:
                meters.UNDER_WAY.dec()
            faults.at("hook_sent")
            meters.sent(answer.error is None, time.monotonic() - began)
            try:
                await asyncio.to_thread(lambda: self._record(message, answer))
            except SQLAlchemyError as error:
                # Its token ends, and somebody sends it again.
                log.warning("what came of a message was not recorded: %s", type(error).__name__)

    async def _send(self, message: Message) -> Answer:
        try:
            secrets = [self._sealer.open(each, message.webhook_id.bytes) for each in message.sealed]
        except Unsealable as error:
            return Answer(error=f"not sent: its secret cannot be read; {error}")
        # The same bytes each time.
        body = orjson.dumps(
            {"type": message.event, "timestamp": message.created_at, "data": message.data},
            option=orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS,
        )
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Retort-Webhooks/1",
            "webhook-id": str(message.id),
            "webhook-timestamp": str(now),
            "webhook-signature": sign(secrets, str(message.id), now, body),
        }
        return await self._sender.send(message.url, headers, body)

    def _record(self, message: Message, answer: Answer) -> None:
        if answer.error is None:
            self._outbox.delivered(message, answer.status)
            return
        settings = self._settings
        pause = pause_s(
            message.attempts,
            first_s=settings.webhook_retry_s,
            most_s=settings.webhook_retry_most_s,
            jitter=random.random(),  # noqa: S311 (spreads tries; nobody gains by guessing)
        )
        failure = self._outbox.failed(
            message,
            error=answer.error,
            status=answer.status,
            gone=answer.gone,
            pause_s=max(pause, answer.pause_s),
            give_up_s=settings.webhook_give_up_s,
            disable_s=settings.webhook_disable_s,
        )
        if failure is not None and failure.given_up:
            log.warning("a message was given up: %s", message.id)
        if failure is not None and failure.disabled:
            log.warning("a webhook was disabled: %s: %s", failure.webhook_id, failure.disabled)

    async def _forget(self) -> None:
        def forget() -> None:
            days = self._settings.webhook_days
            while self._outbox.forget(days=days, most=_FORGOTTEN_AT_ONCE) == _FORGOTTEN_AT_ONCE:
                pass

        await asyncio.to_thread(forget)
