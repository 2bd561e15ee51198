"""Who a user name is: the formats of the files, and which source is believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

import events
from refcast import people
from refcast.errors import BadInput
from refcast.model import Commit, Ident, Pusher

ANN = Pusher("ann", "ann", id=3)
NOW = datetime(2024, 1, 2, tzinfo=UTC)


def by(name: str, email: str) -> Commit:
    return replace(events.ONE, committer=Ident(name, email, NOW))


class TestFiles:
    def test_an_authors_file(self) -> None:
        text = "# who is who\n\nann = Ann Lee <ann@example.org>\n  ben=Ben <>\nodd one = Odd O. =Q <odd@x>\n"
        assert people.authors(text) == {
            "ann": ("Ann Lee", "ann@example.org"),
            "ben": ("Ben", ""),
            "odd one": ("Odd O. =Q", "odd@x"),
        }

    @pytest.mark.parametrize("line", ["ann", "ann = Ann", "= Ann <a@x>", "ann Ann <a@x>", "ann = A <a@x> more"])
    def test_a_line_that_is_none_is_named(self, line: str) -> None:
        with pytest.raises(BadInput, match="line 2 is not of the form"):
            people.authors(f"\n{line}\n")

    def test_gitolite_conf(self) -> None:
        text = """
            repo site
                RW+ = ann  # ann not@this
            # zoe zoe@before
            #BEGIN  USER EMAILS
            # ann   ann@example.org
            # ben Ben Bo <ben@example.org>
            # and this is a comment
            # END USER EMAILS
            # late late@after
        """
        assert people.gitolite(text) == {"ann": ("", "ann@example.org"), "ben": ("Ben Bo", "ben@example.org")}


class TestSources:
    def test_nobody_knows(self) -> None:
        assert people.described(ANN, {}, []) == ANN

    def test_the_files_come_first(self) -> None:
        known = {"ann": ("Ann Lee", "ann@example.org")}
        own = [by("Annie", "ann@home.example")]
        assert people.described(ANN, known, own) == Pusher("ann", "Ann Lee", "ann@example.org", 3)

    def test_then_the_account_and_the_commits(self) -> None:
        own = [by("Ann old", "ann@old"), by("Annie", "Ann@home.example"), by("Ben", "ben@x")]
        assert people.described(replace(ANN, name="Ann A."), {}, own) == Pusher("ann", "Ann A.", "Ann@home.example", 3)
        assert people.described(ANN, {}, own) == Pusher("ann", "Annie", "Ann@home.example", 3)

    def test_somebody_elses_commits_say_nothing(self) -> None:
        assert people.described(ANN, {}, [by("Ben", "ben@x"), by("Joann", "joann@x")]) == ANN

    def test_an_address_without_a_name_takes_the_name_of_the_same_address(self) -> None:
        known = {"ann": ("", "ann@example.org")}
        assert people.described(ANN, known, [by("Annie", "ANN@example.org")]).name == "Annie"
        assert people.described(ANN, known, [by("Annie", "ann@other")]) == Pusher("ann", "ann", "ann@example.org", 3)
