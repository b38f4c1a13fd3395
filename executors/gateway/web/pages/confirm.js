// The dialog that asks before a change.

import { h } from "../js/dom.js";

/** Ask in a modal dialog; resolves to true for yes. Escape means no. */
export function confirm(question, explanation, yes, no = "Cancel") {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "question", onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      h("h2", { id: "question" }, question),
      h("p", {}, ...explanation),
      h(
        "div.actions",
        {},
        h("button.primary", { onclick: () => dialog.close("yes") }, yes),
        h("button", { autofocus: true, onclick: () => dialog.close("no") }, no),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
