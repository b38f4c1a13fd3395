// The table of runs, with a check box for each and headings that sort.

import { h, path } from "../js/dom.js";
import { ago, headline, metricName } from "../js/format.js";
import { badge, datasetLink, nameOf, progressOf, table } from "../js/parts.js";
import { withoutCalls } from "../js/words.js";

/** Return the table; `at` has the order, `chosen` the chosen runs, and `metric` the one to show. */
export function asTable(runs, { sorts, at, sortBy, chosen, metric }) {
  const head = Object.entries(sorts).map(([name, sort]) => {
    if (sort === "metric" && !metric) return name;
    const now = at.sort === sort;
    const order = now ? (at.up ? "ascending" : "descending") : "none";
    return h(
      "button.sort",
      { id: `sort-${sort}`, onclick: () => sortBy(sort), title: `Sort by ${name}`, "data-order": order },
      name,
    );
  });
  return table("Runs", head, runs.map((run) => row(run, chosen, metric)));
}

function row(run, chosen, wanted) {
  const metric = wanted || headline(run.metrics);
  const has = metric && (run.metrics.after?.[metric] ?? run.metrics.before?.[metric]) !== undefined;
  return [
    h(
      "span.pick",
      {},
      chosen.box(run),
      h(
        "span",
        {},
        h("a.name", { href: path("runs", run.experiment, run.name) }, run.name),
        h("small", {}, run.experiment),
        run.tags.length > 0 && h("span.tags", {}, run.tags.map((tag) => h("span", {}, tag))),
        run.note && h("small.clip", {}, run.note),
      ),
    ),
    h("span", {}, badge(run.status), run.status === "FAILED" && run.details && h("small.clip", {}, withoutCalls(run.details))),
    nameOf(run.config.model),
    datasetLink(run.config.train_data, run.experiment, run.name),
    has
      ? h("span", {}, progressOf(run.metrics.before?.[metric], run.metrics.after?.[metric]), h("small", {}, metricName(metric)))
      : h("span.faint", {}, "–"),
    ago(run.created_at),
  ];
}
