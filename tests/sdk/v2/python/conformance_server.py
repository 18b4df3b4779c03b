"""One replica of a server that has what the official conformance suite asks for in revision 2026-07-28.

Usage: conformance_server.py NAME PORT (0: a free one). Prints `listening PORT` once it accepts.
The suite's own descriptions of its scenarios say what each name below has to answer. Its key for `requestState` is the
one that the SDK makes for each process, and its subscriptions are the SDK's, in this process.
"""

import base64
import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import Context, MCPServer, Resolve, Sample, UserMessage
from mcp_types import (
    AudioContent,
    CallToolResult,
    Completion,
    CreateMessageResult,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import Field
from serving import serve

NAME = sys.argv[1]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="

mcp = MCPServer(NAME, version="1.0.0", log_level="CRITICAL")


def tool(run: Callable) -> Callable:
    return mcp.tool(description=run.__name__)(run)


def prompt(render: Callable) -> Callable:
    return mcp.prompt(description=render.__name__)(render)


def text(value: str) -> TextContent:
    return TextContent(type="text", text=value)


def resource(uri: str, mime_type: str, value: str) -> EmbeddedResource:
    contents = TextResourceContents(uri=uri, mime_type=mime_type, text=value)
    return EmbeddedResource(type="resource", resource=contents)


IMAGE = ImageContent(type="image", data=PNG, mime_type="image/png")


# --- Contents


@tool
def test_simple_text() -> CallToolResult:
    return CallToolResult(content=[text("This is a simple text response for testing.")])


@tool
def test_image_content() -> CallToolResult:
    return CallToolResult(content=[IMAGE])


@tool
def test_audio_content() -> CallToolResult:
    return CallToolResult(content=[AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


@tool
def test_embedded_resource() -> CallToolResult:
    contents = resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    return CallToolResult(content=[contents])


@tool
def test_multiple_content_types() -> CallToolResult:
    mixed = resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return CallToolResult(content=[text("Multiple content types test:"), IMAGE, mixed])


@tool
def test_error_handling() -> str:
    raise RuntimeError("This tool intentionally returns an error for testing")


@tool
async def test_tool_with_progress(ctx: Context) -> str:
    for step in (0, 50, 100):
        await ctx.report_progress(step, 100)
        await anyio.sleep(0.05)
    return "Reported progress"


@tool
async def test_logging_tool(ctx: Context) -> str:
    await ctx.info("Logged by a tool")
    return "Logged once"


@tool
def test_custom_headers(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    return region


# --- Questions to the client


def form(message: str, **properties: str) -> dict:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sampling(prompt: str) -> dict:
    message = {"role": "user", "content": {"type": "text", "text": prompt}}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 100}}


ROOTS = {"method": "roots/list", "params": {}}
NAME_FORM = form("What is your name?", name="string")


def required(state: str | None = None, **requests: dict) -> InputRequiredResult:
    return InputRequiredResult.model_validate({"inputRequests": requests, "requestState": state})


def reply(ctx: Context, key: str) -> Any:
    return (ctx.input_responses or {}).get(key)


def elicited(ctx: Context, key: str, field: str) -> str | None:
    """A value of the form that the client sent back for `key`, if it did."""
    return (getattr(reply(ctx, key), "content", None) or {}).get(field)


@tool
def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    name = elicited(ctx, "user_name", "name")
    return f"Hello, {name}!" if name else required(user_name=NAME_FORM)


@tool
def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    answer = reply(ctx, "capital_question")
    return answer.content.text if answer else required(capital_question=sampling("What is the capital of France?"))


@tool
def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    answer = reply(ctx, "client_roots")
    return f"{answer.roots}" if answer else required(client_roots=ROOTS)


@tool
def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    if reply(ctx, "confirm") and ctx.request_state == "asked":
        return "state-ok"
    return required("asked", confirm=form("Please confirm", ok="boolean"))


@tool
def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    return test_input_required_result_request_state(ctx)


@tool
def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    questions = {"user_name": NAME_FORM, "greeting": sampling("Generate a greeting"), "client_roots": ROOTS}
    return "All there" if all(reply(ctx, key) for key in questions) else required("asked", **questions)


@tool
def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    if name := elicited(ctx, "step1", "name"):
        return required(name, step2=form("Step 2: What is your favorite color?", color="string"))
    if color := elicited(ctx, "step2", "color"):
        return f"{ctx.request_state} likes {color}"
    return required("nobody", step1=form("Step 1: What is your name?", name="string"))


@tool
def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
    capabilities = ctx.client_capabilities
    questions = {}
    if capabilities and capabilities.sampling:
        questions["greeting"] = sampling("Generate a greeting")
    if capabilities and capabilities.elicitation:
        questions["user_name"] = NAME_FORM
    return required(**questions) if questions else "Nothing to ask with"


@tool
def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
    return test_input_required_result_elicitation(ctx)


def asked_model() -> Sample:
    return Sample([SamplingMessage(role="user", content=text("Anything"))], max_tokens=10)


@tool
def test_missing_capability(answer: Annotated[CreateMessageResult, Resolve(asked_model)]) -> str:
    return f"{answer.content}"


# --- Subscriptions


@tool
async def test_trigger_tool_change(ctx: Context) -> str:
    await ctx.notify_tools_changed()
    return "Told"


@tool
async def test_trigger_prompt_change(ctx: Context) -> str:
    await ctx.notify_prompts_changed()
    return "Told"


# --- Resources and prompts


@mcp.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    return base64.b64decode(PNG)


@mcp.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@prompt
def test_simple_prompt() -> list[UserMessage]:
    return [UserMessage("This is a simple prompt for testing.")]


@prompt
def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    return [UserMessage(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]


@prompt
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    contents = resource(resourceUri, "text/plain", "Embedded resource content for testing.")
    return [UserMessage(contents), UserMessage("Please process the embedded resource above.")]


@prompt
def test_prompt_with_image() -> list[UserMessage]:
    return [UserMessage(IMAGE), UserMessage("Please analyze the image above.")]


@prompt
def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | InputRequiredResult:
    context = elicited(ctx, "user_context", "context")
    if context:
        return [UserMessage(context)]
    return required(user_context=form("What context should the prompt use?", context="string"))


@mcp.completion()
async def complete(_reference, argument, _context) -> Completion:
    return Completion(values=[word for word in ("test", "testing") if word.startswith(argument.value)])


if __name__ == "__main__":
    serve(mcp, int(sys.argv[2]))
