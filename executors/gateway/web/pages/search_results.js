// Search results: a grid of matches with scores, or two grids with changes in rank.

import { h } from "../js/dom.js";
import { number } from "../js/format.js";
import { tags } from "../js/parts.js";
import { imageOf } from "../js/images.js";

const LIKELY = 0.5;

/**
 * Return one grid or two; `left` and `right` are answers of /v1/search, {artifact, matches} or {error}.
 *
 * `marks` has, for each, {bar, buttons(match)} of search_marks.js. `onExample(side, match)` follows "More like this".
 * `group` is the tag of groups.
 */
export function results(left, right, { nameOf, marks, onExample, group }) {
  const grid = (answer, other, at) => column(answer, other, { nameOf, marks: marks[at], onExample, group, at });
  return right ? h("div.sides", {}, grid(left, undefined, 0), grid(right, left, 1)) : grid(left, undefined, 0);
}

function column(answer, other, given) {
  if (answer.error) return h("section", {}, h("p.wrong", { role: "alert" }, answer.error.message));
  const name = given.nameOf(answer.artifact);
  const matches = answer.matches ?? [];
  const unlikely = matches.findIndex((match) => match.probability < LIKELY);
  const likely = unlikely < 0 ? matches.length : unlikely;
  const grid = (label, from, to) =>
    from < to &&
    h(
      "ol.grid",
      { "aria-label": `${label} ${name}` },
      matches.slice(from, to).map((match, at) => card(match, from + at, other?.matches, given)),
    );
  return h(
    "section",
    {},
    h("div.head.answer", {}, h("h2.model", { title: answer.artifact }, name), notes(answer), given.marks.bar),
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

/** Return what the answer says beside its matches. */
function notes({ hidden, complete, weight }) {
  const said = [
    hidden > 0 && `${number(hidden)} near ${hidden === 1 ? "duplicate" : "duplicates"} hidden`,
    weight !== undefined && `weight of words ${number(weight)}`,
    complete === false && "more matches may be beyond the candidates",
  ].filter(Boolean);
  return said.length > 0 && h("small", {}, said.join(" · "));
}

function card(match, at, others, { marks, onExample, group, at: side }) {
  const value = group && match.tags[group];
  const example = (kind, text) =>
    h("button.quiet", { type: "button", id: `${kind}-${side}-${match.id}`, onclick: () => onExample(kind, match), "aria-label": `${text}: ${match.id}` }, text);
  return h(
    "li.card",
    { "data-id": match.id },
    group && h("p.group", {}, value === undefined || value === null ? "without group" : String(value)),
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
    match.scores?.hidden > 0 && h("small", {}, `${number(match.scores.hidden)} alike hidden`),
    h("div.acts", {}, h("span.thumbs", {}, marks.buttons(match)), example("like", "More like this"), example("unlike", "Not this")),
  );
}

/** Return the change in rank from the first model to this one. */
function move(before, now) {
  if (before < 0) return h("small.move.up", {}, "new");
  if (before === now) return h("small.move", {}, "same");
  const ranks = Math.abs(before - now);
  return h(`small.move.${before > now ? "up" : "down"}`, {}, `${before > now ? "up" : "down"} ${ranks}`);
}
