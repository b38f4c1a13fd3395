// A dataset becomes searchable: its parts are indexed one after the other. Images that are there already stay one.

import { get, send } from "../js/api.js";
import { announce, h, swap } from "../js/dom.js";
import { number } from "../js/format.js";

const FAULTS = 5; // shown

/** Return {button, said}: the button that indexes a dataset, and where its progress stands. */
export function indexing(dataset, signal) {
  const said = h("div.said", { role: "status" });
  const button = h("button", { id: "index", onclick: go }, "Make searchable");

  async function go() {
    button.disabled = true;
    const failed = [];
    const example = await get(`/v1/datasets/${encodeURIComponent(dataset.name)}/documents?limit=1`, signal).then(({ documents: [first] }) => first?.chunks?.find((part) => part.text)?.text, () => undefined);
    let version = "";
    let indexed = 0;
    let seen = 0;
    try {
      for (let part = 0; part !== null; ) {
        const bar = h("progress", { max: dataset.documents, value: Math.min(seen, dataset.documents), "aria-label": "Indexed" });
        swap(said, bar, h("span.faint", {}, `${number(indexed)} images are searchable`));
        const done = await send(`/v1/datasets/${encodeURIComponent(dataset.name)}/index`, { version, part });
        [version, part] = [done.version, done.next];
        indexed += done.indexed;
        seen += done.documents;
        failed.push(...done.failed);
        if (signal.aborted) return; // whoever comes back begins again, and nothing is there twice
      }
      swap(
        said,
        h("p", {}, `${number(indexed)} ${indexed === 1 ? "image is" : "images are"} searchable. `, h("a", { href: `#/search?q=${encodeURIComponent(example ?? "")}` }, "Search them"), "."),
        failed.slice(0, FAULTS).map(({ id, error }) => h("p.wrong", {}, `${id}: ${error.message}`)),
        failed.length > FAULTS && h("p.wrong", {}, `And ${number(failed.length - FAULTS)} more.`),
      );
      announce(`${indexed} images are searchable`);
    } catch (error) {
      if (signal.aborted) return;
      swap(said, h("p.wrong", {}, `${number(indexed)} images are searchable, then: ${error.message}`));
    }
    button.disabled = false;
  }

  return { button, said };
}
