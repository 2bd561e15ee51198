"""The spool's reader: what hooks write is read whole, and nothing that anybody puts there does any harm."""

from __future__ import annotations

import os
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcast import spool
from refcast.errors import RecordError, StateError
from refcast.model import RefUpdate
from servers import DEAD, alive_name

GOLDEN = Path(__file__).with_name("golden") / "spool"
ZERO, ONE, TWO = "0" * 40, "1" * 40, "2" * 40
UUID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    spool.create(tmp_path / "spool", os.geteuid())
    return tmp_path / "spool" / str(os.geteuid())


@pytest.fixture(scope="module")
def shared_box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all the examples of a property."""
    path = tmp_path_factory.mktemp("spool") / str(os.geteuid())
    path.mkdir()
    return path


def put(box: Path, content: bytes, *, name: str = DEAD) -> Path:
    path = box / name
    path.write_bytes(content)
    return path


def fields(*words: str) -> bytes:
    return b"".join(os.fsencode(word) + b"\0" for word in words)


def record(*words: str, updates: str = f"{ZERO} {ONE} refs/heads/main\n") -> bytes:
    head = ("refcast 1 push", f"id={UUID}", "repository=/srv/site.git", *words)
    return fields(*head, f"updates={updates}", "end")


class TestGolden:
    """The file that a real push wrote; tests/test_hooks.py holds the hooks to the same bytes."""

    def test_all_of_it_is_read(self, box: Path) -> None:
        path = put(box, (GOLDEN / "push").read_bytes())
        os.utime(path, (0, 1_700_000_000.25))
        updates = (
            RefUpdate(ZERO, ONE, "refs/heads/main"),
            RefUpdate(ZERO, ONE, "refs/heads/caf\udce9/it's"),
            RefUpdate(ZERO, TWO, "refs/tags/v1.0"),
        )
        entry = spool.read(path)
        assert (entry.uid, entry.complete, entry.alive) == (os.geteuid(), True, False)
        assert entry.time == datetime.fromtimestamp(1_700_000_000.25, UTC)
        (part,) = entry.records
        assert (part.id, part.repository) == (UUID, '/srv/git/a "b"\n\udcff.git')
        assert set(part.updates) == set(updates)
        assert part.options == ("ci.skip", "two words", "", "\udce9=")
        assert dict(part.facts) == {
            "GL_USER": "ann",
            "REMOTE_USER": "ann b",
            "LOGNAME": "git",
            "USER": "git",
            "GIT_COMMITTER_NAME": "Ada Lovelace",
            "GIT_COMMITTER_EMAIL": "ada@example.org",
            "SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22",
        }
        (intent,) = entry.intents
        assert set(intent.updates) == set(updates)
        assert (intent.repository, intent.id, intent.options) == (part.repository, "", ())
        assert intent.facts == (("GL_USER", "ann"), ("REMOTE_USER", "ann b"))

    def test_an_intent_by_pre_receive_is_read_as_well(self, box: Path) -> None:
        entry = spool.read(put(box, (GOLDEN / "push-by-pre-receive").read_bytes()))
        (part,), (intent,) = entry.records, entry.intents
        assert intent.updates == part.updates
        assert [update.ref for update in intent.updates] == ["refs/heads/main", "refs/heads/caf\udce9/it's"]
        assert intent.facts == (("GL_USER", "ann"),)
        assert dict(part.facts)["GL_REPO"] == "team/site"

    def test_wherever_it_is_cut_off_it_is_recognised(self, box: Path) -> None:
        whole = (GOLDEN / "push").read_bytes()
        begin, first = whole.index(b"refcast 1 push\0") + len("refcast 1 push"), whole.index(b"\0update=")
        for end in range(len(whole)):
            living = spool.read(put(box, whole[:end], name=alive_name()))
            assert (living.complete, living.alive, living.records) == (False, True, ())
            assert not spool.is_complete(living.path)
            dead = put(box, whole[:end])
            if first < end <= begin:
                assert spool.read(dead).records == ()
                assert spool.read(dead).intents
            elif end > begin:
                with pytest.raises(RecordError, match="cut off"):
                    spool.read(dead)


class TestDamage:
    """What a full disk or a hostile user leaves: a reason in one line, and never a good record lost to it."""

    @pytest.mark.parametrize("cut", ["", "refcast 1 in", "refcast 1 intent", "refcast 1 intent\0repos"])
    def test_an_intent_that_was_cut_off_does_not_spoil_the_record(self, box: Path, cut: str) -> None:
        entry = spool.read(put(box, cut.encode() + b"\0" + record()))
        assert [part.id for part in entry.records] == [UUID]
        assert entry.complete

    def test_an_update_that_was_cut_off_does_not_spoil_the_record(self, box: Path) -> None:
        intent = fields("refcast 1 intent", "repository=/srv/site.git", f"update={ZERO} {ONE} refs/he")
        spoiled = intent[:-40] + fields(f"update={ZERO} {ONE} refs/heads/main")
        assert spool.read(put(box, spoiled + b"\0" + record())).records

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "nothing in it is a record"),
            (b"\0" * 100, "nothing in it is a record"),
            (b"hello world\0end\0", "nothing in it is a record"),
            (fields("refcast 2 push", "id=7", "end"), "another version of the hooks"),
            (record("and this"), "not a field of a record"),
            (record("id=" + UUID), "exactly one id"),
            (record("repository=/srv/other.git"), "exactly one repository"),
            (record().replace(b"/srv", b"srv"), "exactly one repository"),
            (record().replace(UUID.encode(), b"../../etc/passwd"), "not the id of a record"),
            (record(updates="hello\n"), "not a ref update"),
            (record(updates=f"{ZERO} {ONE}\n"), "not a ref update"),
            (record(updates=f"{ZERO} {ONE} HEAD\n"), "not a ref update"),
            (record(updates=f"{ZERO} {ONE[:-1]}g refs/heads/main\n"), "not a ref update"),
            (record(updates=f"{ZERO} {ONE} refs/heads/a b\n"), "not a ref update"),
            (record(updates=f"{ZERO} {ONE} refs/heads/main\r\n"), "not a ref update"),
            (record(updates=f"{ZERO} {ONE} refs/heads/main\n\n"), "not a ref update"),
            *(
                (record(updates=f"{ZERO} {ONE} refs/{name}\n"), "not a ref update")
                for name in ("", "../x", "heads/..", "heads//x", "/heads/x", "heads/x/", "heads/x.lock", "x.lock/y")
            ),
            *(
                (record(updates=f"{ZERO} {ONE} refs/heads/{name}\n"), "not a ref update")
                for name in (".x", "a..b", "x.", "a~1", "a^", "a:b", "a?", "a*", "[a", "a\\b", "a@{1}", "a" * 256)
            ),
            (record("GIT_NAMESPACE=../../eve"), "is not a namespace"),
            (record(f"GIT_NAMESPACE={'a' * 256}"), "is not a namespace"),
            (record("GIT_NAMESPACE=a.lock"), "is not a namespace"),
            (record().replace(b"/srv/site", b"/srv/./site"), "not a path that a hook writes"),
        ],
    )
    def test_bad_content_is_one_clear_line(self, box: Path, content: bytes, reason: str) -> None:
        path = put(box, content)
        with pytest.raises(RecordError, match=reason) as caught:
            spool.read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["ünï/cödé", "a" * 255, "a.b", "@", "{x}", "x.locked", "-x", "x@y"])
    def test_whatever_git_may_call_a_ref(self, box: Path, name: str) -> None:
        content = record("GIT_NAMESPACE=/a//b/", updates=f"{ZERO} {ONE} refs/heads/{name}\n")
        assert spool.read(put(box, content)).records[0].updates[0].ref == f"refs/heads/{name}"

    def test_two_pushes_in_one_file_are_two_records(self, box: Path) -> None:
        other = record().replace(UUID.encode(), UUID.replace("0", "a").encode())
        assert len(spool.read(put(box, record() + other)).records) == 2

    def test_a_push_of_no_ref_is_a_record_without_updates(self, box: Path) -> None:
        assert spool.read(put(box, record(updates=""))).records[0].updates == ()

    def test_a_file_from_no_calendar(self, box: Path) -> None:
        path = put(box, record())
        os.utime(path, (0, 400_000_000_000))  # the year 14645, where the file system can hold it
        try:
            assert spool.read(path).time.year <= 9999
        except RecordError as error:
            assert "not a time" in str(error)

    def test_it_is_gone(self, box: Path) -> None:
        with pytest.raises(FileNotFoundError):
            spool.read(box / DEAD)
        spool.remove(box / DEAD)

    def test_too_large_a_file_is_not_read(self, box: Path) -> None:
        path = put(box, record())
        os.truncate(path, spool.MAX_BYTES + 1)
        with pytest.raises(RecordError, match="more than a record may have"):
            spool.read(path)

    def test_links_and_things_that_are_no_files(self, box: Path) -> None:
        outside = put(box.parent, record(), name="outside")
        (box / "1-1.push").symlink_to(outside)
        os.link(outside, box / "2-2.push")
        os.mkfifo(box / "3-3.push")
        (box / "4-4.push").mkdir()
        with socket.socket(socket.AF_UNIX) as listening:
            directory = os.open(box, os.O_PATH)
            listening.bind(f"/proc/self/fd/{directory}/5-5.push")  # a socket's path must be short
            os.close(directory)
        assert len(spool.files(box.parent)) == 5
        for path in spool.files(box.parent):
            with pytest.raises((RecordError, OSError)):
                spool.read(path)
            assert not spool.is_complete(path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_a_file_of_another_user(self, box: Path) -> None:
        path = put(box, record())
        os.chown(path, 12345, -1)
        with pytest.raises(RecordError, match="belongs to user 12345"):
            spool.read(path)
        assert not spool.is_complete(path)


def allowed(raw: bytes) -> bytes:
    return bytes(byte for byte in raw if byte > 32 and byte not in b"~^:?*[\\./@\x7f")


class TestProperties:
    words = st.sampled_from(
        [
            *(b"refcast 1 push", b"refcast 1 intent", b"refcast 3 push", b"end", b"=", b"updates=", b"repository=/r"),
            b"id=" + UUID.encode(),
            b"update=" + f"{ZERO} {ONE} refs/heads/x".encode(),
            b"updates=" + f"{ZERO} {ONE} refs/heads/x\n".encode(),
        ]
    )

    @given(st.one_of(st.binary(), st.lists(st.one_of(words, st.binary(max_size=20))).map(b"\0".join)), st.booleans())
    def test_whatever_bytes_there_are_nothing_but_a_record_error_comes(
        self, shared_box: Path, content: bytes, living: bool
    ) -> None:
        path = put(shared_box, content, name=alive_name() if living else DEAD)
        try:
            entry = spool.read(path)
        except RecordError as error:
            assert "\n" not in str(error)
        else:
            assert entry.complete == spool.is_complete(path) == content.endswith(spool.END)
            assert all(part.id == UUID for part in entry.records)

    no_nul = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
    ids = st.text("0123456789abcdef", min_size=40, max_size=40)
    paths = no_nul.map(lambda path: os.path.normpath("/" + path.lstrip("/")))
    refs = st.lists(st.binary(max_size=40), min_size=1, max_size=3).map(
        lambda parts: "/".join(
            ["refs", *(f"x{part.decode('utf-8', 'surrogateescape')}x" for part in map(allowed, parts))]
        )
    )

    @given(
        paths,
        st.lists(no_nul),
        st.lists(st.builds(RefUpdate, ids, ids, refs), max_size=5),
        st.dictionaries(st.sampled_from(["GL_USER", "USER", "SSH_CONNECTION"]), no_nul),
    )
    def test_what_is_written_by_the_rules_is_read_again(
        self, shared_box: Path, path: str, options: list[str], updates: list[RefUpdate], facts: dict[str, str]
    ) -> None:
        content = fields(
            "refcast 1 push",
            f"id={UUID}",
            f"repository={path}",
            *(f"{name}={value}" for name, value in facts.items()),
            *(f"option={option}" for option in options),
            "updates=" + "".join(f"{one.old} {one.new} {one.ref}\n" for one in updates),
            "end",
        )
        (part,) = spool.read(put(shared_box, content)).records
        assert part == spool.Part(path, tuple(updates), UUID, tuple(options), tuple(facts.items()))


class TestFiles:
    def test_oldest_first_over_all_users_and_only_what_pushes_wrote(self, box: Path) -> None:
        for name, time in (("1-1.push", 30), ("2-2.push", 10), ("3-3.push", 20), ("note", 5)):
            os.utime(put(box, b"", name=name), (0, time))
        assert [path.name for path in spool.files(box.parent)] == ["2-2.push", "3-3.push", "1-1.push"]

    def test_only_directories_named_by_their_owner_count(self, box: Path) -> None:
        (box.parent / "77777").mkdir()
        put(box.parent / "77777", record())
        (box.parent / "elsewhere").mkdir()
        (box.parent / "88888").symlink_to(box)
        put(box.parent, record())
        assert spool.files(box.parent) == []
        assert list(spool.rightful(box.parent)) == [box]

    def test_no_spool_is_one_clear_line(self, tmp_path: Path) -> None:
        with pytest.raises(StateError, match=r"cannot read the spool .*No such file"):
            spool.files(tmp_path / "spool")
        with pytest.raises(StateError, match=r"cannot make the spool .*No such file"):
            spool.create(tmp_path / "no" / "spool", os.geteuid())

    def test_others_may_enter_and_make_their_own_directory_and_nothing_else(self, box: Path) -> None:
        spool.create(box.parent, os.geteuid())  # again: it mends what is there
        assert stat.S_IMODE(box.parent.stat().st_mode) == 0o3733
        assert stat.S_IMODE(box.stat().st_mode) == 0o2770


class TestLife:
    def test_this_process_lives_and_one_of_another_start_does_not(self) -> None:
        pid, start = os.getpid(), spool.start_time(os.getpid())
        assert spool.is_alive(Path(f"{pid}-{start}.push"))
        assert not spool.is_alive(Path(f"{pid}-{int(start) + 1}.push"))

    @pytest.mark.parametrize("name", ["", "-", "1", "1-", "x-1", "-1-", "99999999-", "99999999-1", "9" * 200 + "-1"])
    def test_names_that_no_push_gave(self, name: str) -> None:
        assert not spool.is_alive(Path(f"{name}.push"))

    def test_a_name_with_brackets_and_spaces_does_not_confuse(self, tmp_path: Path) -> None:
        before = Path("/proc/self/comm").read_bytes().removesuffix(b"\n")
        start = spool.start_time(os.getpid())
        try:
            Path("/proc/self/comm").write_bytes(b") S 1 2 (x) \n")
            assert spool.start_time(os.getpid()) == start
        finally:
            Path("/proc/self/comm").write_bytes(before)
