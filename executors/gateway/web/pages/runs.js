// The page of all runs: filters and order in the address, a page at a time, live, and actions on several runs.

import { get } from "../js/api.js";
import { announce, h, path, swap } from "../js/dom.js";
import { changes } from "../js/changes.js";
import { badge, empty } from "../js/parts.js";
import { remember } from "../js/router.js";
import { chosenRuns } from "./runs_chosen.js";
import { filters } from "./runs_filters.js";
import { asTable } from "./runs_table.js";
import { sampleButton } from "./sample.js";

const PAGE = 50;
const SORTS = { Run: "name", Status: "status", Model: "model", Data: "data", "Before and after": "metric", Created: "created" };

export default {
  title: () => "Runs",

  async show({ root, query, signal }) {
    const list = h("div", { "aria-busy": "true" }, h("p.faint", {}, "Loading …"));
    const pages = h("nav.pages", { "aria-label": "Pages of the runs" });
    const counts = h("p.counts");
    const asked = filters(query, () => ((at.page = 1), load()));
    const at = {
      page: Math.max(1, parseInt(query.get("page"), 10) || 1),
      sort: Object.values(SORTS).includes(query.get("sort")) ? query.get("sort") : "created",
      up: query.get("up") === "1",
    };
    const chosen = chosenRuns(query, () => (keep(), draw()), () => load(), () => address());
    root.append(h("div.head", {}, h("h1", {}, "Runs"), counts, h("a.button.primary", { id: "new", href: "#/start" }, "Start a run"), chosen.exporter), asked.element, chosen.element, list, pages);

    let found = { items: [], total: 0 };
    const known = new Map();

    function address() {
      const given = asked.values();
      const sort = at.sort === "metric" && !given.metric ? "created" : at.sort;
      const entries = { ...given, sort: sort !== "created" && sort, descending: at.up && "false" };
      return new URLSearchParams(Object.entries(entries).filter(([, value]) => value));
    }

    function keep() {
      const entries = { ...asked.state(), sort: at.sort !== "created" && at.sort, up: at.up && "1" };
      entries.page = at.page > 1 && at.page;
      entries.chosen = chosen.names().join(",");
      const set = new URLSearchParams(Object.entries(entries).filter(([, value]) => value));
      remember(`#/runs${set.size ? `?${set}` : ""}`);
    }

    async function load() {
      const wanted = address();
      const now = await get(`/v1/runs?page=${at.page}&size=${PAGE}&${wanted}`, signal);
      if (String(wanted) !== String(address())) return; // the filters have changed meanwhile
      found = now;
      keep();
      for (const { artifact_id: id, name, status } of found.items) {
        if (known.has(id) && known.get(id) !== status) announce(`Run ${name}: ${badge(status).textContent}`);
        known.set(id, status);
      }
      draw();
    }

    function sortBy(sort) {
      at.up = at.sort === sort ? !at.up : sort === "name" || sort === "model" || sort === "data";
      at.sort = sort;
      at.page = 1;
      load();
    }

    function draw() {
      list.removeAttribute("aria-busy");
      asked.offer(found.items);
      const metric = asked.values().metric;
      if (found.items.length) swap(list, asTable(found.items, { sorts: SORTS, at, sortBy, chosen, metric }));
      else if (asked.any()) swap(list, empty("No run matches.", h("a", { href: "#/runs" }, "Clear the filters"), " to see all runs."));
      else
        swap(
          list,
          empty(
            "No runs yet.",
            "A run tunes a model on your pairs of image and caption. ",
            h("a", { href: path("datasets") }, "Look at your datasets"),
            ", then ",
            h("a", { href: "#/start" }, "start a run"),
            " with one of them. ",
            sampleButton(),
          ),
        );
      const last = Math.max(1, Math.ceil(found.total / PAGE));
      const step = (id, text, to, open) =>
        h("button", { id, disabled: !open, onclick: () => ((at.page = to), load()) }, text);
      swap(
        pages,
        found.total > PAGE && [
          step("previous", "Previous", at.page - 1, at.page > 1),
          h("span", {}, `Page ${at.page} of ${last}, ${found.total} runs`),
          step("next", "Next", at.page + 1, at.page < last),
        ],
      );
    }

    await load();
    await changes(signal, async ({ counts: by }) => {
      const parts = Object.entries(by).filter(([, count]) => count);
      swap(counts, parts.map(([status, count]) => h("span.whole", {}, badge(status), ` ${count}`)));
      await load();
    });
  },
};

