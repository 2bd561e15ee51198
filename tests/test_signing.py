"""Signatures: against vectors that others published, and judged by a verifier that others wrote."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from refcast import signing
from refcast.errors import BadInput

NOW = datetime(2024, 5, 6, tzinfo=UTC)
CUSTOM = ("token:X-Mine", "token:Authorization:Token ", "hmac-sha1:X-Mine", "hmac-sha256:X-Mine:sha256=")
PLAIN = (*(name for name in signing.SCHEMES if name.endswith("-token")), "token:X-Mine")
"""Schemes that send the secret as it is, in a header of their own."""


def sign(
    scheme: str,
    *secrets: str,
    payload: bytes = b"{}",
    body: bytes | None = None,
    delivery_id: str = "an-id",
    now: datetime = NOW,
) -> dict[str, str]:
    sent = payload if body is None else body
    return signing.sign(scheme, secrets=secrets, payload=payload, body=sent, delivery_id=delivery_id, now=now)


class TestStandardWebhooks:
    KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    OTHER = base64.b64encode(bytes(range(32))).decode()
    BODY = '{"text":"é 🚀"}'.encode()
    ASCII = b'{"test": 2432232314}'

    def signed(self, *secrets: str) -> dict[str, str]:
        """Signed now: the verifier has a clock of its own and refuses what is five minutes old."""
        return sign("standard-webhooks", *secrets, payload=self.BODY, now=datetime.now(UTC))

    def test_is_the_vector_of_the_libraries_own_tests(self) -> None:
        headers = sign(
            "standard-webhooks",
            f"whsec_{self.KEY}",
            payload=b'{"test": 2432232314}',
            delivery_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            now=datetime.fromtimestamp(1614265330.9, UTC),
        )
        assert headers == {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }

    @pytest.mark.parametrize("secret", [f"whsec_{KEY}", f"whsec_{OTHER}", f"whsec_{OTHER.rstrip('=')}"])
    def test_convinces_the_library(self, secret: str) -> None:
        assert Webhook(secret).verify(self.BODY, self.signed(secret)) == {"text": "é 🚀"}

    @pytest.mark.parametrize("secret", ["s3cret", "clé 🚀", KEY, "my whsec_ of old"])
    def test_any_other_secret_is_the_key_as_it_stands(self, secret: str) -> None:
        Webhook(secret.encode()).verify(self.BODY, self.signed(secret))

    @pytest.mark.parametrize("place", range(len(ASCII)))
    def test_one_altered_byte_is_refused(self, place: int) -> None:
        headers = sign("standard-webhooks", f"whsec_{self.KEY}", payload=self.ASCII, now=datetime.now(UTC))
        Webhook(f"whsec_{self.KEY}").verify(self.ASCII, headers)
        altered = self.ASCII[:place] + bytes([self.ASCII[place] ^ 1]) + self.ASCII[place + 1 :]
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(f"whsec_{self.KEY}").verify(altered, headers)

    @pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    def test_an_altered_header_is_refused(self, header: str) -> None:
        headers = self.signed(f"whsec_{self.KEY}")
        value = headers[header]
        place = len(value) // 2
        headers[header] = value[:place] + ("1" if value[place] != "1" else "2") + value[place + 1 :]
        with pytest.raises(WebhookVerificationError):
            Webhook(f"whsec_{self.KEY}").verify(self.BODY, headers)

    def test_with_two_secrets_a_receiver_may_know_either(self) -> None:
        new, old = f"whsec_{self.OTHER}", f"whsec_{self.KEY}"
        headers = self.signed(new, old)
        assert len(headers["webhook-signature"].split(" ")) == 2
        for secret in (new, old):
            Webhook(secret).verify(self.BODY, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(old).verify(self.BODY, self.signed(new))

    def test_the_newest_secret_signs_first(self) -> None:
        both = sign("standard-webhooks", "new", "old")["webhook-signature"].split(" ")
        assert both[0] == sign("standard-webhooks", "new")["webhook-signature"]
        assert both[1] == sign("standard-webhooks", "old")["webhook-signature"]

    def test_covers_the_body_as_it_is_sent(self) -> None:
        form = sign("standard-webhooks", "s", payload=b"{}", body=b"payload=%7B%7D")
        assert form == sign("standard-webhooks", "s", payload=b"payload=%7B%7D")

    def test_without_a_secret_there_are_no_headers(self) -> None:
        assert sign("standard-webhooks", "", "") == {}

    @pytest.mark.parametrize("secret", ["whsec_", "whsec_==", "whsec_a", "whsec_not base64!", "whsec_a-b_", "whsec_é"])
    def test_a_key_that_cannot_be_read_is_refused_unseen(self, secret: str) -> None:
        with pytest.raises(BadInput, match="whsec_, but no key in base64 follows") as caught:
            signing.check("standard-webhooks", secret)
        assert secret not in str(caught.value) or secret == "whsec_"


class TestDigests:
    TEXT = b"what do ya want for nothing?"
    # RFC 2202, section 3, and RFC 4231, section 4.3: test case 2 of each
    SHA1 = "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
    SHA256 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    SPELLED = (
        ("hub-sha1", {"X-Hub-Signature": f"sha1={SHA1}"}),
        ("hub-sha256", {"X-Hub-Signature-256": f"sha256={SHA256}"}),
        ("github", {"X-Hub-Signature": f"sha1={SHA1}", "X-Hub-Signature-256": f"sha256={SHA256}"}),
        ("gitcode-signature", {"X-GitCode-Signature-256": f"sha256={SHA256}"}),
        ("hmac-sha1:X-Mine", {"X-Mine": SHA1}),
        ("hmac-sha256:X-Mine", {"X-Mine": SHA256}),
        ("hmac-sha256:X-Mine:sha256=", {"X-Mine": f"sha256={SHA256}"}),
        ("hmac-sha256:X-Mine:v1:", {"X-Mine": f"v1:{SHA256}"}),
    )

    @pytest.mark.parametrize(("scheme", "headers"), SPELLED)
    def test_are_those_of_the_rfcs(self, scheme: str, headers: dict[str, str]) -> None:
        assert sign(scheme, "Jefe", payload=self.TEXT) == headers

    @pytest.mark.parametrize(("scheme", "headers"), SPELLED)
    def test_cover_the_body_as_it_is_sent(self, scheme: str, headers: dict[str, str]) -> None:
        assert sign(scheme, "Jefe", payload=b"{}", body=self.TEXT) == headers

    @pytest.mark.parametrize(("scheme", "headers"), SPELLED)
    def test_use_the_newest_secret_alone(self, scheme: str, headers: dict[str, str]) -> None:
        assert sign(scheme, "Jefe", "old", payload=self.TEXT) == headers

    @pytest.mark.parametrize(("scheme", "headers"), SPELLED)
    def test_are_not_sent_without_a_secret(self, scheme: str, headers: dict[str, str]) -> None:
        assert sign(scheme) == {}


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
        assert sign("gogs", secret, payload=payload) == {"X-Gogs-Signature": expected}

    def test_covers_the_json_also_in_a_form(self) -> None:
        assert sign("gogs", "s", body=b"payload=%7B%7D") == sign("gogs", "s")

    def test_without_a_secret_the_header_is_there_and_empty(self) -> None:
        assert sign("gogs", "") == {"X-Gogs-Signature": ""}


class TestGitea:
    BARE = ("X-Forgejo-Signature", "X-Gitea-Signature", "X-Gogs-Signature")

    def test_spells_two_digests_in_five_headers(self) -> None:
        assert sign("gitea", "Jefe", payload=TestDigests.TEXT) == {
            **dict.fromkeys(self.BARE, TestDigests.SHA256),
            "X-Hub-Signature": f"sha1={TestDigests.SHA1}",
            "X-Hub-Signature-256": f"sha256={TestDigests.SHA256}",
        }

    def test_covers_the_json_also_in_a_form(self) -> None:
        assert sign("gitea", "s", body=b"payload=%7B%7D") == sign("gitea", "s")

    def test_without_a_secret_the_headers_are_there_without_digits(self) -> None:
        assert sign("gitea", "") == {
            **dict.fromkeys(self.BARE, ""),
            "X-Hub-Signature": "sha1=",
            "X-Hub-Signature-256": "sha256=",
        }


class TestPlainToken:
    @pytest.mark.parametrize(
        ("scheme", "header"),
        [
            ("codescoring-token", "X-CodeScoring-Authentication"),
            ("codeup-token", "X-Codeup-Token"),
            ("gitcode-token", "X-GitCode-Token"),
            ("gitlab-token", "X-Gitlab-Token"),
            ("token:X-Mine", "X-Mine"),
        ],
    )
    def test_is_the_secret_itself(self, scheme: str, header: str) -> None:
        assert sign(scheme, "s3cret", "old") == {header: "s3cret"}

    def test_may_have_a_word_before_it(self) -> None:
        assert sign("token:Authorization:Token ", "s3cret") == {"Authorization": "Token s3cret"}

    # RFC 6750, section 2.1
    def test_is_a_bearers_too(self) -> None:
        assert sign("bearer", "mF_9.B5f-4.1JqM") == {"Authorization": "Bearer mF_9.B5f-4.1JqM"}

    @pytest.mark.parametrize("scheme", PLAIN)
    def test_goes_out_as_utf_8(self, scheme: str) -> None:
        (value,) = sign(scheme, "clé🚀").values()
        assert value.encode("latin-1") == "clé🚀".encode()

    @pytest.mark.parametrize("scheme", [*PLAIN, "bearer"])
    def test_without_a_secret_there_is_no_header(self, scheme: str) -> None:
        assert sign(scheme, "") == {}

    @pytest.mark.parametrize("scheme", [*PLAIN, "bearer"])
    @pytest.mark.parametrize("secret", ["s3cret\n", " s3cret", "s3\r\nX-Evil: 1", "s3\x00cret"])
    def test_a_secret_that_no_header_can_carry_is_refused_unseen(self, scheme: str, secret: str) -> None:
        (header,) = sign(scheme, "x")
        with pytest.raises(BadInput) as caught:
            sign(scheme, secret)
        assert header in str(caught.value)
        assert "s3" not in str(caught.value)
        with pytest.raises(BadInput):
            signing.check(scheme, secret)


class TestBasic:
    @pytest.mark.parametrize(
        ("secret", "credentials"),
        [
            # RFC 7617, sections 2 and 2.1
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test:123£", "dGVzdDoxMjPCow=="),
            ("user:a:b", "dXNlcjphOmI="),
            ("user:", "dXNlcjo="),
        ],
    )
    def test_is_user_and_password(self, secret: str, credentials: str) -> None:
        assert sign("basic", secret, "old:one") == {"Authorization": f"Basic {credentials}"}

    def test_without_a_secret_there_is_no_header(self) -> None:
        assert sign("basic", "") == {}

    @pytest.mark.parametrize("secret", ["s3cret", "s3:\n", "s3\x00:cret"])
    def test_a_secret_of_another_shape_is_refused_unseen(self, secret: str) -> None:
        with pytest.raises(BadInput, match=r"write user:password") as caught:
            signing.check("basic", secret)
        assert "s3" not in str(caught.value)


class TestGet:
    @pytest.mark.parametrize(
        "scheme", ["", "md5", "token", "token:", "hmac-md5:X-Mine", "codeup-token:X-Mine", "Gogs", "hmac-sha256"]
    )
    def test_an_unknown_scheme_is_answered_with_the_known_ones(self, scheme: str) -> None:
        known = [*sorted(signing.SCHEMES), "token:<header>[:<prefix>]", "hmac-sha1:<header>[:<prefix>]"]
        with pytest.raises(BadInput) as caught:
            sign(scheme, "s3cret")
        assert str(caught.value).startswith(f"unknown signing scheme {scheme!r}: use one of {', '.join(known)}")

    @pytest.mark.parametrize("header", ["X Mine", "X-Mine\r\nX-Evil", "Ünicode", "X-Mine=", "(X)"])
    def test_what_cannot_name_a_header_is_refused(self, header: str) -> None:
        with pytest.raises(BadInput, match="cannot name a header") as caught:
            signing.get(f"token:{header}")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("header", ["Content-Type", "content-length", "HOST", "Transfer-Encoding", "Connection"])
    def test_a_header_that_frames_the_request_is_refused(self, header: str) -> None:
        with pytest.raises(BadInput, match=f"cannot use the header {header}"):
            signing.get(f"hmac-sha256:{header}")

    @pytest.mark.parametrize("prefix", [" x", "x\r\nX-Evil: 1", "é", "\x7f"])
    def test_a_prefix_that_no_header_can_carry_is_refused(self, prefix: str) -> None:
        with pytest.raises(BadInput, match="cannot stand before") as caught:
            signing.get(f"token:X-Mine:{prefix}")
        assert "\n" not in str(caught.value)

    def test_standard_webhooks_alone_rotates(self) -> None:
        assert [name for name in signing.SCHEMES if signing.get(name).rotates] == ["standard-webhooks"]


def test_none_signs_nothing() -> None:
    assert sign("none", "s3cret") == {}


@pytest.mark.parametrize("scheme", [*signing.SCHEMES, *CUSTOM])
@settings(deadline=None)
@given(secrets=st.lists(st.text(st.characters()), max_size=2))
def test_any_secret_signs_or_is_bad_input(scheme: str, secrets: list[str]) -> None:
    try:
        headers = sign(scheme, *secrets)
    except BadInput as error:
        assert "\n" not in str(error)
        return
    if any(secrets):
        signing.check(scheme, next(filter(None, secrets)))
    for value in headers.values():
        assert value.encode("latin-1").isascii() or scheme in PLAIN or scheme in {"bearer", CUSTOM[1]}
        assert not {"\r", "\n", "\0"} & set(value)


def test_headers_that_carry_a_secret_are_known_as_such() -> None:
    assert all(name == name.lower() for name in signing.SECRET_HEADERS)
    for scheme in signing.SCHEMES:
        for name, value in sign(scheme, "user:s3cret").items():
            given_away = any(text in value for text in signing.spellings("user:s3cret"))
            assert given_away <= (name.lower() in signing.SECRET_HEADERS)


@pytest.mark.parametrize("scheme", ["basic", "bearer", *PLAIN, *CUSTOM[:2]])
@pytest.mark.parametrize("secret", ["ada:s3cret", "ada:clé🚀"])
def test_no_header_gives_a_secret_away_but_in_its_spellings(scheme: str, secret: str) -> None:
    for value in sign(scheme, secret).values():
        left = value
        for text in sorted(signing.spellings(secret), key=len, reverse=True):
            left = left.replace(text, "")
        assert left in {"", "Basic ", "Bearer ", "Token "}


def test_a_scheme_keeps_its_material_to_itself() -> None:
    assert "s3cret" not in repr(signing.Material(("s3cret",), b"", b"", "", NOW))
