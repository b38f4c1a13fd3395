// An artifact from another Flow: the zip that "Download zip" and `save_artifact` make.

import { request } from "../js/api.js";
import { h, path, swap } from "../js/dom.js";
import { bytes } from "../js/format.js";
import { labelled } from "../js/parts.js";

/** Return the fold with the form. */
export function uploading() {
  const file = h("input", { type: "file", id: "zip", required: true, accept: ".zip" });
  const said = h("span", { role: "status" });
  const button = h("button", { type: "submit" }, "Upload");
  async function upload() {
    button.disabled = true;
    try {
      const [chosen] = file.files;
      swap(said, `Sending ${bytes(chosen.size)} …`);
      const headers = { "Content-Type": "application/zip" };
      const made = await request("/v1/artifacts", { method: "POST", body: chosen, headers, read: (response) => response.json() });
      location.hash = path("artifacts", made.artifact_id);
    } catch (error) {
      swap(said, h("span.wrong", {}, error.message));
    }
    button.disabled = false;
  }
  return h(
    "details",
    { id: "upload" },
    h("summary", {}, "Upload an artifact"),
    h(
      "form.search.start",
      { onsubmit: (event) => (event.preventDefault(), upload()) },
      h("div.options", {}, labelled("Zip", file, "As “Download zip” makes it. It is checked, and keeps its id.")),
      h("div.actions", {}, button, said),
    ),
  );
}
