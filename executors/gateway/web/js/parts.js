// Small things that several pages show.

import { h, path } from "./dom.js";
import { change, number } from "./format.js";

const WORDS = { CREATED: "waiting", STARTED: "training", FINISHED: "finished", FAILED: "failed", CANCELED: "canceled" };
const OWN_TAGS = ["finetuner_artifact", "finetuner_error"];

export const ENDED = ["FINISHED", "FAILED", "CANCELED"];

/** How a run goes, in a word and a mark. */
export function badge(status) {
  return h(
    `span.badge.${
      String(status)
        .toLowerCase()
        .replace(/[^a-z]/g, "") || "unknown"
    }`,
    { "data-status": status },
    WORDS[status] ?? status,
  );
}

/** An artifact's id, short, as a link; a backbone's name as it is. */
export function artifactLink(id) {
  if (!id) return "–";
  return isArtifact(id) ? h("a.id", { href: path("artifacts", id), title: id }, id.slice(0, 8)) : h("span", {}, id);
}

/** Whether a reference is the id of a published artifact, not a backbone. */
export function isArtifact(reference) {
  return /^[0-9a-f]{24}$/.test(reference);
}

/** before → after, with the change. */
export function progressOf(before, after) {
  if (!Number.isFinite(before) || !Number.isFinite(after)) return number(after ?? before);
  return h(
    "span.progress",
    {},
    h("span.before", {}, number(before)),
    h("span", { "aria-label": "to" }, " → "),
    h("b", {}, number(after)),
    " ",
    delta(after - before),
  );
}

/** A change, with a word for those who see no colours. */
export function delta(value) {
  return h(`span.delta.${value > 0 ? "up" : value < 0 ? "down" : "same"}`, {}, change(value));
}

/** Nothing here yet: what it would be, and how to make one. */
export function empty(title, ...how) {
  return h("div.empty", {}, h("p", {}, h("strong", {}, title)), h("p", {}, ...how));
}

/** Terms: [[name, value], ...]; those without a value are left out. */
export function facts(entries) {
  return h(
    "dl.facts",
    {},
    entries.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** A JSON value for people: lists and objects indented, the rest as it is. */
export function value(content) {
  return typeof content === "object" ? h("pre", {}, JSON.stringify(content, null, 1)) : String(content);
}

/** A table with a caption that only screen readers need; `rows` are arrays of cells. */
export function table(caption, head, rows) {
  return h(
    "div.scroll",
    { tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption.unseen", {}, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          head.map((cell) => h("th", { scope: "col" }, cell)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((cells) =>
          h(
            "tr",
            {},
            cells.map((cell, at) => (at ? h("td", { "data-label": head[at] }, cell) : h("th", { scope: "row" }, cell))),
          ),
        ),
      ),
    ),
  );
}

/** A document's tags, without what the Flow keeps for itself. */
export function tags(document) {
  const shown = Object.entries(document.tags ?? {}).filter(([name]) => !OWN_TAGS.includes(name));
  if (!shown.length) return undefined;
  const text = (content) => (typeof content === "object" ? JSON.stringify(content) : String(content));
  return h(
    "p.tags",
    {},
    shown.map(([name, content]) => h("span", {}, `${name.replace(/^finetuner_/, "")}: ${text(content)}`)),
  );
}

/** Where this page is: [text, address] pairs, the address left out where there is no page. */
export function crumbs(...steps) {
  const items = steps.map(([text, address]) => h("li", {}, address ? h("a", { href: address }, text) : text));
  return h("nav", { "aria-label": "Where this page is" }, h("ol.crumbs", {}, items));
}
