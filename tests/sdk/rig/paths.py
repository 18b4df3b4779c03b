"""Where the parts lie."""

import os
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parent.parent
REPOSITORY = SDK.parent.parent
NODE_MODULES = SDK / "node/node_modules"

NODE = next((str(path) for path in NODE_MODULES.glob("node-linux-*/bin/node")), "node")
"""Pinned by the lock file like any other package: the conformance suite needs a newer one than Debian has. Not by way
of `.bin`: old npm links nothing there that two packages have, though it installs but one of them."""

PYTHON = sys.executable

V2 = SDK / "v2"
"""The SDKs' second versions, which exclude the first ones: modules and environment of their own, the same Node."""

PYTHON_V2 = str(V2 / ".venv/bin/python")
BROWSER = SDK / "browser"
"""What drives a browser; pages are put together from the modules of the other two."""

CONFORMANCE_V2 = str(V2 / "node/node_modules/@modelcontextprotocol/conformance/dist/index.js")
CONFORMANCE = str(NODE_MODULES / "@modelcontextprotocol/conformance/dist/index.js")
EVERYTHING = str(NODE_MODULES / "@modelcontextprotocol/server-everything/dist/index.js")
PINRING = os.environ.get("PINRING_BIN", str(REPOSITORY / "target/debug/pinring"))
