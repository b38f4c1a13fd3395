// The options of a search beyond its query: one row each, with its help, behind one fold. A row fills in the request.

import { h, swap } from "../js/dom.js";
import { labelled } from "../js/parts.js";

const share = { type: "number", min: 0, max: 1, step: "any" };
const number = (name) => (body, text) => (body[name] = +text);
const word = (name) => (body, text) => (body[name] = text);

const needs = (present, label, other) => {
  if (!present) throw new Error(`“${label}” needs “${other}”. Fill it in, too.`);
  return true;
};

/** The rows: `put(body, text)` fills in the body of /v1/search. Texts that are not empty stand in the address. */
const ROWS = [
  { id: "least", label: "Least similarity", help: "Leaves out what is less similar.", ...share, min: -1, placeholder: "0.25", put: number("score_threshold") },
  { id: "duplicates", label: "Hide near duplicates", help: "Hides what is at least this similar to a better match.", ...share, placeholder: "0.95", put: number("hide_duplicates") },
  { id: "variety", label: "Variety", help: "0 is the plain order, 1 the greatest variety.", ...share, placeholder: "0.3", put: number("diversity") },
  { id: "group", label: "Group by tag", help: "Each value counts as one result.", placeholder: "product", tag: true, put: word("group_by") },
  { id: "each", label: "Results of a group", help: "Only with a group.", type: "number", min: 1, max: 100, step: 1, placeholder: "1", put: (body, text) => needs(body.group_by, "Results of a group", "Group by tag") && (body.group_size = +text) },
  { id: "order", label: "Sort by tag", help: "-price: from the highest.", placeholder: "price", tag: true, put: word("order_by") },
  { id: "count", label: "Count by tags", help: "A number needs borders: colour, price: 25 50.", placeholder: "colour", tag: true, put: (body, text) => (body.facets = facetsOf(text)) },
  { id: "fields", label: "Words in", help: "Also finds words and codes in these tags; text is the text itself.", placeholder: "text, sku", tag: true, put: (body, text) => (body.hybrid = { fields: listed(text) }) },
  { id: "weight", label: "Weight of words", help: "0 to 1. Empty: the query decides.", ...share, placeholder: "decided by the query", put: (body, text) => needs(body.hybrid, "Weight of words", "Words in") && (body.hybrid.weight = +text) },
];

/** Return {element, texts(), put(body), suggest(tags)}; `changed` follows each change. */
export function searchOptions(query, changed) {
  const known = h("datalist", { id: "known-tags" });
  const inputs = ROWS.map(({ label, help, put, tag, ...attributes }) =>
    h("input", { ...attributes, value: query.get(attributes.id) ?? "", list: tag && known.id, spellcheck: "false", maxlength: 2000, autocomplete: "off", onchange: changed }),
  );
  const texts = () => Object.fromEntries(inputs.map((input) => [input.id, input.value.trim()]));
  const summary = h("summary");
  const fold = h("details", { open: ROWS.some(({ id }) => query.get(id)) }, summary, h("div.options", {}, inputs.map((input, at) => labelled(ROWS[at].label, input, ROWS[at].help))), known);
  const say = () => {
    const set = Object.values(texts()).filter(Boolean).length;
    swap(summary, set ? `More options, ${set} in use` : "More options");
  };
  say();
  fold.addEventListener("change", say);
  return {
    element: fold,
    texts,
    put(body) {
      const given = texts();
      ROWS.forEach(({ id, put }, at) => {
        if (inputs[at].validity.badInput || !inputs[at].validity.valid) throw new Error(`${ROWS[at].label}: ${inputs[at].validationMessage}`);
        if (given[id]) put(body, given[id]);
      });
    },
    suggest: (tags) => swap(known, [...tags].slice(0, 100).map((value) => h("option", { value }))),
  };
}

const listed = (text) => text.split(",").map((each) => each.trim()).filter(Boolean);

/** Return the `facets` of "colour, price: 25 50", or of JSON. Throws an Error with a sentence for the user. */
function facetsOf(text) {
  if (text.startsWith("{")) {
    try {
      return JSON.parse(text);
    } catch {
      throw new Error('Count by tags must be tags, or JSON such as {"colour": 10}. Correct it.');
    }
  }
  return Object.fromEntries(
    listed(text).map((each) => {
      const [, tag, borders] = /^(.+?)\s*(?::\s*([-+\d.\s]+))?$/s.exec(each);
      return [tag, borders?.trim() ? borders.trim().split(/\s+/).map(Number) : 10];
    }),
  );
}
