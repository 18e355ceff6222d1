from __future__ import annotations

import socket

from serve_app.ports import free_ports


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
