// Parts that several pages share.

import { h, path } from "./dom.js";
import { change, datasetName, number } from "./format.js";

export const WORDS = { CREATED: "waiting", STARTED: "training", FINISHED: "finished", FAILED: "failed", CANCELED: "canceled" };
const OWN_TAGS = ["finetuner_artifact", "finetuner_error"];

export const ENDED = ["FINISHED", "FAILED", "CANCELED"];

/** Return the status of a run as a badge. */
export function badge(status, text = WORDS[status] ?? status) {
  return h(
    `span.badge.${
      String(status)
        .toLowerCase()
        .replace(/[^a-z]/g, "") || "unknown"
    }`,
    { "data-status": status },
    text,
  );
}

/** Return a link with the short id of an artifact, or the name of a backbone. */
export function artifactLink(id) {
  if (!id) return "–";
  return isArtifact(id) ? h("a.id", { href: path("artifacts", id), title: id }, id.slice(0, 8)) : nameOf(id);
}

/** Return a link to a dataset under the name that people know it by. */
export function datasetLink(name, experiment, run) {
  return name ? h("a.name", { href: path("datasets", name), title: name }, datasetName(name, experiment, run)) : "–";
}

/** Return a name: a short one stays on its line, a long one may break anywhere. */
export function nameOf(text) {
  return h(text.length <= 24 ? "span.whole" : "span", {}, text);
}

/** Return a field with its label, and help that screen readers read after it. */
export function labelled(label, element, help) {
  const { id } = element;
  if (help) element.setAttribute("aria-describedby", `${id}-help`);
  return h("div.field", {}, h("label", { for: id }, label), element, help && h("small", { id: `${id}-help` }, help));
}

/** Return whether a reference is an artifact id and not a backbone. */
export function isArtifact(reference) {
  return /^[0-9a-f]{24}$/.test(reference);
}

/** Return the values before and after, an arrow between them, with the change. Its glyph is drawn: fonts may lack it. */
export function progressOf(before, after) {
  if (!Number.isFinite(before) || !Number.isFinite(after)) return number(after ?? before);
  return h(
    "span.progress",
    {},
    h("span.before", {}, number(before)),
    h("span.arrow", { role: "img", "aria-label": "to" }),
    h("b", {}, number(after)),
    " ",
    delta(after - before),
  );
}

/** Return a signed change; the sign repeats the meaning of its colour. */
export function delta(value) {
  return h(`span.delta.${value > 0 ? "up" : value < 0 ? "down" : "same"}`, {}, change(value));
}

/** Return a note for an empty page, with a hint how to fill it. */
export function empty(title, ...how) {
  return h("div.empty", {}, h("p", {}, h("strong", {}, title)), h("p", {}, ...how));
}

/** Return a description list of [[name, value], ...] without empty values. */
export function facts(entries) {
  return h(
    "dl.facts",
    {},
    entries.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** Return a JSON value as text, with lists and objects indented. */
export function value(content) {
  return typeof content === "object" ? h("pre", {}, JSON.stringify(content, null, 1)) : String(content);
}

/** Return a table with a caption for screen readers; `rows` are arrays of cells. */
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
          head.map((cell) => h("th", { scope: "col", "aria-sort": cell instanceof Node && cell.dataset.order }, cell)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((cells) =>
          h(
            "tr",
            {},
            cells.map((cell, at) => (at ? h(isNumber(cell) ? "td.whole" : "td", { "data-label": labelOf(head[at]) }, cell) : h("th", { scope: "row" }, cell))),
          ),
        ),
      ),
    ),
  );
}

// "0.5332", "12.3 MB", "1 h 02 min": numbers stay on one line
const isNumber = (cell) => typeof cell === "number" || (typeof cell === "string" && /^[\d.,+−±–%]+( [^ ]{1,4}){0,3}$/.test(cell));
const labelOf = (cell) => (cell instanceof Node ? cell.firstChild.textContent : cell);

/** Return a document's tags, without those that the Flow writes. */
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

/** Return breadcrumbs of [text, address] pairs; a pair without an address has no link. */
export function crumbs(...steps) {
  const items = steps.map(([text, address]) => h("li", {}, address ? h("a", { href: address }, text) : text));
  return h("nav", { "aria-label": "Breadcrumb" }, h("ol.crumbs", {}, items));
}
