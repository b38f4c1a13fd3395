// Examples of a search: documents that matches look like, and unlike. Their ids stand in the address.

import { h, swap } from "../js/dom.js";
import { imageOf } from "../js/images.js";

const SIDES = [
  ["like", "Like", "positives"],
  ["unlike", "Not like", "negatives"],
];
const MOST = 32; // of a side; the address holds them

/** Return {element, add(side, match), texts(), put(body)}; `changed` follows each change. */
export function exampleList(query, changed) {
  const chosen = Object.fromEntries(SIDES.map(([side]) => [side, new Map(query.getAll(side).slice(0, MOST).map((id) => [id, undefined]))]));
  const element = h("div.examples-given", { role: "group", "aria-label": "Examples" });

  function draw() {
    element.hidden = !SIDES.some(([side]) => chosen[side].size);
    swap(
      element,
      SIDES.map(([side, label]) => chosen[side].size > 0 && h("ul.chips", { "aria-label": label }, h("li.faint", {}, label), [...chosen[side]].map(([id, blob]) => chip(side, label, id, blob)))),
    );
  }

  function chip(side, label, id, blob) {
    const remove = () => {
      chosen[side].delete(id);
      draw();
      (element.querySelector("button") ?? document.getElementById("words")).focus();
      changed();
    };
    return h(
      `li.chip.${side}`,
      {},
      blob && imageOf(blob, ""),
      h("span", {}, id),
      h("button.quiet", { type: "button", id: `drop-${side}-${id}`, onclick: remove, "aria-label": `Remove example ${id}` }, "Remove"),
    );
  }

  draw();
  return {
    element,
    add(side, match) {
      for (const [other] of SIDES) chosen[other].delete(match.id);
      if (chosen[side].size >= MOST) return;
      chosen[side].set(match.id, match.blob);
      draw();
      document.getElementById(`drop-${side}-${match.id}`)?.focus(); // its card leaves the results
      changed();
    },
    texts: () => Object.fromEntries(SIDES.map(([side]) => [side, [...chosen[side].keys()]])),
    put(body) {
      for (const [side, , name] of SIDES) if (chosen[side].size) body[name] = [...chosen[side].keys()].map((id) => ({ id }));
    },
  };
}
