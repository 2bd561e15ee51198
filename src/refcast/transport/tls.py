"""TLS settings: whom to trust and what to show of refcast, from files. Opens no connection.

Trusted are the authorities of the endpoint's own file, or else the system's, which its administrator keeps; where
there are none, those that come with requests. ssl.create_default_context is not used: it heeds SSLKEYLOGFILE, and
OpenSSL's defaults heed SSL_CERT_FILE.
"""

from __future__ import annotations

import ssl
import stat
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from refcast.errors import BadInput
from refcast.transport.connect import TLSSocket, reason
from refcast.transport.failure import Failure

CONTEXTS = 64
"""How many settings are kept. The system's authorities take some 20 ms to read, and 1 MB."""

_LARGEST = 16 * 1024 * 1024
"""Bytes of a file of certificates or keys."""


@dataclass(frozen=True, slots=True)
class Files:
    """What an endpoint says of TLS; each an absolute path, or empty."""

    verify: bool = True
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""


Stamp = tuple[tuple[int, int, int, int], ...]
"""What tells one state of the files from the next."""


class Contexts:
    """The settings in use; all threads share them. A file that has changed is read again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[Files, tuple[Stamp, ssl.SSLContext]] = OrderedDict()

    def get(self, files: Files) -> ssl.SSLContext:
        """Raises Failure of the class `tls`, naming the file at fault."""
        stamp = tuple(_state(path) for path in _read_from(files))
        with self._lock:
            known = self._made.get(files)
            if known is not None and known[0] == stamp:
                self._made.move_to_end(files)
                return known[1]
        # Outside the lock: that two threads may make the same does no harm.
        context = _made(files)
        with self._lock:
            self._made[files] = stamp, context
            while len(self._made) > CONTEXTS:
                self._made.popitem(last=False)
        return context

    def clear(self) -> None:
        with self._lock:
            self._made.clear()


def check_files(ca_file: str = "", client_cert: str = "", client_key: str = "") -> None:
    """Raise BadInput, naming the file, unless connections can be made with these; each a path, or empty."""
    if client_key and not client_cert:
        raise BadInput(f"the key {client_key} needs its certificate beside it")
    files = Files(ca_file=ca_file, client_cert=client_cert, client_key=client_key)
    try:
        for path in _read_from(files):
            _state(path)
        _made(files)
    except Failure as failure:
        raise BadInput(failure.error) from None


def _system() -> tuple[str, str]:
    """The file and the directory of the system's authorities, one of them; of requests where there is neither."""
    paths = ssl.get_default_verify_paths()
    if Path(paths.openssl_cafile).is_file():
        return paths.openssl_cafile, ""
    if Path(paths.openssl_capath).is_dir() and any(Path(paths.openssl_capath).iterdir()):
        return "", paths.openssl_capath
    return DEFAULT_CA_BUNDLE_PATH, ""


def _read_from(files: Files) -> list[str]:
    """The files that settings are made of."""
    authorities = files.ca_file or (_system()[0] if files.verify else "")
    return [path for path in (authorities, files.client_cert, files.client_key) if path]


def _state(path: str) -> tuple[int, int, int, int]:
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        raise Failure("tls", f"{path} cannot be read: {getattr(error, 'strerror', None) or 'no path'}") from None
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
        raise Failure("tls", f"{path} is no file of certificates or keys")
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _made(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = TLSSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.set_alpn_protocols(["http/1.1"])
    if files.verify:
        file, folder = (files.ca_file, "") if files.ca_file else _system()
        try:
            context.load_verify_locations(cafile=file or None, capath=folder or None)
        except ssl.SSLError as error:
            raise Failure("tls", f"{file or folder} holds no certificates in PEM form: {reason(error)}") from None
        except OSError as error:
            raise Failure("tls", f"{file or folder} cannot be read: {error.strerror}") from None
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.client_cert:
        _show(context, files.client_cert, files.client_key or files.client_cert)
    return context


class _EncryptedError(Exception):
    pass


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Have connections show a certificate."""

    def passphrase() -> str:
        # Without this OpenSSL would ask at the terminal, and wait.
        raise _EncryptedError

    for path, mark in ((certificate, b"-----BEGIN CERTIFICATE-----"), (key, b"PRIVATE KEY-----")):
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise Failure("tls", f"{path} cannot be read: {error.strerror}") from None
        if mark not in text:
            what = "certificate" if b"CERT" in mark else "private key"
            raise Failure("tls", f"{path} holds no {what} in PEM form")
    try:
        context.load_cert_chain(certificate, key, passphrase)
    except _EncryptedError:
        raise Failure("tls", f"{key} is encrypted, and nobody is there to be asked: store the key decrypted") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Failure("tls", f"the key in {key} is not that of the certificate in {certificate}") from None
        both = certificate if key == certificate else f"{certificate} or {key}"
        raise Failure("tls", f"{both} cannot be used: {reason(error)}") from None
    except OSError as error:  # it went away since
        raise Failure("tls", f"{certificate} or {key} cannot be read: {error.strerror}") from None
