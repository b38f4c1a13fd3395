// The filters of the list of runs.

import { h, swap } from "../js/dom.js";
import { metricName } from "../js/format.js";
import { WORDS } from "../js/parts.js";
import { datasetName } from "../js/format.js";

const DAYS = [["", "any time"], ["1", "last day"], ["7", "last 7 days"], ["30", "last 30 days"]];

/** Return {element, values(), state(), any(), offer(runs)}: the API's parameters, and the address's. */
export function filters(query, onChange) {
  const later = { timer: undefined };
  const typed = (id, type, properties) =>
    h("input", {
      id,
      type,
      value: query.get(id) ?? "",
      oninput: () => {
        clearTimeout(later.timer);
        later.timer = setTimeout(onChange, 250);
      },
      ...properties,
    });
  const text = typed("text", "search", { placeholder: "name, experiment or note" });
  const tag = typed("tag", "search", {});
  const least = typed("least", "number", { step: "any" });
  const status = choice("status", [["", "any"], ...Object.entries(WORDS)]);
  const days = choice("days", DAYS);
  const model = choice("model", [["", "any"]]);
  const data = choice("data", [["", "any"]]);
  const metric = choice("metric", [["", "main"]]);
  const seen = { model: new Map(), data: new Map(), metric: new Map() };

  function choice(id, options) {
    const element = h("select", { id, onchange: () => onChange() });
    const given = query.get(id) ?? "";
    if (given && !options.some(([value]) => value === given)) options = [...options, [given, given]];
    swap(element, options.map(([value, name]) => h("option", { value, selected: value === given }, name)));
    return element;
  }

  const field = (name, element) => h("label.field", { for: element.id }, h("span", {}, name), element);
  const folded = [tag, least, days, model, data, metric];
  const more = h(
    "details",
    { open: folded.some((each) => each.value) },
    h("summary", {}, "More filters"),
    h(
      "div.options",
      {},
      field("Model", model),
      field("Data", data),
      field("Created", days),
      field("Tag", tag),
      field("Metric", metric),
      field("Metric at least", least),
    ),
  );
  const element = h("form.filters", { onsubmit: (event) => event.preventDefault() }, h("div.options", {}, field("Find", text), field("Status", status)), more);
  const state = () =>
    Object.fromEntries([text, status, tag, least, days, model, data, metric].map((each) => [each.id, each.value.trim()]));
  return {
    element,
    state,
    any: () => Object.values(state()).some(Boolean),
    values() {
      const { days: since, least: value, ...others } = state();
      const named = others.metric !== "" && Number.isFinite(parseFloat(value));
      return { ...others, least: named && value, since: since && Math.floor(Date.now() / 60000) * 60 - since * 86400 };
    },
    /** Offer the models, data and metrics of the runs that were seen. */
    offer(runs) {
      for (const run of runs) {
        seen.model.set(run.config.model, run.config.model);
        for (const name of [run.config.train_data, run.config.eval_data].filter(Boolean))
          seen.data.set(name, datasetName(name));
        for (const name of Object.keys(run.metrics?.after ?? {})) seen.metric.set(name, metricName(name));
      }
      for (const [element, known] of [[model, seen.model], [data, seen.data], [metric, seen.metric]]) {
        const values = new Set([...element.options].map((each) => each.value));
        for (const [value, name] of known) if (!values.has(value)) element.append(h("option", { value }, name));
      }
    },
  };
}
