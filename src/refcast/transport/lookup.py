"""Looking names up, within a deadline. Knows nothing of what the addresses are for.

getaddrinfo cannot be interrupted, so each look-up has a thread of its own, which is left behind when the time
is up. What is left behind is bounded: one name has two look-ups at most, so that a dead name server costs what
its names can cost and no more, and while as many as MOST hang, no further one begins. (Those that somebody
waits for are no more than there are callers.) The resolver ends them by itself, mostly within half a minute.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from refcast.transport.failure import Failure

MOST = 64
"""How many abandoned look-ups there may be in one process before a new one is refused."""
MOST_PER_NAME = 2

Address = tuple[int, tuple[Any, ...]]
"""What a socket needs: the family, and the address as that family writes it; first comes the IP address."""


class _Lookup:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.waiting = 0
        """How many callers wait for it. A look-up under way for which nobody waits is abandoned."""
        self.found: list[Address] = []
        self.error = ""


class Lookups:
    """The look-ups of a process; all threads share them. Nothing is remembered: a name may change at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, list[_Lookup]] = {}

    @property
    def abandoned(self) -> int:
        """How many look-ups hang that nobody waits for any more."""
        with self._lock:
            return self._count()

    def addresses(self, host: str, port: int, deadline: float) -> list[Address]:
        """The addresses of `host` in the resolver's order, at least one. Raises Failure of the class `dns`."""
        if found := literal(host, port):
            return found
        name = host.lower()
        lookup, new = self._join(name)
        if new:
            self._start(name, lookup)
        try:
            ended = lookup.done.wait(max(0.0, deadline - time.monotonic()))
        finally:
            with self._lock:
                lookup.waiting -= 1
        if not ended:
            hanging = max(1, self.abandoned)
            raise Failure("dns", f"the name {host} was not resolved in time; look-ups that hang here: {hanging}")
        if lookup.error:
            raise Failure("dns", f"the name {host} does not resolve: {lookup.error}")
        return [(family, (address[0], port, *address[2:])) for family, address in lookup.found]

    def _join(self, name: str) -> tuple[_Lookup, bool]:
        """A look-up of the name that this caller now waits for, and whether it has yet to be started."""
        with self._lock:
            running = self._under_way.get(name, [])
            lookup = next((one for one in running if one.waiting), None)
            if lookup is None and len(running) >= MOST_PER_NAME:
                lookup = running[-1]
            new = lookup is None
            if lookup is None:
                if (hanging := self._count()) >= MOST:
                    raise Failure("dns", f"{name} is not looked up: {hanging} look-ups hang in this host's resolver")
                lookup = _Lookup()
                self._under_way[name] = [*running, lookup]
            lookup.waiting += 1
            return lookup, new

    def _start(self, name: str, lookup: _Lookup) -> None:
        try:
            threading.Thread(target=self._run, args=(name, lookup), name="look-up", daemon=True).start()
        except RuntimeError:
            lookup.error = "this host has no thread left"
            self._end(name, lookup)

    def _run(self, name: str, lookup: _Lookup) -> None:
        try:
            lookup.found = _resolved(name, 0)
            if not lookup.found:
                lookup.error = "it has no address"
        except UnicodeError:
            lookup.error = "not a valid name"
        except OSError as error:
            lookup.error = error.strerror or type(error).__name__
        finally:
            self._end(name, lookup)

    def _end(self, name: str, lookup: _Lookup) -> None:
        with self._lock:
            rest = [one for one in self._under_way[name] if one is not lookup]
            if rest:
                self._under_way[name] = rest
            else:
                del self._under_way[name]
        lookup.done.set()

    def _count(self) -> int:
        return sum(not one.waiting for running in self._under_way.values() for one in running)


def literal(host: str, port: int) -> list[Address]:
    """The address that `host` is, in any spelling that the resolver takes (`127.1`, `0x7f000001`, `fe80::1%eth0`);
    empty where it is a name. Asks nobody."""
    try:
        return _resolved(host, port, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []


def _resolved(host: str, port: int, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((int(family), tuple(address)) for family, _, _, _, address in found))
