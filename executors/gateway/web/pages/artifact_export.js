// An artifact for other libraries, and its model card.

import { request, send } from "../js/api.js";
import { code } from "../js/code.js";
import { h, swap } from "../js/dom.js";
import { bytes } from "../js/format.js";
import { labelled } from "../js/parts.js";

const OF_CLIP = [["open_clip", "open_clip"], ["transformers", "transformers"], ["sentence-transformers", "sentence-transformers"], ["onnx", "ONNX Runtime"]];
const OF_IMAGES = [["timm", "timm"], ["sentence-transformers", "sentence-transformers"], ["onnx", "ONNX Runtime"]];

/** Return the section that exports an artifact. */
export function exporting(manifest, signal) {
  const formats = manifest.towers.includes("clip-text") ? OF_CLIP : OF_IMAGES;
  const to = h("select", { id: "to" }, formats.map(([value, text]) => h("option", { value }, text)));
  const said = h("p", { role: "status" });
  const button = h("button", { type: "submit" }, "Export");

  async function make() {
    button.disabled = true;
    const format = to.value;
    const at = `/v1/artifacts/${manifest.artifact_id}/exports/${encodeURIComponent(format)}`;
    try {
      swap(said, "Writing it. This takes some seconds, or minutes for a large model …");
      const { size } = await send(at);
      swap(said, `Downloading ${bytes(size)} …`);
      const file = await request(at, { signal, again: true, read: (response) => response.blob() });
      const link = h("a", { href: URL.createObjectURL(file), download: `${manifest.run_name}-${format}.zip` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      swap(said, `${link.download}, ${bytes(file.size)}. Its README.md says how to load it.`);
    } catch (error) {
      if (!signal.aborted) swap(said, h("span.wrong", {}, error.message));
    }
    button.disabled = false;
  }

  return h(
    "section",
    {},
    h("h2", {}, "Use it elsewhere"),
    h(
      "form.search",
      { onsubmit: (event) => (event.preventDefault(), make()) },
      h("div.options", {}, labelled("Export for", to, "A zip that this library loads without Finetuner.")),
      h("div.actions", {}, button, said),
    ),
  );
}

/** Return the fold with the model card, which is asked for when it opens. */
export function card(id, signal) {
  const shown = h("div");
  const fold = h("details", { id: "card", ontoggle: load }, h("summary", {}, "Model card"), shown);
  async function load() {
    if (!fold.open || shown.hasChildNodes()) return;
    try {
      swap(shown, code("Markdown", await request(`/v1/artifacts/${id}/card`, { signal, again: true, read: (response) => response.text() })));
    } catch (error) {
      if (!signal.aborted) swap(shown, h("p.wrong", { role: "alert" }, error.message));
    }
  }
  return fold;
}
