"""Names that fail, stall, change, and have addresses of which some are refused or lead nowhere."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from receiver import Receiver
from refcast.model import NetworkRules, Request, Response
from refcast.transport import Transport, lookup
from refcast.transport.failure import Failure
from refcast.transport.lookup import Lookups
from rude import NameServer, full_queue

SHORT = 0.3
NOT_HERE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    return server


@pytest.fixture
def stall() -> Iterator[threading.Event]:
    """What a stalled look-up waits for. At the end all that hang are let go, and have ended."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "look-up":
            thread.join()


def send(url: str, timeout: float = 30, rules: NetworkRules | None = None) -> Response:
    return Transport().send(Request(url, (), b"{}", timeout, rules=rules or NetworkRules()))


class TestAddresses:
    def test_a_name_that_fails(self, names: NameServer) -> None:
        names.names["hook.test"] = [NOT_HERE]
        response = send("http://hook.test/?s3cret")
        assert (response.error_class, response.error) == (
            "dns",
            "the name hook.test does not resolve: Name or service not known",
        )

    def test_a_name_without_addresses(self, names: NameServer) -> None:
        names.names["hook.test"] = [[]]
        assert send("http://hook.test/").error_class == "dns"

    def test_an_address_is_not_looked_up(self, names: NameServer) -> None:
        with Receiver() as receiver:
            assert send(receiver.url).ok
        assert names.asked == []

    def test_a_name_that_changes_between_look_up_and_connection(self, names: NameServer) -> None:
        names.names["hook.test"] = [["127.0.0.1"], ["169.254.169.254"]]
        with Receiver() as receiver:
            url = f"http://hook.test:{receiver.port}/"
            assert send(url).ok
            assert names.asked == ["hook.test"]
            assert receiver.book[0].header("Host") == f"hook.test:{receiver.port}"
            response = send(url)
        assert response.error_class == "blocked"
        assert response.error.startswith("hook.test: 169.254.169.254 is in 169.254.0.0/16")

    def test_an_allowed_address_beside_a_refused_one_is_used(self, names: NameServer) -> None:
        names.names["hook.test"] = [["169.254.169.254", "fe80::1%lo", "127.0.0.1"]]
        with Receiver() as receiver:
            assert send(f"http://hook.test:{receiver.port}/").ok

    def test_where_all_are_refused_nobody_is_connected_to(self, names: NameServer) -> None:
        names.names["hook.test"] = [["127.0.0.1", "::1"]]
        with Receiver() as receiver:
            closed = NetworkRules(refuse=("127.0.0.0/8", "::1"))
            response = send(f"http://hook.test:{receiver.port}/", rules=closed)
            assert not receiver.book
        assert response.error_class == "blocked"
        assert "network.refuse" in response.error

    @pytest.mark.parametrize(
        "host",
        [
            "169.254.169.254",
            "169.254.169.254.",
            "2852039166",
            "0251.0376.0251.0376",
            "0xa9fea9fe",
            "169.254.43518",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[fe80::1%25lo]",
            "0",
            "[::]",
        ],
    )
    def test_every_spelling_of_an_address_is_judged(self, host: str) -> None:
        assert send(f"http://{host}:1/", timeout=5).error_class in {"blocked", "dns"}
        if not host.endswith("."):  # which the resolver takes for a name
            assert send(f"http://{host}:1/", timeout=5).error_class == "blocked"

    def test_families_that_do_not_route_are_passed_over(self, names: NameServer) -> None:
        with Receiver() as receiver, full_queue(("127.0.0.2", receiver.port)):
            # No route, an address nobody answers at, and one that works.
            names.names["hook.test"] = [["100::1", "127.0.0.2", "127.0.0.1"]]
            rules = NetworkRules(allow=("100::/64",))
            assert send(f"http://hook.test:{receiver.port}/", timeout=3, rules=rules).ok

    def test_a_family_that_this_host_lacks_is_passed_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        strange = (12345, socket.SOCK_STREAM, 6, "", ("10.9.8.7", 0))
        real = socket.getaddrinfo

        def found(host: str, port: int, *, type: int = 0, flags: int = 0) -> list[object]:
            if flags:
                return list(real(host, port, type=type, flags=flags))
            return [strange, *real("127.0.0.1", port, type=type)]

        monkeypatch.setattr(socket, "getaddrinfo", found)
        with Receiver() as receiver:
            assert send(f"http://hook.test:{receiver.port}/").ok


class TestStall:
    def test_a_look_up_ends_with_the_deadline_and_is_counted(self, names: NameServer, stall: threading.Event) -> None:
        names.names["hook.test"] = [stall]
        transport = Transport()
        response = transport.send(Request("http://hook.test/", (), b"", SHORT))
        assert response.error_class == "dns"
        assert response.error == "the name hook.test was not resolved in time; look-ups that hang here: 1"
        assert transport.abandoned_lookups == 1

    def test_one_name_has_two_look_ups_at_most(self, names: NameServer, stall: threading.Event) -> None:
        names.names["hook.test"] = [stall]
        transport = Transport()
        for _ in range(4):
            assert transport.send(Request("http://HOOK.test/", (), b"", SHORT)).error_class == "dns"
        assert names.asked == ["hook.test"] * 2
        assert transport.abandoned_lookups == 2

    def test_callers_share_a_look_up_and_its_answer(self, names: NameServer, stall: threading.Event) -> None:
        names.names["hook.test"] = [stall]
        lookups = Lookups()
        with ThreadPoolExecutor(8) as pool:
            callers = [pool.submit(lookups.addresses, "hook.test", 80, time.monotonic() + 60)]
            names.was_asked.wait()
            with pytest.raises(Failure, match="not resolved in time"):
                lookups.addresses("hook.test", 80, time.monotonic())
            assert (names.asked, lookups.abandoned) == (["hook.test"], 0)
            callers += [pool.submit(lookups.addresses, "hook.test", 80, time.monotonic() + 60) for _ in range(7)]
            stall.set()
            said = {str(one.exception()) for one in callers}
        assert said == {"the name hook.test does not resolve: Temporary failure in name resolution"}
        assert lookups.abandoned == 0

    def test_a_name_that_comes_back_is_found_beside_the_look_up_that_hangs(
        self, names: NameServer, stall: threading.Event
    ) -> None:
        names.names["hook.test"] = [stall, ["127.0.0.1"]]
        transport = Transport()
        with Receiver() as receiver:
            url = f"http://hook.test:{receiver.port}/"
            assert transport.send(Request(url, (), b"", SHORT)).error_class == "dns"
            assert transport.send(Request(url, (), b"", 30)).ok

    def test_a_dead_name_server_stops_further_look_ups_at_once_and_addresses_still_work(
        self, names: NameServer, stall: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lookup, "MOST", 3)
        names.names["good.test"] = [["127.0.0.1"]]
        for number in range(3):
            names.names[f"{number}.test"] = [stall]
        transport = Transport()
        with Receiver() as receiver:
            for number in range(3):
                transport.send(Request(f"http://{number}.test/", (), b"", SHORT))
            good = f"http://good.test:{receiver.port}/"
            response = transport.send(Request(good, (), b"", 30))
            assert response.error_class == "dns"
            assert response.error == "good.test is not looked up: 3 look-ups hang in this host's resolver"
            assert "good.test" not in names.asked
            assert transport.send(Request(receiver.url, (), b"", 30)).ok
            stall.set()
            for thread in threading.enumerate():
                if thread.name == "look-up":
                    thread.join()
            assert transport.abandoned_lookups == 0
            assert transport.send(Request(good, (), b"", 30)).ok

    def test_no_thread_left(self, names: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        transport = Transport()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            response = transport.send(Request("http://hook.test/", (), b"", 30))
        assert (response.error_class, "no thread left" in response.error) == ("dns", True)
        assert transport.abandoned_lookups == 0
        names.names["hook.test"] = [NOT_HERE]
        assert "not known" in transport.send(Request("http://hook.test/", (), b"", 30)).error
