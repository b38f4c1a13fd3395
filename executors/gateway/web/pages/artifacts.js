// The page of all artifacts, newest first.

import { get } from "../js/api.js";
import { h, path, swap } from "../js/dom.js";
import { ago, headline, metricName } from "../js/format.js";
import { artifactLink, empty, progressOf, table } from "../js/parts.js";
import { repeat } from "../js/time.js";
import { marks } from "./artifact.js";
import { uploading } from "./artifact_upload.js";
import { liveModel } from "./artifacts_live.js";

export default {
  title: () => "Artifacts",

  async show({ root, signal }) {
    const list = h("div", {}, h("p.faint", {}, "Loading …"));
    const live = liveModel(signal);
    root.append(h("div.head", {}, h("h1", {}, "Artifacts"), h("a.button", { href: "#/before-after", id: "new" }, "Before and after")), live.element, list, uploading());
    let before = "";
    await repeat(5, signal, async () => {
      const all = await get("/v1/artifacts", signal);
      await live.draw(all.items);
      const now = JSON.stringify(all);
      if (now === before) return;
      before = now;
      const rows = [...all.items]
        .sort((a, b) => b.created_at.localeCompare(a.created_at))
        .map((each) => row(each, all));
      const head = ["Artifact", "Run", "Started from", "Before and after", "Created"];
      const how = [
        "Each finished run publishes one: the tuned model. ",
        h("a", { href: "#/runs" }, "Look at the runs"),
        ". Searches now use ",
        h("code", {}, all.live || "the backbone"),
        ".",
      ];
      swap(list, rows.length ? table("Artifacts", head, rows) : empty("No artifacts yet.", ...how));
    });
  },
};

function row(manifest, all) {
  const metric = headline(manifest.metrics);
  const id = manifest.artifact_id;
  return [
    h("span", {}, h("a.name.id", { href: path("artifacts", id), title: id }, id.slice(0, 8)), " ", marks(id, all)),
    manifest.run_name,
    artifactLink(manifest.parent || manifest.backbone),
    metric
      ? h(
          "span",
          {},
          progressOf(manifest.metrics.before?.[metric], manifest.metrics.after?.[metric]),
          h("small", {}, metricName(metric)),
        )
      : "–",
    ago(manifest.created_at),
  ];
}
