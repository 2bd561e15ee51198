"""TLS: who is trusted, what is shown of refcast, and files that cannot be used."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from certificates import Authority, server
from receiver import Receiver
from refcast.errors import BadInput
from refcast.model import Request, Response
from refcast.transport import Transport, check_files, tls
from refcast.transport.connect import PlainSocket, secured
from refcast.transport.failure import Failure
from refcast.transport.tls import Contexts, Files
from rude import NameServer, drips, raw, silent

SHORT = 0.5


def send(
    url: str, *headers: tuple[str, str], body: bytes = b"{}", timeout: float = 30, verify: bool = True
) -> Response:
    return Transport().send(Request(url, headers, body, timeout, verify))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("good")


@pytest.fixture
def context(files: tuple[Path, Path]) -> ssl.SSLContext:
    return server(files)


@pytest.fixture
def secure(context: ssl.SSLContext) -> Iterator[Receiver]:
    with Receiver(tls=context) as receiver:
        yield receiver


class TestTLS:
    def test_an_untrusted_certificate_is_refused(self, secure: Receiver) -> None:
        response = send(secure.url)
        assert not secure.book
        assert response.error_class == "tls"
        assert response.error == "the certificate of 127.0.0.1 is refused: unable to get local issuer certificate"

    def test_the_environment_cannot_make_it_trusted(
        self, secure: Receiver, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(authority.file))
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        assert send(secure.url).error_class == "tls"
        assert send(secure.url, verify=False).ok
        assert not (tmp_path / "keys").exists()

    def test_unless_the_endpoint_says_so(self, secure: Receiver) -> None:
        secure.answer = lambda received: (200, (), received.body)
        body = b"z" * 10_000
        response = send(secure.url + "hook", ("X-A", "b"), body=body, verify=False)
        assert (response.status, response.body) == (200, body)
        assert secure.book[0].header("Host") == f"127.0.0.1:{secure.port}"

    def test_one_verified_and_one_unverified_do_not_mix(self, secure: Receiver) -> None:
        transport = Transport()
        verdicts = [
            transport.send(Request(secure.url, (), b"", 30, verify)).ok for verify in (False, True, False, True)
        ]
        assert verdicts == [True, False, True, False]

    def test_no_tls_at_the_other_end(self) -> None:
        with Receiver() as receiver:
            response = send(receiver.url.replace("http", "https"))
        assert response.error_class == "tls"

    def test_plain_http_to_a_tls_port(self, secure: Receiver) -> None:
        assert send(secure.url.replace("https", "http")).status is None

    def test_a_client_certificate_is_wanted(self, context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        with raw(silent, context) as url:
            assert send(url, verify=False).error_class in {"tls", "protocol"}

    def test_a_dripping_answer_over_tls_ends(self, context: ssl.SSLContext) -> None:
        with raw(drips(b"HTTP/1.1 200 OK\r\nX-Drip: ", b"a"), context) as url:
            assert send(url, timeout=SHORT, verify=False).error_class == "timeout"
        with raw(drips(b"HTTP/1.1 200 OK\r\n\r\n", b"z"), context) as url:
            assert send(url, timeout=SHORT, verify=False).body.startswith(b"zz")

    def test_an_endpoint_that_does_not_read_over_tls(self, context: ssl.SSLContext) -> None:
        free = threading.Event()

        def deaf(_: socket.socket) -> None:
            free.wait()

        with raw(deaf, context) as url:
            response = send(url, body=bytes(30_000_000), timeout=SHORT, verify=False)
            free.set()
        assert response.error_class == "timeout"


class TestAuthorities:
    def test_the_endpoints_own_replace_the_systems(self, secure: Receiver, authority: Authority) -> None:
        transport = Transport()
        trusting = Request(secure.url, (), b"", 30, ca_file=str(authority.file))
        assert transport.send(trusting).ok
        assert Contexts().get(Files(ca_file=str(authority.file))).cert_store_stats()["x509_ca"] == 1
        response = transport.send(replace(trusting, url=secure.url.replace("127.0.0.1", "localhost")))
        assert response.error_class == "tls"
        assert "mismatch" in response.error
        assert transport.send(replace(trusting, ca_file="")).error_class == "tls"

    def test_a_name_with_a_dot_at_its_end(self, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        names = NameServer()
        names.names["hook.test."] = [["127.0.0.1"]]
        monkeypatch.setattr(socket, "getaddrinfo", names)
        with Receiver(tls=server(authority.issue("named", "hook.test"))) as receiver:
            url = f"https://hook.test.:{receiver.port}/"
            assert Transport().send(Request(url, (), b"", 30, ca_file=str(authority.file))).ok

    def test_renewed_ones_are_taken(self, secure: Receiver, authority: Authority, tmp_path: Path) -> None:
        trusted = tmp_path / "ca.pem"
        other = Authority(tmp_path, "other")
        shutil.copy(other.file, trusted)
        transport = Transport()
        request = Request(secure.url, (), b"", 30, ca_file=str(trusted))
        assert transport.send(request).error_class == "tls"
        renewed = tmp_path / "renewed"
        shutil.copy(authority.file, renewed)
        renewed.replace(trusted)
        assert transport.send(request).ok
        trusted.unlink()
        response = transport.send(request)
        assert (response.error_class, response.error) == (
            "tls",
            f"{trusted} cannot be read: No such file or directory",
        )

    def test_a_host_without_any_has_those_of_requests(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        paths = ssl.DefaultVerifyPaths("", "", "", str(tmp_path / "none"), "", str(tmp_path))
        monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
        assert Contexts().get(Files()).cert_store_stats()["x509_ca"] > 50
        (tmp_path / "0a1b2c3d.0").touch()
        assert Contexts().get(Files()).cert_store_stats()["x509_ca"] == 0

    def test_over_a_connection_that_is_gone_nothing_is_sent(self) -> None:
        gone = PlainSocket()
        gone.deadline = time.monotonic() + 30
        with pytest.raises(Failure, match="closed the connection during the TLS handshake"):
            secured(gone, Contexts().get(Files(False)), "hook.test")
        assert gone.fileno() == -1


class TestClient:
    @pytest.fixture
    def demanding(self, context: ssl.SSLContext, authority: Authority) -> Iterator[Receiver]:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)
        with Receiver(tls=context) as receiver:
            yield receiver

    def test_a_certificate_is_shown(self, demanding: Receiver, authority: Authority, tmp_path: Path) -> None:
        chain, key = authority.issue("refcast")
        both = tmp_path / "both.pem"
        both.write_bytes(chain.read_bytes() + key.read_bytes())
        transport = Transport()
        request = Request(demanding.url, (), b"{}", 30, ca_file=str(authority.file))
        assert transport.send(replace(request, client_cert=str(chain), client_key=str(key))).ok
        assert transport.send(replace(request, client_cert=str(both))).ok
        response = transport.send(request)
        assert response.status is None
        assert response.error_class in {"tls", "protocol"}  # a server that only hangs up does not say why
        assert len(demanding.book) == 2

    def test_an_endpoint_that_is_not_verified_is_shown_it_too(self, demanding: Receiver, authority: Authority) -> None:
        chain, key = authority.issue("refcast")
        shown = Request(demanding.url, (), b"{}", 30, False, client_cert=str(chain), client_key=str(key))
        assert Transport().send(shown).ok

    def test_threads_share_one_transport(self, demanding: Receiver, authority: Authority) -> None:
        """... and its settings, with and without a certificate, each getting its own."""
        chain, key = authority.issue("refcast")
        transport = Transport()
        request = Request(demanding.url, (), b"{}", 30, ca_file=str(authority.file))
        showing = replace(request, client_cert=str(chain), client_key=str(key))
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda number: transport.send(showing if number % 2 else request).ok, range(64)))
        assert found == [False, True] * 32


class TestFiles:
    """What is wrong with a file is said of an endpoint that is added, and of a request that is sent."""

    def said(self, ca_file: object = "", client_cert: object = "", client_key: object = "") -> str:
        three = [str(ca_file), str(client_cert), str(client_key)]
        with pytest.raises(BadInput) as caught:
            check_files(*three)
        request = Request("https://127.0.0.1:1/", (), b"", 30, True)
        request = replace(request, ca_file=three[0], client_cert=three[1], client_key=three[2])
        response = Transport().send(request)
        assert (response.error_class, response.error) == ("tls", str(caught.value))
        assert response.error.isprintable()
        return response.error

    def test_good_ones(self, authority: Authority, files: tuple[Path, Path]) -> None:
        check_files()
        check_files(str(authority.file))
        check_files(str(authority.file), str(files[0]), str(files[1]))

    def test_missing_ones(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        gone = tmp_path / "gone.pem"
        message = f"{gone} cannot be read: No such file or directory"
        assert self.said(gone) == message
        assert self.said("", gone) == message
        assert self.said("", files[0], gone) == message

    def test_a_key_without_its_certificate(self, files: tuple[Path, Path]) -> None:
        with pytest.raises(BadInput, match="needs its certificate"):
            check_files("", "", str(files[1]))

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        large = tmp_path / "large"
        large.touch()
        os.truncate(large, 10**10)
        for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), large):
            assert self.said(path) == f"{path} is no file of certificates or keys"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_one_that_may_not_be_read(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.touch(0)
        assert self.said(closed) == f"{closed} cannot be read: Permission denied"
        assert self.said("", files[0], closed) == f"{closed} cannot be read: Permission denied"

    def test_other_things_than_certificates(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        other, cut = tmp_path / "other", tmp_path / "cut"
        other.write_text("s3cret")
        cut.write_bytes(files[0].read_bytes()[:200])
        assert self.said(other).startswith(f"{other} holds no certificates in PEM form")
        assert self.said(cut).startswith(f"{cut} holds no certificates in PEM form")
        assert self.said("", other, files[1]) == f"{other} holds no certificate in PEM form"
        assert self.said("", files[0]) == f"{files[0]} holds no private key in PEM form"
        assert str(cut) in self.said("", cut, files[1])

    def test_a_key_of_another_certificate(self, authority: Authority, files: tuple[Path, Path]) -> None:
        chain, _ = authority.issue("another")
        assert self.said("", chain, files[1]) == f"the key in {files[1]} is not that of the certificate in {chain}"

    def test_an_encrypted_key_asks_nobody(self, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        chain, key = authority.issue("locked", passphrase=b"s3cret")
        assert self.said("", chain, key) == (
            f"{key} is encrypted, and nobody is there to be asked: store the key decrypted"
        )


class TestCache:
    def test_settings_are_kept_and_bounded(self, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tls, "CONTEXTS", 2)
        contexts = Contexts()
        one, two, three = Files(), Files(False), Files(ca_file=str(authority.file))
        first, second = contexts.get(one), contexts.get(two)
        assert contexts.get(one) is first
        contexts.get(three)  # has no room but that of the one not used for longest
        assert contexts.get(one) is first
        assert contexts.get(two) is not second
        contexts.clear()
        assert contexts.get(one) is not first
