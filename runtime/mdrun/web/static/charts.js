// Two small charts as SVG: they take the page's colours, light or dark, and are sharp on every screen.

import { ms } from "./dom.js";

const SPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [320, 120];
const [LEFT, BOTTOM, TOP] = [34, 18, 8];
const SPAN_S = 10;
const GAP_S = 0.5; // a line over a longer pause would tell of values that nobody measured

function s(tag, attributes, text) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function chart(label) {
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": label });
  svg.append(s("line", { x1: LEFT, x2: WIDTH, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM, class: "axis" }));
  return svg;
}

const percentiles = (found) => found ? `p50 ${ms(found.p50)}, p95 ${ms(found.p95)}, p99 ${ms(found.p99)} ms` : "no values yet";

// How often which skew: the bins are those of the metrics.
export function skewChart(points, edges, found) {
  const values = points.map((point) => point[1]).filter((value) => value !== null);
  const counts = new Array(edges.length + 1).fill(0);
  for (const value of values) counts[binOf(value, edges)] += 1;
  const most = Math.max(1, ...counts);
  const svg = chart(`skew histogram of the last ten seconds: ${percentiles(found)}`);
  const step = (WIDTH - LEFT) / counts.length;
  counts.forEach((count, bin) => {
    const height = (HEIGHT - BOTTOM - TOP) * count / most;
    const bar = s("rect", { x: LEFT + bin * step + 1, y: HEIGHT - BOTTOM - height, width: step - 2, height, class: "bar" });
    bar.append(s("title", {}, `${binWords(bin, edges)}: ${count}`));
    svg.append(bar);
  });
  edges.forEach((edge, index) => {
    const x = LEFT + (index + 1) * step;
    if (index % 2 === 0) svg.append(s("text", { x, y: HEIGHT - 5, class: "tick", "text-anchor": "middle" }, edge));
  });
  svg.append(s("text", { x: LEFT - 4, y: TOP + 8, class: "tick", "text-anchor": "end" }, most));
  if (!values.length) svg.append(empty());
  return svg;
}

function binOf(value, edges) {
  const found = edges.findIndex((edge) => value <= edge);
  return found < 0 ? edges.length : found;
}

function binWords(bin, edges) {
  if (bin === 0) return `up to ${edges[0]} ms`;
  return bin === edges.length ? `above ${edges.at(-1)} ms` : `${edges[bin - 1]} to ${edges[bin]} ms`;
}

// Latency over capture time; percentiles as dashed lines.
export function latencyChart(points, end, found) {
  const values = points.filter((point) => point[2] !== null && point[0] > end - SPAN_S);
  const svg = chart(`latency of the last ten seconds: ${percentiles(found)}`);
  const top = niceTop(Math.max(1, found?.p99 ?? 0, ...values.map((point) => point[2])));
  const x = (time) => LEFT + (WIDTH - LEFT) * (time - end + SPAN_S) / SPAN_S;
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * Math.min(value, top) / top;
  for (const value of [0, top / 2, top]) {
    svg.append(s("text", { x: LEFT - 4, y: y(value) + 4, class: "tick", "text-anchor": "end" }, value < 10 ? value : Math.round(value)));
  }
  for (const seconds of [10, 5, 0]) {
    const anchor = { 10: "start", 5: "middle", 0: "end" }[seconds];
    svg.append(s("text", { x: x(end - seconds), y: HEIGHT - 5, class: "tick", "text-anchor": anchor }, seconds ? `−${seconds} s` : "now"));
  }
  if (!values.length) {
    svg.append(empty());
    return svg;
  }
  for (const name of found ? ["p50", "p99"] : []) {
    svg.append(s("line", { x1: LEFT, x2: WIDTH, y1: y(found[name]), y2: y(found[name]), class: "level" }));
  }
  let path = "";
  values.forEach(([time, , value], index) => {
    const starts = index === 0 || time - values[index - 1][0] > GAP_S;
    path += `${starts ? "M" : "L"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  svg.append(s("path", { d: path, class: "line" }));
  return svg;
}

const empty = () => s("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT / 2, class: "tick", "text-anchor": "middle" }, "no values");

function niceTop(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * unit).find((top) => top >= value);
}
