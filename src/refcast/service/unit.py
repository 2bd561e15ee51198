"""The text of refcast's systemd unit, for root's manager or for that of one's own account. Values in, text out.

The reason of each line is in docs/service.md; a test holds the two together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from refcast.errors import BadInput

MARK = "# refcast service: written by `refcast service install`, and taken away by `refcast service remove`"

_HEAD = """\
[Unit]
Description=refcast, webhooks for what is pushed to git
{order}\
StartLimitIntervalSec=0

[Service]
Type=notify
{user}\
ExecStart={command}
SyslogIdentifier=refcast
Restart=always
RestartSec=10
TimeoutStartSec=120
TimeoutStopSec=60
"""

_ORDER = """\
Wants=network-online.target
After=network-online.target nss-lookup.target remote-fs.target
RequiresMountsFor={state}
"""

_SANDBOX = """\
UMask=0077
NoNewPrivileges=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
"""

_SANDBOX_OF_ROOT = """\
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths={state}
ProtectHome=read-only
{private_tmp}\
PrivateDevices=yes
PrivateIPC=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
KeyringMode=private
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """What the unit of one state directory says."""

    state: Path
    program: Path
    """The Python that has refcast."""
    user: str = ""
    """Whom the worker belongs to; empty in the manager of one's own account."""

    def text(self) -> str:
        state = _quoted(self.state)
        words = (self.program, "-I", "-m", "refcast", "--state", self.state, "worker", "--replace")
        head = _HEAD.format(
            order=_ORDER.format(state=state) if self.user else "",
            user=f"User={self.user}\n" if self.user else "",
            command=" ".join(_quoted(word).replace("$", "$$") for word in words),
        )
        is_temporary = any(self.state.is_relative_to(place) for place in ("/tmp", "/var/tmp"))  # noqa: S108
        ours = _SANDBOX_OF_ROOT.format(state=state, private_tmp="" if is_temporary else "PrivateTmp=yes\n")
        target = "multi-user.target" if self.user else "default.target"
        return f"{MARK}\n{head}{_SANDBOX}{ours if self.user else ''}\n[Install]\nWantedBy={target}\n"

    @staticmethod
    def program_in(text: str) -> str:
        """The program that the text of a unit names; empty if it names none."""
        found = re.search(r'^ExecStart=(?:"((?:[^"\\]|\\.)*)"|(\S+))', text, re.MULTILINE)
        word = "" if found is None else re.sub(r"\\(.)", r"\1", found[1]) if found[1] else found[2]
        return word.replace("%%", "%").replace("$$", "$")

    def is_for(self, text: str) -> bool:
        """Whether the text of a unit is one of refcast's for this state directory, of whatever version."""
        return (
            text.startswith("# refcast service: ")
            and f" --state {_quoted(self.state)} worker".replace("$", "$$") in text
        )


def _quoted(word: Path | str) -> str:
    """A word as systemd reads it (systemd.syntax(7)): quoted where it must be, with no specifiers in it."""
    text = str(word).replace("%", "%%")
    if "\n" in text:
        raise BadInput(f"{text!r} has a line break in its name, which no unit can say: choose another path")
    if re.fullmatch(r"[A-Za-z0-9_./@:=+,%$~-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
