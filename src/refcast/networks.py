"""Which addresses may be connected to: an address and the administrator's rules -> why not. Resolves nothing.

The narrowest network that holds an address decides. Among networks of one width the administrator's entries
come before those built in, and refusing before allowing. What no network holds is allowed.

Built in is the refusal of what is never a receiver: this host by another name, link-local and multicast
addresses, and those at which clouds hand their machines credentials. Loopback and private networks are
allowed: an administrator's LAN is the usual receiver. `refuse` can close them, as a whole too:
`NetworkRules(refuse=("0.0.0.0/0", "::/0"), allow=("10.1.0.0/16",))` allows one network and no other.

An IPv6 address that stands for an IPv4 address is judged as that too, and both must be allowed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from refcast.errors import BadInput
from refcast.model import NetworkRules

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_METADATA = "serves a cloud's credentials"

BUILT_IN: dict[str, str] = {
    "0.0.0.0/8": "is this host (RFC 1122)",
    "::/128": "is unspecified (RFC 4291)",
    "169.254.0.0/16": "is link-local, where clouds serve credentials (RFC 3927)",
    "fe80::/10": "is link-local (RFC 4291)",
    "224.0.0.0/4": "is multicast (RFC 5771)",
    "ff00::/8": "is multicast (RFC 4291)",
    "240.0.0.0/4": "is reserved (RFC 1112)",
    "255.255.255.255/32": "is broadcast (RFC 919)",
    "100::/64": "is discard-only (RFC 6666)",
    # Clouds' own addresses outside the link-local networks, as their documentation and SDKs name them.
    "100.100.100.200/32": _METADATA,  # Alibaba
    "168.63.129.16/32": _METADATA,  # Azure, the wire server
    "192.0.0.192/32": _METADATA,  # Oracle, classic
    "fd00:ec2::/32": _METADATA,  # Amazon: instance metadata at ::254, pod identity at ::23
    "fd20:ce::254/128": _METADATA,  # Google
    "fd00:c1::a9fe:a9fe/128": _METADATA,  # Oracle
    "fd00:42::42/128": _METADATA,  # Scaleway
    "fd00:a9fe:a9fe::1/128": _METADATA,  # Akamai
    "fd00:100::100:200/128": _METADATA,  # Alibaba
}
"""Networks that are refused, each with what it is."""

_MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4 written as IPv6: the system connects by IPv4 (RFC 4291 2.5.5.2)."""

_EMBEDDING = (
    IPv6Network("::/96"),  # IPv4-compatible (RFC 4291 2.5.5.1)
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated (RFC 2765 2.1)
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
    IPv6Network("64:ff9b:1::/48"),  # ... of one's own (RFC 8215), in its /96 form
)
"""Where the last 32 bits of an IPv6 address are the IPv4 address that somebody translates it to."""

_ENTRY = re.compile(r"[0-9A-Fa-f:.]+(/[0-9]{1,3})?")


def refusal(address: str, rules: NetworkRules) -> str:
    """Why `address` may not be connected to, in one line that names the setting; empty where it may.

    `address` is what a look-up gave: canonical, perhaps with a scope (`fe80::1%eth0`). What is no such
    address is refused. Raises BadInput where an entry of the rules is none.
    """
    try:
        parsed = _plain(ip_address(address.partition("%")[0]))
    except ValueError:
        return "it is no IP address"
    for meant in _meanings(parsed):
        if found := _decisive(meant, rules):
            holding, why = found
            shown = address if str(meant) == address.partition("%")[0] else f"{address} means {meant}, which"
            whole = "" if holding.prefixlen == holding.max_prefixlen else f"is in {holding}, which "
            return f"{shown} {whole}{why} in refcast.toml"
    return ""


def network(entry: object) -> Network:
    """The network of one entry of the rules, such as `10.0.0.0/8`, `fd00::/8` or a single address.

    Raises BadInput, one line, for what is none.
    """
    if not isinstance(entry, str) or not _ENTRY.fullmatch(entry):
        raise BadInput(
            f"{entry!r} is not a network: write it as 10.0.0.0/8, fd00::/8 or one address (names do not count)"
        )
    try:
        meant = ip_network(entry, strict=False)
    except ValueError:
        raise BadInput(f"{entry!r} is not a network: write it as 10.0.0.0/8, fd00::/8 or one address") from None
    written = ip_address(entry.partition("/")[0])
    if written != meant.network_address:
        raise BadInput(f"{entry!r} is no network but an address in one: write {meant} or {written}")
    if isinstance(meant, IPv6Network) and meant.subnet_of(_MAPPED):
        return IPv4Network((int(meant.network_address) & 0xFFFFFFFF, meant.prefixlen - 96))
    return meant


def _plain(address: Address) -> Address:
    """An IPv4 address written as IPv6 is what the system makes of it: IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _meanings(address: Address) -> list[Address]:
    """The address, and the IPv4 address that it stands for in a network that translates."""
    found: list[Address] = [address]
    if isinstance(address, IPv6Address) and int(address) > 1:  # :: and ::1 stand for themselves
        if address.sixtofour is not None:
            found.append(address.sixtofour)
        if any(address in one for one in _EMBEDDING):
            found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return found


@lru_cache(maxsize=64)
def _table(rules: NetworkRules) -> tuple[tuple[Network, str], ...]:
    """All networks in the order in which they decide, each with why it is refused; empty where it is allowed."""
    every = [(network(entry), "is refused by network.refuse") for entry in rules.refuse]
    every += [(network(entry), "") for entry in rules.allow]
    every += [(ip_network(entry), f"{why}; it can be opened by network.allow") for entry, why in BUILT_IN.items()]
    # sorted() keeps the order of equals.
    return tuple(sorted(every, key=lambda one: -one[0].prefixlen))


@lru_cache(maxsize=1024)
def _decisive(address: Address, rules: NetworkRules) -> tuple[Network, str] | None:
    """The network that refuses an address, and why; None where it is allowed."""
    for holding, why in _table(rules):
        if address.version == holding.version and address in holding:
            return (holding, why) if why else None
    return None
