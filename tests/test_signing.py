"""Signatures, against vectors that others published."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refcast import signing
from refcast.errors import BadInput

NOW = datetime(2024, 5, 6, tzinfo=UTC)


def sign(scheme: str, secret: str, payload: bytes = b"{}", body: bytes | None = None) -> dict[str, str]:
    sent = payload if body is None else body
    return signing.sign(scheme, secret=secret, payload=payload, body=sent, delivery_id="an-id", now=NOW)


class TestGogs:
    VECTORS = (
        # RFC 4231, test case 2
        (
            "Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        # GitHub's documentation, "Validating webhook deliveries", without its prefix
        (
            "It's a Secret to Everybody",
            b"Hello, World!",
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
    )

    @pytest.mark.parametrize(("secret", "payload", "expected"), VECTORS)
    def test_is_the_bare_hexadecimal_digest(self, secret: str, payload: bytes, expected: str) -> None:
        assert sign("gogs", secret, payload) == {"X-Gogs-Signature": expected}

    def test_covers_the_json_also_in_a_form(self) -> None:
        assert sign("gogs", "s", b"{}", b"payload=%7B%7D") == sign("gogs", "s", b"{}")

    def test_without_a_secret_the_header_is_there_and_empty(self) -> None:
        assert sign("gogs", "") == {"X-Gogs-Signature": ""}


class TestCodeupToken:
    def test_is_the_secret_itself(self) -> None:
        assert sign("codeup-token", "s3cret") == {"X-Codeup-Token": "s3cret"}

    def test_goes_out_as_utf_8(self) -> None:
        (value,) = sign("codeup-token", "clé🚀").values()
        assert value.encode("latin-1") == "clé🚀".encode()

    def test_without_a_secret_there_is_no_header(self) -> None:
        assert sign("codeup-token", "") == {}

    @pytest.mark.parametrize("secret", ["s3cret\n", " s3cret", "s3\r\nX-Evil: 1", "s3\x00cret"])
    def test_a_secret_that_no_header_can_carry_is_refused_unseen(self, secret: str) -> None:
        with pytest.raises(BadInput) as caught:
            sign("codeup-token", secret)
        assert "X-Codeup-Token" in str(caught.value)
        assert "s3" not in str(caught.value)
        with pytest.raises(BadInput):
            signing.check("codeup-token", secret)


def test_none_signs_nothing() -> None:
    assert sign("none", "s3cret") == {}


def test_an_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"unknown signing scheme 'md5': use one of codeup-token, gogs, none$"):
        sign("md5", "s3cret")


@pytest.mark.parametrize("scheme", signing.SCHEMES)
@settings(deadline=None)
@given(secret=st.text(st.characters()))
def test_any_secret_signs_or_is_bad_input(scheme: str, secret: str) -> None:
    try:
        headers = sign(scheme, secret)
    except BadInput as error:
        assert "\n" not in str(error)
        return
    signing.check(scheme, secret)
    for value in headers.values():
        assert value.encode("latin-1").isascii() or scheme == "codeup-token"
        assert not {"\r", "\n", "\0"} & set(value)


def test_headers_that_carry_a_secret_are_known_as_such() -> None:
    assert all(name == name.lower() for name in signing.SECRET_HEADERS)
    for scheme in signing.SCHEMES:
        for name, value in sign(scheme, "s3cret").items():
            assert ("s3cret" in value) <= (name.lower() in signing.SECRET_HEADERS)


def test_a_scheme_keeps_its_material_to_itself() -> None:
    assert "s3cret" not in repr(signing.Material("s3cret", b"", b"", "", NOW))
