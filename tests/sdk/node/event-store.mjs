// What makes streams of the TypeScript SDK's server resumable: all events of one session, in memory.
// The ids repeat in every session and every replica, as they do in the field: an event's id says nothing
// about where it was made.

export class SessionEventStore {
  #events = [];

  async storeEvent(streamId, message) {
    this.#events.push({ streamId, message });
    return String(this.#events.length);
  }

  async getStreamIdForEventId(eventId) {
    return this.#events[Number(eventId) - 1]?.streamId;
  }

  async replayEventsAfter(lastEventId, { send }) {
    const streamId = await this.getStreamIdForEventId(lastEventId);
    for (const [index, event] of this.#events.entries()) {
      const isPriming = Object.keys(event.message).length === 0;
      if (index >= Number(lastEventId) && event.streamId === streamId && !isPriming) {
        await send(String(index + 1), event.message);
      }
    }
    return streamId;
  }
}
