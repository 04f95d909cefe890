"""Which addresses may be reached, judged alone and at the moment of connecting."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from stepwell.engine.errors import ConfigurationError
from stepwell.engine.states_errors import ErrorName, StatesError
from stepwell.engine.targets.egress import METADATA, EgressPolicy, inner_ipv4, not_public
from stepwell.engine.targets.guarded import Call, GuardedSession
from tests.targets.servers import ToldResolver, serving

REFUSED = (
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9", "168.63.129.16", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::10.0.0.1",
    "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::", "fc00::1", "fd00:ec2::254", "fe80::1%eth0",
    "ff02::1", "2001:db8::1", "2606:4700::5efe:10.0.0.1", "fd00::5efe:8.8.8.8", "fe80::5efe:8.8.8.8",
    "fec0::1", "100::1",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255",
    "169.253.255.255", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
    "2002:808:808::1",
)  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    refusal = EgressPolicy().refusal("api.example.com", 443, address)
    assert refusal is not None
    assert "STEPWELL_HTTP_ALLOW" in refusal and address in refusal


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    assert EgressPolicy().refusal("api.example.com", 443, address) is None


@given(st.ip_addresses(v=4))
def test_what_python_knows_as_not_global_is_refused(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        assert not_public(address)


@given(st.ip_addresses(v=6))
def test_what_python_knows_as_not_global_is_refused_in_ipv6(address: IPv6Address) -> None:
    if (not address.is_global or address.is_multicast) and inner_ipv4(address) is None:
        assert not_public(address)


@given(
    st.one_of(
        st.ip_addresses(v=4), st.sampled_from([IPv4Address(each) for each in REFUSED + PUBLIC if ":" not in each])
    ),
    st.sampled_from(["::ffff:{}", "::ffff:0:{}", "64:ff9b::{}", "2002:{h:04x}:{l:04x}::1", "2606:4700::5efe:{}"]),
)
def test_wrapping_an_address_in_ipv6_changes_nothing(address: IPv4Address, form: str) -> None:
    wrapped = IPv6Address(form.format(address, h=int(address) >> 16, l=int(address) & 0xFFFF))
    assert not_public(wrapped) == not_public(address)


@given(
    st.one_of(st.ip_addresses(network=IPv4Network("10.20.0.0/16")), st.ip_addresses(network=IPv6Network("fd12::/32"))),
    st.integers(1, 65535),
)
def test_an_allowed_network_is_open_on_the_port_it_names(address: IPv4Address | IPv6Address, port: int) -> None:
    policy = EgressPolicy.parse("10.20.0.0/16:8443, [fd12::]/32:8443")
    assert (policy.refusal("h", port, str(address)) is None) == (port == 8443)


@pytest.mark.parametrize(
    ("allow", "host", "port", "address", "allowed"),
    (
        ("loopback", "x", 80, "127.0.0.1", True),
        ("loopback", "x", 80, "::1", True),
        ("loopback", "x", 80, "::ffff:127.0.0.1", True),
        ("loopback", "x", 80, "10.0.0.1", False),
        ("billing.internal", "Billing.Internal.", 80, "10.0.0.1", True),
        ("billing.internal:443", "billing.internal", 80, "10.0.0.1", False),
        ("billing.internal", "not-billing.internal", 80, "10.0.0.1", False),
        ("*.internal", "billing.internal", 80, "10.0.0.1", True),
        ("*.internal", "internal", 80, "10.0.0.1", False),
        ("*.internal", "billing.internal.example.com", 80, "10.0.0.1", False),
        ("*.internal", "evil.internal", 80, "169.254.169.254", False),
        ("0.0.0.0/0 ::/0", "x", 80, "10.0.0.1", True),
        ("0.0.0.0/0 ::/0", "x", 80, "169.254.169.254", False),
        ("0.0.0.0/0 ::/0", "x", 80, "::ffff:169.254.169.254", False),
        ("169.254.169.254", "x", 80, "169.254.169.254", True),
        ("[::1]:8080", "x", 8080, "::1", True),
        ("fd00::/8", "x", 8080, "fd01::1", True),
    ),
)
def test_what_an_entry_opens(allow: str, host: str, port: int, address: str, allowed: bool) -> None:
    assert (EgressPolicy.parse(allow).refusal(host, port, address) is None) is allowed


@pytest.mark.parametrize("metadata", sorted(map(str, METADATA)))
def test_metadata_is_opened_by_its_own_address_only(metadata: str) -> None:
    whole = "::/0" if ip_address(metadata).version == 6 else "0.0.0.0/0"
    assert EgressPolicy.parse(f"{whole} *").refusal("x", 80, metadata)
    assert EgressPolicy.parse(metadata).refusal("x", 80, metadata) is None


@pytest.mark.parametrize("entry", ("http://x", "10.0.0.0/33", "x:99999", "x:0", "10.0.0.256", "a b/c", "foo*.x", ":80"))
def test_an_entry_that_means_nothing_is_an_error(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="STEPWELL_HTTP_ALLOW"):
        EgressPolicy([entry])


async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"hello {request.host}")


async def fetch(policy: str, url: str, resolver: ToldResolver | None = None) -> bytes:
    session = GuardedSession(EgressPolicy.parse(policy), resolver=resolver)
    try:
        return (await session.fetch(Call(method="GET", url=URL(url)))).body
    finally:
        await session.close()


async def refused(policy: str, url: str, resolver: ToldResolver | None = None) -> str:
    with pytest.raises(StatesError) as caught:
        await fetch(policy, url, resolver)
    assert caught.value.error == ErrorName.EGRESS_DENIED
    assert caught.value.cause is not None
    return caught.value.cause


def at(server: TestServer, host: str, path: str = "/") -> str:
    return f"http://{host}:{server.port}{path}"


async def test_a_literal_address_is_judged() -> None:
    async with serving(hello) as server:
        cause = await refused("", at(server, "127.0.0.1"))
        assert f"127.0.0.1:{server.port}" in cause
        assert (await fetch("loopback", at(server, "127.0.0.1"))).startswith(b"hello")


async def test_a_name_is_judged_by_where_it_leads() -> None:
    async with serving(hello) as server:
        resolver = ToldResolver(inside_example=[["127.0.0.1"]])
        assert "inside.example (127.0.0.1)" in await refused("", at(server, "inside.example"), resolver)
        assert await fetch("inside.example", at(server, "inside.example"), resolver)


async def test_of_several_addresses_only_allowed_ones_are_connected_to() -> None:
    async with serving(hello) as server:
        resolver = ToldResolver(mixed_example=[["10.255.255.1", "127.0.0.1", "169.254.169.254"]])
        assert await fetch("127.0.0.1", at(server, "mixed.example"), resolver)


async def test_a_name_that_resolves_differently_the_second_time_leads_nowhere() -> None:
    """DNS rebinding: the first answer is allowed; the second is the metadata service."""

    async def move(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("http://rebinding.example:1/latest/meta-data")

    async with serving(move) as server:
        resolver = ToldResolver(rebinding_example=[["127.0.0.1"], ["169.254.169.254"]])
        cause = await refused("*.example loopback", at(server, "rebinding.example"), resolver)
    assert "rebinding.example (169.254.169.254)" in cause
    assert "metadata" in cause
    assert resolver.asked == ["rebinding.example", "rebinding.example"]


@pytest.mark.parametrize(
    "url", ("http://169.254.169.254/latest/meta-data", "http://[fd00:ec2::254]/", "http://[::ffff:a9fe:a9fe]/")
)
async def test_a_redirect_to_metadata_is_refused(url: str) -> None:
    async def move(_: web.Request) -> web.Response:
        raise web.HTTPFound(url)

    async with serving(move) as server:
        assert "metadata" in await refused("loopback 0.0.0.0/0 ::/0", at(server, "127.0.0.1"))


async def test_each_redirect_is_judged_anew() -> None:
    """With its control: the same redirect goes through once its target is allowed."""
    hits: list[str] = []

    async def inside(request: web.Request) -> web.Response:
        hits.append(request.path)
        return web.Response(text="secret")

    async with serving(inside) as hidden:

        async def move(_: web.Request) -> web.Response:
            raise web.HTTPFound(at(hidden, "127.0.0.1", "/admin"))

        async with serving(move) as server:
            await refused(f"127.0.0.1:{server.port}", at(server, "127.0.0.1"))
            assert hits == []
            assert await fetch("loopback", at(server, "127.0.0.1")) == b"secret"
            assert hits == ["/admin"]


@pytest.mark.parametrize("host", ("2130706433", "0x7f000001", "127.1", "0177.0.0.1"))
async def test_odd_spellings_of_loopback_lead_nowhere(host: str) -> None:
    async with serving(hello) as server:
        with pytest.raises(StatesError):
            await fetch("", at(server, host))
