// The page of all runs, newest first.

import { get } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { ago, headline, metricName } from "../js/format.js";
import { badge, empty, progressOf, table } from "../js/parts.js";
import { repeat } from "../js/time.js";

const MOST = 1000; // runs per answer
const HEAD = ["Run", "Status", "Model", "Before → after", "Created"];

export default {
  title: () => "Runs",

  async show({ root, signal }) {
    const list = h("div", { "aria-busy": "true" }, h("p.faint", {}, "Loading …"));
    const rest = h("p.faint");
    const wanted = h("input", {
      type: "search",
      id: "wanted",
      placeholder: "name or experiment",
      oninput: () => draw(),
    });
    root.append(
      h("div.head", {}, h("h1", {}, "Runs"), h("label.field.inline", { for: "wanted" }, h("span", {}, "Filter"), wanted)),
      list,
      rest,
    );
    let runs = [];
    const known = new Map();

    function draw() {
      const text = wanted.value.trim().toLowerCase();
      const found = runs.filter((run) => `${run.experiment}/${run.name}`.toLowerCase().includes(text));
      list.removeAttribute("aria-busy");
      if (!runs.length) {
        const how = [h("code", {}, "finetuner.fit(...)"), " starts one."];
        swap(list, empty("No runs yet.", ...how));
      } else if (!found.length) {
        swap(list, empty(`No runs match “${wanted.value}”.`, "Clear the filter to show all runs."));
      } else {
        swap(list, table("Runs", HEAD, found.map(row)));
      }
    }

    let before = "";
    await repeat(3, signal, async () => {
      const { items, total } = await get(`/v1/runs?size=${MOST}`, signal);
      runs = items;
      rest.textContent = total > items.length ? `Showing the newest ${MOST} of ${total} runs.` : "";
      for (const { artifact_id: id, name, status } of runs) {
        if (known.has(id) && known.get(id) !== status) announce(`Run ${name}: ${badge(status).textContent}`);
        known.set(id, status);
      }
      const minute = Math.floor(Date.now() / 60000); // ages such as "2 min ago" must be updated
      const now = JSON.stringify([minute, items]);
      if (now !== before) draw();
      before = now;
    });
  },
};

function row(run) {
  const metric = headline(run.metrics);
  return [
    h(
      "span",
      {},
      h("a.name", { href: path("runs", run.experiment, run.name) }, run.name),
      h("small", {}, run.experiment),
    ),
    h("span", {}, badge(run.status), run.status === "FAILED" && run.details && h("small.clip", {}, run.details)),
    run.config.model,
    metric
      ? h(
          "span",
          {},
          progressOf(run.metrics.before?.[metric], run.metrics.after?.[metric]),
          h("small", {}, metricName(metric)),
        )
      : h("span.faint", {}, "–"),
    ago(run.created_at),
  ];
}
