"""An endpoint's URL: whether it can be used, and how it is shown. Opens nothing and resolves nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

from refcast.errors import BadInput

HIDDEN = "***"

_DEVIANT = "ßẞς\u200c\u200d"
"""What IDNA 2003, which Python looks up, makes another name of than IDNA 2008 does (UTS 46, section 7)."""


def check_url(url: str) -> None:
    """Raise BadInput, one line that shows no secret, unless `url` is http or https and can be sent to.

    Userinfo is allowed (it becomes basic authentication), a fragment is not: it would never be sent, and
    a `#` is mostly a password's that should have been written as %23.
    """
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        raise BadInput("the URL holds a space, a backslash or a control character: write it percent-encoded")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in {"http", "https"}:
        raise BadInput("the URL must begin with http:// or https://")
    if "#" in rest:
        raise BadInput("the URL holds a #, which no server gets to see: write %23 if it belongs to the URL")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise BadInput("the URL's host is not a valid IPv6 address in brackets") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise BadInput(
            "the URL's port is not a number from 1 to 65535 "
            "(a /, ? or @ in a user name or password must be percent-encoded)"
        )
    if not host:
        raise BadInput("the URL has no host: write it as https://host/path")
    if ":" not in host and not _is_name(host):
        raise BadInput("the URL's host is not a valid host name or address")
    if any(character in _DEVIANT for character in host):
        raise BadInput("the URL's host has a letter that programs look up in two ways: write it in its xn-- form")


def check_proxy(proxy: str) -> None:
    """Raise BadInput, one line that shows no secret, unless `proxy` is `http://[user:password@]host:port`."""
    try:
        check_url(proxy)
    except BadInput as error:
        raise BadInput(str(error).replace("the URL", "the proxy's URL", 1)) from None
    parts = urlsplit(proxy)
    if parts.scheme != "http" or parts.port is None or parts.path not in {"", "/"} or parts.query or "?" in proxy:
        raise BadInput("the proxy must be written as http://host:port, without a path; it is asked for https as well")


def _is_name(host: str) -> bool:
    """Whether it can be looked up: RFC 1123 names, `_` as many inner networks have it, IDNA for the rest."""
    try:
        ascii_host = host.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return bool(ascii_host) and all(c.isalnum() or c in "-._" for c in ascii_host)


def masked(url: str, *, hide_path: bool = False) -> str:
    """`url` for tables, logs and records: without userinfo and the values in its query, and on demand without its path.

    Takes any text, and shows nothing that might be part of a password where the text is no proper URL.
    """
    bare, _, query = url.partition("#")[0].partition("?")
    scheme, separator, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    try:
        # An unencoded / in a password ends the authority early; what stands there is then no port.
        _ = urlsplit(f"http://{host}").port
    except ValueError:
        return HIDDEN
    if not separator:
        return HIDDEN
    shown_path = HIDDEN if hide_path and path else path
    shown = f"{scheme}://{HIDDEN + at if userinfo or at else ''}{host}{slash}{shown_path}"
    if query:
        pairs = (item.partition("=") for item in query.split("&"))
        shown += "?" + "&".join(f"{key}={HIDDEN}" if equals else HIDDEN for key, equals, _ in pairs)
    return "".join(c if c.isprintable() else "?" for c in shown)
