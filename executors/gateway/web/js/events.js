// Server-sent events by fetch: EventSource cannot send the Authorization header.

import { request } from "./api.js";
import { sleep } from "./time.js";

const SILENCE = 40; // seconds; the server writes a comment every 15

/**
 * Yield [data, id] of each event; id is undefined for an event without one. The stream resumes after the id `after`.
 *
 * Returns when the server ends the stream; throws when the connection breaks, when the stream is silent for too long, and
 * when the browser goes offline, which by itself ends no stream.
 */
export async function* events(path, signal, after) {
  const headers = { Accept: "text/event-stream", ...(after && { "Last-Event-ID": after }) };
  const ended = new AbortController();
  const offline = new AbortController();
  addEventListener("offline", () => offline.abort(), { signal: ended.signal });
  try {
    const response = await request(path, { signal, again: true, headers });
    if (!response.body) return; // status 204: no further events
    yield* parsed(response.body.pipeThrough(new TextDecoderStream()).getReader(), offline.signal);
  } finally {
    ended.abort();
  }
}

async function* parsed(reader, offline) {
  let rest = "";
  let data = [];
  let id;
  for (;;) {
    const { done, value } = await soon(reader, offline);
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

/** Read a piece; throw after SILENCE, or once the browser is offline. */
async function soon(reader, offline) {
  const over = new AbortController();
  try {
    const found = await Promise.race([reader.read(), sleep(SILENCE, AbortSignal.any([offline, over.signal]))]);
    if (found) return found;
  } finally {
    over.abort();
  }
  reader.cancel().catch(() => {});
  throw new TypeError("the stream is silent");
}
