"""Listeners: sockets are bound once, served, and closed at the end."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from aiohttp import ClientSession, web

from daemon.config import ListenAddress, load
from daemon.web.http.listeners import ListenFailed, bind, open_listeners, serving


async def _hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


def test_port_0_is_the_same_port_for_every_address_of_a_name() -> None:
    listener = bind(ListenAddress(host="localhost", port=0))
    assert {each.getsockname()[1] for each in listener.sockets} == {listener.address.port}
    assert listener.address.port != 0
    listener.close()


@pytest.mark.parametrize(
    ("host", "remedy"),
    [("no.such.host.invalid", "see whether the name is right"), ("192.0.2.1", "give this machine that")],
)
def test_an_address_that_is_not_ours_is_named(host: str, remedy: str) -> None:
    with pytest.raises(ListenFailed, match=f"cannot listen on {host}:0: ") as refused:
        bind(ListenAddress(host=host, port=0))
    assert refused.value.hint.startswith(remedy)


def test_of_two_addresses_none_stays_bound_if_one_is_taken() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        first, second = (f"127.0.0.1:{each.getsockname()[1]}" for each in (free, taken))
        free.close()
        environ = {"HOME": "/nowhere", "HOOKLEDGER_SERVER__OPS_LISTEN": second}
        with pytest.raises(ListenFailed, match=f"cannot listen on {second}") as refused:
            open_listeners(load(None, environ, listen=first).server)
        hint = "stop what listens there, or choose another address in"
        assert refused.value.hint == f"{hint} server.ops_listen"
        with pytest.raises(ListenFailed) as refused:
            open_listeners(load(None, {"HOME": "/nowhere"}, listen=second).server)
        assert refused.value.hint == f"{hint} server.listen, or --listen"
        bind(ListenAddress(host="127.0.0.1", port=int(first.rpartition(":")[2]))).close()


async def test_before_and_after_it_is_served_a_socket_refuses() -> None:
    listener = bind(ListenAddress(host="127.0.0.1", port=0))
    place = ("127.0.0.1", listener.address.port)
    application = web.Application()
    application.router.add_get("/", _hello)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)
    async with (
        serving(application, listener),
        ClientSession() as http,
        http.get(f"http://{listener.address}/") as answer,
    ):
        assert await answer.text() == "hello"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)


async def test_a_socket_that_is_bound_where_another_one_listens_by_now_is_refused() -> None:
    """Two daemons that are started at once bind the address both, and listen once they have read the route log."""
    first = bind(ListenAddress(host="127.0.0.1", port=0))
    second = bind(first.address)
    async with serving(web.Application(), first):
        with pytest.raises(ListenFailed, match=f"cannot listen on {first.address}: Address already in use") as refused:
            async with serving(web.Application(), second):
                pytest.fail("nobody would reach it")
        assert refused.value.hint.startswith("stop what listens there")


async def test_a_duplicate_of_a_socket_that_listens_is_served_as_well() -> None:
    listener = bind(ListenAddress(host="127.0.0.1", port=0))
    successor = listener.duplicate()
    async with serving(web.Application(), listener), serving(web.Application(), successor):
        socket.create_connection(("127.0.0.1", listener.address.port)).close()
