"""Where a request comes from: its peer, or what a proxy that is trusted says of it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

Network = IPv4Network | IPv6Network


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks or single addresses, from text.

    Raises:
        ValueError: one is neither.
    """
    return tuple(ip_network(text.strip()) for text in texts)


def address_of(scope: Scope, trusted: Sequence[Network]) -> str:
    """The address of the client.

    `X-Forwarded-For` is read from its end, and only as far as each hop is trusted: whoever is not could have
    written anything before it.
    """
    client = scope.get("client")
    peer = client[0] if client else ""
    if not trusted:
        return str(peer)
    hops = [
        hop.strip()
        for name, value in scope["headers"]
        if name == b"x-forwarded-for"
        for hop in value.decode("latin-1").split(",")
    ]
    found = _address(str(peer))
    while hops and found is not None and _within(found, trusted):
        before = _address(hops.pop())
        if before is None:
            break
        found = before
    return str(found or peer)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped or found


def _within(address: IPv4Address | IPv6Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)
