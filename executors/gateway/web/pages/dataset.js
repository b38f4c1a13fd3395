// The page of a dataset: its images with their captions.

import { get } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { ago, bytes, datasetName, number } from "../js/format.js";
import { crumbs, facts } from "../js/parts.js";
import { remember } from "../js/router.js";
import { editing, undoing } from "./dataset_edit.js";
import { indexing } from "./dataset_index.js";
import { statistics } from "./dataset_report.js";
import { splitting } from "./dataset_split.js";
import { card } from "./documents.js";

const PAGE = 24;

export default {
  title: ({ name }) => `Dataset ${name}`,

  async show({ root, parameters: { name }, query, signal }) {
    const at = `/v1/datasets/${encodeURIComponent(name)}`;
    const dataset = await get(at, signal);
    const grid = h("ul.grid", { "aria-label": "Documents" });
    const pages = h("nav.pages", { "aria-label": "Pages of the dataset" });
    let from = Math.max(0, parseInt(query.get("offset"), 10) || 0);
    const before = query.get("before");
    const changed = (version) => (location.hash = `${path("datasets", name)}?before=${version}&offset=${from}`);
    const searchable = indexing(dataset, signal);
    const edit = editing(dataset, query, () => turn(from), changed);
    root.append(
      h("div.top", {}, crumbs(["Datasets", path("datasets")]), h("h1", {}, datasetName(name))),
      facts([
        ["Documents", number(dataset.documents)],
        ["Kind", dataset.kind || "documents"],
        ["Size", bytes(dataset.size)],
        ["Created", ago(dataset.created_at)],
        ["Version", h("code", { title: dataset.version }, String(dataset.version).slice(0, 12))],
      ]),
      h("div.actions", {}, h("a.button", { href: `#/start?train_data=${encodeURIComponent(name)}` }, "Start a run with it"), searchable.button, h("a.button", { href: `#/bring?name=${encodeURIComponent(name)}&append=1` }, "Add rows"), edit.bar),
      searchable.said,
      /^[0-9a-f]{64}$/.test(before) && before !== dataset.version ? undoing(dataset, before, changed) : "",
      statistics(name, query, signal),
      splitting(dataset),
      grid,
      pages,
    );

    async function turn(offset) {
      grid.setAttribute("aria-busy", "true");
      const { documents, total } = await get(`${at}/documents?offset=${offset}&limit=${PAGE}`, signal);
      grid.removeAttribute("aria-busy");
      from = offset;
      const { offset: _, edit: __, ...rest } = Object.fromEntries(new URLSearchParams(location.hash.split("?")[1]));
      remember(`${path("datasets", name)}?${new URLSearchParams({ ...rest, offset, ...(edit.active() ? { edit: 1 } : {}) })}`);
      swap(grid, documents.map((each, at) => card(each, edit.active() && edit.part(offset + at, each))));
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

    await turn(from);
  },
};
