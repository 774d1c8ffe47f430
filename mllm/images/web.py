"""Whom http may reach: public addresses alone, unless the settings allow others.

A list of images from elsewhere may name, or redirect to, what only this machine can reach: a router, a database, the
metadata service of a cloud. A name is looked up when it is connected to, so it is the address of each connection that
is judged, after every redirect.
"""

from __future__ import annotations

import importlib
import ipaddress
import socket
import urllib.request
from functools import partial
from typing import Any
from urllib.parse import urlsplit

_WITH_IPV4 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96")))
"""IPv4 addresses as IPv6 writes them in its last 32 bits. Sources: RFC 6052; RFC 4291, 2.5.5.1."""


class NotPublicError(OSError):
    """A connection to an address that is not public."""


def is_public(address: str) -> bool:
    """Whether an IP address can be reached from anywhere; one inside another counts as itself."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if any(ip in network for network in _WITH_IPV4):
            inside.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        found = [each for each in inside if each is not None]
        if found:
            return all(is_public(str(each)) for each in found)
    return ip.is_global and not ip.is_multicast


def not_public(error: BaseException | None) -> NotPublicError | None:
    """The refusal behind an error of aiohttp or fsspec."""
    while error is not None:
        if isinstance(error, NotPublicError):
            return error
        error = error.__cause__ or getattr(error, "os_error", None)
    return None


async def public_session(*, proxies: bool = True, **arguments: Any) -> Any:
    """An aiohttp session, as fsspec asks for one, that connects to public addresses.

    `proxies`: and to those of the environment.
    """
    aiohttp = importlib.import_module("aiohttp")
    connector = aiohttp.TCPConnector(socket_factory=partial(_socket, proxies=proxies))
    return aiohttp.ClientSession(connector=connector, middlewares=(_check_host,), **arguments)


async def _check_host(request: Any, handler: Any) -> Any:
    """An address that stands in the URL: a proxy would connect to it out of our sight."""
    address = _as_address(request.url.host or "")
    if address is not None and not is_public(address):
        raise NotPublicError(f"{address} is not a public address")
    return await handler(request)


def _as_address(host: str) -> str | None:
    """The address that a host is; None of a name. C's library also reads `0x7f.1` and `2130706433`."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return "127.0.0.1" if host.rstrip(".").lower().endswith("localhost") else None


def _socket(address_info: tuple[Any, ...], *, proxies: bool) -> socket.socket:
    family, kind, protocol, _, address = address_info
    if not is_public(address[0]) and not (proxies and (address[0], address[1]) in _proxies()):
        raise NotPublicError(f"{address[0]} is not a public address")
    return socket.socket(family=family, type=kind, proto=protocol)


def _proxies() -> set[tuple[str, int]]:
    """Addresses and ports of the environment's proxies, which its owner chose."""
    found: set[tuple[str, int]] = set()
    for url in urllib.request.getproxies().values():
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            known = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except OSError:
            continue
        found |= {(str(entry[4][0]), port) for entry in known}
    return found
