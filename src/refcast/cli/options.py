"""What the options of `refcast endpoint add` and `edit` say, checked against each other."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import click

from refcast import answers, deliver, dialects, filters, urls
from refcast.cli import values
from refcast.cli.common import F
from refcast.cli.secrets import check_signing, read_one, with_secret
from refcast.errors import BadInput
from refcast.model import Endpoint
from refcast.store import Store
from refcast.transport.tls import check_files

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

_SHORTEST_ANSWER = 0.1
"""Seconds that are worth waiting for an answer."""


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
            click.option(
                "--secret-path",
                type=click.Path(),
                help="Leave the secret in this file, and read it for each request. Only its owner may read it.",
            ),
            click.option("--ask-secret", is_flag=True, help="Ask for the secret."),
            click.option("--no-secret", is_flag=True, help="Take the secret away, or the file that holds it."),
            click.option(
                "--event", "events", multiple=True, help="push or tag_push; again for more. Default: all; `all` again."
            ),
            click.option(
                "--repository",
                "repositories",
                multiple=True,
                help="A pattern for the names of the repositories it wants; again for more. '' for all, the default.",
            ),
            click.option(
                "--branch",
                "branches",
                multiple=True,
                help="A pattern for branches, such as 'release/*' or '!wip/**'; again for more. '' for all. "
                "With branches alone, tags fire nothing.",
            ),
            click.option(
                "--tag",
                "tags",
                multiple=True,
                help="A pattern for tags; again for more. '' for all. With tags alone, branches fire nothing.",
            ),
            click.option(
                "--paths",
                multiple=True,
                help="A pattern for paths, such as 'docs/**': a commit of the push must change one. Again for more; "
                "'' for all.",
            ),
            click.option(
                "--pusher",
                "pushers",
                multiple=True,
                help="A pattern for the user names of pushers, such as '!robot'; again for more. '' for all.",
            ),
            click.option(
                "--skip-by",
                "skips",
                multiple=True,
                type=click.Choice([*filters.SKIPS, "none"]),
                help="What may tell it to skip a push: a push option (ci.skip, refcast.skip), a mark such as [skip ci] "
                "in the newest commit's message; again for both. Default: none.",
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
                "--max-commits",
                metavar="N",
                help="How many commits an event lists at most; `default` for no limit here.",
            ),
            click.option(
                "--max-files", metavar="N", help="How many paths a commit lists at most; `default` for no limit here."
            ),
            click.option(
                "--max-events",
                metavar="N",
                help="How many events of one push go out at once; the rest are held. `none`, the default, for all.",
            ),
            click.option(
                "--batch-window",
                type=float,
                help="Seconds, 0 to 300, in which events gather for one request, in dialects that do that. Default: 5.",
            ),
            click.option("--timeout", type=float, help="Seconds for one whole request, 1 to 300. Default: 30."),
            click.option(
                "--answer",
                type=float,
                metavar="SECONDS",
                help="Have pushers wait for its answer, up to 10 seconds, and see it. Default: 0, not at all.",
            ),
            click.option(
                "--schedule",
                metavar="WAITS",
                help="What to wait after each failure, such as 1m,5m,30m,3h; or `default`.",
            ),
            click.option(
                "--tries",
                metavar="N",
                help="How many failures in a row disable it; `default`: one more than the schedule has waits.",
            ),
            click.option(
                "--rejection/--no-rejection",
                "rejection",
                default=None,
                help="Whether 400, 413 and 422 condemn a payload, and 410 the endpoint. Default: as the dialect.",
            ),
            click.option("--default-rejection", is_flag=True, help="As the dialect has it, again."),
            click.option(
                "--on-failure",
                metavar="NAME",
                help="The endpoint that is told when this one fails, is disabled, recovers; or `none`.",
            ),
            click.option(
                "--proxy",
                metavar="URL",
                help="Its HTTP proxy; `none` for no proxy, `default` for that of the settings.",
            ),
            click.option(
                "--proxy-file",
                type=click.Path(),
                help="Read the proxy from a file, or - for standard input: where it holds a password, `ps` shows it.",
            ),
            click.option(
                "--ca-file",
                type=click.Path(),
                help="Certificates (PEM) that may vouch for it; `none` for the system's.",
            ),
            click.option(
                "--client-cert",
                type=click.Path(),
                help="The certificate (PEM) to show it, perhaps with its key; or `none`.",
            ),
            click.option(
                "--client-key",
                type=click.Path(),
                help="The key (PEM) of that certificate, in a file of its own; or `none`.",
            ),
        ]
    ):
        function = option(function)
    return function


def changed(one: Endpoint, options: dict[str, Any]) -> Endpoint:
    """The endpoint with what the options say, checked. BadInput names what cannot be, and the alternatives."""
    if one.name == "none":
        raise BadInput("'none' cannot name an endpoint: it is what --on-failure calls no endpoint")
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
    answer = one.answer if options["answer"] is None else options["answer"]
    if not (answer == 0 or _SHORTEST_ANSWER <= answer <= answers.LONGEST):
        allowed = f"{_SHORTEST_ANSWER:g} to {answers.LONGEST:g}, or 0 for not at all"
        raise BadInput(f"pushers cannot wait {answer:g} seconds for an answer: use {allowed}")
    one = with_secret(one, options)
    one = replace(one, signing=one.signing if options["signing"] is None else options["signing"])
    check_signing(one)
    if options["max_files"] not in (None, "default") and not dialect.FILES:
        able = ", ".join(name for name, known in dialects.DIALECTS.items() if known.FILES)
        raise BadInput(f"{dialect.NAME} lists no files: --max-files goes with {able}")
    window = options["batch_window"]
    if window is not None and not isinstance(dialect, dialects.Batching):
        raise BadInput(f"{dialect.NAME} sends each event alone: --batch-window goes with {', '.join(deliver.BATCHING)}")
    if window is not None and not 0 <= window <= deliver.LONGEST_WINDOW:
        raise BadInput(f"a batch window of {window:g} seconds cannot be: use 0 to {deliver.LONGEST_WINDOW:g}")
    one = replace(
        one,
        commits=_count(options, "max_commits", one.commits, 0, 100_000, "default"),
        files=_count(options, "max_files", one.files, 0, 100_000, "default"),
        max_events=_count(options, "max_events", one.max_events, 1, 100_000, "none"),
        tries=_count(options, "tries", one.tries, 1, 1000, "default"),
        schedule=one.schedule if options["schedule"] is None else values.schedule(options["schedule"]),
        rejects=_rejects(one, options),
        proxy=_proxy(one, options),
        batch_window=one.batch_window if window is None else window,
        content_type=content_type,
        events=frozenset() if "all" in events else events,
        repositories=_patterns(options, "repositories", one.repositories),
        branches=_patterns(options, "branches", one.branches),
        tags=_patterns(options, "tags", one.tags),
        paths=_patterns(options, "paths", one.paths),
        pushers=_patterns(options, "pushers", one.pushers),
        skips=_skips(one, options),
        other_refs=one.other_refs if options["other_refs"] is None else options["other_refs"],
        verify_tls=one.verify_tls if options["verify_tls"] is None else options["verify_tls"],
        timeout=timeout,
        answer=answer,
    )
    return _with_files(one, options)


def told(store: Store, one: Endpoint, name: str | None) -> Endpoint:
    """The endpoint with the one that `--on-failure` names. BadInput if that is itself, or is not there."""
    if name is None:
        return one
    if name == "none":
        return replace(one, on_failure=None)
    other = None if name == one.name else store.endpoints.get(name)
    if other is None or other.id == one.id:
        raise BadInput(f"{one.name} cannot be told of its own failure: name another endpoint, or `none`")
    if other.origin is not None:
        raise BadInput(f"{name} is a repository's own, for what happens there alone: name another endpoint, or `none`")
    return replace(one, on_failure=other.id)


def _patterns(options: dict[str, Any], key: str, now: tuple[str, ...]) -> tuple[str, ...]:
    given: tuple[str, ...] = options[key]
    if given == ("",):
        return ()
    if "" in given:
        raise BadInput(f"'' means all {key}: give it alone, or leave it out")
    filters.check(given, key, anchored=key != "paths")
    return given or now


def _skips(one: Endpoint, options: dict[str, Any]) -> frozenset[str]:
    given = frozenset(options["skips"])
    if "none" in given and len(given) > 1:
        raise BadInput("`none` skips nothing: give it alone, or leave it out")
    return given - {"none"} if given else one.skips


def _count(options: dict[str, Any], key: str, now: int | None, lowest: int, highest: int, word: str) -> int | None:
    text = options[key]
    return now if text is None else values.count("--" + key.replace("_", "-"), text, lowest, highest, word)


def _rejects(one: Endpoint, options: dict[str, Any]) -> bool | None:
    if options["default_rejection"]:
        if options["rejection"] is not None:
            raise BadInput("--default-rejection leaves it to the dialect: leave out --rejection and --no-rejection")
        return None
    return one.rejects if options["rejection"] is None else bool(options["rejection"])


def _proxy(one: Endpoint, options: dict[str, Any]) -> str:
    proxy = read_one(options["proxy"], options["proxy_file"], "proxy", "--proxy-file")
    if proxy is None:
        return one.proxy
    if proxy in ("none", "default"):
        return "" if proxy == "default" else proxy
    urls.check_proxy(proxy)
    return proxy


def _with_files(one: Endpoint, options: dict[str, Any]) -> Endpoint:
    """The endpoint with the files for TLS that the options name; the key goes with its certificate."""
    given: dict[str, Any] = {
        key: values.file("--" + key.replace("_", "-"), options[key])
        for key in ("ca_file", "client_cert", "client_key")
        if options[key] is not None
    }
    if given.get("client_cert") == "":
        given.setdefault("client_key", "")
    one = replace(one, **given)
    if one.client_key and not one.client_cert:
        raise BadInput("a key goes with a certificate: name that with --client-cert")
    if given:
        check_files(one.ca_file, one.client_cert, one.client_key)
    return one
