// Code to copy.

import { h, swap } from "./dom.js";

/** Return a text with a heading and a button that copies it. */
export function code(title, text) {
  const said = h("span.faint", { role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      swap(said, "Copied.");
    } catch {
      getSelection().selectAllChildren(block); // without HTTPS a page may not copy: the user presses Ctrl-C
      swap(said, "Press Ctrl-C to copy.");
    }
  };
  const block = h("pre.log", { tabindex: 0, role: "region", "aria-label": title }, text);
  const button = h("button", { type: "button", onclick: copy, "aria-label": `Copy: ${title}` }, "Copy");
  return h("section", {}, h("div.head", {}, h("h2", {}, title), button, said), block);
}

/** Return a value of JSON as Python's literal. JSON's texts are Python's, too. */
export function python(value) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${python(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/** Return a text as one word of a POSIX shell. */
export function quoted(text) {
  return `'${text.replaceAll("'", `'"'"'`)}'`;
}
