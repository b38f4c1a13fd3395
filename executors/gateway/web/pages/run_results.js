// The results of a run: metrics and example queries, before and after training.

import { h } from "../js/dom.js";
import { metricName, number } from "../js/format.js";
import { delta, table } from "../js/parts.js";
import { imageOf } from "../js/images.js";

const FIRST = 6; // metrics shown without a click
const MAIN = /^(text_to_image|image_to_text)_recall_at_\d+$/;

/** Return a table of metrics; undefined for a run without evaluation data. */
export function scores({ before = {}, after = {} }) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort((a, b) => order(a) - order(b));
  if (!names.length) return undefined;
  const rows = names.map((name) => [
    metricName(name),
    number(before[name]),
    h("b", {}, number(after[name])),
    Number.isFinite(before[name]) && Number.isFinite(after[name]) ? delta(after[name] - before[name]) : "–",
  ]);
  const caption = "Metrics before and after";
  const some = (part) => table(caption, ["Metric", "Before", "After", "Change"], part);
  const rest = rows.slice(FIRST);
  const more = rest.length > 0 && h("details", {}, h("summary", {}, `${rest.length} more metrics`), some(rest));
  return h("section.scores", {}, h("h2", {}, caption), some(rows.slice(0, FIRST)), more);
}

/** Sort recall of pairs, in both directions, first. */
function order(name) {
  return MAIN.test(name) ? 0 : 1;
}

/** Return queries with matches before and after; `results` is {stage: {query: [{match, relevant, image}, ...]}}. */
export function examples(results) {
  const stages = ["before", "after"].filter((stage) => results[stage]);
  const queries = [...new Set(stages.flatMap((stage) => Object.keys(results[stage])))];
  if (!queries.length) return undefined;
  return h(
    "section.examples",
    {},
    h("h2", {}, "Queries before and after"),
    h("p.faint", {}, "A check marks a relevant match."),
    queries.map((query) =>
      h(
        "article.query",
        {},
        h("h3", {}, query),
        h(
          "div.sides",
          {},
          stages.map((stage) => side(stage, results[stage][query] ?? [])),
        ),
      ),
    ),
  );
}

function side(stage, matches) {
  const right = matches.filter((match) => match.relevant).length;
  return h(
    `div.side.${stage}`,
    { role: "group", "aria-label": stage },
    h("h4", {}, stage, h("small", {}, `${right} of ${matches.length} relevant`)),
    h(
      "ol.strip",
      {},
      matches.map((match) => h(`li.match${match.relevant ? ".right" : ""}`, {}, shown(match))),
    ),
  );
}

function shown(match) {
  const name = String(match.match);
  return h(
    "figure",
    {},
    match.image ? imageOf(match.image, name) : h("span.nothing", {}, name),
    match.image && h("figcaption", {}, name),
    match.relevant && h("span.check", { role: "img", "aria-label": "relevant" }),
  );
}
