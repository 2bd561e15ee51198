"""Until when a certificate is valid; and a probe, which connects and sends nothing."""

from __future__ import annotations

import contextlib
import ssl
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from certificates import Authority, server
from receiver import Receiver
from refcast.errors import BadInput
from refcast.model import NetworkRules, Request
from refcast.transport import Transport, ends
from refcast.transport.certificates import end
from rude import raw


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("days", [-0.5, 1, 9000, 40 * 365])  # from 2050 on dates are written in another way
def test_the_last_moment_is_what_another_library_reads(authority: Authority, days: float) -> None:
    chain, _ = authority.issue(f"c-{uuid.uuid4()}", start=-1, end=days)
    (found,) = ends(str(chain))
    assert found == x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc


def test_a_chain_is_told_in_its_order(authority: Authority, tmp_path: Path) -> None:
    first, _ = authority.issue("first", end=3)
    second, _ = authority.issue("second", end=2)
    both = tmp_path / "both.pem"
    both.write_bytes(b"some words\n" + first.read_bytes() + b"\n" + second.read_bytes())
    one, other = ends(str(both))
    assert timedelta(hours=23) < one - other < timedelta(hours=25)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n", "cannot be read"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "c.pem"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=f"c.pem.*{says}"):
        ends(str(path))
    with pytest.raises(BadInput, match="No such file"):
        ends(str(tmp_path / "none.pem"))


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(der: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert end(der).tzinfo is UTC


def test_a_certificate_that_is_cut_off(authority: Authority) -> None:
    der = ssl.PEM_cert_to_DER_cert(authority.file.read_text())
    for size in range(len(der)):
        with pytest.raises(ValueError):
            end(der[:size])


class TestProbe:
    def request(self, url: str) -> Request:
        return Request(url, (), b"", 10)

    def test_nothing_is_sent(self) -> None:
        with Receiver() as receiver:
            probe = Transport().probe(self.request(receiver.url))
            assert (probe.address, probe.certificate_ends, probe.error_class) == ("127.0.0.1", None, "")
            assert receiver.book == []

    def test_a_certificate_is_told_of_whether_verified_or_not(self, authority: Authority) -> None:
        with Receiver(tls=server(authority.issue("probed", end=5))) as receiver:
            request = self.request(receiver.url)
            assert Transport().probe(request).error_class == "tls"
            for more in ({"verify_tls": False}, {"ca_file": str(authority.file)}):
                found = Transport().probe(replace(request, **more)).certificate_ends
                assert found is not None
                assert abs(found - datetime.now(UTC) - timedelta(days=5)) < timedelta(hours=1)

    def test_the_rules_hold(self) -> None:
        with Receiver() as receiver:
            request = replace(self.request(receiver.url), rules=NetworkRules(refuse=("127.0.0.0/8",)))
            assert Transport().probe(request).error_class == "blocked"

    def test_through_a_proxy_that_refuses(self) -> None:
        with raw(lambda connection: connection.sendall(b"HTTP/1.1 403 No\r\n\r\n")) as url:
            proxy = url.removesuffix("/hook")
            probe = Transport().probe(replace(self.request("https://example.invalid/"), proxy=proxy))
        assert probe.error_class == "proxy"

    @pytest.mark.parametrize("url", ["ftp://x/", "http://"])
    def test_a_url_that_cannot_be_sent_to(self, url: str) -> None:
        assert Transport().probe(self.request(url)).error_class == "protocol"
