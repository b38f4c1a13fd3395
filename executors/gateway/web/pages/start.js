// The form of a new run: data and model, and every further option behind one fold. The server checks it as it changes.

import { ask, get, send } from "../js/api.js";
import { code } from "../js/code.js";
import { h, path, swap } from "../js/dom.js";
import { datasetName, number } from "../js/format.js";
import { crumbs, empty, facts, labelled } from "../js/parts.js";
import { remember } from "../js/router.js";
import { optionFields } from "./start_options.js";
import { several } from "./start_several.js";
import { bodyOf, valuesOf } from "./start_body.js";

const SHOWN = { batch_size: "Batch", learning_rate: "Learning rate", epochs: "Epochs", optimizer: "Optimizer", scheduler: "Schedule", loss: "Loss" };

export default {
  title: () => "Start a run",

  async show({ root, query, signal }) {
    const [choices, datasets, artifacts] = await Promise.all([
      get("/v1/options", signal),
      get("/v1/datasets", signal),
      get("/v1/artifacts", signal),
    ]);
    const from = query.get("from");
    const older = from && /^[^/]+\/[^/]+$/.test(from) && (await olderRun(from, signal));
    const given = { ...(older ? valuesOf(older, choices.options) : {}), ...Object.fromEntries([...query].filter(([name]) => name !== "from")) };
    root.append(
      h("div.top", {}, crumbs(["Runs", path("runs")]), h("h1", {}, "Start a run")),
      older ? h("p.faint", {}, "With the options of ", h("a", { href: path("runs", older.experiment, older.name) }, older.name), ". Change what shall be different.") : "",
    );
    if (!datasets.items.length) {
      root.append(
        empty(
          "A run needs data, and there is none yet.",
          "Training takes pairs of an image and a caption: ",
          h("a", { href: "#/bring" }, "bring a folder, a zip or a table"),
          ".",
        ),
      );
      return;
    }

    const tuned = given.model ?? choices.models[0]?.name;
    const isImage = choices.models.find((row) => row.name === tuned)?.task.startsWith("image");
    given.recipe ??= isImage ? "none" : "default"; // recipes are for pairs
    const select = (id, options) =>
      h("select", { id }, options.map(([value, text]) => h("option", { value, selected: value === (given[id] ?? "") }, text)));
    const known = datasets.items.map(({ name, documents }) => [name, `${datasetName(name)} (${number(documents)})`]);
    const models = [
      ...choices.models.map((row) => [row.name, row.name]),
      ...artifacts.items.map((each) => [`artifact:${each.artifact_id}`, `go on from ${each.run_name} · ${each.artifact_id.slice(0, 8)}`]),
    ];
    const recipes = choices.recipes.map((row) => [row.name, `${row.name}: ${row.purpose}`]);
    const name = h("input", { id: "name", required: true, maxlength: 128, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", value: given.name ?? freshName(older) });
    const fields = {
      train_data: select("train_data", known),
      eval_data: select("eval_data", [["", "none"], ...known]),
      model: select("model", models),
      recipe: select("recipe", [["none", "none: the defaults of each option"], ...recipes]),
      experiment: h("input", { id: "experiment", maxlength: 128, value: given.experiment ?? older?.experiment ?? "default" }),
    };
    const more = optionFields(choices.options, given);
    const tries = several(choices.recipes, query);
    const problem = h("div");
    const plan = h("div");
    const codes = h("div.codes");
    const said = h("p.wrong", { role: "alert" });
    const button = h("button.primary", { type: "submit", id: "start" }, "Start");
    const form = h(
      "form.search.start",
      { onsubmit: (event) => (event.preventDefault(), start()), oninput: changed },
      h(
        "div.options",
        {},
        labelled("Training data", fields.train_data, "Pairs of image and caption; labelled images for an image model."),
        labelled("Evaluation data", fields.eval_data, "Other pairs, which score the model before and after."),
        labelled("Model", fields.model, "The model to tune."),
        labelled("Recipe", fields.recipe, "Fills in what you leave out below."),
        labelled("Name of the run", name, "Letters, digits, '.', '_' and '-'."),
        labelled("Experiment", fields.experiment, "Runs that belong together."),
      ),
      more.element,
      tries.element,
      problem,
      h("div.actions", {}, button, said),
    );
    root.append(form, plan, codes);

    const values = () => {
      const plain = Object.fromEntries(Object.entries(fields).map(([id, element]) => [id, element.value.trim()]));
      return { ...plain, name: name.value.trim(), ...more.values(), ...tries.texts() };
    };
    let timer;
    let latest = 0;
    function changed() {
      clearTimeout(timer);
      timer = setTimeout(check, 250);
    }

    async function check() {
      if (signal.aborted) return; // the form is left: its address must not come back
      const mine = ++latest;
      const now = values();
      keep(now, from);
      try {
        const run = bodyOf(now, choices.options, artifacts.items, older);
        const runs = tries.variants(run);
        const [found] = await Promise.all(runs.map((each) => ask("/v1/runs/check", { experiment: now.experiment, run: each }, signal)));
        if (mine !== latest) return;
        swap(button, runs.length > 1 ? `Start ${runs.length} runs` : "Start");
        swap(problem, found.warnings.map((each) => h("p.warning", {}, each)));
        swap(plan, h("h2", {}, "What will run"), facts(Object.entries(SHOWN).map(([id, text]) => [text, shown(found.config[id])])));
        swap(codes, code("As Python", found.python), code("As a command", found.command));
        button.disabled = false;
      } catch (error) {
        if (signal.aborted || mine !== latest) return;
        swap(problem, h("p.wrong", { role: "alert" }, error.message));
        swap(plan);
        swap(codes);
        button.disabled = true;
      }
    }

    async function start() {
      swap(said);
      button.disabled = true;
      try {
        const now = values();
        const runs = tries.variants(bodyOf(now, choices.options, artifacts.items, older));
        for (const run of runs) await send(`/api/v1/experiments/${encodeURIComponent(now.experiment)}/runs`, run);
        location.hash = runs.length > 1 ? `#/runs?text=${encodeURIComponent(now.experiment)}` : path("runs", now.experiment, runs[0].name);
      } catch (error) {
        swap(said, error.message);
        button.disabled = false;
      }
    }

    await check();
  },
};

const shown = (value) => (typeof value === "number" ? number(value) : value);

async function olderRun(key, signal) {
  return get(`/v1/experiments/${key.split("/").map(encodeURIComponent).join("/runs/")}`, signal);
}

function freshName(older) {
  const letters = [...crypto.getRandomValues(new Uint8Array(2))].map((each) => each.toString(16).padStart(2, "0")).join("");
  return `${older ? older.name.replace(/-[0-9a-f]{4}$/, "").slice(0, 120) : "run"}-${letters}`;
}

function keep(values, from) {
  const set = Object.entries({ from, ...values }).filter(([, value]) => value !== null && value !== undefined && value !== "");
  remember(`#/start?${new URLSearchParams(set)}`);
}
