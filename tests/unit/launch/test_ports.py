from __future__ import annotations

import socket

from serve_app.launch.ports import are_free, free_port_block, free_ports


def test_ports_are_different_and_can_be_bound() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("", port))


def test_they_lie_outside_the_kernels_own_range() -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first, last = map(int, file.read().split())
    assert not any(first <= port <= last for port in free_ports(50))


def test_a_block_holds_no_port_in_use() -> None:
    first = free_port_block(40)
    for port in range(first, first + 40):
        with socket.socket() as listener:
            listener.bind(("", port))


def test_a_port_that_would_be_shared_is_not_free() -> None:
    """Serve's replicas listen with SO_REUSEPORT: two clusters on one port would get each other's requests."""
    [port] = free_ports(1)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert not are_free(port, 1)
    assert are_free(port, 1)
