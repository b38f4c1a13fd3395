// Server-sent events by fetch: EventSource cannot send the Authorization header.

import { request } from "./api.js";

/**
 * Yield [data, id] of each event, where id is undefined for those without; `after` is the id to go on behind.
 *
 * Ends where the server ends the stream, throws where it breaks.
 */
export async function* events(path, signal, after) {
  const headers = { Accept: "text/event-stream", ...(after && { "Last-Event-ID": after }) };
  const response = await request(path, { signal, again: true, headers });
  if (!response.body) return; // nothing came after
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
