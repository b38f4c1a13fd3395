// Another name of an artifact, such as "spring": requests may use it in place of the id.

import { send } from "../js/api.js";
import { h, swap } from "../js/dom.js";
import { labelled } from "../js/parts.js";

/** Return the fold with the form; `changed()` follows a new alias. */
export function aliasForm(id, changed) {
  const alias = h("input", { id: "alias", required: true, maxlength: 128, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", placeholder: "candidate" });
  const said = h("span", { role: "status" });
  async function set() {
    try {
      await send(`/v1/artifacts/${id}/promote`, { alias: alias.value, force: true });
      swap(said, `${alias.value} means this artifact now.`);
      await changed();
    } catch (error) {
      swap(said, h("span.wrong", {}, error.message));
    }
  }
  return h(
    "details",
    { id: "aliases" },
    h("summary", {}, "Give it an alias"),
    h(
      "form.search.start",
      { onsubmit: (event) => (event.preventDefault(), set()) },
      h("div.options", {}, labelled("Alias", alias, "Searches and other requests may name it instead of the id. It moves if another artifact has it.")),
      h("div.actions", {}, h("button", { type: "submit" }, "Set"), said),
    ),
  );
}
