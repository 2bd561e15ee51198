"""How the single fields of a payload are written: text, times and links. Shared by the dialects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from refcast.model import RefUpdate, Repository, printable


def text(value: str) -> str:
    """`value` as valid Unicode, whatever it holds; bytes that were not UTF-8 become U+FFFD."""
    try:
        return printable(value)
    except UnicodeEncodeError:  # a surrogate that stands for no byte, such as JSON's "\ud800"
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def timestamp(time: datetime, *, utc: str = "+00:00", timespec: str = "seconds") -> str:
    """RFC 3339, in the offset that `time` has; `utc` is how no offset at all is written.

    `timespec` is isoformat's: `seconds`, where the rest is dropped, or `microseconds`.
    """
    minutes = int((time.utcoffset() or timedelta()) / timedelta(minutes=1))
    hours, rest = divmod(abs(minutes), 60)
    zone = f"{'-' if minutes < 0 else '+'}{hours:02}:{rest:02}" if minutes else utc
    return time.replace(tzinfo=None).isoformat(timespec=timespec) + zone


def utc_timestamp(time: datetime) -> str:
    """RFC 3339 to the second, in UTC, with `Z`. What no year of UTC's calendar holds is told by its nearest edge."""
    try:
        moment = time.astimezone(UTC)
    except OverflowError:
        moment = datetime.min if time.year == datetime.min.year else datetime.max
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def commit_url(repository: Repository, commit: str, *, below: str) -> str:
    """The commit's page: by the repository's template, or `<homepage>/<below>/<commit>`, or empty."""
    if repository.commit_url:
        return text(repository.commit_url.replace("{id}", commit))
    if not repository.homepage:
        return ""
    return text(f"{repository.homepage.rstrip('/')}/{below}/{commit}")


def compare_url(repository: Repository, update: RefUpdate) -> str:
    """The page that compares old and new, by template or below the homepage; empty where there is none."""
    if update.created or update.deleted:
        return ""
    if repository.compare_url:
        return text(repository.compare_url.replace("{old}", update.old).replace("{new}", update.new))
    if not repository.homepage:
        return ""
    return text(f"{repository.homepage.rstrip('/')}/compare/{update.old}...{update.new}")
