"""The suite itself cannot reach the network."""

import socket

import pytest


def test_a_name_cannot_be_looked_up():
    with pytest.raises(RuntimeError, match="look up"):
        socket.getaddrinfo("example.com", 443)


def test_an_address_cannot_be_connected_to():
    with socket.socket() as found, pytest.raises(RuntimeError, match="connect to"):
        found.connect(("192.0.2.1", 80))


def test_this_machine_can_be_connected_to():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
