// Every further option of a run, with its help, behind one fold.

import { h } from "../js/dom.js";
import { labelled } from "../js/parts.js";

const TITLES = { run: "The run", data: "Data", model: "Model", hyper_parameters: "Training", "": "Reproducibility", training_options: "Memory, speed and care" };

/** Return {element, values()}: `values()` are the texts of the options that differ from their defaults, by name. */
export function optionFields(options, given) {
  const inputs = new Map();
  const groups = Object.entries(TITLES).map(([group, title]) => {
    const own = options.filter((each) => each.group === group);
    return own.length > 0 && h("fieldset", {}, h("legend", {}, title), h("div.options", {}, own.map(field)));
  });

  function field(option) {
    const id = `option-${option.name}`;
    const value = given[option.name] ?? "";
    const hint = `default: ${option.default === null || option.default === "" ? "the model's or none" : JSON.stringify(option.default)}`;
    const input =
      option.type === "bool"
        ? h("select", { id }, [["", hint], ["true", "yes"], ["false", "no"]].map(([each, text]) => h("option", { value: each, selected: each === value }, text)))
        : h("input", { id, value, placeholder: hint, spellcheck: "false", maxlength: 10_000 });
    inputs.set(option.name, input);
    return labelled(option.name, input, option.help.replaceAll("`", ""));
  }

  const open = options.some((each) => given[each.name]);
  return {
    element: h("details", { open }, h("summary", {}, `All ${options.length} options`), ...groups.filter(Boolean)),
    values: () => Object.fromEntries([...inputs].map(([name, input]) => [name, input.value.trim()]).filter(([, value]) => value)),
  };
}
