// Marks: which results fit the query and which do not. They are sent together, as one mark of one answer.

import { request, send } from "../js/api.js";
import { announce, h, svg, swap } from "../js/dom.js";

const THUMB = "M7 10v10H3.5V10zm0 0 4.2-6.5c1.6 0 2.4 1.2 2 2.8L12.6 9.5H19c1.2 0 2 1 1.7 2.2L19 18.3c-.3 1-1.1 1.7-2.2 1.7H7";
const SIDES = [
  ["chosen", "Fits"],
  ["refused", "Does not fit"],
];

/**
 * Return {bar, buttons(match, at), keep()} for the answer to one query, {text} or {blob}.
 *
 * `keep()` sends marks that are not stored yet: the page calls it before the next search, and when the user leaves.
 */
export function marksOf(content, answer) {
  const said = h("span", { role: "status" });
  const bar = h("p.marks", { hidden: true });
  const marks = new Map(); // id of a document -> side
  const shown = (answer.matches ?? []).slice(0, 100).map((match) => match.id);
  const pressed = []; // [button, id, side]
  let stored; // id of the mark, once it is stored
  if (!content) return { bar, buttons: () => undefined, keep() {} };

  function draw() {
    const count = (side) => [...marks.values()].filter((each) => each === side).length;
    bar.hidden = !marks.size && !stored;
    for (const [button, id, side] of pressed) {
      button.setAttribute("aria-pressed", String(marks.get(id) === side));
      button.disabled = Boolean(stored); // what is stored is taken back as a whole
    }
    swap(
      bar,
      stored
        ? [h("span", {}, "Marked. Thank you."), h("button.quiet", { type: "button", onclick: undo }, "Undo")]
        : [h("strong", {}, `${count("chosen")} fit, ${count("refused")} ${count("refused") === 1 ? "does" : "do"} not`), h("button", { type: "button", onclick: save }, "Save marks")],
      said,
    );
  }

  function body() {
    const side = (wanted) => [...marks].filter(([, each]) => each === wanted).map(([id]) => id);
    const mark = { id: crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("") };
    return { ...mark, ...content, shown, chosen: side("chosen"), refused: side("refused"), artifact: answer.artifact };
  }

  async function save() {
    const mark = body();
    swap(said);
    try {
      await send("/v1/feedback", { marks: [mark] });
      stored = mark.id;
      announce("Marks are saved");
      draw();
      bar.querySelector("button").focus();
    } catch (error) {
      swap(said, h("span.wrong", {}, error.message));
    }
  }

  async function undo() {
    try {
      await send("/v1/feedback/delete", { ids: [stored] });
      stored = undefined;
      announce("Marks are taken back");
      draw();
    } catch (error) {
      swap(said, h("span.wrong", {}, error.message));
    }
  }

  return {
    bar,
    buttons(match) {
      if (!shown.includes(match.id)) return undefined;
      return SIDES.map(([side, label]) => {
        const press = () => {
          if (marks.get(match.id) === side) marks.delete(match.id);
          else marks.set(match.id, side);
          swap(said);
          draw();
        };
        const icon = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: THUMB }));
        const button = h(`button.thumb.${side}`, { type: "button", title: label, "aria-label": `${label}: ${match.id}`, "aria-pressed": "false", onclick: press }, icon);
        pressed.push([button, match.id, side]);
        return button;
      });
    },
    keep() {
      if (!marks.size || stored) return;
      const sent = JSON.stringify({ marks: [body()] });
      marks.clear();
      // a closed tab sends up to 64 kB; nobody is there to read of an error
      request("/v1/feedback", { method: "POST", body: sent, keepalive: sent.length < 60_000 }).catch(() => {});
    },
  };
}
