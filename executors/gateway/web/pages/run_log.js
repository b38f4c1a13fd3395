// The log of a run, followed while it grows.

import { Refusal } from "../js/api.js";
import { h } from "../js/dom.js";
import { events } from "../js/events.js";
import { sleep } from "../js/time.js";

const MOST_LINES = 2000;
// The trainer's log ends with emoji, which fonts without them show as a box.
const EMOJI = / ?\p{Extended_Pictographic}\uFE0F?/gu;
const STEP = /step (\d+)\/(\d+) /;
const STATE = /([\d.]+ [a-z]+\/s) - waited for data (\d+)% - ([\d.]+ GB) - ETA (\d+) s/;

/** Follow the log in `element` until it ends; calls `onStep(step, steps, state)`: progress, {speed, wait, memory, left}. */
export async function followLog(element, path, signal, onStep) {
  const lines = h("pre.log", { tabindex: 0, role: "log", "aria-live": "off", "aria-label": "Log", hidden: true });
  const note = h("p.faint", {}, "Waiting for the first line …");
  element.append(note, lines);
  let after;
  let behind = 0; // lines shown since the event `after`
  while (!signal.aborted) {
    try {
      let at = 0; // lines since `after` in this stream; after a break, the stream repeats lines already shown
      for await (const [line, id] of events(path, signal, after)) {
        if (++at > behind) {
          show(line);
          behind = at;
        }
        if (id !== undefined) [after, at, behind] = [id, 0, 0];
      }
      if (lines.hidden) note.textContent = "The log is empty.";
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refusal) {
        note.hidden = false;
        note.textContent = error.message;
        return;
      }
      await sleep(1, signal);
    }
  }

  function show(line) {
    const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    note.hidden = true;
    lines.hidden = false;
    lines.append(`${line.replace(EMOJI, "")}\n`);
    while (lines.childNodes.length > MOST_LINES) lines.firstChild.remove();
    if (atEnd) lines.scrollTop = lines.scrollHeight; // a user who has scrolled up stays there
    const step = STEP.exec(line);
    if (!step) return;
    const [, speed, wait, memory, left] = STATE.exec(line) ?? [];
    onStep(+step[1], +step[2], speed && { speed, wait: +wait, memory, left: +left });
  }
}
