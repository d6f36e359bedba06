"""Which addresses a webhook may lead to: those of the Internet, and what an operator allows beside them.

>>> reach = Reach()
>>> [reach.allows(literal(text)) for text in ("1.1.1.1", "127.0.0.1", "10.0.0.1", "::ffff:1.1.1.1", "fe80::1")]
[True, False, False, False, False]
>>> Reach.of("10.0.0.0/8").allows(literal("10.0.0.1"))
True
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pydantic import BaseModel, Field, field_validator

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Where hosters tell a machine who it is, and often its credentials. No setting opens these.
METADATA: frozenset[Address] = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.169.253",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)

#: Beside what is not global: other ways to write an IPv4 address, which lead to whatever a router makes of
#: them, and blocks that some versions of Python still call global.
_NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/23",
        "2002::/16",
        "100::/64",
        "fec0::/10",
        "5f00::/16",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "100.64.0.0/10",
    )
)


def literal(host: str) -> Address | None:
    """The address that a host is, if it is one and not a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be reached; `networks` are those that an operator allows."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, text: str) -> "Reach":
        """From networks with commas between.

        Raises:
            ValueError: one is not a network.
        """
        return cls(tuple(ip_network(part.strip()) for part in text.split(",") if part.strip()))

    def allows(self, address: Address) -> bool:
        """Whether a message may be sent to this address."""
        if address in METADATA or (isinstance(address, IPv6Address) and _embedded(address) in METADATA):
            return False
        if _within(address, self.networks):
            return True
        public = address.is_global and not (
            address.is_multicast or address.is_reserved or address.is_link_local or address.is_unspecified
        )
        return public and not _within(address, _NEVER)


def _embedded(address: IPv6Address) -> Address | None:
    """The IPv4 address in its last 32 bits, of which many spellings exist."""
    return IPv4Address(int(address) & 0xFFFFFFFF) if int(address) >> 64 == 0 else address.ipv4_mapped


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


class ReachSettings(BaseModel):
    """What an operator allows beside the Internet: for who checks URLs of webhooks, and for who sends there."""

    webhook_networks: str = Field(
        default="", description="Networks that may be reached beside the Internet, with commas between."
    )
    webhook_http: bool = Field(default=False, description="Whether http:// will do.")

    @field_validator("webhook_networks")
    @classmethod
    def _networks(cls, text: str) -> str:
        Reach.of(text)
        return text

    @property
    def reach(self) -> Reach:
        """Where messages may be sent."""
        return Reach.of(self.webhook_networks)
