// What is live: the model that searches use, the progress of a re-index, and the way back to the model before.

import { get, send } from "../js/api.js";
import { announce, h, swap } from "../js/dom.js";
import { ago, duration, number } from "../js/format.js";
import { artifactLink } from "../js/parts.js";
import { confirm } from "./confirm.js";

/** Return {element, draw(artifacts)}: `draw` asks the server for the present state; `artifacts` are all of them. */
export function liveModel(signal) {
  const element = h("section.stack", { "aria-label": "Live model" });
  const said = h("p", { role: "status" });

  async function draw(artifacts) {
    const [{ items }, index] = await Promise.all([get("/v1/aliases", signal), get("/v1/index", signal).catch(() => undefined)]);
    const live = items.find((each) => each.alias === "live");
    const nameOf = (id) => artifacts.find((each) => each.artifact_id === id)?.run_name;
    const shown = ({ artifact, promoted_at: at }) => [artifactLink(artifact), nameOf(artifact) ? ` ${nameOf(artifact)}` : "", at ? [", promoted ", ago(at)] : ""];
    const last = live?.before[0];
    swap(
      element,
      live && h("p.actions", {}, h("span.badge.live", {}, "live"), h("span", {}, shown(live)), last && h("button", { id: "back", onclick: () => back(last.artifact, nameOf(last.artifact) ?? last.artifact) }, `Roll back to ${nameOf(last.artifact) ?? last.artifact}`)),
      index && reindex(index),
      live?.before.length > 0 && h("details", {}, h("summary", {}, `${live.before.length} before`), h("ol.earlier", {}, live.before.map((each) => h("li", {}, shown(each))))),
      said,
    );
  }

  async function back(artifact, name) {
    const sure = await confirm(`Roll back to ${name}?`, ["Searches use it from their next request. If the index lacks its embeddings, they are made in the background first."], "Roll back", "Keep");
    if (!sure) return;
    try {
      await send(`/v1/artifacts/${encodeURIComponent(artifact)}/promote`, { force: true });
      announce(`${name} is live again`);
      swap(said, `${name} is live again.`);
    } catch (error) {
      swap(said, h("span.wrong", {}, error.message));
    }
    await draw((await get("/v1/artifacts", signal)).items);
  }

  return { element, draw };
}

/** Return the progress of a re-index that runs. */
export function reindex({ reindex: state }) {
  if (state?.state !== "RUNNING") return undefined;
  const left = state.eta_seconds ? `, about ${duration(state.eta_seconds)} left` : "";
  return h(
    "p.actions",
    {},
    h("progress", { max: state.documents || 1, value: state.done, "aria-label": "Re-indexed" }),
    h("span.faint", {}, `The index is encoded again: ${number(state.done)} of ${number(state.documents)} documents${left}. Until then, searches use the model before.`),
    state.error && h("span.warning", {}, state.error),
  );
}
