// The end of a round of learning from marks: the comparison that decides, and the promotion.

import { get, send } from "../js/api.js";
import { h, path, swap } from "../js/dom.js";
import { facts, progressOf } from "../js/parts.js";

const EXPERIMENT = "feedback";
const DIRECTIONS = ["text_to_image", "image_to_text"];

/** Return the section that ends a round; nothing for another run, or one that has not finished. */
export function roundOf(run, metrics, changed) {
  if (run.experiment !== EXPERIMENT || run.status !== "FINISHED" || metrics.after?.[`guard_${DIRECTIONS[0]}_recall_at_5`] === undefined) return undefined;
  const said = h("p", { role: "status" });
  const mean = (stage, prefix) => DIRECTIONS.reduce((sum, each) => sum + metrics[stage]?.[`${prefix}${each}_recall_at_5`], 0) / 2;
  const button = h("button.primary", { id: "finish", onclick: finish }, "Promote if it is better");

  async function finish() {
    button.disabled = true;
    swap(said, "Comparing …");
    try {
      const { promoted, reason } = await send(`/v1/feedback/rounds/${encodeURIComponent(run.name)}/finish`);
      swap(said, h(promoted ? "strong" : "span", {}, promoted ? "Promoted. " : "Not promoted. "), reason, " ", h("a", { href: path("artifacts", run.artifact_id) }, "Look at the artifact"), ".");
      changed(await get(`/v1/experiments/${EXPERIMENT}/runs/${encodeURIComponent(run.name)}`));
    } catch (error) {
      swap(said, h("span.wrong", {}, error.message));
    }
    button.disabled = false;
  }

  return h(
    "section.stack",
    { id: "round" },
    h("h2", {}, "What the round learned"),
    facts([
      ["Held-out queries, mean R@5", progressOf(mean("before", ""), mean("after", ""))],
      ["Guard, mean R@5", progressOf(mean("before", "guard_"), mean("after", "guard_"))],
    ]),
    h("p.faint", {}, "Better means: held-out queries gain 0.01, and the guard loses no more than 0.01."),
    h("div.actions", {}, button, said),
  );
}
