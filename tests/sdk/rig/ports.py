"""Ports for what keeps its own over restarts."""

import random
import socket


def free_port() -> int:
    """A port that no client's connection can take while pinring restarts: below those the kernel hands out."""
    while True:
        port = random.randint(20_000, 29_999)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
