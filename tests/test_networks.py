"""Which addresses may be connected to, in every spelling that reaches one."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcast.errors import BadInput
from refcast.model import NetworkRules
from refcast.networks import BUILT_IN, network, refusal

NO_RULES = NetworkRules()


class TestBuiltIn:
    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd00::1",
            "8.8.8.8",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
        ],
    )
    def test_receivers_are_allowed(self, address: str) -> None:
        assert refusal(address, NO_RULES) == ""

    @pytest.mark.parametrize(
        "address",
        [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.0.1",
            "169.254.169.254",
            "fe80::1",
            "fe80::1%eth0",
            "febf::1",
            "224.0.0.1",
            "ff02::1",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
        ],
    )
    def test_others_are_not(self, address: str) -> None:
        why = refusal(address, NO_RULES)
        assert why.startswith(address)
        assert why.endswith("; it can be opened by network.allow in refcast.toml")
        assert "\n" not in why

    @pytest.mark.parametrize(
        "address",
        [
            "::ffff:169.254.169.254",
            "::ffff:a9fe:a9fe%eth0",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ],
    )
    def test_an_address_that_means_another_is_judged_as_that(self, address: str) -> None:
        assert "means 169.254.169.254, which is in 169.254.0.0/16, which is link-local" in refusal(address, NO_RULES)
        assert refusal(address, NetworkRules(allow=("169.254.169.254",))) == ""
        assert refusal(address, NetworkRules(allow=("2000::/3", "64:ff9b::/96", "::/96"))) != ""

    def test_what_is_no_address_is_refused(self) -> None:
        for text in ("", "localhost", "127.1", "%eth0"):
            assert refusal(text, NO_RULES) == "it is no IP address"

    @pytest.mark.parametrize("entry", BUILT_IN)
    def test_each_can_be_opened_as_a_whole(self, entry: str) -> None:
        first = str(network(entry).network_address)
        assert refusal(first, NO_RULES)
        assert refusal(first, NetworkRules(allow=(entry,))) == ""


class TestRules:
    @pytest.mark.parametrize(
        ("allow", "refuse", "open_"),
        [
            ((), ("10.0.0.0/8",), False),
            (("10.1.0.0/16",), ("10.0.0.0/8",), True),
            (("10.0.0.0/8",), ("10.1.0.0/16",), False),
            (("10.0.0.0/8",), ("10.0.0.0/8",), False),
            (("10.1.2.3",), ("0.0.0.0/0",), True),
            (("0.0.0.0/0",), ("10.1.2.3",), False),
            (("::/0",), ("0.0.0.0/0",), False),
            ((), ("::ffff:10.0.0.0/104",), False),
        ],
    )
    def test_the_narrowest_counts_and_refusing_wins_a_tie(
        self, allow: tuple[str, ...], refuse: tuple[str, ...], open_: bool
    ) -> None:
        why = refusal("10.1.2.3", NetworkRules(allow, refuse))
        assert (why == "") is open_
        assert why == "" or "network.refuse in refcast.toml" in why

    def test_a_wide_allowance_does_not_open_what_is_built_in(self) -> None:
        everything = NetworkRules(allow=("0.0.0.0/0", "::/0"))
        assert refusal("169.254.169.254", everything)
        assert refusal("fd00:ec2::254", NetworkRules(allow=("fd00::/8",)))

    def test_one_network_and_no_other(self) -> None:
        only = NetworkRules(allow=("10.1.0.0/16",), refuse=("0.0.0.0/0", "::/0"))
        assert refusal("10.1.0.1", only) == ""
        for address in ("10.2.0.1", "127.0.0.1", "8.8.8.8", "::1", "2001:db8::1", "64:ff9b::10.1.0.1"):
            assert refusal(address, only)

    def test_public_addresses_alone(self) -> None:
        """What an endpoint from a repository's own configuration will need can be said by rules."""
        private = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1", "fc00::/7")
        public = NetworkRules(refuse=private)
        assert refusal("8.8.8.8", public) == ""
        for address in ("127.0.0.1", "::1", "192.168.1.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "fd12::1"):
            assert refusal(address, public)

    @given(st.ip_addresses(), st.lists(st.ip_addresses().map(str), max_size=3))
    def test_any_address_has_an_answer(self, address: object, entries: list[str]) -> None:
        rules = NetworkRules(refuse=tuple(entries))
        assert (str(address) in map(str, map(ip_address, entries))) <= bool(refusal(str(address), rules))


class TestEntries:
    def test_networks_and_addresses(self) -> None:
        assert str(network("10.0.0.0/8")) == "10.0.0.0/8"
        assert str(network("10.1.2.3")) == "10.1.2.3/32"
        assert str(network("FD00::/8")) == "fd00::/8"
        assert str(network("::ffff:10.0.0.0/104")) == "10.0.0.0/8"

    @pytest.mark.parametrize(
        ("entry", "says"),
        [
            ("10.1.2.3/8", "write 10.0.0.0/8 or 10.1.2.3"),
            ("fd00::1/8", "write fd00::/8 or fd00::1"),
            ("10.0.0.0/33", "is not a network"),
            ("10.0.0.0/255.0.0.0", "is not a network"),
            ("10.0.0", "is not a network"),
            ("010.0.0.0/8", "is not a network"),
            ("hooks.example", "names do not count"),
            ("fe80::1%eth0", "is not a network"),
            ("10.0.0.0/8\n", "is not a network"),
            ("", "is not a network"),
            (10, "is not a network"),
            (None, "is not a network"),
        ],
    )
    def test_what_is_none_is_refused_in_one_line(self, entry: object, says: str) -> None:
        with pytest.raises(BadInput) as caught:
            network(entry)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
