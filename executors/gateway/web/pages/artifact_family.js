// The family of an artifact as a graph: what it was tuned from, generation by generation, and what was tuned from it.

import { h, path, svg } from "../js/dom.js";
import { headline, number } from "../js/format.js";
import { isArtifact } from "../js/parts.js";

const WIDTH = 172;
const HEIGHT = 54;
const GAP = [44, 14]; // between generations, and within one
const MOST = 60; // artifacts

/** Return the graph, or nothing for an artifact with neither parent nor children among the artifacts. */
export function family(manifest, artifacts, live) {
  const known = new Map(artifacts.map((each) => [each.artifact_id, each]));
  const generations = [[manifest]];
  for (let first = manifest; ; ) {
    const parent = first.parent || first.backbone;
    const found = known.get(parent);
    if (!found || generations.flat().includes(found) || generations.length > MOST) {
      generations.unshift([{ artifact_id: parent }]); // a backbone, or an artifact that is deleted
      break;
    }
    generations.unshift([found]);
    first = found;
  }
  const above = generations.length;
  for (let last = [manifest]; last.length && generations.flat().length < MOST; ) {
    const ids = new Set(last.map((each) => each.artifact_id));
    last = artifacts.filter((each) => ids.has(each.parent)).slice(0, MOST);
    if (last.length) generations.push(last);
  }
  if (above === 2 && generations.length === 2) return undefined;
  const places = new Map();
  for (const [column, row] of generations.entries()) for (const [at, each] of row.entries()) places.set(each.artifact_id, [column * (WIDTH + GAP[0]), at * (HEIGHT + GAP[1])]);
  const width = generations.length * (WIDTH + GAP[0]) - GAP[0];
  const height = Math.max(...generations.map((row) => row.length)) * (HEIGHT + GAP[1]) - GAP[1];
  const edges = generations.slice(1).flatMap((row) => row.map((each) => edge(places.get(each.parent || each.backbone), places.get(each.artifact_id))));
  const nodes = generations.flat().map((each) => node(each, places.get(each.artifact_id), each === manifest, each.artifact_id === live));
  const graph = svg("svg.family", { viewBox: `-1 -1 ${width + 2} ${height + 2}`, width: width + 2, height: height + 2, role: "group", "aria-label": "Family of this model" }, edges, nodes);
  return h("section", {}, h("h2", {}, "Family"), h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Family of this model, from left to right" }, graph));
}

function edge(from, to) {
  if (!from || !to) return undefined;
  const [x, y] = [from[0] + WIDTH, from[1] + HEIGHT / 2];
  const [right, below] = [to[0], to[1] + HEIGHT / 2];
  const middle = (x + right) / 2;
  return svg("path", { d: `M${x} ${y}C${middle} ${y} ${middle} ${below} ${right} ${below}`, "aria-hidden": "true" });
}

function node(each, [x, y], own, live) {
  const id = each.artifact_id;
  const metric = headline(each.metrics);
  const score = metric && (each.metrics.after?.[metric] ?? each.metrics.before?.[metric]);
  const cut = (text) => (text.length > 20 ? `${text.slice(0, 19)}…` : text);
  const title = cut(each.run_name ?? (isArtifact(id) ? "deleted" : id));
  const below = [isArtifact(id) ? id.slice(0, 8) : "backbone", Number.isFinite(score) && number(score), live && "live"].filter(Boolean).join(" · ");
  const box = [
    svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 8 }),
    svg("text", { x: x + 12, y: y + 22 }, title),
    svg("text.faint", { x: x + 12, y: y + 41 }, below),
  ];
  const kind = `${own ? ".own" : ""}${live ? ".live" : ""}`;
  return each.run_name && !own ? svg(`a.node${kind}`, { href: path("artifacts", id), "aria-label": `${title}, ${below}` }, box) : svg(`g.node${kind}`, {}, box);
}
