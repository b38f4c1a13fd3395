// Marks of search results: a look at them, and the round that learns from them.

import { ask, get, send } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { ago, number } from "../js/format.js";
import { crumbs, empty, table } from "../js/parts.js";
import { imageOf } from "../js/images.js";
import { remember } from "../js/router.js";
import { confirm } from "./confirm.js";
import { roundForm } from "./marks_round.js";

const PAGE = 50;
const FEW = 5; // documents of a mark that are shown

export default {
  title: () => "Marks",

  async show({ root, query, signal }) {
    root.append(h("div.top", {}, crumbs(["Search", path("search")]), h("h1", {}, "Marks")));
    const list = h("div.stack");
    const train = h("div.stack");
    root.append(list, train);
    let after = Math.max(0, parseInt(query.get("after"), 10) || 0);

    const seen = new Map(); // id -> {blob, text}, undefined for a document that is gone

    /** Ask for the pictures of the first documents of marks. */
    async function look(marks) {
      const ids = [...new Set(marks.flatMap(({ chosen, refused }) => [...chosen.slice(0, FEW), ...refused.slice(0, FEW)]))].filter((id) => !seen.has(id));
      for (let at = 0; at < ids.length; at += 100) {
        const { documents } = await ask("/v1/index/filter", { filter: { must: [{ has_id: ids.slice(at, at + 100) }] }, limit: 100, thumbnails: true }, signal);
        for (const each of documents) seen.set(each.id, { blob: each.blob ?? each.chunks?.find((part) => part.blob)?.blob, text: each.text });
      }
    }

    function picture(id) {
      const { blob, text } = seen.get(id) ?? {};
      return blob ? h("span.thumbnail", { title: id }, imageOf(blob, id)) : h("span", {}, text ?? id);
    }

    async function load(from) {
      const { marks, next } = await ask("/v1/feedback/list", { after: from, limit: PAGE, images: true }, signal);
      after = from;
      await look(marks);
      remember(after ? `#/marks?after=${after}` : "#/marks");
      const turn = (id, label, to) => h("button", { id, onclick: () => load(to).catch(tell) }, label);
      swap(
        list,
        marks.length
          ? table("Marks", ["Query", "Fits", "Does not fit", "Marked by", "When", ""], marks.map(row))
          : empty("No marks here.", "Search, and press a thumb at a result that fits, or does not: ", h("a", { href: "#/search" }, "search"), "."),
        h("nav.pages", { "aria-label": "Pages of marks" }, after > 0 && turn("first", "First page", 0), next !== null && turn("next", "Next page", next)),
      );
      return marks.length;
    }

    function row(mark) {
      const said = h("span.wrong", { role: "alert" });
      async function remove() {
        if (!(await confirm("Delete this mark?", ["Training no longer learns from it. It cannot be undone."], "Delete", "Keep"))) return;
        try {
          await send("/v1/feedback/delete", { ids: [mark.id] });
          announce("The mark is deleted");
          await load(after);
        } catch (error) {
          swap(said, error.message);
        }
      }
      const ids = (some) => (some.length ? h("span.thumbnails", {}, some.slice(0, FEW).map(picture), some.length > FEW && h("small", {}, `and ${number(some.length - FEW)} more`)) : "–");
      return [
        mark.image ? h("span.pictured", {}, imageOf(mark.image, "the query"), "an image") : h("span", { dir: "auto" }, mark.text),
        ids(mark.chosen),
        ids(mark.refused),
        mark.user || "–",
        ago(mark.at),
        h("span", {}, h("button", { id: `delete-${mark.id}`, onclick: remove, "aria-label": `Delete the mark of ${mark.text || "an image"}` }, "Delete"), said),
      ];
    }

    const tell = (error) => !signal.aborted && swap(list, h("p.wrong", { role: "alert" }, error.message));
    const [many, { items }] = await Promise.all([load(after), get("/v1/datasets", signal)]);
    if (!many && !after) return;
    const pairs = items.filter((each) => !["labelled", "documents"].includes(each.kind));
    train.append(roundForm(pairs, query, () => after));
  },
};
