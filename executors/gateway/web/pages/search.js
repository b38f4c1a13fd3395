// The search page: by text or image, with one model or two side by side.

import { ask, get } from "../js/api.js";
import { announce, h, swap } from "../js/dom.js";
import { remember } from "../js/router.js";
import { queryField } from "./search_query.js";
import { results } from "./search_results.js";

const LIMITS = [12, 24, 48, 96];
const EXAMPLE = '{"price": {"$lt": 50}}';

export default {
  title: () => "Search",

  async show({ root, query, signal }) {
    const [index, artifacts] = await Promise.all([get("/v1/index", signal), get("/v1/artifacts", signal)]);
    const models = searchable(index, artifacts);
    const asked = queryField(query.get("q") ?? "", () => search());
    const first = models.choice("artifact", query.get("artifact"));
    const second = models.choice("other", query.get("other") ?? models.another(first.value));
    const compare = h("input", {
      type: "checkbox",
      id: "compare",
      role: "switch",
      checked: query.has("compare"),
      onchange: () => search(),
    });
    const filter = h("input", {
      id: "filter",
      placeholder: EXAMPLE,
      value: query.get("filter") ?? "",
      spellcheck: "false",
      "aria-describedby": "problem",
    });
    const limit = h(
      "select",
      { id: "limit", onchange: () => search() },
      LIMITS.map((each) => h("option", { selected: String(each) === query.get("limit") }, String(each))),
    );
    const problem = h("p.wrong", { id: "problem", role: "alert" });
    const found = h("div.found");
    const secondField = h("label.field", { for: "other" }, h("span", {}, "Compare with"), second);
    for (const choice of [first, second]) choice.addEventListener("change", () => search());
    root.append(
      h("h1", {}, "Search"),
      h(
        "form.search",
        { onsubmit: (event) => (event.preventDefault(), search()) },
        asked.element,
        h(
          "div.options",
          {},
          h("label.field", { for: "artifact" }, h("span", {}, "Model"), first),
          h("label.switch", { for: "compare" }, compare, h("span", {}, "Two models side by side")),
          secondField,
          h("label.field", { for: "filter" }, h("span", {}, "Filter (JSON)"), filter),
          h("label.field", { for: "limit" }, h("span", {}, "Results"), limit),
        ),
      ),
      problem,
      found,
    );
    if (!index.documents) {
      found.append(
        h(
          "div.empty",
          {},
          h("p", {}, h("strong", {}, "The index is empty.")),
          h(
            "p",
            {},
            "Send the images that people shall find: ",
            h("code", {}, 'finetuner.index("folder-of-images")'),
            ". Then search them here by text or by an image.",
          ),
        ),
      );
    }

    let running = new AbortController();
    async function search() {
      secondField.hidden = !compare.checked;
      const condition = parsed(filter.value);
      swap(problem, condition.problem);
      const content = asked.value();
      keep({
        q: content?.text,
        artifact: first.value,
        other: compare.checked && second.value,
        compare: compare.checked && "1",
        filter: filter.value.trim(),
        limit: limit.value,
      });
      if (!content || condition.problem) return;
      running.abort();
      running = new AbortController();
      const stop = AbortSignal.any([signal, running.signal]);
      found.setAttribute("aria-busy", "true");
      const chosen = compare.checked ? [first.value, second.value] : [first.value];
      try {
        const answers = await Promise.all(
          chosen.map((artifact) =>
            ask(
              "/v1/search",
              { queries: [content], artifact, limit: +limit.value, filter: condition.filter, thumbnails: true },
              stop,
            ),
          ),
        );
        const [left, right] = answers.map((answer) => answer.queries[0]);
        swap(found, results(left, right, models.nameOf));
        announce(`${left.matches?.length ?? 0} results`);
      } catch (error) {
        if (stop.aborted) return;
        swap(found);
        swap(problem, error.message);
      } finally {
        if (!stop.aborted) found.removeAttribute("aria-busy");
      }
    }

    if (asked.value()) await search();
    else secondField.hidden = !compare.checked;
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

function parsed(text) {
  if (!text.trim()) return {};
  try {
    const filter = JSON.parse(text);
    if (filter && typeof filter === "object" && !Array.isArray(filter)) return { filter };
  } catch {
    // reported below
  }
  return { problem: `A filter must be a JSON object. Got ${text.trim().slice(0, 60)}. Example: ${EXAMPLE}` };
}

/** Keep the query in the address, so a reload repeats the search. */
function keep(values) {
  const set = Object.entries(values).filter(([, value]) => value);
  remember(`#/search?${new URLSearchParams(set)}`);
}
