// Actions on several runs: compare, export, resume, cancel, delete.

import { get, send } from "../js/api.js";
import { announce, h, swap } from "../js/dom.js";
import { ENDED } from "../js/parts.js";
import { csvOf, save } from "../js/csv.js";
import { confirm } from "./confirm.js";

const MOST = 100; // chosen at once
const MOST_ROWS = 10_000; // of a CSV file
const keyOf = ({ experiment, name }) => `${experiment}/${name}`;
const addressOf = (key) => `/v1/experiments/${key.split("/").map(encodeURIComponent).join("/runs/")}`;

/** Return {element, exporter, box(run), names()}; `onChoice` follows a choice, `onDone` an action; `filters()` are the API's. */
export function chosenRuns(query, onChoice, onDone, filters) {
  const given = (query.get("chosen") ?? "").split(",").filter((key) => /^[^/]+\/[^/]+$/.test(key));
  const chosen = new Map(given.slice(0, MOST).map((key) => [key, undefined])); // key -> status, once it is known
  const said = h("p", { role: "status" });
  const bar = h("div.actions");
  const exporter = h("button", { id: "csv", onclick: exportAll });
  const element = h("section.chosen", { "aria-label": "Chosen runs" }, bar, said);

  function draw() {
    const keys = [...chosen.keys()];
    const some = (wanted) => [...chosen].filter(([, status]) => status && wanted(status)).map(([key]) => key);
    const running = some((status) => !ENDED.includes(status));
    const stopped = some((status) => ["FAILED", "CANCELED"].includes(status));
    const ended = some((status) => ENDED.includes(status));
    swap(
      bar,
      keys.length > 0 && [
        h("strong", {}, `${keys.length} chosen`),
        keys.length > 1 &&
          h("a.button", { href: `#/compare?runs=${encodeURIComponent(keys.slice(0, 6).join(","))}` }, "Compare"),
        stopped.length > 0 && act("resume", "Resume", stopped, "They go on from their last checkpoint."),
        running.length > 0 && act("cancel", "Cancel", running, "They stop now and publish no artifact."),
        ended.length > 0 && act("delete", "Delete", ended, "Their logs and notes go with them. Artifacts stay."),
        h("button.quiet", { id: "choose-none", onclick: () => (chosen.clear(), draw(), onChoice()) }, "Choose none"),
      ],
    );
    swap(exporter, keys.length ? "Export chosen as CSV" : "Export as CSV");
    element.hidden = !keys.length && !said.hasChildNodes();
  }

  function act(verb, label, keys, what) {
    const text = `${label} ${keys.length}`;
    const go = async () => {
      if (!(await confirm(`${label} ${keys.length} ${keys.length > 1 ? "runs" : "run"}?`, [what], text, "Keep"))) return;
      const faults = [];
      for (const key of keys) {
        try {
          await send(`${addressOf(key)}/${verb}`);
          if (verb === "delete") chosen.delete(key);
        } catch (error) {
          faults.push(`${key}: ${error.message}`);
        }
      }
      swap(said, faults.map((fault) => h("span.wrong.line", {}, fault)));
      announce(`${label}: ${keys.length - faults.length} of ${keys.length} runs`);
      draw();
      onDone();
    };
    return h("button", { id: `all-${verb}`, onclick: go }, text);
  }

  async function exportAll() {
    const rows = [];
    try {
      for (let page = 1; rows.length < MOST_ROWS; page++) {
        const { items, total } = await get(`/v1/runs?page=${page}&size=500&${filters()}`);
        rows.push(...items.filter((run) => !chosen.size || chosen.has(keyOf(run))));
        if (page * 500 >= total) break;
      }
      save("runs.csv", csvOf(rows.map(flat)));
      swap(said, `${rows.length} ${rows.length === 1 ? "run" : "runs"} exported.`);
    } catch (error) {
      swap(said, h("span.wrong", {}, error.message));
    }
    draw();
  }

  draw();
  return {
    element,
    exporter,
    names: () => [...chosen.keys()],
    box(run) {
      const key = keyOf(run);
      if (chosen.has(key) && chosen.get(key) !== run.status) {
        chosen.set(key, run.status);
        draw();
      }
      const box = h("input", { type: "checkbox", id: `choose-${key}`, checked: chosen.has(key), "aria-label": `Choose ${run.name}` });
      box.addEventListener("change", () => {
        if (box.checked && chosen.size < MOST) chosen.set(key, run.status);
        else chosen.delete(key);
        draw();
        onChoice();
      });
      return box;
    },
  };
}

function flat({ config, metrics, tags, ...run }) {
  const time = (seconds) => (seconds ? new Date(seconds * 1000).toISOString() : "");
  const scores = ["before", "after"].flatMap((stage) =>
    Object.entries(metrics?.[stage] ?? {}).map(([name, value]) => [`${stage} ${name}`, value]),
  );
  return {
    experiment: run.experiment, name: run.name, status: run.status, artifact: run.artifact_id,
    created: time(run.created_at), started: time(run.started_at), ended: time(run.ended_at),
    tags: tags.join(", "), note: run.note,
    ...Object.fromEntries(Object.entries({ ...config, ...run.resolved }).map(([name, value]) => [`config ${name}`, value])),
    ...Object.fromEntries(scores),
  };
}
