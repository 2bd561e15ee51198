"""What the options of `refcast endpoint add` and `edit` say, checked against each other."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import click

from refcast import deliver, dialects, signing, urls
from refcast.cli.common import F
from refcast.errors import BadInput
from refcast.model import Endpoint

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def endpoint_options(function: F) -> F:
    """The options that `add` and `edit` share. Without one, `add` takes the default and `edit` leaves what is."""
    for option in reversed(
        [
            click.option("--dialect", help=f"What the receiver understands: {', '.join(dialects.DIALECTS)}."),
            click.option(
                "--url-file",
                type=click.Path(),
                help="Read the URL from a file, or - for standard input: where it holds a secret, `ps` would show it.",
            ),
            click.option("--content-type", help="json or form, where the dialect has both."),
            click.option("--secret-file", type=click.Path(), help="Read the secret from a file; - for standard input."),
            click.option("--secret-env", metavar="NAME", help="Read the secret from an environment variable."),
            click.option("--ask-secret", is_flag=True, help="Ask for the secret."),
            click.option(
                "--event", "events", multiple=True, help="push or tag_push; again for more. Default: all; `all` again."
            ),
            click.option(
                "--repository",
                "repositories",
                multiple=True,
                help="A shell pattern for the names of the repositories it wants; again for more. Default: all.",
            ),
            click.option(
                "--other-refs/--no-other-refs",
                default=None,
                help="Whether it also wants refs that are neither branches nor tags.",
            ),
            click.option(
                "--verify-tls/--no-verify-tls", default=None, help="Whether its certificate must be valid (default)."
            ),
            click.option(
                "--signing", metavar="SCHEME", help="How requests prove themselves. Default: as the dialect does."
            ),
            click.option(
                "--max-commits", type=click.IntRange(0, 100_000), help="How many commits an event lists at most."
            ),
            click.option("--max-files", type=click.IntRange(0, 100_000), help="How many paths a commit lists at most."),
            click.option(
                "--batch-window",
                type=float,
                help="Seconds, 0 to 300, in which events gather for one request, in dialects that do that. Default: 5.",
            ),
            click.option("--timeout", type=float, help="Seconds for one whole request, 1 to 300. Default: 30."),
        ]
    ):
        function = option(function)
    return function


def changed(one: Endpoint, options: dict[str, Any]) -> Endpoint:
    """The endpoint with what the options say, checked. BadInput names what cannot be, and the alternatives."""
    if not NAME.match(one.name):
        raise BadInput(
            f"{one.name!r} cannot name an endpoint: use up to 64 letters, digits, dots, hyphens, underscores"
        )
    urls.check_url(one.url)
    dialect = dialects.get(one.dialect)
    content_type = options["content_type"] or one.content_type
    if content_type not in dialect.CONTENT_TYPES:
        raise BadInput(f"{dialect.NAME} has no content type {content_type!r}: use {' or '.join(dialect.CONTENT_TYPES)}")
    events = frozenset(options["events"]) or one.events
    if unknown := events - {"push", "tag_push", "all"}:
        raise BadInput(f"unknown event {min(unknown)!r}: use push, tag_push or all")
    timeout = one.timeout if options["timeout"] is None else options["timeout"]
    if not 1 <= timeout <= 300:
        raise BadInput(f"a timeout of {timeout:g} seconds cannot be: use 1 to 300")
    secret = _secret(options)
    secret = one.secret if secret is None else secret
    one = replace(one, secret=secret, signing=one.signing if options["signing"] is None else options["signing"])
    _check_signing(one)
    if options["max_files"] is not None and not dialect.FILES:
        able = ", ".join(name for name, known in dialects.DIALECTS.items() if known.FILES)
        raise BadInput(f"{dialect.NAME} lists no files: --max-files goes with {able}")
    window = options["batch_window"]
    if window is not None and not isinstance(dialect, dialects.Batching):
        raise BadInput(f"{dialect.NAME} sends each event alone: --batch-window goes with {', '.join(deliver.BATCHING)}")
    if window is not None and not 0 <= window <= deliver.LONGEST_WINDOW:
        raise BadInput(f"a batch window of {window:g} seconds cannot be: use 0 to {deliver.LONGEST_WINDOW:g}")
    return replace(
        one,
        commits=one.commits if options["max_commits"] is None else options["max_commits"],
        files=one.files if options["max_files"] is None else options["max_files"],
        batch_window=one.batch_window if window is None else window,
        content_type=content_type,
        events=frozenset() if "all" in events else events,
        repositories=options["repositories"] or one.repositories,
        other_refs=one.other_refs if options["other_refs"] is None else options["other_refs"],
        verify_tls=one.verify_tls if options["verify_tls"] is None else options["verify_tls"],
        timeout=timeout,
    )


def _check_signing(one: Endpoint) -> None:
    """BadInput for a secret that the scheme cannot use, and for headers that would stand twice."""
    dialect = dialects.get(one.dialect)
    scheme = one.signing or dialect.SIGNING
    mine = {name.lower() for name in signing.check(scheme, one.secret)}
    if one.secret and scheme == "none":
        raise BadInput(f"{dialect.NAME} signs nothing: leave the secret out, or say how with --signing")
    if one.signing and one.signing != "none" and not one.secret:
        raise BadInput(f"the signing scheme {one.signing} needs a secret: --secret-file, --secret-env or --ask-secret")
    theirs = {name.lower() for name in dialect.headers("", "")}
    if mine & theirs:
        raise BadInput(f"the header {min(mine & theirs)} is one of the dialect's own: let another carry the secret")
    if "authorization" in mine and "@" in urlsplit(one.url).netloc:
        raise BadInput("the URL's user name and the secret would both be the header Authorization: use one of them")


def rotated(old: Endpoint, new: Endpoint, hours: float) -> Endpoint:
    """The endpoint with the old secret in force for some hours. BadInput where the scheme knows one secret only."""
    scheme = new.signing or dialects.get(new.dialect).SIGNING
    if not signing.get(scheme).rotates:
        able = ", ".join(name for name, known in signing.SCHEMES.items() if known.rotates)
        raise BadInput(f"{scheme} signs with one secret only, so the old one cannot stay valid; able to: {able}")
    if not 0 < hours <= 24 * 365:
        raise BadInput(f"{hours:g} hours cannot be: use more than 0, up to a year")
    signing.check(scheme, old.secret)
    if not old.secret or new.secret == old.secret:
        raise BadInput(
            "there is no old secret to keep: give the new one with --secret-file, --secret-env or --ask-secret"
        )
    return replace(new, old_secret=old.secret, old_secret_until=time.time() + hours * 3600)


def check_frozen(one: Endpoint, schemes: set[str]) -> None:
    """BadInput where what waits is signed by a scheme that cannot use the endpoint's secret: it could never be sent."""
    for scheme in schemes:
        try:
            signing.check(scheme, one.secret)
        except BadInput as error:
            raise BadInput(
                f"deliveries that wait are to be signed by {scheme}, and {error}; let them go first"
            ) from error


def read_url(url: str | None, file: str | None) -> str | None:
    """The URL as it was written, or as a file has it; None for neither. BadInput for both."""
    if url is not None and file is not None:
        raise BadInput("give the URL in one way: on the command line, or by --url-file")
    return url if file is None else _read(file, "URL")


def _read(file: str, what: str) -> str:
    try:
        with click.open_file(file, "rb") as opened:
            return os.fsdecode(opened.read(65536)).rstrip("\r\n")
    except OSError as error:
        raise BadInput(f"cannot read the {what} from {file!r}: {error.strerror}") from error


def _secret(options: dict[str, Any]) -> str | None:
    """The secret that the options lead to; None if they name none. It is never an argument: `ps` would show it."""
    ways = [key for key in ("secret_file", "secret_env") if options[key] is not None]
    if len(ways) + options["ask_secret"] > 1:
        raise BadInput("give the secret in one way: --secret-file, --secret-env or --ask-secret")
    if options["secret_file"] is not None:
        return _read(options["secret_file"], "secret")
    if options["secret_env"] is not None:
        secret = os.environ.get(options["secret_env"])
        if not secret:
            raise BadInput(f"the environment variable {options['secret_env']!r} is not set, or empty")
        return secret
    return str(click.prompt("Secret", hide_input=True)) if options["ask_secret"] else None
