// What each room says of itself: memory, versions, settings in force, and the last lines of its log.

import { get } from "../js/api.js";
import { h, swap } from "../js/dom.js";
import { ago, bytes } from "../js/format.js";
import { facts, table, value } from "../js/parts.js";

/** Return the fold with the rooms; it asks when it opens, and again by its button. */
export function roomDetails(signal) {
  const shown = h("div.stack", { "aria-live": "polite" });
  const open = new Set(); // folds that stay open when the rooms are asked again
  const fold = h("details", { id: "rooms", ontoggle: () => fold.open && !shown.hasChildNodes() && load() }, h("summary", {}, "Memory, settings and logs of the rooms"), shown);

  async function load() {
    try {
      const { items } = await get("/v1/rooms", signal);
      swap(shown, h("div.actions", {}, h("button", { id: "again", onclick: load }, "Ask again")), items.map(room));
    } catch (error) {
      if (!signal.aborted) swap(shown, h("p.wrong", { role: "alert" }, error.message));
    }
  }

  function room({ name, silent, memory, started_at: since, versions, settings, log }) {
    const title = name.replaceAll("_", " ");
    if (silent) return h("section", {}, h("h3", {}, title), h("p.warning", {}, "It does not answer."));
    const rows = Object.entries(settings).map(([key, each]) => [h("code", {}, key), each === null || each === "" ? "–" : value(each)]);
    const part = (id, label, content) => {
      const key = `${id}-${name}`;
      const own = h("details", { id: key, open: open.has(key), ontoggle: () => (own.open ? open.add(key) : open.delete(key)) }, h("summary", {}, label), content);
      return own;
    };
    return h(
      "section.stack",
      {},
      h("h3", {}, title),
      facts([["Memory", memory && bytes(memory)], ["Up since", ago(since)], ...Object.entries(versions)]),
      part("settings", `${rows.length} settings`, table(`Settings of ${title}`, ["Setting", "Value"], rows)),
      part("log", log.length ? `The last ${log.length} lines of its log` : "Its log is empty", h("pre.log", { tabindex: 0, role: "region", "aria-label": `Log of ${title}` }, log.join("\n"))),
    );
  }

  return fold;
}
