// Counts of a search by tags. A count is a button: it adds its condition to the filter, or takes it out again.

import { h } from "../js/dom.js";
import { number } from "../js/format.js";

/** Return the counts; `filter` is the one in force, and `onFilter(filter)` follows a choice. */
export function facets(counted, filter = {}, onFilter) {
  const tags = Object.entries(counted ?? {});
  if (!tags.length) return undefined;
  return h("div.facets", { role: "group", "aria-label": "Counts" }, tags.map(([tag, found]) => facet(tag, found, filter, onFilter)));
}

function facet(tag, { values = [], ranges = [] }, filter, onFilter) {
  const conditions = [
    ...values.map(({ value, count }) => [String(value), count, { $eq: value }]),
    ...ranges.map(({ gte, lt, count }) => [rangeOf(gte, lt), count, { ...(gte === undefined ? {} : { $gte: gte }), ...(lt === undefined ? {} : { $lt: lt }) }]),
  ];
  const present = JSON.stringify(filter[tag]);
  const button = ([text, count, condition], at) => {
    const pressed = JSON.stringify(condition) === present;
    const choose = () => {
      const { [tag]: _, ...others } = filter;
      onFilter(pressed ? others : { ...others, [tag]: condition });
    };
    return h("button.chip", { type: "button", id: `count-${tag}-${at}`, onclick: choose, "aria-pressed": String(pressed) }, text, h("b", {}, number(count)));
  };
  return h("div.facet", {}, h("span.faint", {}, tag), conditions.length ? conditions.map(button) : h("span.faint", {}, "nothing"));
}

function rangeOf(low, high) {
  if (low === undefined) return `below ${number(high)}`;
  return high === undefined ? `from ${number(low)}` : `${number(low)} to ${number(high)}`;
}
