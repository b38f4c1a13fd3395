// The page of a run: progress, charts, log, configuration and results.

import { get } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { ago, duration } from "../js/format.js";
import { ENDED, artifactLink, badge, crumbs, datasetLink, facts, nameOf, table, value } from "../js/parts.js";
import { repeat } from "../js/time.js";
import { withoutCalls } from "../js/words.js";
import { buttons, naming } from "./run_actions.js";
import { roundOf } from "./run_round.js";
import { curves } from "./run_curves.js";
import { followLog } from "./run_log.js";
import { examples, scores } from "./run_results.js";

const SECONDS = 1; // between two updates

export default {
  title: ({ name }) => `Run ${name}`,

  async show({ root, parameters: { experiment, name }, signal }) {
    const at = ["experiments", experiment, "runs", name].map(encodeURIComponent).join("/");
    const first = await get(`/v1/${at}`, signal);
    const state = h("span");
    const actions = h("div.actions");
    const named = h("div");
    const again = () => dispatchEvent(new Event("hashchange"));
    const moved = (now) => {
      if (now.name === name) swap(details, about({ ...run, ...now, metrics: run.metrics }));
      else location.hash = path("runs", experiment, now.name);
    };
    const details = h("div");
    const progress = h("div");
    const results = h("div", { id: "results" });
    const log = h("div");
    const configured = h("div", {}, configuration(inForce(first)));
    const drawn = curves(signal);
    root.append(
      h(
        "div.top",
        {},
        crumbs(["Runs", path("runs")], [experiment, `${path("runs")}?text=${encodeURIComponent(experiment)}`]),
        h("div.head", {}, h("h1", {}, name), state, actions),
      ),
      details,
      named,
      progress,
      drawn.element,
      results,
      h("section", {}, h("h2", {}, "Log"), log),
      h("section", {}, h("h2", {}, "Configuration"), configured),
    );
    followLog(log, `/api/v1/${at}/logstream`, signal, (step, steps, now) => {
      const label = [`step ${step} of ${steps}`, now && `about ${duration(now.left)} left`, now && `${now.speed}, ${now.wait}% of the time waiting for data`, now?.memory].filter(Boolean).join(" · ");
      swap(progress, h("progress", { max: steps, value: step, "aria-label": "Training" }), h("span.faint", {}, label));
    });

    let status;
    let run = first;
    await repeat(SECONDS, signal, async () => {
      const now = await get(`/api/v1/${at}/status`, signal);
      // read after the status, or the last steps are missed
      drawn.add(await get(`/v1/${at}/metrics?after=${drawn.last()}`, signal));
      if (status !== now.status || !Object.keys(run.resolved).length) {
        const waits = !Object.keys(run.resolved).length;
        run = await get(`/v1/${at}`, signal);
        if (waits && Object.keys(run.resolved).length) swap(configured, configuration(inForce(run)));
      }
      if (status !== now.status) {
        if (status) announce(`Run ${name}: ${badge(now.status).textContent}`);
        status = now.status;
        swap(state, badge(status));
        swap(details, about(run));
        swap(actions, buttons(run, `/v1/${at}`, again));
        if (ENDED.includes(status) || !named.hasChildNodes()) swap(named, naming(run, `/v1/${at}`, moved));
        progress.hidden = status !== "STARTED";
      }
      return ENDED.includes(status);
    });
    const [metrics, found] = await Promise.all([
      get(`/api/v1/${at}/metrics`, signal),
      get(`/v1/${at}/examples`, signal),
    ]);
    swap(results, roundOf(run, metrics, moved), scores(metrics), examples(found));
  },
};

function about({ config, status, details, ...run }) {
  const dataset = (name) => name && datasetLink(name, run.experiment, run.name);
  return [
    status === "FAILED" && h("div.problem", {}, h("h2", {}, "This run failed"), h("p", {}, withoutCalls(details)), h("p", {}, "The log below says what happened. Resume the run once the cause is gone.")),
    facts([
      ["Model", nameOf(config.model)],
      ["Started from", config.model_artifact && artifactLink(config.model_artifact)],
      ["Training data", dataset(config.train_data)],
      ["Evaluation data", dataset(config.eval_data)],
      ["Artifact", status === "FINISHED" && artifactLink(run.artifact_id)],
      ["Created", ago(run.created_at)],
      ["Duration", run.started_at && run.ended_at && duration(run.ended_at - run.started_at)],
      ["Description", config.description],
      ["Tags", run.tags.length > 0 && h("span.tags", {}, run.tags.map((tag) => h("span", {}, tag)))],
      ["Note", run.note],
    ]),
  ];
}

/** Return the configuration with the options in force instead of those that were left out. */
const inForce = ({ config, resolved }) => ({ ...config, ...resolved });

/** Return a table of the settings that are not empty. */
function configuration(config) {
  const isEmpty = (content) =>
    content === "" || content === null || (typeof content === "object" && !Object.keys(content).length);
  const set = Object.entries(config).filter(([, content]) => !isEmpty(content));
  const rows = set.map(([name, content]) => [h("code", {}, name), value(content)]);
  const caption = `${rows.length} settings`;
  return h("details", {}, h("summary", {}, caption), table(caption, ["Setting", "Value"], rows));
}
