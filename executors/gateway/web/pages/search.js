// The search page: by text, image or examples, with one model or two side by side. Its state stands in the address.

import { ask, get } from "../js/api.js";
import { announce, h, swap } from "../js/dom.js";
import { remember } from "../js/router.js";
import { searchCode } from "./search_code.js";
import { exampleList } from "./search_examples.js";
import { facets } from "./search_facets.js";
import { marksOf } from "./search_marks.js";
import { searchOptions } from "./search_options.js";
import { queryField } from "./search_query.js";
import { results } from "./search_results.js";

const LIMITS = [12, 24, 48, 96];
const EXAMPLE = '{"price": {"$lt": 50}}';

export default {
  title: () => "Search",

  async show({ root, query, signal }) {
    const [index, artifacts] = await Promise.all([get("/v1/index", signal), get("/v1/artifacts", signal)]);
    const models = searchable(index, artifacts);
    const again = () => search();
    const asked = queryField(query.get("q") ?? "", again);
    const examples = exampleList(query, again);
    const options = searchOptions(query, again);
    const first = models.choice("artifact", query.get("artifact"));
    const second = models.choice("other", query.get("other") ?? models.another(first.value));
    const compare = h("input", { type: "checkbox", id: "compare", role: "switch", checked: query.has("compare"), onchange: again });
    const filter = h("input", {
      id: "filter",
      placeholder: EXAMPLE,
      value: query.get("filter") ?? "",
      spellcheck: "false",
      "aria-describedby": "problem",
    });
    const limit = h(
      "select",
      { id: "limit", onchange: again },
      LIMITS.map((each) => h("option", { selected: String(each) === query.get("limit") }, String(each))),
    );
    const problem = h("p.wrong", { id: "problem", role: "alert" });
    const found = h("div.found.stack");
    const codes = h("div");
    const secondField = h("label.field", { for: "other" }, h("span", {}, "Compare with"), second);
    for (const choice of [first, second]) choice.addEventListener("change", again);
    root.append(
      h("div.head", {}, h("h1", {}, "Search"), h("div.actions", { id: "new" }, h("a.button", { href: "#/index" }, "Index"), h("a.button", { href: "#/queries" }, "Judged queries"), h("a.button", { href: "#/marks" }, "Marks"))),
      h(
        "form.search",
        { onsubmit: (event) => (event.preventDefault(), search()) },
        asked.element,
        examples.element,
        h(
          "div.options",
          {},
          h("label.field", { for: "artifact" }, h("span", {}, "Model"), first),
          h("label.switch", { for: "compare" }, compare, h("span", {}, "Two models side by side")),
          secondField,
          h("label.field", { for: "filter" }, h("span", {}, "Filter (JSON)"), filter),
          h("label.field", { for: "limit" }, h("span", {}, "Results"), limit),
        ),
        options.element,
      ),
      problem,
      found,
      codes,
    );
    if (!index.documents) found.append(nothing());

    let running = new AbortController();
    let marks = [];
    const keepMarks = () => marks.forEach((each) => each.keep());
    signal.addEventListener("abort", keepMarks);
    addEventListener("pagehide", keepMarks, { signal });

    async function search() {
      keepMarks();
      secondField.hidden = !compare.checked;
      swap(problem);
      const content = asked.value();
      keep({
        q: content?.text,
        ...examples.texts(),
        artifact: first.value,
        other: compare.checked && second.value,
        compare: compare.checked && "1",
        filter: filter.value.trim(),
        limit: limit.value,
        ...options.texts(),
      });
      const body = { ...(content ? { queries: [content] } : {}), artifact: first.value, limit: +limit.value, thumbnails: true };
      try {
        body.filter = parsed(filter.value);
        examples.put(body);
        options.put(body);
      } catch (error) {
        return swap(problem, error.message);
      }
      if (!content && !body.positives) return body.negatives && swap(problem, "Examples of what does not fit need a query, or one that fits.");
      running.abort();
      running = new AbortController();
      const stop = AbortSignal.any([signal, running.signal]);
      found.setAttribute("aria-busy", "true");
      const chosen = compare.checked ? [first.value, second.value] : [first.value];
      try {
        const answers = await Promise.all(chosen.map((artifact) => ask("/v1/search", { ...body, artifact }, stop)));
        const [left, right] = answers.map((answer) => answer.queries[0]);
        marks = [left, right].filter(Boolean).map((answer) => marksOf(content, answer));
        const shown = { nameOf: models.nameOf, marks, onExample: examples.add, group: body.group_by };
        swap(found, facets(left.facets, body.filter, narrow), results(left, right, shown));
        swap(codes, searchCode(body));
        options.suggest(new Set((left.matches ?? []).flatMap((match) => Object.keys(match.tags ?? {}))));
        announce(`${left.matches?.length ?? 0} results`);
      } catch (error) {
        if (stop.aborted) return;
        swap(found);
        swap(codes);
        swap(problem, error.message);
      } finally {
        if (!stop.aborted) found.removeAttribute("aria-busy");
      }
    }

    function narrow(condition) {
      filter.value = Object.keys(condition).length ? JSON.stringify(condition) : "";
      search();
    }

    secondField.hidden = !compare.checked;
    if (asked.value() || query.has("like")) await search();
  },
};

/** Return the models whose embeddings are in the index. */
function searchable(index, { items, live, searched }) {
  const ids = (index.collections ?? []).map((collection) => collection.artifact);
  const names = Object.fromEntries(items.map((manifest) => [manifest.artifact_id, manifest.run_name]));
  const nameOf = (id) => (names[id] ? `${names[id]} · ${id.slice(0, 8)}` : id);
  const current = searched || live;
  const options = [["live", current ? `live (${nameOf(current)})` : "live"], ...ids.map((id) => [id, nameOf(id)])];
  return {
    nameOf,
    another: (artifact) => ids.find((id) => id !== artifact && (artifact !== "live" || id !== current)) ?? ids[0],
    choice: (id, chosen) =>
      h(
        "select",
        { id },
        options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
      ),
  };
}

function nothing() {
  return h(
    "div.empty",
    {},
    h("p", {}, h("strong", {}, "The index is empty.")),
    h(
      "p",
      {},
      "Open a dataset and press “Make searchable”: ",
      h("a", { href: "#/datasets" }, "look at your datasets"),
      ". Or ",
      h("a", { href: "#/index" }, "add images"),
      ". Then search them here by text or by an image.",
    ),
  );
}

function parsed(text) {
  if (!text.trim()) return undefined;
  try {
    const filter = JSON.parse(text);
    if (filter && typeof filter === "object" && !Array.isArray(filter)) return filter;
  } catch {
    // reported below
  }
  throw new Error(`A filter must be a JSON object. Got ${text.trim().slice(0, 60)}. Example: ${EXAMPLE}`);
}

/** Keep the query in the address, so a reload repeats the search. A list has one entry for each element. */
function keep(values) {
  const set = Object.entries(values).flatMap(([name, value]) => [value].flat().filter(Boolean).map((each) => [name, each]));
  remember(`#/search?${new URLSearchParams(set)}`);
}
