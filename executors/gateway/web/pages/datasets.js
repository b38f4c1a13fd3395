// The page of all datasets.

import { get } from "../js/api.js";
import { h, swap } from "../js/dom.js";
import { ago, bytes, number } from "../js/format.js";
import { datasetLink, empty, table } from "../js/parts.js";
import { repeat } from "../js/time.js";
import { sampleButton } from "./sample.js";

export default {
  title: () => "Datasets",

  async show({ root, signal }) {
    const list = h("div", {}, h("p.faint", {}, "Loading …"));
    root.append(h("div.head", {}, h("h1", {}, "Datasets"), h("a.button.primary", { href: "#/bring", id: "new" }, "Bring data")), list);
    let before = "";
    await repeat(10, signal, async () => {
      const { items } = await get("/v1/datasets", signal);
      const now = JSON.stringify(items);
      if (now === before) return;
      before = now;
      const rows = [...items].sort((a, b) => b.created_at - a.created_at).map(row);
      const head = ["Dataset", "Documents", "Kind", "Size", "Created"];
      const how = [
        "Training needs pairs of an image and a caption. ",
        h("a", { href: "#/bring" }, "Bring a folder, a zip or a table"),
        ", or send it from Python: ",
        h("code", {}, 'finetuner.push_data("my-pairs", "pairs.csv")'),
        ". After that, start a run with it. ",
        sampleButton(),
      ];
      swap(list, rows.length ? table("Datasets", head, rows) : empty("No datasets yet.", ...how));
    });
  },
};

function row(dataset) {
  return [
    datasetLink(dataset.name),
    number(dataset.documents),
    dataset.kind || "documents",
    bytes(dataset.size),
    ago(dataset.created_at),
  ];
}
