// The query: text, or an image that is dropped, pasted or chosen.

import { h, swap } from "../js/dom.js";
import { imageOf, readImage } from "../js/images.js";

const MOST_BYTES = 8e6;

/** Return {element, value()}; `value()` is {text} or {blob: base64}, null for an empty query. */
export function queryField(text, onImage) {
  let blob = null;
  const words = h("input", {
    type: "search",
    id: "words",
    value: text,
    placeholder: "a red dress with long sleeves",
    autocomplete: "off",
    oninput: () => blob && drop(null),
  });
  const file = h("input.unseen", {
    type: "file",
    id: "file",
    accept: "image/jpeg,image/png,image/gif,image/webp,image/bmp",
    onchange: () => take(file.files[0]),
  });
  const shown = h("div.asked", { hidden: true });
  const wrong = h("p.wrong", { role: "alert" });
  const element = h(
    "div.question",
    {},
    h("label.field", { for: "words" }, h("span", {}, "Text"), words),
    h(
      "div.buttons",
      {},
      h("button.primary", { type: "submit" }, "Search"),
      file,
      h("label.button", { for: "file" }, "Choose image"),
    ),
    shown,
    h("p.faint.hint", {}, "Or drop or paste an image here."),
    wrong,
  );

  function drop(content, name = "") {
    blob = content;
    shown.hidden = !blob;
    file.value = "";
    if (!blob) return swap(shown);
    words.value = "";
    swap(
      shown,
      imageOf(blob, "Query image"),
      h("span", {}, name),
      h("button.quiet", { type: "button", onclick: () => (drop(null), words.focus()) }, "Remove image"),
    );
    return undefined;
  }

  async function take(chosen) {
    if (!chosen) return;
    swap(wrong);
    try {
      drop(await readImage(chosen, MOST_BYTES), chosen.name);
      onImage();
    } catch (error) {
      swap(wrong, error.message);
    }
  }

  const over = (event, here) => {
    event.preventDefault();
    element.classList.toggle("over", here);
  };
  element.addEventListener("dragover", (event) => over(event, true));
  element.addEventListener("dragleave", (event) => over(event, false));
  element.addEventListener("drop", (event) => {
    over(event, false);
    take(event.dataTransfer.files[0]);
  });
  element.addEventListener("paste", (event) => {
    const [pasted] = event.clipboardData.files;
    if (!pasted) return; // text
    event.preventDefault();
    take(pasted);
  });
  return { element, value: () => (blob ? { blob } : words.value.trim() ? { text: words.value.trim() } : null) };
}
