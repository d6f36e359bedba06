"""Calls about the service itself: what it offers, how it does, and, for keys with the scope `admin`, keys."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from retort.client.exchange import Exchange, once, time_of
from retort.client.file_calls import id_of
from retort.client.offers import Caller, Key, Languages, Models, Profiles, Stats
from retort.client.steps import Give, Steps, Stream, call, stream


class ServiceCalls(Exchange):
    """What is there, and who may use it."""

    @call
    def models(self) -> Steps[Models]:
        """The models that the service knows, which of them are served now, and the presets.

        >>> with Retort() as client:
        ...     print("gpt-4.1" in [model.name for model in client.models().models])
        True
        """
        return (yield from self._read(Models, "GET", "/v1/models"))

    @call
    def languages(self) -> Steps[Languages]:
        """The languages, with the versions and packages that live workers have.

        >>> with Retort() as client:
        ...     print("python" in [language.name for language in client.languages().languages])
        True
        """
        return (yield from self._read(Languages, "GET", "/v1/languages"))

    @call
    def profiles(self) -> Steps[Profiles]:
        """The profiles, with the range of each limit.

        >>> with Retort() as client:
        ...     print(client.profiles().profiles[0].limits["timeout_s"]["least"])
        1
        """
        return (yield from self._read(Profiles, "GET", "/v1/profiles"))

    @call
    def stats(
        self,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        by: Iterable[str] = (),
    ) -> Steps[Stats]:
        """What your jobs of a time came to (by default the last day's), and how the service's sandboxes do.

        `by` is of `model`, `language`, `verdict` and `time`, and gives a row for each group.

        >>> with Retort() as client:
        ...     job = client.run("print(1)")
        ...     print(client.stats(by=["language"]).total.jobs > 0)
        True
        """
        params = {"since": time_of(since), "until": time_of(until), "by": ",".join(by) or None}
        return (yield from self._read(Stats, "GET", "/v1/stats", params=params))

    @stream
    def keys(self, *, caller: Caller | str | None = None) -> Stream[Key]:
        """API keys, newest first, of one caller or of all."""
        params: dict[str, Any] = {"caller_id": None if caller is None else id_of(caller)}
        while True:
            page = self._document((yield from self._send("GET", "/v1/keys", params=params)))
            for each in page["keys"]:
                yield Give(Key.of(each))
            params["cursor"] = page.get("next_cursor")
            if not params["cursor"]:
                return

    @call
    def create_key(
        self,
        caller: Caller | str,
        *,
        scopes: Iterable[str] = ("submit", "read"),
        expires_in_s: int | None = None,
        idempotency_key: str | None = None,
    ) -> Steps[Key]:
        """Make a key of a caller; `key` of the answer is the key itself, this once.

        Raises:
            NotFound: there is no such caller.
        """
        caller_id = caller if isinstance(caller, str) else caller.id
        body = {"caller_id": caller_id, "scopes": [*scopes], "expires_in_s": expires_in_s}
        return (yield from self._read(Key, "POST", "/v1/keys", json=body, headers=once(idempotency_key)))

    @call
    def rotate_key(
        self, key: Key | str, *, overlap_s: int = 0, idempotency_key: str | None = None
    ) -> Steps[Key]:
        """Make a key in the place of another, which stays good for `overlap_s`."""
        path = f"/v1/keys/{id_of(key)}/rotate"
        body = {"overlap_s": overlap_s}
        return (yield from self._read(Key, "POST", path, json=body, headers=once(idempotency_key)))

    @call
    def revoke_key(self, key: Key | str) -> Steps[None]:
        """End a key; it is refused everywhere within two seconds."""
        yield from self._send("DELETE", f"/v1/keys/{id_of(key)}")

    @stream
    def callers(self) -> Stream[Caller]:
        """Callers, newest first."""
        params: dict[str, Any] = {}
        while True:
            page = self._document((yield from self._send("GET", "/v1/callers", params=params)))
            for each in page["callers"]:
                yield Give(Caller.of(each))
            params["cursor"] = page.get("next_cursor")
            if not params["cursor"]:
                return

    @call
    def create_caller(
        self, name: str, *, quotas: dict[str, Any] | None = None, idempotency_key: str | None = None
    ) -> Steps[Caller]:
        """Make a caller.

        Raises:
            Conflict: there is one of this name.
        """
        body = {"name": name, "quotas": quotas or {}}
        return (yield from self._read(Caller, "POST", "/v1/callers", json=body, headers=once(idempotency_key)))
