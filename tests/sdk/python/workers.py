"""A server as one would write it, to be run by `uvicorn --workers`: each worker keeps sessions of its own."""

from mcp.server.fastmcp import FastMCP

app = FastMCP("workers").streamable_http_app()
