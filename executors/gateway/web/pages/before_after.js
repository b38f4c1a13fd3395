// Before and after: two models on one's own queries and on the captions of a dataset, worst first. Nothing is stored.

import { ask, get } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { datasetName, number } from "../js/format.js";
import { crumbs, empty, facts, labelled } from "../js/parts.js";
import { remember } from "../js/router.js";
import { best, ranks } from "./before_after_ranks.js";
import { captionsOf, queriesOf } from "./before_after_results.js";

const SIZES = [48, 96, 192];
const PAGE = 96;
const MOST_QUERIES = 20;
const SHOWN = 6; // images of a query

export default {
  title: () => "Before and after",

  async show({ root, query, signal }) {
    const [{ items: artifacts }, { items: datasets }] = await Promise.all([get("/v1/artifacts", signal), get("/v1/datasets", signal)]);
    root.append(h("div.top", {}, crumbs(["Artifacts", path("artifacts")]), h("h1", {}, "Before and after")));
    const pairs = datasets.filter((each) => each.documents && !["labelled", "documents"].includes(each.kind));
    if (!artifacts.length || !pairs.length) {
      const missing = artifacts.length ? "Bring pairs of image and caption." : "A finished run publishes one.";
      root.append(empty(artifacts.length ? "There is no dataset of pairs." : "There is no artifact yet.", missing));
      return;
    }
    const newest = [...artifacts].sort((a, b) => b.created_at.localeCompare(a.created_at));
    const after = query.get("after") ?? newest[0].artifact_id;
    const manifest = artifacts.find((each) => each.artifact_id === after);
    const names = Object.fromEntries(artifacts.map((each) => [each.artifact_id, `${each.run_name} · ${each.artifact_id.slice(0, 8)}`]));
    const models = [...new Set(artifacts.map((each) => each.backbone))].map((name) => [name, `${name}, untuned`]).concat(newest.map(({ artifact_id: id }) => [id, names[id]]));
    const select = (id, options, chosen) => h("select", { id }, options.map(([value, text]) => h("option", { value, selected: String(value) === String(chosen) }, text)));
    const scored = Object.entries(manifest?.data ?? {}).filter(([use]) => !use.startsWith("train")).map(([, version]) => version);
    const own = pairs.find((each) => scored.includes(each.version)); // what the run was evaluated on
    const fields = {
      before: select("before", models, query.get("before") ?? manifest?.backbone),
      after: select("after", models, after),
      data: select("data", pairs.map((each) => [each.name, `${datasetName(each.name)} (${number(each.documents)})`]), query.get("data") ?? own?.name),
      size: select("size", SIZES.map((each) => [each, each]), query.get("size") ?? SIZES[0]),
      q: h("textarea", { id: "q", rows: 3, maxlength: 5000, placeholder: "a red dress\na striped shirt", dir: "auto" }, query.get("q") ?? ""),
    };
    const said = h("p", { role: "status" });
    const button = h("button.primary", { type: "submit", id: "compare" }, "Compare");
    const shown = h("div.stack");
    root.append(
      h(
        "form.search.start",
        { onsubmit: (event) => (event.preventDefault(), compare()) },
        h(
          "div.options",
          {},
          labelled("Before", fields.before, "The backbone as it came, or any artifact."),
          labelled("After", fields.after, "The tuned model."),
          labelled("Images of", fields.data, "Its captions are queries, too. Take data that no run has trained on."),
          labelled("Images", fields.size, "The first ones of the dataset."),
        ),
        labelled("Your queries, one a line", fields.q, "Each is answered by both models with these images."),
        h("div.actions", {}, button, said),
      ),
      shown,
    );

    async function compare() {
      const values = Object.fromEntries(Object.entries(fields).map(([name, element]) => [name, element.value.trim()]));
      remember(`#/before-after?${new URLSearchParams(Object.entries(values).filter(([, value]) => value))}`);
      button.disabled = true;
      swap(shown);
      try {
        swap(said, "Loading the images …");
        const documents = await pairsOf(values.data, +values.size, signal);
        if (!documents.length) throw new Error("The dataset must hold pairs of an image and a caption. Choose another.");
        const queries = [...new Set(values.q.split("\n").map((line) => line.trim()).filter(Boolean))].slice(0, MOST_QUERIES);
        const texts = [...documents.map(({ text }) => text), ...queries];
        const sides = [];
        for (const model of [values.before, values.after]) {
          swap(said, `${names[model] ?? model} reads ${number(documents.length)} images and ${number(texts.length)} texts …`);
          const images = await vectors(documents.map(({ blob }) => ({ blob })), model, signal);
          const words = await vectors(texts.map((text) => ({ text })), model, signal);
          const own = words.slice(0, documents.length);
          sides.push({ name: names[model] ?? `${model}, untuned`, ranks: ranks(own, images), best: words.slice(documents.length).map((each) => best(each, images, SHOWN)) });
        }
        swap(said);
        swap(shown, summary(sides, documents.length), queriesOf(queries, sides, documents), captionsOf(sides, documents));
        announce("The comparison is ready");
      } catch (error) {
        if (!signal.aborted) swap(said, h("span.wrong", {}, error.message));
      }
      button.disabled = false;
    }

    if (query.has("before")) await compare();
  },
};

function summary([before, after], count) {
  const within = ({ ranks: all }, most) => all.filter((rank) => rank <= most).length;
  const change = after.ranks.map((rank, at) => before.ranks[at] - rank);
  const from = (most) =>
    h("span.progress", {}, h("span.before", {}, number(within(before, most))), h("span.arrow", { role: "img", "aria-label": "to" }), h("b", {}, number(within(after, most))), ` of ${number(count)}`);
  const many = (test) => number(change.filter(test).length);
  return h(
    "section",
    {},
    h("h2", {}, "In short"),
    facts([
      ["Image found first", from(1)],
      ["Among the first five", from(5)],
      ["Captions with a better rank", many((each) => each > 0)],
      ["With a worse one", many((each) => each < 0)],
      ["The same", many((each) => each === 0)],
    ]),
  );
}

/** Return [{text, blob}, ...] of the first pairs of a dataset. */
async function pairsOf(name, size, signal) {
  const found = [];
  for (let offset = 0; offset < size; offset += PAGE) {
    const { documents, total } = await get(`/v1/datasets/${encodeURIComponent(name)}/documents?offset=${offset}&limit=${Math.min(PAGE, size - offset)}`, signal);
    for (const { chunks = [] } of documents) {
      const text = chunks.find((part) => part.text)?.text;
      const blob = chunks.find((part) => part.blob)?.blob;
      if (text && blob) found.push({ text, blob });
    }
    if (offset + PAGE >= total) break;
  }
  return found;
}

/** Return the embeddings of documents by a model. Throws the error of the first that has one. */
async function vectors(documents, artifact, signal) {
  if (!documents.length) return [];
  const answer = await ask("/v1/encode", { documents, artifact }, signal);
  const wrong = answer.documents.find((each) => each.error);
  if (wrong) throw new Error(wrong.error.message);
  return answer.documents.map((each) => each.embedding);
}
