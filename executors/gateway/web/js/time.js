// Timers.

/** Resolve after some seconds, or as soon as `signal` is aborted. */
export function sleep(seconds, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, seconds * 1000);
    signal?.addEventListener("abort", done);
  });
}

/** Call `task` now, and again `seconds` after each end, until it returns true. Pauses while the page is hidden. */
export async function repeat(seconds, signal, task) {
  while (!signal.aborted && !(await task())) {
    await sleep(seconds, signal);
    await visible(signal);
  }
}

/** Resolve as soon as the page is shown, or `signal` aborted. */
export function visible(signal) {
  if (!document.hidden) return undefined;
  return new Promise((resolve) => {
    const check = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", check);
      resolve();
    };
    document.addEventListener("visibilitychange", check);
    signal.addEventListener("abort", check, { once: true });
  });
}
