// The answers of two models: one's own queries side by side, and the captions of a dataset with their ranks, worst first.

import { h } from "../js/dom.js";
import { number } from "../js/format.js";
import { imageOf } from "../js/images.js";
import { table } from "../js/parts.js";

const MOST = 48; // rows

/** Return each query with the best images of both sides; undefined without queries. */
export function queriesOf(queries, sides, documents) {
  if (!queries.length) return undefined;
  return h(
    "section.examples",
    {},
    h("h2", {}, "Your queries"),
    queries.map((query, at) =>
      h(
        "article.query",
        {},
        h("h3", { dir: "auto" }, query),
        h("div.sides", {}, sides.map(({ name, best }, side) => strip(["before", "after"][side], name, best[at], documents))),
      ),
    ),
  );
}

function strip(stage, name, found, documents) {
  return h(
    `div.side.${stage}`,
    { role: "group", "aria-label": stage },
    h("h4", {}, stage, h("small", {}, name)),
    h("ol.strip", {}, found.map((at) => h("li", {}, h("figure", {}, imageOf(documents[at].blob, documents[at].text), h("figcaption", { dir: "auto" }, documents[at].text))))),
  );
}

/** Return the captions with the rank of their own image in both models, the greatest losses first. */
export function captionsOf([before, after], documents) {
  const rows = documents
    .map((each, at) => ({ ...each, before: before.ranks[at], after: after.ranks[at] }))
    .sort((a, b) => a.before - a.after - (b.before - b.after) || b.after - a.after);
  const cells = ({ text, blob, before: old, after: now }) => [
    h("span.pictured", {}, imageOf(blob, ""), h("span", { dir: "auto" }, text)),
    number(old),
    h("b", {}, number(now)),
    h(`span.move.${now < old ? "up" : now > old ? "down" : "same"}`, {}, now === old ? "same" : `${now < old ? "up" : "down"} ${number(Math.abs(now - old))}`),
  ];
  return h(
    "section",
    {},
    h("h2", {}, "Captions, worst first"),
    h("p.faint", {}, "The rank of a caption's own image among all images. A model that looks for something else loses here first."),
    table("Ranks of captions", ["Caption", "Before", "After", "Change"], rows.slice(0, MOST).map(cells)),
    rows.length > MOST && h("p.faint", {}, `And ${number(rows.length - MOST)} more that did not get worse by more.`),
  );
}
