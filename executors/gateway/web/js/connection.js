// The banner that is shown while requests wait for a server that does not answer.

import { h } from "./dom.js";
import { sleep } from "./time.js";

const LONGEST = 5; // seconds between two retries
const waiting = new Map(); // request -> reason for its wait
let immediate = new AbortController();

/** Wait before the next retry; `attempt` counts from 0. */
export async function waitAfterFailure(request, reason, attempt, signal) {
  if (!waiting.has(request)) signal?.addEventListener("abort", () => answered(request), { once: true });
  waiting.set(request, reason);
  show();
  await sleep(Math.min(2 ** attempt, LONGEST), AbortSignal.any([immediate.signal, ...(signal ? [signal] : [])]));
}

/** Show that a request which is not repeated waits for a server that does not answer. */
export function late(request, reason) {
  waiting.set(request, reason);
  show();
}

/** Remove an answered request from the banner. */
export function answered(request) {
  if (waiting.delete(request)) show();
}

function show() {
  const banner = document.getElementById("connection");
  const [reason] = waiting.values();
  if (reason === banner.dataset.reason) return; // announce a reason once, not with every retry
  if (reason === undefined) {
    delete banner.dataset.reason;
    banner.replaceChildren();
    return;
  }
  banner.dataset.reason = reason;
  banner.replaceChildren(
    h("p", {}, h("strong", {}, reason), " Retrying every few seconds."),
    h("button", { onclick: retryNow }, "Retry now"),
  );
}

function retryNow() {
  immediate.abort();
  immediate = new AbortController();
}

addEventListener("online", retryNow);
