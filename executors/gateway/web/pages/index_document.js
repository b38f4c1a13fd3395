// One document of the index while its text or tags are edited. It is stored, and encoded, anew.

import { ask, send } from "../js/api.js";
import { announce, h, swap } from "../js/dom.js";

const WRITTEN = ["finetuner_artifact", "finetuner_error", "finetuner_tower"]; // by the Flow alone

/** Return the form of a document, whose whole content is asked for; `stored()` follows a change. */
export function documentForm(id, signal, stored) {
  const form = h("form.change", {}, h("p.faint", {}, "Loading …"));
  const said = h("p.wrong", { role: "alert" });

  async function load() {
    try {
      const condition = { must: [{ has_id: [id] }] };
      const { documents } = await ask("/v1/index/filter", { filter: condition, limit: 1 }, signal);
      if (!documents.length) throw new Error("The document is gone.");
      draw(documents[0]);
    } catch (error) {
      if (!signal.aborted) swap(form, h("p.wrong", { role: "alert" }, error.message));
    }
  }

  function draw(document) {
    const own = Object.fromEntries(Object.entries(document.tags).filter(([name]) => !WRITTEN.includes(name)));
    const isText = document.text !== undefined;
    const text = h("textarea", { rows: 3, dir: "auto", maxlength: 10_000, "aria-label": `Text of ${id}` }, document.text ?? "");
    const tags = h("textarea", { rows: 4, spellcheck: "false", maxlength: 20_000, "aria-label": `Tags of ${id}, JSON` }, JSON.stringify(own, null, 1));
    const button = h("button", { type: "submit" }, "Store");
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      swap(said);
      try {
        const body = bodyOf(document, isText ? text.value.trim() : undefined, parsed(tags.value));
        const { documents } = await send("/v1/index", { documents: [body] });
        if (documents[0].error) throw new Error(documents[0].error.message);
        announce(`${id} is stored`);
        await stored();
      } catch (error) {
        swap(said, error.message);
        button.disabled = false;
      }
    });
    swap(form, isText && text, tags, h("div.actions", {}, button), said);
    form.querySelector("textarea").focus();
  }

  load();
  return form;
}

function bodyOf({ id, blob, uri, chunks }, text, tags) {
  if (text !== undefined) return { id, text, tags };
  if (blob) return { id, blob, tags };
  if (chunks?.length) return { id, chunks: chunks.map(partOf), tags };
  if (uri) return { id, uri, tags };
  throw new Error("This document is stored as numbers. Edit it from Python: finetuner.index replaces it.");
}

function partOf({ text, blob, uri, weight }) {
  const content = text !== undefined ? { text } : blob ? { blob } : uri ? { uri } : undefined;
  if (!content) throw new Error("A part of this document is stored as numbers. Edit it from Python: finetuner.index replaces it.");
  return weight ? { ...content, weight } : content;
}

function parsed(text) {
  try {
    const tags = JSON.parse(text || "{}");
    if (tags && typeof tags === "object" && !Array.isArray(tags)) return tags;
  } catch {
    // reported below
  }
  throw new Error('Tags must be a JSON object, such as {"price": 20}.');
}
