// A growing line chart of values by step. The pointer or the arrow keys select a step and show its values.

import { h, svg, swap } from "./dom.js";
import { number } from "./format.js";
import { linear, range, thinned, ticks } from "./scale.js";

const HEIGHT = 200;
const EDGE = { top: 8, right: 14, bottom: 24, left: 50 };
const MOST_POINTS = 800;

/**
 * Return a chart titled `label`; `control` replaces the title.
 *
 * `draw(lines, {reference})` shows `lines`, [{name, points: [[step, value], ...]}] with ascending steps. `reference`,
 * {name, value}, is a dashed level, such as the metric before training.
 */
export function chart(label, signal, control = h("strong", {}, label)) {
  const readout = h("p.readout");
  const plot = svg("svg", {
    tabindex: 0,
    role: "slider",
    "aria-label": `${label} by step`,
    "aria-valuemin": 0,
    "aria-valuemax": 0,
    "aria-valuenow": 0,
  });
  const element = h("figure.chart", {}, h("figcaption", {}, control, readout), plot);
  const state = { lines: [], reference: undefined, picked: undefined, width: 0, plot, readout };

  const pick = (step) => {
    state.picked = step;
    render(state);
  };
  plot.addEventListener("pointermove", (event) => {
    if (state.x) pick(nearest(steps(state), event.offsetX, state.x));
  });
  plot.addEventListener("pointerleave", () => pick(undefined));
  plot.addEventListener("blur", () => pick(undefined));
  plot.addEventListener("keydown", (event) => {
    const all = steps(state);
    const at = state.picked === undefined ? all.length - 1 : all.indexOf(state.picked);
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined || !all.length) return;
    event.preventDefault();
    pick(all[Math.min(Math.max(next, 0), all.length - 1)]);
  });
  const observer = new ResizeObserver(([entry]) => {
    state.width = entry.contentRect.width;
    render(state);
  });
  observer.observe(plot);
  signal.addEventListener("abort", () => observer.disconnect());

  return {
    element,
    draw(lines, { reference } = {}) {
      state.lines = lines
        .map((line) => ({ ...line, points: thinned(line.points, MOST_POINTS) }))
        .filter((line) => line.points.length);
      state.reference = reference;
      render(state);
    },
  };
}

function steps({ lines }) {
  return [...new Set(lines.flatMap((line) => line.points.map(([step]) => step)))].sort((a, b) => a - b);
}

function nearest(all, position, x) {
  return all.reduce(
    (best, step) => (best === undefined || Math.abs(x(step) - position) < Math.abs(x(best) - position) ? step : best),
    undefined,
  );
}

function render(state) {
  const { lines, reference, width, plot } = state;
  if (!lines.length || !width) return;
  const all = steps(state);
  const values = lines.flatMap((line) => line.points.map(([, value]) => value));
  const down = range(reference ? [...values, reference.value] : values, { room: 0.06 });
  const across = range([Math.min(all[0], 0), ...all]);
  const x = (state.x = linear(across, [EDGE.left, width - EDGE.right]));
  const y = linear(down, [HEIGHT - EDGE.bottom, EDGE.top]);
  const picked = all.includes(state.picked) ? state.picked : undefined;
  plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  swap(
    plot,
    ticks(...down, 5).map((value) => [
      svg("line.grid", { x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
      svg("text", { x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, number(value)),
    ]),
    ticks(...across, Math.max(2, Math.min(6, Math.floor(width / 90))))
      .filter(Number.isInteger)
      .map((step) => svg("text", { x: x(step), y: HEIGHT - 6, "text-anchor": "middle" }, number(step))),
    reference &&
      svg("line.reference", { x1: EDGE.left, x2: width - EDGE.right, y1: y(reference.value), y2: y(reference.value) }),
    lines.map((line, at) => [
      svg(`polyline.line.series-${at}`, {
        points: line.points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" "),
        "data-points": line.points.length,
      }),
      line.points.length <= 40 &&
        line.points.map(([step, value]) => svg(`circle.dot.series-${at}`, { cx: x(step), cy: y(value), r: 2.5 })),
    ]),
    picked !== undefined && svg("line.cross", { x1: x(picked), x2: x(picked), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }),
    picked !== undefined &&
      lines.map((line, at) =>
        line.points
          .filter(([step]) => step === picked)
          .map(([step, value]) => svg(`circle.picked.series-${at}`, { cx: x(step), cy: y(value), r: 4.5 })),
      ),
  );
  read(state, picked ?? all.at(-1), all);
}

function read({ lines, reference, plot, readout }, step, all) {
  const values = lines.flatMap((line, at) =>
    line.points.filter(([each]) => each === step).map(([, value]) => [line.name, number(value), `series-${at}`]),
  );
  if (reference) values.push([reference.name, number(reference.value), "before"]);
  swap(
    readout,
    h("span", {}, `step ${number(step)}`),
    values.map(([name, value, kind]) => h("span", {}, h(`i.key.${kind}`), `${name} `, h("b", {}, value))),
  );
  plot.setAttribute("aria-valuemax", all.at(-1));
  plot.setAttribute("aria-valuemin", all[0]);
  plot.setAttribute("aria-valuenow", step);
  plot.setAttribute("aria-valuetext", `step ${step}: ${values.map(([name, value]) => `${name} ${value}`).join(", ")}`);
}
