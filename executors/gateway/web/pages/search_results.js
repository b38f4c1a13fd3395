// Search results: a grid of matches with scores, or two grids with changes in rank.

import { h } from "../js/dom.js";
import { tags } from "../js/parts.js";
import { imageOf } from "../js/images.js";

const LIKELY = 0.5;

/** Return one grid or two; `left` and `right` are answers of /v1/search, {artifact, matches} or {error}. */
export function results(left, right, nameOf) {
  if (!right) return column(left, undefined, nameOf);
  return h("div.sides", {}, column(left, undefined, nameOf), column(right, left, nameOf));
}

function column(answer, other, nameOf) {
  if (answer.error) return h("section", {}, h("p.wrong", { role: "alert" }, answer.error.message));
  const name = nameOf(answer.artifact);
  const matches = answer.matches ?? [];
  const unlikely = matches.findIndex((match) => match.probability < LIKELY);
  const likely = unlikely < 0 ? matches.length : unlikely;
  const grid = (label, from, to) =>
    from < to &&
    h(
      "ol.grid",
      { "aria-label": `${label} ${name}` },
      matches.slice(from, to).map((match, at) => card(match, from + at, other?.matches)),
    );
  return h(
    "section",
    {},
    h("h2.model", { title: answer.artifact }, name),
    !matches.length && h("p.faint", {}, "No results."),
    grid("Results of", 0, likely),
    likely < matches.length && below(likely),
    grid("Nearest of", likely, matches.length),
  );
}

/** Return the line above the matches that are more likely wrong than right, by the model's calibration. */
function below(likely) {
  return h("p.below", {}, likely ? "Less likely to fit" : h("strong", {}, "Nothing fits."), !likely && " The nearest:");
}

function card(match, at, others) {
  return h(
    "li.card",
    { "data-id": match.id },
    match.blob ? imageOf(match.blob, match.text || match.id) : h("p", {}, match.text || match.uri || match.id),
    h(
      "p.score",
      {},
      h("b", {}, match.score.toFixed(3)),
      h("meter", { min: 0, max: 1, value: Math.max(match.score, 0), "aria-label": "score" }),
      match.probability !== undefined && h("small", {}, `${Math.round(100 * match.probability)}%`),
      others &&
        move(
          others.findIndex((each) => each.id === match.id),
          at,
        ),
    ),
    match.blob && h("p.name", {}, match.id),
    tags(match),
  );
}

/** Return the change in rank from the first model to this one. */
function move(before, now) {
  if (before < 0) return h("small.move.up", {}, "new");
  if (before === now) return h("small.move", {}, "same");
  const ranks = Math.abs(before - now);
  return h(`small.move.${before > now ? "up" : "down"}`, {}, `${before > now ? "up" : "down"} ${ranks}`);
}
