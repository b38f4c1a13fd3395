// Formatting of numbers, times and sizes.

import { h } from "./dom.js";

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const UNITS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

/** Up to four significant digits: 0.5332, 12.3, 4,096, 5e-7. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7))
    return value
      .toExponential(2)
      .replace("e+", "e")
      .replace(/\.?0+e/, "e");
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 7 : 4 });
}

/** +0.1203 or −0.01. */
export function change(value) {
  return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(value).toFixed(4)}`;
}

/** 3.4 MB */
export function bytes(count) {
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), 4);
  return `${number(+(count / 1000 ** power).toPrecision(3))} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}

/** 1 h 02 min, 3 min 20 s, 12 s */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole >= 3600)
    return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
  return whole >= 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole} s`;
}

/** Return a <time> with the age of a moment, which is seconds since the epoch or ISO 8601. */
export function ago(moment) {
  if (!moment) return "–";
  const date = new Date(typeof moment === "number" ? moment * 1000 : moment);
  if (Number.isNaN(date.valueOf())) return String(moment);
  const past = (Date.now() - date) / 1000;
  const [unit, size] = UNITS.find(([, seconds]) => past >= seconds) ?? UNITS[3];
  const text = past < 5 ? "just now" : RELATIVE.format(-Math.floor(past / size), unit);
  return h(
    "time",
    { datetime: date.toISOString(), title: date.toLocaleString() },
    past > 30 * 86400 ? date.toLocaleDateString("en-CA") : text,
  );
}

/** text_to_image_recall_at_5/en -> text to image recall at 5 / en */
export function metricName(name) {
  return name.replaceAll("_", " ").replace("/", " / ");
}

/** Return the main metric of a run: text to image recall at 5, or the next best one; undefined without metrics. */
export function headline(metrics) {
  const names = Object.keys(metrics?.after ?? metrics?.before ?? {}).filter((name) => !name.startsWith("guard_"));
  const wanted = [/^text_to_image_recall_at_5$/, /recall_at_5/, /recall/, /^map|average_precision/];
  for (const pattern of wanted) {
    const found = names.find((name) => pattern.test(name));
    if (found) return found;
  }
  return names[0];
}

/** Return the name that people know a dataset by: `fit` names the data that it sends after its run. */
export function datasetName(name, experiment, run) {
  const sent = /^finetuner-dastorage-(.+)-(train|eval|guard|[a-z_]+(?:-\d+)?)$/.exec(name);
  if (!sent) return name;
  const use = { train: "training data", eval: "evaluation data", guard: "guard data" }[sent[2]] ?? sent[2];
  if (run && sent[1] === `${experiment}-${run}`) return sent[2] === "train" ? "sent with this run" : `${use} sent with this run`;
  return `${use} of ${sent[1].replace(/^default-/, "")}`;
}
