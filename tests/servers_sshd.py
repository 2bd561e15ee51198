"""The real sshd on loopback for tests, for one account, and people elsewhere who have keys.

Owns the process, its end, and all of its files. Uses nothing of the system's own ssh service but the program. Needs
root. Knows nothing of git.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

from servers import need

SSHD = "/usr/sbin/sshd"


def need_sshd() -> None:
    need(Path(SSHD).exists(), "sshd (apt install openssh-server)")


class Sshd:
    """Its files are in `root`. Once started it listens at `port`."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o755)
        self._root = root
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def key(self, name: str) -> Path:
        """The public key of somebody, made at first sight."""
        path = self._root / "keys" / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            self._make_key(path, name)
        return path.with_name(f"{name}.pub")

    def command(self, who: str | Path) -> str:
        """What somebody, or who has a private key in this file, logs in with: for GIT_SSH_COMMAND."""
        key = who if isinstance(who, Path) else self.key(who).with_suffix("")
        ssh = f"ssh -F none -i {key} -p {self.port} -o IdentitiesOnly=yes -o BatchMode=yes -o LogLevel=ERROR"
        return f"{ssh} -o UserKnownHostsFile={self._root}/known_hosts -o StrictHostKeyChecking=yes"

    def start(self, user: str, keys: Path, more: str = "") -> None:
        """Let `user` in by the keys in a file, with more lines of configuration."""
        host_key = self._root / "host_key"
        self._make_key(host_key, "host")
        # The directory that Debian's sshd wants is made by its service.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for _ in range(20):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.port = probe.getsockname()[1]
            config = self._root / "sshd_config"
            config.write_text(
                f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\n"
                f"AuthorizedKeysFile {keys}\nPasswordAuthentication no\n"
                f"KbdInteractiveAuthentication no\nUsePAM no\nAllowUsers {user}\nLogLevel ERROR\n{more}"
            )
            log = self._root / "log"
            with log.open("ab") as file:
                words = [SSHD, "-D", "-e", "-f", str(config)]
                self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            if self._listens():
                public = host_key.with_suffix(".pub").read_text()
                (self._root / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}")
                return
            self._process.wait()  # somebody else took the port meanwhile
        raise AssertionError(log.read_text())

    def end(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def _listens(self) -> bool:
        assert self._process
        deadline = time.monotonic() + 30
        while self._process.poll() is None:
            assert time.monotonic() < deadline, "sshd does not listen"
            place = ("127.0.0.1", self.port)
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(place, 30) as made:
                return made.recv(4) == b"SSH-"
            time.sleep(0.01)
        return False

    @staticmethod
    def _make_key(path: Path, comment: str) -> None:
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})
