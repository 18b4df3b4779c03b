"""Ports for what keeps its own over restarts."""

import random
import socket

_UNUSED = iter(random.sample(range(20_000, 30_000), 10_000))


def free_port() -> int:
    """A port that no client's connection can take while pinring restarts, being below those the kernel hands out, and
    that is handed out here only once: who got it may not listen yet."""
    for port in _UNUSED:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("all ports from 20000 to 29999 were handed out")
