// Requests to the REST API: JSON in and out, the token, and retries while the server does not answer.

import { answered, late, waitAfterFailure } from "./connection.js";
import { demandLogin, token } from "./session.js";
import { inWords } from "./words.js";

const AWAY = [429, 502, 503, 504];
const PATIENCE = 4000; // milliseconds without an answer, half of them to a question whether the server still lives
const ALIVE = "/ui/logo.svg"; // served by the gateway alone, without a token

/** An error of the server; `message` is its `detail`. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** GET JSON. Retries until the server answers or `signal` is aborted. */
export async function get(path, signal) {
  return request(path, { signal, again: true, read: json });
}

/** POST a request that changes nothing. Retries like `get`. */
export async function ask(path, body, signal) {
  return request(path, { method: "POST", body: JSON.stringify(body), signal, again: true, read: json });
}

/** POST a change. Sent once, without retries. */
export async function send(path, body = {}) {
  return request(path, { method: "POST", body: JSON.stringify(body), read: json });
}

const json = (response) => response.json();

/**
 * Return `read(response)` of a successful request.
 *
 * Throws Refusal for an error of the server, and the reason of an aborted signal.
 */
export async function request(
  path,
  {
    method = "GET",
    body,
    signal,
    again = false,
    headers = {},
    keepalive = false,
    read = (response) => response,
    credential = token(),
  } = {},
) {
  const sent = { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers };
  if (credential) sent.Authorization = `token ${credential}`;
  const id = Symbol(path);
  for (let attempt = 0; ; attempt++) {
    let problem;
    const watch = watched(id, again, signal);
    try {
      const response = await fetch(path, {
        method,
        headers: sent,
        body,
        signal: watch.signal,
        keepalive,
        cache: "no-store",
        credentials: "omit",
      });
      watch.end();
      if (!again || !AWAY.includes(response.status)) {
        const result = response.ok ? await read(response) : await refusal(response, credential);
        answered(id);
        if (response.ok) return result;
        throw result;
      }
      problem = await sentence(response);
    } catch (error) {
      if (error instanceof Refusal) throw error;
      signal?.throwIfAborted();
      problem = watch.signal.aborted
        ? `The server at ${location.host} has not answered for 4 seconds.`
        : `The server at ${location.host} does not answer.`;
      if (!again) throw new Refusal(0, `${problem} Your change may be lost. Check, and try again.`);
    } finally {
      watch.end();
    }
    await waitAfterFailure(id, problem, attempt, signal);
    signal?.throwIfAborted();
  }
}

/**
 * Watch a request that is not answered within PATIENCE. Where the gateway still serves a file, a room is busy, and the
 * request goes on. Where it does not, the banner says so, and a request that may be sent again is given up.
 */
function watched(id, again, signal) {
  const given = new AbortController();
  let timer = setTimeout(look, PATIENCE / 2);
  async function look() {
    timer = undefined;
    try {
      await fetch(ALIVE, { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(PATIENCE / 2) });
      if (!ended) timer = setTimeout(look, PATIENCE);
    } catch {
      if (ended) return;
      if (again) given.abort();
      else late(id, `The server at ${location.host} has not answered for 4 seconds.`);
    }
  }
  let ended = false;
  return {
    signal: signal ? AbortSignal.any([signal, given.signal]) : given.signal,
    end() {
      ended = true;
      clearTimeout(timer);
    },
  };
}

async function refusal(response, credential) {
  if (response.status === 401 && credential === token()) demandLogin();
  return new Refusal(response.status, await sentence(response));
}

async function sentence(response) {
  const text = await response.text();
  try {
    const { detail, type } = JSON.parse(text);
    if (typeof detail === "string") return inWords(type, detail);
    if (Array.isArray(detail)) return detail.map((each) => `${(each.loc ?? []).join(".")}: ${each.msg}`).join("; ");
  } catch {
    // not JSON: a proxy has answered
  }
  return `The server answered ${response.status} ${response.statusText}.`;
}
