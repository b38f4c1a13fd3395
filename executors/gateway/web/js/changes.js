// Changes of the list of runs, as the server sends them. The stream pauses while the page is hidden.

import { Refusal } from "./api.js";
import { events } from "./events.js";
import { sleep, visible } from "./time.js";

/** Call `task({counts})` at once and after each change of any run, until `signal` is aborted. */
export async function changes(signal, task) {
  while (!signal.aborted) {
    await visible(signal);
    const hidden = new AbortController();
    const check = () => document.hidden && hidden.abort();
    document.addEventListener("visibilitychange", check);
    try {
      const stop = AbortSignal.any([signal, hidden.signal]);
      for await (const [data] of events("/v1/runs/events", stop)) await task(JSON.parse(data));
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refusal && error.status !== 429) throw error;
    } finally {
      document.removeEventListener("visibilitychange", check);
    }
    await sleep(1, signal);
  }
}
