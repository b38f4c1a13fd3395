// Changes of a dataset: captions, and documents left out. They are saved together as a new version, which can be undone.

import { send } from "../js/api.js";
import { h, swap } from "../js/dom.js";

const MOST = 1000; // changes at once

/**
 * Return {bar, part(position, document), active()}.
 *
 * `part` is what a card shows for its document while the user edits. `onMode()` follows the button that begins and ends
 * it, and `onVersion(dataset, before)` a saved version.
 */
export function editing(dataset, query, onMode, onVersion) {
  const captions = new Map(); // position -> text
  const removed = new Set(); // positions
  const said = h("span.wrong", { role: "alert" });
  const bar = h("div.actions");
  let active = query.has("edit");

  function draw() {
    const count = captions.size + removed.size;
    const counts = [captions.size && `${captions.size} ${captions.size === 1 ? "caption" : "captions"} changed`, removed.size && `${removed.size} removed`].filter(Boolean).join(", ");
    const toggle = () => {
      active = !active;
      captions.clear();
      removed.clear();
      draw();
      onMode();
    };
    swap(
      bar,
      active && h("strong", { role: "status" }, counts || "Change captions, or remove documents."),
      active && h("button.primary", { id: "save", disabled: !count || count > MOST, onclick: save }, "Save as a new version"),
      h("button", { id: "edit", onclick: toggle }, !active ? "Edit" : count ? "Discard" : "Stop editing"),
      said,
    );
  }

  async function save() {
    swap(said);
    bar.querySelector("#save").disabled = true;
    try {
      const body = { version: dataset.version, captions: [...captions].map(([position, text]) => ({ position, text })), removed: [...removed] };
      await send(`/v1/datasets/${encodeURIComponent(dataset.name)}/edit`, body);
      onVersion(dataset.version);
    } catch (error) {
      swap(said, error.message);
      bar.querySelector("#save").disabled = false;
    }
  }

  draw();
  return {
    bar,
    active: () => active,
    part(position, document) {
      const parts = document.chunks?.length ? document.chunks : [document];
      const texts = parts.filter((each) => each.text);
      const present = texts[0]?.text;
      const text = h(
        "textarea",
        {
          rows: 3,
          dir: "auto",
          maxlength: 10_000,
          "aria-label": `Caption of document ${position + 1}`,
          oninput: () => {
            const now = text.value.trim();
            if (now && now !== present) captions.set(position, now);
            else captions.delete(position); // an empty caption is none
            draw();
          },
        },
        captions.get(position) ?? present ?? "",
      );
      const box = h("input", {
        type: "checkbox",
        id: `remove-${position}`,
        checked: removed.has(position),
        onchange: () => {
          if (box.checked) removed.add(position);
          else removed.delete(position);
          draw();
        },
      });
      return h("div.change", {}, texts.length === 1 && text, h("label.pick", { for: box.id }, box, `Remove document ${position + 1}`));
    },
  };
}

/** Return the note that a version was saved, with a button that goes back to the one `before`. */
export function undoing(dataset, before, onVersion) {
  const said = h("span.wrong", { role: "alert" });
  async function undo() {
    try {
      await send(`/v1/datasets/${encodeURIComponent(dataset.name)}/edit`, { version: dataset.version, restore: before });
      onVersion(dataset.version);
    } catch (error) {
      swap(said, error.message);
    }
  }
  return h("p.warning.actions", {}, h("span", {}, "The version before is ", h("code", { title: before }, before.slice(0, 12)), ". Runs that read it keep it."), h("button", { id: "undo", onclick: undo }, "Go back to it"), said);
}
