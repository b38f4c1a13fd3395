// Server-sent events by fetch: EventSource cannot send the Authorization header.

import { request } from "./api.js";

/**
 * Yield [data, id] of each event; id is undefined for an event without one. The stream resumes after the id `after`.
 *
 * Returns when the server ends the stream; throws when the connection breaks.
 */
export async function* events(path, signal, after) {
  const headers = { Accept: "text/event-stream", ...(after && { "Last-Event-ID": after }) };
  const response = await request(path, { signal, again: true, headers });
  if (!response.body) return; // status 204: no further events
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  let id;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, field, content] = /^([^:]*):? ?(.*?)\r?$/s.exec(line);
      if (field === "data") data.push(content);
      else if (field === "id") id = content;
      else if (!field && !content && data.length) {
        yield [data.join("\n"), id];
        [data, id] = [[], undefined];
      }
    }
  }
}
