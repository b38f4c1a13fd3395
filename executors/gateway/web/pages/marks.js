// Marks of search results: a look at them, and the command that trains on them.

import { ask, get, send } from "../js/api.js";
import { code, quoted } from "../js/code.js";
import { announce, h, path, swap } from "../js/dom.js";
import { ago, datasetName, number } from "../js/format.js";
import { crumbs, empty, labelled, table } from "../js/parts.js";
import { imageOf } from "../js/images.js";
import { remember } from "../js/router.js";
import { confirm } from "./confirm.js";

const PAGE = 50;

export default {
  title: () => "Marks",

  async show({ root, query, signal }) {
    root.append(h("div.top", {}, crumbs(["Search", path("search")]), h("h1", {}, "Marks")));
    const list = h("div.stack");
    const train = h("div.stack");
    root.append(list, train);
    let after = Math.max(0, parseInt(query.get("after"), 10) || 0);

    async function load(from) {
      const { marks, next } = await ask("/v1/feedback/list", { after: from, limit: PAGE, images: true }, signal);
      after = from;
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
      const ids = (some) => (some.length ? h("span", {}, some.slice(0, 5).join(", "), some.length > 5 && ` and ${number(some.length - 5)} more`) : "–");
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
    const guard = h("select", { id: "guard", onchange: draw }, pairs.map(({ name }) => h("option", { value: name, selected: name === query.get("guard") }, datasetName(name))));
    const command = h("div.codes");
    function draw() {
      swap(command, code("Command", `finetuner improve --on feedback --guard ${quoted(guard.value)}`));
    }
    train.append(
      h("h2", {}, "Train on the marks"),
      h("p", {}, "The command tunes the model that was promoted last, and promotes the result if held-out queries find more and the guard keeps its score. Its run stands among the runs."),
      pairs.length ? h("div.options", {}, labelled("Guard", guard, "Pairs that the model must not get worse at.")) : h("p.warning", {}, "It needs a dataset of pairs that the model must not get worse at. Bring one first."),
      command,
    );
    if (pairs.length) draw();
  },
};
