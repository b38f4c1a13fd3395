// A dataset in two: new ones for training and evaluation. The split is undone by deleting both.

import { request, send } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { number } from "../js/format.js";
import { labelled } from "../js/parts.js";

const NAME = { required: true, maxlength: 128, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*" };

/** Return the fold with the form. */
export function splitting(dataset) {
  const named = (use) => `${dataset.name.slice(0, 120)}-${use}`;
  const train = h("input", { id: "split-train", ...NAME, value: named("train") });
  const evaluation = h("input", { id: "split-eval", ...NAME, value: named("eval") });
  const share = h("input", { id: "split-share", type: "number", min: 1, max: 90, step: 1, value: 20 });
  const said = h("div.said", { role: "status" });
  const button = h("button", { type: "submit" }, "Split");

  async function split() {
    button.disabled = true;
    swap(said);
    try {
      const body = { version: dataset.version, train: train.value, evaluation: evaluation.value, share: share.value / 100 };
      const made = await send(`/v1/datasets/${encodeURIComponent(dataset.name)}/split`, body);
      const both = [made.train, made.evaluation];
      const link = ({ name, documents }) => [h("a", { href: path("datasets", name) }, name), ` (${number(documents)})`];
      const start = `#/start?train_data=${encodeURIComponent(made.train.name)}&eval_data=${encodeURIComponent(made.evaluation.name)}`;
      swap(said, h("p.actions", {}, h("span", {}, "Made ", link(both[0]), " and ", link(both[1]), "."), h("a.button", { href: start }, "Start a run with both"), h("button", { type: "button", id: "unsplit", onclick: () => undo(both) }, "Undo")));
      announce("The dataset is split");
    } catch (error) {
      swap(said, h("p.wrong", {}, error.message));
    }
    button.disabled = false;
  }

  async function undo(both) {
    try {
      for (const { name } of both) await request(`/v1/datasets/${encodeURIComponent(name)}`, { method: "DELETE" });
      swap(said, h("p", {}, "Both are deleted again."));
    } catch (error) {
      swap(said, h("p.wrong", {}, error.message));
    }
  }

  return h(
    "details",
    { id: "split" },
    h("summary", {}, "Split for training and evaluation"),
    h(
      "form.search",
      { onsubmit: (event) => (event.preventDefault(), split()) },
      h("div.options", {}, labelled("For training", train), labelled("For evaluation", evaluation), labelled("Evaluation, in percent", share, "All pairs of one image, or one label, stay together.")),
      h("div.actions", {}, button, said),
    ),
  );
}
