"""What a service manager is told over NOTIFY_SOCKET: that the worker is ready, is alive, or is about to stop.

Owns the protocol of sd_notify(3), of which these few lines are all that is needed. Decides nothing: when something is
so is the worker's business. Without a service manager every call does nothing.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5.0
"""A service manager that does not read must not stop deliveries."""


class ServiceManager:
    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        """Whom the environment of process `pid` names; nobody, if it names none."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        # sd_watchdog_enabled(3): the variables may be meant for a parent of this process.
        self._is_watched = bool(environment.get("WATCHDOG_USEC")) and environment.get("WATCHDOG_PID", str(pid)) == str(
            pid
        )
        self._status = ""
        if self._address and not self._address.startswith(("/", "@")):
            log.warning("NOTIFY_SOCKET names no socket of this machine (%s): no service manager is told", self._address)
            self._address = ""

    def ready(self) -> None:
        self._tell("READY=1")

    def alive(self, status: str) -> None:
        """Tell what goes on in a few words, if that has changed; and the watchdog, where there is one."""
        lines = ["WATCHDOG=1"] if self._is_watched else []
        if status != self._status:
            lines.append(f"STATUS={status}")
            self._status = status
        self._tell(*lines)

    def stopping(self, status: str) -> None:
        self._tell("STOPPING=1", f"STATUS={status}")

    def _tell(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        # An address that begins with @ is in the abstract namespace (unix(7)): its first byte is a NUL.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_PATIENCE_SECONDS)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("cannot tell the service manager %s: %s", lines[0], error)
