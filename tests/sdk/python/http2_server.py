"""The same replica under hypercorn, which speaks HTTP/2.

Usage: http2_server.py NAME PORT [CERTIFICATE KEY]. Without a certificate it expects HTTP/2 from the first byte on.
"""

import asyncio
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config
from server import begin


async def main() -> None:
    app, listener = begin()
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog, config.loglevel = None, "WARNING"
    if len(sys.argv) > 3:
        config.certfile, config.keyfile = sys.argv[3:5]
        config.alpn_protocols = ["h2"]
    await serve(app, config, shutdown_trigger=asyncio.Event().wait)


asyncio.run(main())
