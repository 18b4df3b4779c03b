"""What makes streams of the Python SDK's server resumable, in versions 1.x and 2.x."""

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager


class SessionEventStore(EventStore):
    """All events of one session, in memory, numbered from 1.

    The numbers repeat in every session and every replica, as they do in the field: an event's id says nothing about
    where it was made.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    async def store_event(self, stream_id, message) -> str:
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback: EventCallback):
        seen = int(last_event_id)
        stream = self.events[seen - 1][0]
        for number, (its_stream, message) in enumerate(list(self.events), start=1):
            is_priming = message is None
            if number > seen and its_stream == stream and not is_priming:
                await send_callback(EventMessage(message, str(number)))
        return stream


class SessionManager(StreamableHTTPSessionManager):
    """Gives each session an event store of its own.

    The stock manager shares one among all sessions, but names streams by request ids, which repeat from session to
    session: a resumed stream would replay other sessions' events.
    """

    @property
    def event_store(self):
        return SessionEventStore()

    @event_store.setter
    def event_store(self, _shared):
        pass
