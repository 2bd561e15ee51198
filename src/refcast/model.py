"""The words of refcast: frozen values, no I/O.

Two rules for text hold everywhere:

* Ref names and file paths are bytes in git. Here they are `str`, decoded as UTF-8 with
  `surrogateescape` (PEP 383), so that no byte is lost: the store and git see the bytes again.
* What goes onto the wire or a screen must be valid Unicode: `printable` makes it so, at the edge.

Messages, names and e-mail addresses are prose: `history` decodes them once, by the encoding that the
commit declares, and what cannot be decoded becomes U+FFFD.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

RefKind = Literal["branch", "tag", "other"]
EventKind = Literal["push", "tag_push"]

ZERO_ID = "0" * 40


def is_zero(object_id: str) -> bool:
    """Whether an id is the zero id, forty zeros, or sixty-four in a SHA-256 repository."""
    return not object_id.strip("0")


def printable(text: str) -> str:
    """`text` as valid Unicode: bytes that were not UTF-8 become U+FFFD."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON can bring one in
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def visible(text: str) -> str:
    """Text from elsewhere, fit for a terminal: control characters, escapes among them, become visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in printable(text))


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One ref that moved. `old` is the zero id for a creation, `new` for a deletion."""

    old: str
    new: str
    ref: str
    forced: bool = False
    """A branch whose new tip does not descend from its old one. Only history can tell; False until it has."""

    @property
    def created(self) -> bool:
        return is_zero(self.old)

    @property
    def deleted(self) -> bool:
        return is_zero(self.new)

    @property
    def kind(self) -> RefKind:
        if self.ref.startswith("refs/heads/"):
            return "branch"
        if self.ref.startswith("refs/tags/"):
            return "tag"
        return "other"

    @property
    def short(self) -> str:
        """The name without refs/heads/ or refs/tags/; any other ref whole."""
        return self.ref if self.kind == "other" else self.ref.split("/", 2)[2]


@dataclass(frozen=True, slots=True)
class Pusher:
    """Who pushed. A plain server knows little: a user name, and what the settings add to it."""

    username: str
    name: str = ""
    """Full name; the user name where nobody knows better."""
    email: str = ""
    id: int = 0
    """A stable number that the store gives to each user name; 0 where there is no store."""


@dataclass(frozen=True, slots=True)
class Push:
    """One receive operation, as a record tells it."""

    id: str
    """The record's own random id."""
    repository: str
    """The resolved path of the repository."""
    pusher: str
    """A user name."""
    time: datetime
    """When the record was written, aware, UTC."""
    updates: tuple[RefUpdate, ...]
    options: tuple[str, ...] = ()
    """What `git push -o` said, in order."""


@dataclass(frozen=True, slots=True)
class Ident:
    """An author, committer or tagger. `time` is aware and keeps the offset that the commit states."""

    name: str
    email: str
    time: datetime


@dataclass(frozen=True, slots=True)
class FileChanges:
    """Paths that a commit changed against its first parent, each list in git's order.

    A rename is a removal and an addition; a type change is a modification; a submodule is a path.
    """

    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    cut: bool = False
    """More paths changed than the limit lets a commit list."""


@dataclass(frozen=True, slots=True)
class Commit:
    id: str
    tree: str
    parents: tuple[str, ...]
    author: Ident
    committer: Ident
    message: str
    changes: FileChanges = FileChanges()
    distinct: bool = True
    """No ref had this commit before."""


@dataclass(frozen=True, slots=True)
class Tag:
    """An annotated tag. `target` is what it points at, itself perhaps a tag; Event.head is the chain's end."""

    id: str
    name: str
    target: str
    tagger: Ident | None
    message: str


@dataclass(frozen=True, slots=True)
class Repository:
    """What receivers are told of a repository. URLs are empty where no template in the settings gives one."""

    path: str
    """The resolved path on the server's disk. Never sent."""
    full_name: str
    """The path below its root without `.git`: `team/site`."""
    id: int = 0
    description: str = ""
    default_branch: str = ""
    """The short name of the branch that HEAD names."""
    homepage: str = ""
    http_url: str = ""
    ssh_url: str = ""
    commit_url: str = ""
    """A template: `{id}` stands for the commit. Empty: the dialect makes one from the homepage."""
    compare_url: str = ""
    """A template with `{old}` and `{new}`. Empty: the dialect makes one from the homepage."""

    @property
    def name(self) -> str:
        return self.full_name.rsplit("/", 1)[-1]

    @property
    def namespace(self) -> str:
        """The part of the full name before the last slash; empty at the root."""
        return self.full_name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Event:
    """What is announced. A kind without a ref update (an issue of its own) has `update` None and no commits."""

    kind: EventKind
    repository: Repository
    pusher: Pusher
    time: datetime
    """When the push was received."""
    update: RefUpdate | None = None
    commits: tuple[Commit, ...] = ()
    """The newest of the listed commits, at most as many as the limit allows, oldest first (parents before children)."""
    total: int = 0
    """How many commits the event has, exactly, listed or not."""
    head: Commit | None = None
    """The commit that the new id peels to; None for a deletion, for a tag of a tree or a blob, and where it is gone."""
    tag: Tag | None = None
    """The annotated tag that the new id names."""
    options: tuple[str, ...] = ()
    incomplete: str = ""
    """Why commits are missing although the push had some, such as objects that are gone; empty when nothing is."""
    recovered: bool = False
    """No record told of this move; it was found by comparing the repository with the ledger."""
    touched: frozenset[tuple[str, ...]] = frozenset()
    """The lists of path patterns, of those that history was asked about, that this event passes."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What one endpoint is told of the health of another."""

    endpoint: str
    """The name of the one in trouble."""
    state: Literal["failing", "disabled", "recovered"]
    reason: str
    """The last error, one line without secrets."""
    since: datetime
    """When its deliveries began to fail; aware, UTC."""
    waiting: int = 0
    """How many deliveries wait for it."""


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """Which addresses may be connected to, as networks (`10.0.0.0/8`, `fd00::/8`); the narrowest match counts."""

    allow: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where deliveries go. `secret` and the userinfo and query of `url` are secrets: never print an Endpoint."""

    id: int
    name: str
    url: str = field(repr=False)
    dialect: str
    content_type: str
    secret: str = field(default="", repr=False)
    events: frozenset[str] = frozenset()
    """The kinds it wants; empty for all."""
    repositories: tuple[str, ...] = ()
    """Patterns (of `filters`) for the full name of the repositories that it wants; empty for all."""
    branches: tuple[str, ...] = ()
    """Patterns for the names of branches; empty for all, or for none where `tags` has some."""
    tags: tuple[str, ...] = ()
    """Patterns for the names of tags; empty for all, or for none where `branches` has some."""
    paths: tuple[str, ...] = ()
    """Patterns for paths, of which a commit of the push must change one; empty for all."""
    pushers: tuple[str, ...] = ()
    """Patterns for the user names of pushers; empty for all."""
    skips: frozenset[str] = frozenset()
    """What may tell it to skip a push: `option` (`git push -o ci.skip`), `mark` (`[skip ci]` in the message)."""
    other_refs: bool = False
    """Whether it also wants refs that are neither branches nor tags."""
    verify_tls: bool = True
    timeout: float = 30.0
    """Seconds for one whole request."""
    answer: float = 0.0
    """How many seconds a pusher waits, at most, to see what it answers; 0 for not at all."""
    signing: str = ""
    """The scheme that signs its requests; empty for the dialect's own."""
    old_secret: str = field(default="", repr=False)
    """What `secret` was before. Schemes that can sign with both do, until then."""
    old_secret_until: float = 0.0
    """Seconds since the epoch."""
    commits: int | None = None
    """How many commits an event lists at most; None for what the dialect or else the settings say."""
    files: int | None = None
    """How many paths a commit lists at most; None for what the settings say."""
    batch_window: float = 5.0
    """Seconds, from the first event, in which events are gathered into one request, where the dialect does that."""
    secret_file: str = ""
    """A file that holds the secret, read for each request, in place of `secret`; empty for none."""
    schedule: tuple[float, ...] = ()
    """Seconds to wait after the first failure, the second, and so on; empty for the default."""
    tries: int | None = None
    """How often a delivery is tried before the endpoint is disabled; None for once more than the schedule has waits.
    Beyond the schedule its last wait repeats."""
    rejects: bool | None = None
    """Whether 400, 413 and 422 condemn a payload and 410 the endpoint; None for what the dialect says."""
    max_events: int | None = None
    """How many events of one push go out; the others are held until somebody releases them. None for all."""
    on_failure: int | None = None
    """The number of the endpoint that is told when this one begins to fail, is disabled or recovers."""
    proxy: str = field(default="", repr=False)
    """The HTTP proxy, `http://[user:password@]host:port`; `none` for no proxy; empty for what the settings say."""
    ca_file: str = ""
    """Certificates of the authorities that may vouch for it, PEM; empty for the system's."""
    client_cert: str = ""
    """What it is shown of refcast in TLS: a certificate, PEM, perhaps with its key; empty for none."""
    client_key: str = ""
    """The key of `client_cert`, PEM, where it has a file of its own."""
    origin: int | None = None
    """The number of the repository whose own configuration names it, and whose events alone it gets; None for the
    store's own. Of the network such an endpoint sees less."""
    state: Literal["active", "disabled"] = "active"
    reason: str = ""
    """Why it is disabled."""


@dataclass(frozen=True, slots=True)
class Hook:
    """What a dialect may tell a receiver of the endpoint itself. Nothing of it is secret."""

    id: int = 0
    """The endpoint's stable number."""
    uuid: str = "00000000-0000-0000-0000-000000000000"
    """Names this event at this endpoint, the same over retries; each of its deliveries has an id of its own."""
    site: str = ""
    """Where the git server's web pages are, such as `https://git.example.org`; empty where no template tells."""


NO_HOOK = Hook()
"""For a dry run, where no endpoint is involved."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request's worth of an event in a dialect's words, before it has an id or a signature."""

    kind: str
    """The dialect's own name of the event, such as `push`, `create`, `Tag Push Hook`."""
    payload: dict[str, object]
    """JSON-ready: str keys, valid Unicode text, int, bool, None, lists and dicts."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, whole: nothing about it is decided later. `headers` may hold secrets."""

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    timeout: float
    verify_tls: bool = True
    rules: NetworkRules = NetworkRules()
    proxy: str = field(default="", repr=False)
    """`http://[user:password@]host:port`; empty for none."""
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What came back (`status` is set), or why nothing did (`status` is None and `error` says why)."""

    duration: float
    """Seconds from the start of the request to its end."""
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    """The first part of the body, bounded."""
    error_class: str = ""
    """`dns`, `connect`, `blocked` (by the network rules), `proxy`, `tls`, `timeout`, `protocol`; `status` where an
    answer outside 2xx came; `secret` where its secret cannot be used, and so nothing was sent; empty for 2xx."""
    error: str = ""
    """One line for a person, without secrets."""

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300
