// The page of a dataset: its images with their captions.

import { get } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { ago, bytes, datasetName, number } from "../js/format.js";
import { crumbs, facts, tags } from "../js/parts.js";
import { imageOf } from "../js/images.js";
import { remember } from "../js/router.js";

const PAGE = 24;

export default {
  title: ({ name }) => `Dataset ${name}`,

  async show({ root, parameters: { name }, query, signal }) {
    const at = `/v1/datasets/${encodeURIComponent(name)}`;
    const dataset = await get(at, signal);
    const grid = h("ul.grid", { "aria-label": "Documents" });
    const pages = h("nav.pages", { "aria-label": "Pages of the dataset" });
    root.append(
      h("div.top", {}, crumbs(["Datasets", path("datasets")]), h("h1", {}, datasetName(name))),
      facts([
        ["Documents", number(dataset.documents)],
        ["Kind", dataset.kind || "documents"],
        ["Size", bytes(dataset.size)],
        ["Created", ago(dataset.created_at)],
        ["Version", h("code", { title: dataset.version }, String(dataset.version).slice(0, 12))],
      ]),
      h("div.actions", {}, h("a.button", { href: `#/start?train_data=${encodeURIComponent(name)}` }, "Start a run with it")),
      grid,
      pages,
    );

    async function turn(offset) {
      grid.setAttribute("aria-busy", "true");
      const { documents, total } = await get(`${at}/documents?offset=${offset}&limit=${PAGE}`, signal);
      grid.removeAttribute("aria-busy");
      remember(`${path("datasets", name)}?offset=${offset}`);
      swap(grid, documents.map(card));
      const last = offset + documents.length;
      const text = total ? `${number(offset + 1)} to ${number(last)} of ${number(total)}` : "No documents";
      const step = (id, label, to, open) => h("button", { id, disabled: !open, onclick: () => turn(to) }, label);
      swap(
        pages,
        step("previous", "Previous", Math.max(offset - PAGE, 0), offset > 0),
        h("span", {}, text),
        step("next", "Next", offset + PAGE, last < total),
      );
      announce(text);
    }

    await turn(Math.max(0, parseInt(query.get("offset"), 10) || 0));
  },
};

/** Return a card for a document, or for a pair of image and caption. */
function card(document) {
  const parts = document.chunks?.length ? document.chunks : [document];
  const texts = parts.map((part) => part.text).filter(Boolean);
  const images = parts.filter((part) => part.blob);
  return h(
    "li.card",
    {},
    images.map((part) => imageOf(part.blob, texts[0] ?? "")),
    texts.map((text) => h("p", {}, text)),
    !images.length && !texts.length && h("p.faint", {}, document.uri ?? document.id),
    tags(document),
  );
}
