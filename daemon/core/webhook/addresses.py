"""Which IP addresses belong to no public receiver: one explicit list for each address family.

Pure. The lists come from IANA's special-purpose registries, plus the public addresses of cloud platforms' internal
services. `ipaddress.is_global` does not suffice: on Python 3.11 it calls 192.0.0.192, multicast and the NAT64 and 6to4
forms of loopback global, and on all versions 168.63.129.16.

The one thing to know: an IPv4 address is allowed unless it is listed. An IPv6 address must also lie in 2000::/3, the
only global unicast range; all others are denied, listed or not.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class DenyReason(StrEnum):
    """Why a target is refused; also the label values of the metric hookledger_egress_denied_total."""

    URL_LENGTH = "url_length"
    URL_CHARACTER = "url_character"
    SCHEME = "scheme"
    USERINFO = "userinfo"
    FRAGMENT = "fragment"
    HOST = "host"
    NUMERIC_HOST = "numeric_host"
    LOCAL_NAME = "local_name"
    PORT = "port"
    DENY_NETS = "deny_nets"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link_local"
    CLOUD_PLATFORM = "cloud_platform"
    MULTICAST = "multicast"
    RESERVED = "reserved"
    TRANSITION = "transition"
    NOT_THE_PROXY = "not_the_proxy"
    NOT_AN_ADDRESS = "not_an_address"


NAT64 = IPv6Network("64:ff9b::/96")
"""The only IPv6 form of an IPv4 address that is allowed, if its IPv4 address is: IPv6-only hosts need it."""


def ipv4_inside(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 or 6to4."""
    if isinstance(address, IPv4Address):
        return None
    number = int(address)
    if number >> 32 in _IPV4_PREFIXES and number > 1:
        return IPv4Address(number & 0xFFFFFFFF)
    return address.sixtofour


def reserved_as(address: Address) -> DenyReason | None:
    """What `address` is reserved for, or None for global unicast. For NAT64, check `ipv4_inside` instead."""
    if isinstance(address, IPv4Address):
        return _first_match(int(address), _RESERVED_IPV4)
    outside = None if address in _GLOBAL_UNICAST else DenyReason.RESERVED
    return _first_match(int(address), _RESERVED_IPV6) or outside


_IPV4_PREFIXES = (0, 0xFFFF, int(NAT64.network_address) >> 32)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_Range = tuple[int, int, DenyReason]


def _ranges(*rows: tuple[str, DenyReason]) -> tuple[_Range, ...]:
    networks = ((IPv6Network(text) if ":" in text else IPv4Network(text), reason) for text, reason in rows)
    return tuple((int(net.network_address), int(net.broadcast_address), reason) for net, reason in networks)


def _first_match(number: int, ranges: tuple[_Range, ...]) -> DenyReason | None:
    for first, last, reason in ranges:
        if first <= number <= last:
            return reason
    return None


_RESERVED_IPV4 = _ranges(
    ("127.0.0.0/8", DenyReason.LOOPBACK),
    ("10.0.0.0/8", DenyReason.PRIVATE),
    ("172.16.0.0/12", DenyReason.PRIVATE),
    ("192.168.0.0/16", DenyReason.PRIVATE),
    ("100.64.0.0/10", DenyReason.PRIVATE),  # shared by carriers (RFC 6598); Alibaba's metadata is in it
    ("169.254.0.0/16", DenyReason.LINK_LOCAL),
    ("168.63.129.16/32", DenyReason.CLOUD_PLATFORM),  # Azure's WireServer, a public number on every Azure machine
    ("224.0.0.0/4", DenyReason.MULTICAST),
    ("0.0.0.0/8", DenyReason.RESERVED),  # Linux connects 0.0.0.0 to loopback
    ("192.0.0.0/24", DenyReason.RESERVED),
    ("192.0.2.0/24", DenyReason.RESERVED),
    ("198.18.0.0/15", DenyReason.RESERVED),
    ("198.51.100.0/24", DenyReason.RESERVED),
    ("203.0.113.0/24", DenyReason.RESERVED),
    ("240.0.0.0/4", DenyReason.RESERVED),
    ("192.88.99.0/24", DenyReason.TRANSITION),
)
_RESERVED_IPV6 = _ranges(
    ("::1/128", DenyReason.LOOPBACK),
    ("2001::/23", DenyReason.RESERVED),
    ("2001:db8::/32", DenyReason.RESERVED),
    ("2002::/16", DenyReason.TRANSITION),
    ("3fff::/20", DenyReason.RESERVED),
    ("fc00::/7", DenyReason.PRIVATE),
    ("fe80::/10", DenyReason.LINK_LOCAL),
    ("ff00::/8", DenyReason.MULTICAST),
)
