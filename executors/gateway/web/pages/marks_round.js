// A round of learning from marks: the server makes pairs of them and starts a run on the promoted model.

import { send } from "../js/api.js";
import { code, quoted } from "../js/code.js";
import { h, path, swap } from "../js/dom.js";
import { datasetName } from "../js/format.js";
import { labelled } from "../js/parts.js";
import { remember } from "../js/router.js";

/** Return the section with the form; `pairs` are the datasets that can guard. */
export function roundForm(pairs, query, after) {
  const text = h(
    "p",
    {},
    "A round tunes the model that was promoted last on all marks. Queries that are held out say whether it finds more. It is promoted only if it does, and if the guard keeps its score.",
  );
  if (!pairs.length)
    return h("section.stack", {}, h("h2", {}, "Learn from the marks"), text, h("p.warning", {}, "It needs a dataset of pairs that the model must not get worse at. ", h("a", { href: "#/bring" }, "Bring one first"), "."));
  const named = pairs.map(({ name }) => [name, datasetName(name)]);
  const select = (id, options) => h("select", { id, onchange: draw }, options.map(([value, label]) => h("option", { value, selected: value === query.get(id) }, label)));
  const fields = {
    guard: select("guard", named),
    replay: select("replay", [["", "none"], ...named]),
    epochs: h("input", { id: "epochs", type: "number", min: 1, max: 1000, placeholder: "5", value: query.get("epochs") ?? "", oninput: draw }),
    batch_size: h("input", { id: "batch_size", type: "number", min: 2, max: 65536, placeholder: "the model's own", value: query.get("batch_size") ?? "", oninput: draw }),
    learning_rate: h("input", { id: "learning_rate", type: "number", min: 0, max: 1, step: "any", placeholder: "the recipe's", value: query.get("learning_rate") ?? "", oninput: draw }),
  };
  const said = h("p", { role: "status" });
  const button = h("button.primary", { type: "submit", id: "round" }, "Start a round");
  const command = h("details.codes", {}, h("summary", {}, "Copy as a command"));
  const given = () => Object.fromEntries(Object.entries(fields).map(([name, element]) => [name, element.value]).filter(([, value]) => value));

  function draw() {
    const values = given();
    const words = Object.entries(values).map(([name, value]) => `--${name.replace("_", "-")} ${quoted(value)}`);
    swap(command, h("summary", {}, "Copy as a command"), code("Command", `finetuner improve --on feedback ${words.join(" ")}`));
    remember(`#/marks?${new URLSearchParams({ ...(after() ? { after: after() } : {}), ...values })}`);
  }

  async function start() {
    button.disabled = true;
    swap(said, "Making pairs of the marks …");
    try {
      const { guard, replay, ...numbers } = given();
      const body = { guard, ...(replay ? { replay } : {}), ...Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, +value])) };
      const run = await send("/v1/feedback/rounds", body);
      location.hash = path("runs", "feedback", run.name);
    } catch (error) {
      swap(said, h("span.wrong", {}, error.message));
      button.disabled = false;
    }
  }

  const section = h(
    "section.stack",
    {},
    h("h2", {}, "Learn from the marks"),
    text,
    h(
      "form.search.start",
      { onsubmit: (event) => (event.preventDefault(), start()) },
      h(
        "div.options",
        {},
        labelled("Guard", fields.guard, "Pairs that the model must not get worse at."),
        labelled("Also train on", fields.replay, "Other such pairs, so that it forgets less."),
        labelled("Epochs", fields.epochs),
        labelled("Batch", fields.batch_size, "A small one makes more steps of few marks."),
        labelled("Learning rate", fields.learning_rate, "A low one suits few steps."),
      ),
      h("div.actions", {}, button, said),
    ),
    command,
  );
  draw();
  return section;
}
