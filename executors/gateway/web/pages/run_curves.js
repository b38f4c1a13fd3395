// The charts of a run: loss, metrics, speed and learning rate.

import { chart } from "../js/chart.js";
import { h, swap } from "../js/dom.js";
import { headline, metricName } from "../js/format.js";

const VALIDATION = "val_loss"; // shown with the training loss

/** Return charts as {element, add(curve), last()}; `add` takes the curve after step `last()`. */
export function curves(signal) {
  const steps = new Map();
  const evaluations = new Map();
  let chosen;
  const choice = h("select", { id: "metric", onchange: () => ((chosen = choice.value), draw()) });
  const chooser = h("label.field.inline", { for: "metric" }, h("strong", {}, "Metric"), choice);
  const charts = {
    loss: chart("Loss", signal),
    metric: chart("Metric", signal, chooser),
    speed: chart("Samples per second", signal),
    rate: chart("Learning rate", signal),
  };
  const note = h("p.faint", {}, "Curves appear after the first steps.");
  const more = h(
    "details",
    {},
    h("summary", {}, "Speed and learning rate"),
    h("div.charts", {}, charts.speed.element, charts.rate.element),
  );
  const element = h(
    "section.curves",
    {},
    h("h2", {}, "Curves"),
    note,
    h("div.charts", {}, charts.loss.element, charts.metric.element),
    more,
  );

  function draw() {
    const line = (name, entries, value) => ({ name, points: pointsOf(entries, value) });
    note.hidden = steps.size > 0;
    charts.loss.element.hidden = more.hidden = !steps.size;
    charts.loss.draw([
      line("training", steps, (entry) => entry.loss),
      line("validation", evaluations, (entry) => entry.metrics[VALIDATION]),
    ]);
    charts.speed.draw([line("samples/s", steps, (entry) => entry.pairs_per_second)]);
    charts.rate.draw([line("learning rate", steps, (entry) => entry.learning_rate)]);
    offer([...new Set([...evaluations.values()].flatMap((entry) => Object.keys(entry.metrics)))]);
    const found = line("now", evaluations, (entry) => entry.metrics[chosen]);
    const before = evaluations.get(0)?.metrics[chosen];
    charts.metric.element.hidden = !found.points.length;
    charts.metric.draw([found], { reference: before === undefined ? undefined : { name: "before", value: before } });
  }

  function offer(all) {
    const names = all.filter((name) => name !== VALIDATION);
    chosen ??= headline({ after: Object.fromEntries(names.map((name) => [name, 0])) });
    if (choice.options.length === names.length) return;
    swap(
      choice,
      names.map((name) => h("option", { value: name, selected: name === chosen }, metricName(name))),
    );
  }

  draw();
  return {
    element,
    add(curve) {
      for (const entry of curve.steps) steps.set(entry.step, entry);
      for (const entry of curve.evaluations) evaluations.set(entry.step, entry);
      if (curve.steps.length || curve.evaluations.length) draw();
    },
    last: () => Math.max(0, ...steps.keys()),
  };
}

function pointsOf(entries, value) {
  return [...entries.values()]
    .map((entry) => [entry.step, value(entry)])
    .filter(([, each]) => Number.isFinite(each))
    .sort(([a], [b]) => a - b);
}
