// The contents of the index: browsed by pages and filters, edited, deleted, added.

import { ask, get, send } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { bytes, number } from "../js/format.js";
import { imageOf } from "../js/images.js";
import { crumbs, empty, facts, isArtifact, nameOf, tags } from "../js/parts.js";
import { remember } from "../js/router.js";
import { reindex } from "./artifacts_live.js";
import { confirm } from "./confirm.js";
import { adding } from "./index_add.js";
import { documentForm } from "./index_document.js";

const PAGE = 48;
const FURTHEST = 100_000; // documents that the server skips at most
const EXAMPLE = '{"price": {"$lt": 50}}';

export default {
  title: () => "Index",

  async show({ root, query, signal }) {
    const state = h("div.stack");
    const grid = h("ul.grid", { "aria-label": "Indexed documents" });
    const pages = h("nav.pages", { "aria-label": "Pages of the index" });
    const bar = h("div.actions");
    const problem = h("p.wrong", { id: "problem", role: "alert" });
    const filter = h("input", { id: "filter", value: query.get("filter") ?? "", placeholder: EXAMPLE, spellcheck: "false", maxlength: 5000, "aria-describedby": "problem" });
    const chosen = new Set();
    let from = Math.min(FURTHEST, Math.max(0, parseInt(query.get("offset"), 10) || 0));
    let total = 0;
    root.append(
      h("div.top", {}, crumbs(["Search", path("search")]), h("h1", {}, "Index")),
      state,
      adding(() => Promise.all([look(), turn(0)])),
      h(
        "form.search",
        { onsubmit: (event) => (event.preventDefault(), turn(0)) },
        h("div.options", {}, h("label.field", { for: "filter" }, h("span", {}, "Filter (JSON)"), filter)),
        h("div.actions", {}, h("button", { type: "submit" }, "Filter"), problem),
      ),
      bar,
      grid,
      pages,
    );

    async function look() {
      const index = await get("/v1/index", signal);
      total = index.documents;
      swap(
        state,
        facts([
          ["Documents", number(index.documents)],
          ["On the disk", bytes(index.bytes)],
          ["Engine", index.engine],
          ...index.collections.map((each) => [`Encoded by ${isArtifact(each.artifact) ? each.artifact.slice(0, 8) : each.artifact}`, h("span", { title: each.artifact }, nameOf(number(each.count)), h("small", {}, ` of ${each.dim} numbers`))]),
        ]),
        index.problems.map((each) => h("p.warning", {}, each)),
        reindex(index),
      );
    }

    async function turn(offset) {
      swap(problem);
      let condition;
      try {
        condition = filter.value.trim() ? JSON.parse(filter.value) : null;
      } catch {
        return swap(problem, `A filter must be a JSON object. Got ${filter.value.slice(0, 60)}. Example: ${EXAMPLE}`);
      }
      grid.setAttribute("aria-busy", "true");
      try {
        // one more than is shown says whether there is a next page
        const { documents } = await ask("/v1/index/filter", { filter: condition, offset, limit: PAGE + 1, thumbnails: true }, signal);
        from = offset;
        const entries = Object.entries({ filter: filter.value.trim(), offset: from || "" }).filter(([, value]) => value);
        remember(`#/index${entries.length ? `?${new URLSearchParams(entries)}` : ""}`);
        draw(documents.slice(0, PAGE), documents.length > PAGE);
      } catch (error) {
        if (!signal.aborted) swap(problem, error.message);
      }
      grid.removeAttribute("aria-busy");
    }

    function draw(documents, more) {
      swap(grid, documents.map(shown));
      if (!documents.length) swap(grid, h("li.whole-row", {}, filter.value.trim() ? empty("Nothing passes this filter.", "Change it, or clear it.") : empty("The index is empty.", "Add images above, or open a dataset and make it searchable: ", h("a", { href: path("datasets") }, "look at your datasets"), ".")));
      const last = from + documents.length;
      const text = documents.length ? `${number(from + 1)} to ${number(last)}${filter.value.trim() ? "" : ` of ${number(total)}`}` : "No documents";
      const step = (id, label, to, open) => h("button", { id, disabled: !open, onclick: () => turn(to) }, label);
      swap(pages, step("previous", "Previous", Math.max(from - PAGE, 0), from > 0), h("span", {}, text), step("next", "Next", from + PAGE, more && from + PAGE <= FURTHEST));
      if (more && from + PAGE > FURTHEST) pages.append(h("span.faint", {}, "Further ones need a filter."));
      choices();
      announce(text);
    }

    function shown(document) {
      const part = [document, ...(document.chunks ?? [])].find((each) => each.blob);
      const text = document.text || document.chunks?.find((each) => each.text)?.text || document.uri || "";
      const box = h("input", { type: "checkbox", id: `choose-${document.id}`, checked: chosen.has(document.id), "aria-label": `Choose ${document.id}` });
      box.addEventListener("change", () => {
        if (box.checked) chosen.add(document.id);
        else chosen.delete(document.id);
        choices();
      });
      const open = () => {
        edit.remove();
        card.append(documentForm(document.id, signal, () => turn(from)));
      };
      const edit = h("button.quiet", { type: "button", id: `edit-${document.id}`, "aria-label": `Edit ${document.id}`, onclick: open }, "Edit");
      const card = h(
        "li.card",
        { "data-id": document.id },
        part && imageOf(part.blob, text || document.id),
        text && h("p", { dir: "auto" }, text),
        h("p.name", {}, document.id),
        tags(document),
        h("div.acts", {}, h("label.pick", { for: box.id }, box, "Choose"), edit),
      );
      return card;
    }

    function choices() {
      const said = h("span.wrong", { role: "alert" });
      async function remove() {
        const ids = [...chosen];
        if (!(await confirm(`Delete ${number(ids.length)} from the index?`, ["Searches no longer find them. Datasets keep their images."], "Delete", "Keep"))) return;
        try {
          const { deleted } = await send("/v1/index/delete", { ids });
          chosen.clear();
          announce(`${deleted} documents are deleted`);
          await Promise.all([look(), turn(from)]);
        } catch (error) {
          swap(said, error.message);
        }
      }
      swap(bar, chosen.size > 0 && [h("strong", { role: "status" }, `${number(chosen.size)} chosen`), h("button", { id: "delete", onclick: remove }, `Delete ${number(chosen.size)}`), said]);
    }

    await look();
    await turn(from);
  },
};
