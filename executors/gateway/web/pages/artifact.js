// The page of an artifact: lineage, metrics, download, and promotion to live.

import { ask, get, send } from "../js/api.js";
import { h, path, swap } from "../js/dom.js";
import { ago, bytes, headline, metricName } from "../js/format.js";
import { artifactLink, crumbs, datasetLink, facts, isArtifact, progressOf, table } from "../js/parts.js";
import { repeat } from "../js/time.js";
import { aliasForm } from "./artifact_alias.js";
import { card, exporting } from "./artifact_export.js";
import { family } from "./artifact_family.js";
import { reindex } from "./artifacts_live.js";
import { confirm } from "./confirm.js";
import { scores } from "./run_results.js";

export default {
  title: ({ id }) => `Artifact ${id.slice(0, 8)}`,

  async show({ root, parameters, signal }) {
    const [manifest, all, runs, datasets, system] = await Promise.all([
      get(`/v1/artifacts/${encodeURIComponent(parameters.id)}`, signal),
      get("/v1/artifacts", signal),
      runOf(parameters.id, signal),
      get("/v1/datasets", signal),
      get("/v1/system", signal),
    ]);
    const id = manifest.artifact_id; // the address may hold an alias
    const state = h("span");
    const said = h("p", { role: "status" });
    const building = h("div");

    async function promote() {
      const sure = await confirm(
        `Promote ${manifest.run_name} to live?`,
        [
          `Encoders and searches of “live” use ${id} from their next request.`,
          " The index is re-encoded in the background. Until that ends, searches use the current model.",
          ...compared(manifest),
        ],
        "Promote",
      );
      if (!sure) return;
      button.disabled = true;
      try {
        if (await sendPromotion()) swap(said, "Promoted. This artifact is live.");
        await showState();
      } catch (error) {
        if (signal.aborted) return;
        swap(said, h("span.wrong", {}, error.message));
        button.disabled = false;
      }
    }

    /** Promote the artifact; if the server refuses it as worse than before tuning, ask again. Resolves to success. */
    async function sendPromotion() {
      try {
        await send(`/v1/artifacts/${id}/promote`);
      } catch (error) {
        if (error.status !== 422 || signal.aborted) throw error;
        swap(said, h("span.wrong", {}, error.message));
        if (!(await confirm("Promote it anyway?", [error.message], "Promote anyway"))) return false;
        await send(`/v1/artifacts/${id}/promote`, { force: true });
      }
      return true;
    }

    async function showState() {
      const [now, index] = await Promise.all([get("/v1/artifacts", signal), get("/v1/index", signal).catch(() => undefined)]);
      swap(state, marks(id, now));
      swap(building, index?.reindex?.artifact === id && reindex(index));
      button.disabled = now.live === id;
    }

    const may = system.role !== "read"; // the server refuses it in any case
    const button = h("button.primary", { hidden: !may, onclick: promote }, "Promote to live");
    root.append(
      h(
        "div.top",
        {},
        crumbs(["Artifacts", path("artifacts")]),
        h("div.head", {}, h("h1", {}, manifest.run_name), state),
      ),
      h("div.actions", {}, button, h("button", { onclick: () => download(id, said) }, "Download zip"), h("a.button", { href: `#/before-after?after=${id}` }, "Before and after"), said),
      building,
      lineage(manifest, all.items, runs, datasets.items),
      family(manifest, all.items, all.live) ?? "",
      facts([
        ["Artifact", h("code", {}, id)],
        ["Backbone", manifest.backbone],
        ["Embedding", `${manifest.output_dim} dimensions`],
        ["Towers", manifest.towers.join(", ")],
        ["Created", ago(manifest.created_at)],
        ["Code", manifest.code_version],
      ]),
      scores(manifest.metrics ?? {}) ?? "",
      may ? exporting(manifest, signal) : "",
      may ? aliasForm(id, showState) : "",
      card(id, signal),
      files(manifest.files ?? {}),
    );
    await repeat(5, signal, showState); // a re-index may end, and others may promote
  },
};

/** Return the main metric before and after tuning, for the dialog that asks. */
function compared({ metrics }) {
  const name = headline(metrics);
  const [before, after] = [metrics?.before?.[name], metrics?.after?.[name]];
  return Number.isFinite(before) && Number.isFinite(after) ? [h("br"), `On its evaluation data, ${metricName(name)}: `, progressOf(before, after), "."] : [" It was never scored on evaluation data."];
}

/** Return the runs that published an artifact: one, or none if it was deleted. */
async function runOf(id, signal) {
  return (await get(`/v1/runs?size=2&text=${encodeURIComponent(id)}`, signal)).items;
}

/** Return badges for the aliases of an artifact. During a re-index, searches use another artifact than `live`. */
export function marks(id, { items, live, searched }) {
  const aliases = items.find((each) => each.artifact_id === id)?.aliases ?? [];
  return [
    id === live && h("span.badge.live", {}, "live"),
    id === searched && searched !== live && h("span.badge.started", {}, "searched until the index is ready"),
    aliases.filter((alias) => !["live", "search"].includes(alias)).map((alias) => h("span.badge.finished", {}, alias)),
  ];
}

/** Return the lineage: data and parent, run, artifact, and artifacts that started from it. */
function lineage(manifest, artifacts, runs, datasets) {
  const run = runs.find((each) => each.artifact_id === manifest.artifact_id);
  const parent = manifest.parent || manifest.backbone;
  const children = artifacts.filter((each) => each.parent === manifest.artifact_id);
  const data = Object.entries(manifest.data ?? {}).map(([use, version]) => {
    const found = datasets.find((each) => each.version === version);
    const name = found
      ? datasetLink(found.name)
      : h("span", { title: version }, `${String(version).slice(0, 8)} (deleted)`);
    return h("li", {}, h("small", {}, `${use.replace(/_data(_\d+)?$/, "").replaceAll("_", " ")} data`), name);
  });
  const parentRun = artifacts.find((each) => each.artifact_id === parent)?.run_name;
  return h(
    "section",
    {},
    h("h2", {}, "Lineage"),
    h(
      "div.lineage",
      {},
      h(
        "ul",
        { "aria-label": "Made from" },
        h(
          "li",
          {},
          h("small", {}, isArtifact(parent) ? "parent artifact" : "backbone"),
          artifactLink(parent),
          parentRun && h("small", {}, parentRun),
        ),
        data,
      ),
      h(
        "ul",
        { "aria-label": "Made by" },
        h(
          "li",
          {},
          h("small", {}, "run"),
          run
            ? h("a", { href: path("runs", run.experiment, run.name) }, run.name)
            : `${manifest.run_name} (deleted)`,
        ),
      ),
      h(
        "ul",
        { "aria-label": "This artifact" },
        h("li.this", {}, h("small", {}, "this artifact"), h("span.id", {}, manifest.artifact_id.slice(0, 8))),
      ),
      children.length > 0 &&
        h(
          "ul",
          { "aria-label": "Starting point of" },
          children.map((each) =>
            h("li", {}, h("small", {}, "starting point of"), artifactLink(each.artifact_id), h("small", {}, each.run_name)),
          ),
        ),
    ),
  );
}

function files(listed) {
  const rows = Object.entries(listed).map(([name, { size, sha256 }]) => [
    h("code", {}, name),
    bytes(size),
    h("code", { title: sha256 }, sha256.slice(0, 12)),
  ]);
  return h("details", {}, h("summary", {}, `${rows.length} files`), table("Files", ["File", "Size", "SHA-256"], rows));
}

/** Download by a signed URL, since a browser sends no token with a download. */
async function download(id, said) {
  try {
    const { data } = await ask("/v2/rpc/artifact.getDownloadUrl", { id });
    const { pathname, search } = new URL(data.download);
    location.assign(pathname + search);
  } catch (error) {
    swap(said, h("span.wrong", {}, error.message));
  }
}
