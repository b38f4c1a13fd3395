// Several runs side by side: curves in one chart, and the settings and metrics in which they differ.

import { get } from "../js/api.js";
import { chart } from "../js/chart.js";
import { csvOf, save } from "../js/csv.js";
import { h, path } from "../js/dom.js";
import { headline, metricName, number } from "../js/format.js";
import { badge, crumbs, empty, table, value } from "../js/parts.js";
import { remember } from "../js/router.js";

const MOST = 6; // runs: as many colours can be told apart
const OWN = ["run_name", "experiment_name"];

export default {
  title: () => "Compare runs",

  async show({ root, query, signal }) {
    const keys = (query.get("runs") ?? "").split(",").filter((key) => /^[^/]+\/[^/]+$/.test(key)).slice(0, MOST);
    root.append(h("div.top", {}, crumbs(["Runs", path("runs")]), h("h1", {}, "Compare runs")));
    if (keys.length < 2) {
      root.append(empty("Choose two runs or more.", "Check them in ", h("a", { href: "#/runs" }, "the list of runs"), "."));
      return;
    }
    const all = await Promise.all(
      keys.map(async (key) => {
        const at = `/v1/experiments/${key.split("/").map(encodeURIComponent).join("/runs/")}`;
        const [run, curve] = await Promise.all([get(at, signal), get(`${at}/metrics`, signal)]);
        return { run, curve, name: new Set(keys.map((each) => each.split("/")[1])).size === keys.length ? run.name : key };
      }),
    );
    const heads = all.map(({ run, name }) => h("a.name", { href: path("runs", run.experiment, run.name) }, name));
    const settings = differences(all.map(({ run }) => ({ ...run.config, ...run.resolved })));
    const scores = metricsOf(all);
    root.append(
      h("section.curves", {}, h("h2", {}, "Curves"), h("div.charts", {}, ...charts(all, query, signal))),
      h(
        "section",
        {},
        h("div.head", {}, h("h2", {}, "Metrics after training"), exporting(all, settings, scores)),
        scores.length
          ? table("Metrics after training", ["Metric", ...heads], scores.map(([name, values]) => [metricName(name), ...best(values)]))
          : h("p.faint", {}, "None of these runs has metrics. A run with evaluation data measures them."),
      ),
      h(
        "section",
        {},
        h("h2", {}, "Settings that differ"),
        settings.length
          ? table("Settings that differ", ["Setting", ...heads.map((head) => head.cloneNode(true))], settings.map(([name, values]) => [
              h("code", {}, name),
              ...values.map((each) => (each === undefined || each === null || each === "" ? "–" : value(each))),
            ]))
          : h("p.faint", {}, "All settings are the same."),
      ),
      h("p", {}, all.map(({ run, name }) => [h("span", {}, `${name}: `), badge(run.status), " "])),
    );
  },
};

function charts(all, query, signal) {
  const line = ({ curve, name }, entries, read) => ({
    name,
    points: curve[entries].map((each) => [each.step, read(each)]).filter(([, each]) => Number.isFinite(each)),
  });
  const names = [...new Set(all.flatMap(({ curve }) => curve.evaluations.flatMap((each) => Object.keys(each.metrics))))];
  const wanted = query.get("metric");
  let shown = names.includes(wanted) ? wanted : headline({ after: Object.fromEntries(names.map((name) => [name, 0])) });
  const choice = h(
    "select",
    { id: "metric", onchange: () => ((shown = choice.value), keep(), draw()) },
    names.map((name) => h("option", { value: name, selected: name === shown }, metricName(name))),
  );
  const loss = chart("Loss", signal);
  const metric = chart("Metric", signal, h("label.field.inline", { for: "metric" }, h("strong", {}, "Metric"), choice));
  const keep = () => remember(`#/compare?${new URLSearchParams({ runs: query.get("runs"), metric: shown })}`);
  const draw = () => metric.draw(all.map((each) => line(each, "evaluations", (entry) => entry.metrics[shown])));
  loss.draw(all.map((each) => line(each, "steps", (entry) => entry.loss)));
  draw();
  metric.element.hidden = !names.length;
  return [loss.element, metric.element];
}

/** Return [name, values] of the settings that are not the same in all runs. */
function differences(configs) {
  const names = [...new Set(configs.flatMap(Object.keys))].filter((name) => !OWN.includes(name));
  return names
    .map((name) => [name, configs.map((config) => config[name])])
    .filter(([, values]) => new Set(values.map((each) => JSON.stringify(each ?? null))).size > 1);
}

function metricsOf(all) {
  const after = all.map(({ run, curve }) => (run.metrics.after ? run.metrics.after : (curve.scores.after ?? {})));
  const names = [...new Set(after.flatMap(Object.keys))];
  return names.map((name) => [name, after.map((metrics) => metrics[name])]);
}

/** Return the values as texts, the highest one bold.. */
function best(values) {
  const numbers = values.filter(Number.isFinite);
  return values.map((each) => {
    const top = numbers.length > 1 && each === Math.max(...numbers) && Math.min(...numbers) < each;
    return h(top ? "b.whole" : "span.whole", {}, number(each));
  });
}

function exporting(all, settings, scores) {
  const rows = [...scores.map(([name, values]) => ["metric", name, values]), ...settings.map(([name, values]) => ["setting", name, values])];
  const flat = rows.map(([kind, name, values]) => ({
    kind,
    name,
    ...Object.fromEntries(all.map(({ run }, at) => [`${run.experiment}/${run.name}`, values[at]])),
  }));
  return h("button", { onclick: () => save("comparison.csv", csvOf(flat)) }, "Export as CSV");
}
