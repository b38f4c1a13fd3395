// Whether the server answers: what is wrong is said in a banner for as long as any request waits for it.

import { h } from "./dom.js";
import { sleep } from "./time.js";

const LONGEST = 5; // seconds between two tries
const waiting = new Map(); // request -> why it waits
let hurry = new AbortController();

/** Wait before the next try; `attempt` counts from 0. */
export async function waitAfterFailure(request, reason, attempt, signal) {
  if (!waiting.has(request)) signal?.addEventListener("abort", () => answered(request), { once: true });
  waiting.set(request, reason);
  show();
  await sleep(Math.min(2 ** attempt, LONGEST), AbortSignal.any([hurry.signal, ...(signal ? [signal] : [])]));
}

/** A request got its answer. */
export function answered(request) {
  if (waiting.delete(request)) show();
}

function show() {
  const banner = document.getElementById("connection");
  const [reason] = waiting.values();
  if (reason === banner.dataset.reason) return; // said once, not with every try
  if (reason === undefined) {
    delete banner.dataset.reason;
    banner.replaceChildren();
    return;
  }
  banner.dataset.reason = reason;
  banner.replaceChildren(
    h("p", {}, h("strong", {}, reason), " This page tries again every few seconds."),
    h("button", { onclick: tryNow }, "Try now"),
  );
}

function tryNow() {
  hurry.abort();
  hurry = new AbortController();
}

addEventListener("online", tryNow);
