// The statistics of a dataset, and what in them predicts trouble. The server makes the report once for each content.

import { get } from "../js/api.js";
import { h, path, swap } from "../js/dom.js";
import { number } from "../js/format.js";
import { facts, table } from "../js/parts.js";
import { remember } from "../js/router.js";

/** Return a fold with the report; it is asked for when it opens. The address keeps it open. */
export function statistics(name, query, signal) {
  const shown = h("div.stack", { "aria-live": "polite" });
  const fold = h("details", { id: "report", open: query.has("report"), ontoggle: load }, h("summary", {}, "Statistics and warnings"), shown);
  let asked = false;

  async function load() {
    const { report: _, ...rest } = Object.fromEntries(new URLSearchParams(location.hash.split("?")[1]));
    remember(`${path("datasets", name)}?${new URLSearchParams({ ...rest, ...(fold.open ? { report: 1 } : {}) })}`);
    if (asked || !fold.open) return;
    asked = true;
    swap(shown, h("p.faint", {}, "Reading the dataset …"));
    try {
      swap(shown, report(await get(`/v1/datasets/${encodeURIComponent(name)}/stats`, signal)));
    } catch (error) {
      asked = false;
      if (!signal.aborted) swap(shown, h("p.wrong", { role: "alert" }, error.message));
    }
  }

  return fold;
}

function report({ statistics: found, troubles, without_tokens: reason }) {
  return [
    troubles.length ? troubles.map((each) => h("p.warning", {}, each)) : h("p.faint", {}, "Nothing here predicts trouble."),
    facts(rows(found, reason)),
    odd("Odd images and captions", [...(found.images?.oddest ?? []), ...(found.captions?.oddest ?? [])]),
  ];
}

function rows({ captions, images, labels, elsewhere }, reason) {
  return [
    ...(captions
      ? [
          ["captions", `${number(captions.count)}, ${number(captions.distinct)} different`],
          ["characters of a caption", spread(captions.characters)],
          ["tokens of a caption", captions.tokens ? spread(captions.tokens.lengths) : reason && `not counted: ${reason}`],
          ["captions that are cut", captions.tokens && `${number(captions.tokens.cut)} of more than ${number(captions.tokens.limit)} tokens`],
          ["scripts", Object.entries(captions.scripts).map(([script, count]) => `${script} ${number(count)}`).join(", ")],
          ["captions at several images", number(captions.at_several_images)],
          ["repeated pairs", number(captions.repeated_pairs)],
        ]
      : []),
    ...(images
      ? [
          ["images", `${number(images.count)}, ${number(images.distinct)} different files`],
          ["images that cannot be decoded", number(images.undecodable)],
          ["shorter side in pixels", spread(images.shorter_side)],
          ["longer side in pixels", spread(images.longer_side)],
          ["near duplicates", number(images.near_images)],
          ["images of one colour", number(images.flat.count)],
        ]
      : []),
    ...(labels
      ? [
          ["labels", number(labels.count)],
          ["documents of a label", spread(labels.documents)],
          ["documents without a label", number(labels.without)],
        ]
      : []),
    ["images at addresses, not read", elsewhere ? number(elsewhere) : ""],
  ];
}

const spread = (given) => given && `${number(given.least)} to ${number(given.most)}, median ${number(given.median)}`;

function odd(caption, found) {
  const rows = found.map(({ document, reason, caption: text }) => [number(document + 1), reason, h("span", { dir: "auto" }, text)]);
  return rows.length > 0 && h("details", {}, h("summary", {}, `${caption}: ${rows.length}`), table(caption, ["Document", "Reason", "Caption"], rows));
}
