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
CONFORMANCE = str(NODE_MODULES / "@modelcontextprotocol/conformance/dist/index.js")
EVERYTHING = str(NODE_MODULES / "@modelcontextprotocol/server-everything/dist/index.js")
PINRING = os.environ.get("PINRING_BIN", str(REPOSITORY / "target/debug/pinring"))
