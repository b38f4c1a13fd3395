// Actions on a run: cancel, resume, delete; and its name, note and tags.

import { send } from "../js/api.js";
import { h, path, swap } from "../js/dom.js";
import { ENDED, labelled } from "../js/parts.js";
import { confirm } from "./confirm.js";

/** Return the buttons for a run in this status; `at` is its address in the API, `reload` shows it anew. */
export function buttons(run, at, reload) {
  const said = h("p.wrong", { role: "alert" });
  const button = (verb, label, question, what, after) =>
    h(
      "button",
      {
        id: `run-${verb}`,
        async onclick() {
          if (!(await confirm(question, [what], label, verb === "cancel" ? "Keep running" : "Keep"))) return;
          try {
            await send(`${at}/${verb}`);
            after();
          } catch (error) {
            swap(said, error.message);
          }
        },
      },
      label,
    );
  const { name, status } = run;
  return [
    !ENDED.includes(status) &&
      button("cancel", "Cancel run", `Cancel ${name}?`, "It stops now and publishes no artifact. Its log and checkpoint stay.", () => {}),
    ["FAILED", "CANCELED"].includes(status) &&
      button("resume", "Resume", `Resume ${name}?`, "It goes on from its last checkpoint, or from the start without one.", reload),
    ENDED.includes(status) &&
      button("delete", "Delete", `Delete ${name}?`, "Its log, curves and note go with it. Its artifact stays.", () => {
        location.hash = path("runs");
      }),
    h("a.button", { href: `#/start?from=${encodeURIComponent(`${run.experiment}/${name}`)}` }, "Start again with changes"),
    said,
  ];
}

/** Return the form for name, note and tags of a run; `renamed(run)` shows the run after a change. */
export function naming(run, at, renamed) {
  const ended = ENDED.includes(run.status);
  const name = h("input", { id: "new-name", value: run.name, required: true, maxlength: 128, disabled: !ended, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*" });
  const tags = h("input", { id: "tags", value: run.tags.join(", "), placeholder: "good, for the shop", maxlength: 680 });
  const note = h("textarea", { id: "note", rows: 3, maxlength: 2000 }, run.note);
  const said = h("p", { role: "status" });
  async function store(event) {
    event.preventDefault();
    const body = { note: note.value, tags: tags.value.split(",").map((tag) => tag.trim()).filter(Boolean) };
    if (name.value !== run.name) body.new_name = name.value;
    try {
      const now = await send(`${at}/edit`, body);
      swap(said, "Stored.");
      renamed(now);
    } catch (error) {
      swap(said, h("span.wrong", {}, error.message));
    }
  }
  return h(
    "details",
    {},
    h("summary", {}, "Name, tags and note"),
    h(
      "form.search",
      { onsubmit: store },
      labelled("Name", name, ended ? "Letters, digits, '.', '_' and '-'. The artifact keeps the name that it was published with." : "A run can be renamed once it has ended."),
      labelled("Tags", tags, "With commas between them. The list of runs can be filtered by a tag."),
      labelled("Note", note),
      h("div.actions", {}, h("button.primary", { type: "submit" }, "Store"), said),
    ),
  );
}
