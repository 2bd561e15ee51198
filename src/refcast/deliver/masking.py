"""An exchange as it may be kept and shown: no secret of its endpoint is in it, also where the endpoint echoes one."""

from __future__ import annotations

import base64
import html
import re
from functools import lru_cache
from urllib.parse import SplitResult, unquote, unquote_plus, unquote_to_bytes, urlsplit

from refcast import dialects, signing, urls
from refcast.model import Endpoint, Request, Response
from refcast.store.outcomes import Attempt

MASK = "***"
KEPT_BODY = 16 * 1024
"""How much of an answer's body a record keeps."""

_SHORTEST = 3
_LONGEST_FORM = 12
"""Characters that one character may become, such as `%F0%9F%9A%80`."""
_TELLING = 4
"""Characters by which a secret's beginning is known."""
_NESTED = 64
"""Groups that one pattern nests."""


def attempt(endpoint: Endpoint, request: Request, response: Response, started_at: float, decision: str) -> Attempt:
    """An exchange as it may be kept and shown: masked, also where the endpoint echoes a secret."""

    def headers(pairs: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
        return [
            (name, MASK if name.lower() in signing.SECRET_HEADERS else masked(value, endpoint)) for name, value in pairs
        ]

    # latin-1 has a character for each byte: nothing of a body is lost.
    body = masked(response.body[:KEPT_BODY].decode("latin-1"), endpoint)
    for secret in _secrets(endpoint):
        if _may_hold(body, secret[:_TELLING]):
            body = _beginning(secret).sub(MASK, body)
    if len(response.body) >= KEPT_BODY:
        # Where it was cut off, the beginning of a secret may be left.
        longest = max(map(len, _secrets(endpoint)), default=0) * _LONGEST_FORM
        body = body[: len(body) - longest] if longest < len(body) else ""
    return Attempt(
        started_at=started_at,
        duration=response.duration,
        url=shown_url(endpoint) if request.url else "",
        request_headers=headers(request.headers),
        status=response.status,
        response_headers=headers(response.headers),
        response_body=body.encode("latin-1"),
        error_class=response.error_class,
        error=masked(response.error, endpoint),
        decision=decision,
    )


def shown_url(endpoint: Endpoint) -> str:
    """The endpoint's URL as it may be shown. Where nothing signs a request, the path itself is the secret."""
    return urls.masked(endpoint.url, hide_path=_is_path_secret(endpoint))


def _is_path_secret(endpoint: Endpoint) -> bool:
    dialect = dialects.DIALECTS.get(endpoint.dialect)
    return (endpoint.signing or (dialect.SIGNING if dialect else "")) == "none"


def masked(text: str, endpoint: Endpoint) -> str:
    """The text without the endpoint's secrets, as they are or as programs escape them. Bytes of UTF-8 may be read as
    latin-1 in it, as headers are. A secret that is in a file is known where the endpoint was `resolved`."""
    for secret in _secrets(endpoint):
        if _may_hold(text, secret):
            text = _pattern(secret).sub(MASK, text)
    return text


def _may_hold(text: str, secret: str) -> bool:
    """Whether a secret could stand in a text, escaped or not. Cheap: to make a pattern of one takes 40 ms.

    No form of a character is shorter than one, and where nothing is escaped one of ASCII stands there as it is."""
    if len(text) < len(secret):
        return False
    return secret in text or not secret.isascii() or any(sign in text for sign in "%\\&+")


def _secrets(endpoint: Endpoint) -> tuple[str, ...]:
    """What an answer could echo of an endpoint's secrets, longest first.

    One of a letter or two hides nothing, and is not among them."""
    return _found(
        endpoint.secret, endpoint.old_secret, endpoint.url, endpoint.proxy, hide_path=_is_path_secret(endpoint)
    )


@lru_cache(maxsize=1024)
def _found(secret: str, old_secret: str, url: str, proxy: str, *, hide_path: bool) -> tuple[str, ...]:
    found = signing.spellings(secret) | signing.spellings(old_secret)
    parts = _split(url)
    for netloc in (parts.netloc, _split(proxy).netloc):
        if userinfo := netloc.rpartition("@")[0]:
            user, _, password = userinfo.partition(":")
            basic = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
            # A user name alone is a token.
            found |= {*_read(userinfo), *_read(password or user), base64.b64encode(basic).decode()}
    if hide_path:
        found |= _read(parts.path.strip("/"))
        found |= {one for part in parts.path.split("/") if len(part) >= 8 for one in _read(part)}
    for item in parts.query.split("&"):
        key, equals, value = item.partition("=")
        found |= {*_read(value if equals else key), unquote_plus(value if equals else key)}
    found |= {signing.key(one).decode("latin-1") for one in found}
    return tuple(sorted((secret for secret in found if len(secret) >= _SHORTEST), key=len, reverse=True))


def _read(part: str) -> set[str]:
    """A part of a URL as it stands there, which who writes it into another URL escapes again, and what it means."""
    return {part, unquote(part)}


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # a store that was edited by hand
        return urlsplit("")


@lru_cache(maxsize=1024)
def _pattern(secret: str) -> re.Pattern[str]:
    """A secret in any mixture of the ways in which URLs, JSON and HTML write its characters."""
    return re.compile("".join(f"(?:{'|'.join(map(re.escape, _forms(character)))})" for character in secret))


@lru_cache(maxsize=1024)
def _beginning(secret: str) -> re.Pattern[str]:
    """A secret's beginning at the end of a body that broke off there, perhaps within the escape of a character."""
    each = [f"(?:{'|'.join(map(re.escape, _forms(character)))})" for character in secret]
    more = f".{{0,{_LONGEST_FORM * len(each[_NESTED:])}}}"
    for one in reversed(each[_TELLING:_NESTED]):
        more = f"(?:{one}{more})?"
    return re.compile(f"{''.join(each[:_TELLING])}{more}.{{0,{_LONGEST_FORM - 1}}}\\Z", re.DOTALL)


def _forms(character: str) -> list[str]:
    raw = character.encode("utf-8", "surrogateescape")
    units = character.encode("utf-16-be", "surrogatepass").hex(" ", 2).split()
    forms = {character, raw.decode("latin-1")}
    for case in (str.lower, str.upper):
        forms |= {"%" + case(raw.hex("%")), "".join("\\u" + case(unit) for unit in units)}
        forms |= {f"&#x{case(f'{ord(character):x}')};"}
    forms |= {html.escape(character), f"&#{ord(character)};", f"&#{ord(character):03};"}
    if character in "\"'\\/":
        forms.add("\\" + character)
    if character == " ":
        forms.add("+")
    return sorted(forms, key=len, reverse=True)
