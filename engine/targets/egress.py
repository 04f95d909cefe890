"""Where requests that users' definitions cause may go: addresses are judged before a connection to them is made.

A definition is data from a user; the engine stands inside the operator's network. So an address that is not on the public
internet (private, loopback, link-local, cloud metadata, or such an address wrapped in IPv6) is refused unless the operator
allows it. It judges addresses only and must not know HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from stepwell.engine.errors import ConfigurationError

ALLOW_SETTING: Final = "STEPWELL_HTTP_ALLOW"

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_NOT_PUBLIC_4: Final = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "an address of this host"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier-grade NAT address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a reserved address"),
        ("192.88.99.0/24", "a reserved address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a reserved address"),
        ("198.51.100.0/24", "a reserved address"),
        ("203.0.113.0/24", "a reserved address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
"""IANA's special-purpose registry of IPv4, that of multicast, and class E."""

_NOT_PUBLIC_6: Final = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "an address of this host"),
        ("::1/128", "a loopback address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "a reserved address"),
        ("3fff::/20", "a reserved address"),
    )
)
_UNICAST_6: Final = IPv6Network("2000::/3")
"""All that IANA has given out as global unicast; the rest of IPv6 is reserved."""

_CARRIES_IPV4: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("::ffff:0:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv4-mapped, IPv4-translated and NAT64: the last 32 bits are the IPv4 address that is reached."""
_6TO4: Final = IPv6Network("2002::/16")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)

METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # most clouds
            "169.254.170.2",  # AWS containers
            "169.254.170.23",  # AWS pod identity
            "169.254.0.23",  # Tencent
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure's host, which lies in a public range
            "192.0.0.192",  # Oracle
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",  # Google
        ),
    )
)
"""Services that hand out the machine's own credentials. Only an entry that names the very address opens one."""


def inner_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets for this IPv6 address end up at, for the forms that carry one."""
    number = int(address)
    # Outside the unicast ranges what looks like ISATAP is an address like any other.
    isatap = address in _UNICAST_6 and (number >> 32) & 0xFFFFFFFF in _ISATAP
    if isatap or any(address in network for network in _CARRIES_IPV4):
        return IPv4Address(number & 0xFFFFFFFF)
    return IPv4Address((number >> 80) & 0xFFFFFFFF) if address in _6TO4 else None


def plain(address: Address) -> Address:
    """The address without its wrapping: what `inner_ipv4` finds, else itself, without a zone."""
    if isinstance(address, IPv4Address):
        return address
    return inner_ipv4(address) or IPv6Address(int(address))


def not_public(address: Address) -> str | None:
    """What kind of address this is, if it is not one of the public internet; None if it is."""
    address = plain(address)
    if address in METADATA:
        return "an address of a cloud's metadata service"
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _NOT_PUBLIC_4 if address in network), None)
    kind = next((kind for network, kind in _NOT_PUBLIC_6 if address in network), None)
    return kind or (None if address in _UNICAST_6 else "a reserved address")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the setting: `network` or `host` (a name; `*.` in front takes in all below it), any port or one."""

    network: Network | None
    host: str
    port: int | None

    def matches(self, host: str, port: int, address: Address) -> bool:
        if self.port is not None and port != self.port:
            return False
        if address in METADATA:
            return self.network is not None and self.network.num_addresses == 1 and address in self.network
        if self.network is not None:
            return address in self.network
        if self.host.startswith("*"):
            return host.endswith(self.host[1:])
        return host == self.host


_ENTRY: Final = re.compile(r"(?P<host>\[[^\]]+\](?:/\d+)?|[^:]+|[0-9a-fA-F:.]+(?:/\d+)?)(?::(?P<port>\d{1,5}))?")
_HOST: Final = re.compile(
    r"(?:\*|\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*"
)


class EgressPolicy:
    """Which addresses may be connected to: the public internet, and what the operator allows."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._entries = tuple(entry for text in allow for entry in _parse_entry(text))

    @classmethod
    def parse(cls, setting: str) -> EgressPolicy:
        """Read the setting: entries separated by commas or spaces.

        An entry is an address or network (`10.1.0.0/16`, `[fd00::]/8`), a host name (`billing.internal`, `*.internal`) or
        `loopback`; each may end in `:port`. Raises `ConfigurationError`.
        """
        return cls(part for part in re.split(r"[,\s]+", setting) if part)

    def refusal(self, host: str, port: int, address: str) -> str | None:
        """Why no connection may be made to `address`, which `host` (as the URL has it) led to; None if one may be."""
        try:
            judged = plain(ip_address(address.partition("%")[0]))
        except ValueError:
            return f"{host} leads to {address}, which is not an IP address"
        kind = not_public(judged)
        host = host.lower().rstrip(".").strip("[]")
        if kind is None or any(entry.matches(host, port, judged) for entry in self._entries):
            return None
        where = address if address == host else f"{host} ({address})"
        entry = f"[{judged}]:{port}" if isinstance(judged, IPv6Address) else f"{judged}:{port}"
        by_name = "" if judged in METADATA or address == host else f" or {host}:{port}"
        return (
            f"{where} is {kind}, and requests to such addresses are not allowed. "
            f"If it is meant to be reached, the operator adds {entry}{by_name} to {ALLOW_SETTING}"
        )


def _parse_entry(text: str) -> list[_Entry]:
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise _bad_entry(text)
    name = match["host"].replace("[", "").replace("]", "").lower().rstrip(".")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65536:
        raise _bad_entry(text)
    if name == "loopback":
        return [_Entry(ip_network(network), "", port) for network in ("127.0.0.0/8", "::1/128")]
    try:
        return [_Entry(ip_network(name, strict=False), "", port)]
    except ValueError:
        if not name or _HOST.fullmatch(name) is None or re.fullmatch(r"[0-9./]+", name):
            raise _bad_entry(text) from None
        return [_Entry(None, name, port)]


def _bad_entry(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"{ALLOW_SETTING} has the entry {text!r}, which is neither an address, a network, a host name nor `loopback` "
        "(each may end in `:port`). Examples: 10.1.0.0/16, 192.168.1.5:8080, [fd00::]/8, billing.internal:443, *.internal."
    )
