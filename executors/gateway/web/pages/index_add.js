// Images that are added to the index from this machine.

import { send } from "../js/api.js";
import { announce, h, swap } from "../js/dom.js";
import { number } from "../js/format.js";
import { readImage } from "../js/images.js";
import { labelled } from "../js/parts.js";

const MOST_BYTES = 8e6; // of an image
const AT_ONCE = 6e6; // characters of a request

/** Return the fold with the form; `added()` follows when images are there. */
export function adding(added) {
  const files = h("input", { type: "file", id: "files", multiple: true, accept: "image/jpeg,image/png,image/gif,image/webp,image/bmp" });
  const caption = h("input", { id: "caption", maxlength: 10_000, dir: "auto" });
  const said = h("div.said", { role: "status" });
  const button = h("button", { type: "submit" }, "Add");

  async function add() {
    const chosen = [...files.files];
    if (!chosen.length) return swap(said, h("p.wrong", {}, "Choose images first."));
    button.disabled = true;
    const faults = [];
    let [done, waiting, size] = [0, [], 0];
    const flush = async () => {
      if (!waiting.length) return;
      const { documents } = await send("/v1/index", { documents: waiting });
      for (const each of documents) if (each.error) faults.push(`${each.id}: ${each.error.message}`);
      done += documents.filter((each) => !each.error).length;
      [waiting, size] = [[], 0];
      swap(said, h("p", {}, `${number(done)} of ${number(chosen.length)} added`));
    };
    try {
      for (const file of chosen) {
        try {
          const blob = await readImage(file, MOST_BYTES);
          waiting.push({ id: file.name.slice(0, 512), blob, tags: caption.value.trim() ? { caption: caption.value.trim() } : {} });
          size += blob.length;
        } catch (error) {
          faults.push(`${file.name}: ${error.message}`);
        }
        if (size > AT_ONCE || waiting.length >= 64) await flush();
      }
      await flush();
    } catch (error) {
      faults.push(error.message);
    }
    swap(said, h("p", {}, `${number(done)} ${done === 1 ? "image is" : "images are"} searchable.`), faults.slice(0, 5).map((each) => h("p.wrong", {}, each)), faults.length > 5 && h("p.wrong", {}, `And ${number(faults.length - 5)} more.`));
    announce(`${done} images are added`);
    files.value = "";
    button.disabled = false;
    if (done) await added();
  }

  return h(
    "details",
    { id: "add" },
    h("summary", {}, "Add images"),
    h(
      "form.search",
      { onsubmit: (event) => (event.preventDefault(), add()) },
      h("div.options", {}, labelled("Images", files, "The name of a file becomes its id. One with the same id is replaced."), labelled("Caption of all of them", caption, "Optional. It is shown, and filters find it as the tag caption.")),
      h("div.actions", {}, button),
      said,
    ),
  );
}
