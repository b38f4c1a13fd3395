// Judged queries: a file of them scores the index, and the worst are shown with their pictures.

import { ask, get, send } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { number } from "../js/format.js";
import { imageOf } from "../js/images.js";
import { crumbs, facts, labelled } from "../js/parts.js";

const MOST = 8e6; // characters of a file
const SHOWN = 20; // queries
const STRIP = 6; // pictures of a query
const AT_ONCE = 100;

export default {
  title: () => "Judged queries",

  async show({ root, query, signal }) {
    const index = await get("/v1/index", signal);
    const models = [["live", "live"], ...index.collections.map((each) => [each.artifact, each.artifact])];
    const queries = h("input", { type: "file", id: "queries", required: true, accept: ".csv,.jsonl,.tsv,.txt" });
    const qrels = h("input", { type: "file", id: "qrels", accept: ".tsv,.txt" });
    const artifact = h("select", { id: "artifact" }, models.map(([value, text]) => h("option", { value, selected: value === query.get("artifact") }, text)));
    const limit = h("input", { id: "limit", type: "number", min: 1, max: 1000, value: query.get("limit") ?? 10 });
    const said = h("p", { role: "status" });
    const button = h("button.primary", { type: "submit" }, "Score");
    const shown = h("div.stack");
    root.append(
      h("div.top", {}, crumbs(["Search", path("search")]), h("h1", {}, "Judged queries")),
      h("p", {}, "Queries of your users, with the documents that fit them, say how good the search is. A CSV has the columns ", h("code", {}, "query, document, relevance"), "; a document is the id of one in the index."),
      h(
        "form.search",
        { onsubmit: (event) => (event.preventDefault(), score()) },
        h(
          "div.options",
          {},
          labelled("Queries", queries, "A CSV, BEIR's queries.jsonl, or TREC's topics."),
          labelled("Judgements", qrels, "BEIR's or TREC's qrels. A CSV needs none."),
          labelled("Model", artifact),
          labelled("Matches that count", limit),
        ),
        h("div.actions", {}, button, said),
      ),
      shown,
    );

    async function score() {
      button.disabled = true;
      swap(shown);
      swap(said, "Searching …");
      try {
        const body = { queries: await fileOf(queries.files[0]), qrels: qrels.files[0] ? await fileOf(qrels.files[0]) : null, artifact: artifact.value, limit: +limit.value };
        const found = await send("/v1/evaluate/queries", body);
        swap(said);
        const worst = found.queries.slice(0, SHOWN);
        const pictures = await picturesOf(worst.flatMap((each) => [...each.missed.slice(0, STRIP), ...each.found.slice(0, STRIP)]), artifact.value, signal);
        swap(shown, summary(found), h("section.examples", {}, h("h2", {}, "Worst first"), worst.map((each) => result(each, pictures))));
        announce("The scores are ready");
      } catch (error) {
        if (!signal.aborted) swap(said, h("span.wrong", {}, error.message));
      }
      button.disabled = false;
    }
  },
};

async function fileOf(file) {
  if (file.size > MOST) throw new Error(`A file may have ${MOST / 1e6} MB. ${file.name} has more. Take fewer queries.`);
  return { name: file.name, content: await file.text() };
}

/** Return id -> {blob, text} of indexed documents. */
async function picturesOf(ids, artifact, signal) {
  const found = new Map();
  const all = [...new Set(ids)];
  for (let at = 0; at < all.length; at += AT_ONCE) {
    const some = all.slice(at, at + AT_ONCE);
    const { documents } = await ask("/v1/index/filter", { filter: { must: [{ has_id: some }] }, limit: some.length, artifact, thumbnails: true }, signal);
    for (const each of documents) found.set(each.id, { blob: each.blob ?? each.chunks?.find((part) => part.blob)?.blob, text: each.text ?? each.tags.caption });
  }
  return found;
}

function summary({ metrics, scored, artifact, without_relevant: without, not_indexed: lost, not_indexed_ids: ids }) {
  return h(
    "section.stack",
    {},
    h("h2", {}, "In short"),
    facts([...Object.entries(metrics).map(([name, value]) => [name.replaceAll("_", " "), h("b", {}, number(value))]), ["Queries", number(scored)], ["Model", artifact]]),
    without > 0 && h("p.faint", {}, `${number(without)} queries have no document that fits, and are left out.`),
    lost > 0 && h("p.warning", {}, `${number(lost)} documents that fit are not indexed, and count as not found: ${ids.slice(0, 5).join(", ")}${lost > 5 ? " …" : ""}`),
  );
}

function result({ query, ndcg, recall, relevant, missed, found }, pictures) {
  return h(
    "article.query",
    {},
    h("h3", { dir: "auto" }, query),
    h("p.faint", {}, `nDCG ${number(ndcg)}, recall ${number(recall)} of ${number(relevant)}`),
    h("div.sides", {}, strip("found", "Found", found, pictures), missed.length > 0 && strip("missed", "Missed", missed, pictures)),
  );
}

function strip(kind, title, ids, pictures) {
  const one = (id) => {
    const { blob, text } = pictures.get(id) ?? {};
    return h("li", {}, h("figure", {}, blob ? imageOf(blob, text ?? id) : h("span.nothing", {}, text ?? id), h("figcaption", { dir: "auto" }, text ?? id)));
  };
  return h(`div.side.${kind}`, { role: "group", "aria-label": title }, h("h4", {}, title, h("small", {}, `${number(ids.length)}`)), h("ol.strip", {}, ids.slice(0, STRIP).map(one)));
}
