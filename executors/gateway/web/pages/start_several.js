// Several runs at once: each recipe with each learning rate, one after the other in the queue, in one experiment.

import { h } from "../js/dom.js";
import { labelled } from "../js/parts.js";

const MOST = 12;

/** Return {element, variants(name, run)}: the runs that the form asks for, one where nothing is chosen. */
export function several(recipes, query) {
  const given = (query.get("recipes") ?? "").split(",");
  const rates = h("input", { id: "rates", value: query.get("rates") ?? "", placeholder: "1e-5, 1e-4", spellcheck: "false", maxlength: 200 });
  const boxes = recipes.map(({ name, purpose }) => [name, h("input", { type: "checkbox", id: `try-${name}`, checked: given.includes(name) }), purpose]);
  const chosen = () => boxes.filter(([, box]) => box.checked).map(([name]) => name);
  return {
    element: h(
      "details",
      { open: Boolean(rates.value || chosen().length) },
      h("summary", {}, "Try several"),
      h("p.faint", {}, `Each recipe with each learning rate makes a run, up to ${MOST}. They wait in the queue together. Compare them in the list of runs, by experiment.`),
      h("fieldset", {}, h("legend", {}, "Recipes to try"), h("div.picks", {}, boxes.map(([name, box, purpose]) => h("label.pick", { for: box.id, title: purpose }, box, name)))),
      h("div.options", {}, labelled("Learning rates to try", rates, "With commas between them.")),
    ),
    texts: () => ({ recipes: chosen().join(","), rates: rates.value.trim() }),
    variants(run) {
      const numbers = rates.value.split(",").map((each) => each.trim()).filter(Boolean);
      const wrong = numbers.find((each) => !(+each > 0 && +each <= 1));
      if (wrong) throw new Error(`A learning rate must be above 0 and at most 1. You have written ${wrong.slice(0, 40)}.`);
      const names = chosen();
      const all = (names.length ? names : [undefined]).flatMap((recipe) => (numbers.length ? numbers : [undefined]).map((rate) => [recipe, rate]));
      if (all.length > MOST) throw new Error(`Up to ${MOST} runs may start at once. You have chosen ${all.length}.`);
      return all.map(([recipe, rate]) => variant(run, recipe, rate));
    },
  };
}

function variant(run, recipe, rate) {
  const made = structuredClone(run);
  if (recipe) {
    made.config.recipe = recipe;
    delete made.config.callbacks; // the recipe brings its own
  }
  if (rate) made.config.hyper_parameters = { ...made.config.hyper_parameters, learning_rate: +rate };
  const name = [run.name, recipe, rate].filter(Boolean).join("-").replace(/[^A-Za-z0-9._-]/g, "_");
  return { ...made, name: name.slice(0, 128) };
}
