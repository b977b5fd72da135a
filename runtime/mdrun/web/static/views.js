// The three live pictures. Boxes are drawn here, so that they are sharp on every screen.

import { byId, h, mark, ms } from "./dom.js";

const INK = "#101216";
const HATCH_PX = 12;

// A canvas in device pixels, drawn in CSS pixels: [context, width, height].
export function canvasFor(canvas, aspect) {
  const width = canvas.parentElement.clientWidth;
  const height = Math.round(width * aspect);
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.imageSmoothingQuality = "high";
  return [context, width, height];
}

// The bitmaps of a `frame` answer, and its data.
export async function unpack(form) {
  const shot = JSON.parse(await form.get("shot").text());
  const images = {};
  for (const [name, blob] of form.entries()) {
    if (blob.type === "image/jpeg") images[name] = await createImageBitmap(blob);
  }
  return { shot, images };
}

export class Views {
  constructor(root) {
    this.canvases = Object.fromEntries(
      [...root.querySelectorAll("figure")].map((figure) => [figure.dataset.view, figure.querySelector("canvas")]));
    this.last = null;
    this.opacity = byId("opacity");
    this.opacity.addEventListener("input", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(root);
  }

  show(frame) {
    const old = this.last;
    this.last = frame;
    this.draw();
    for (const bitmap of Object.values(old?.images ?? {})) bitmap.close();
    this.label(frame.shot);
  }

  draw() {
    if (!this.last) return;
    const { shot, images } = this.last;
    const aspect = shot.visible.height / shot.visible.width;
    for (const [view, canvas] of Object.entries(this.canvases)) {
      const [context, width, height] = canvasFor(canvas, aspect);
      context.fillStyle = INK;
      context.fillRect(0, 0, width, height);
      if (view !== "thermal") context.drawImage(images.visible, 0, 0, width, height);
      if (view !== "visible") this.thermal(context, width, height, view === "fused" ? Number(this.opacity.value) : 1);
      if (view === "thermal" && !shot.thermal.shown) continue; // there is nothing that the boxes could lie on
      for (const box of [...shot.boxes].reverse()) outline(context, box, width / shot.visible.width);
      const taken = [];
      for (const box of shot.boxes) tag(context, box, width / shot.visible.width, [width, height], taken);
    }
  }

  thermal(context, width, height, opacity) {
    const { shot, images } = this.last;
    if (!shot.thermal.shown) return;
    context.globalAlpha = opacity;
    context.drawImage(images.thermal, 0, 0, width, height);
    if (shot.thermal.stale) hatch(context, width, height);
    context.globalAlpha = 1;
  }

  label(shot) {
    const kind = shot.thermal.provenance;
    const age = kind === "held" && shot.thermal.age_ms !== null ? ` ${ms(shot.thermal.age_ms)} ms` : "";
    const unused = shot.thermal.shown && (kind === "absent" || kind === "hallucinated"); // by the engine: it wants none
    const reasons = [unused && "image not used", reasonWords(unused ? shot.rung_reason : shot.thermal.reason)].filter(Boolean);
    const why = reasons.length && kind !== "measured" ? ` (${reasons.join(": ")})` : "";
    const none = `no thermal image${shot.thermal.reason ? `: ${reasonWords(shot.thermal.reason)}` : ""}`;
    byId("no-thermal").hidden = shot.thermal.shown;
    byId("no-thermal").textContent = shot.thermal.shown ? "" : none;
    this.canvases.thermal.setAttribute("aria-label", shot.thermal.shown ? "thermal camera, laid on the visible view" : none);
    mark(byId("badge-visible"), "measured");
    mark(byId("badge-thermal"), kind, `${kind}${age}${why}`);
    mark(byId("badge-fused"), kind, `thermal ${kind}${age}${why}`);
    this.canvases.fused.setAttribute("aria-label", `thermal image over the visible one, thermal ${kind}${why}, ${shot.boxes.length} boxes`);
    const parts = [`frame ${shot.sequence}`, shot.engine];
    if (shot.skew_ms !== null) parts.push(`skew ${ms(shot.skew_ms)} ms`);
    if (shot.latency_ms !== null) parts.push(`latency ${ms(shot.latency_ms)} ms`);
    if (shot.verdict) parts.push(`energy ${shot.verdict}`);
    byId("caption").replaceChildren(parts.join(" · "), ...shot.classes.map(score), ...shot.areas.map(area));
  }
}

const WORDS = {
  ffc: "shutter closed", stuck: "shutter stuck", stale: "too old", lost: "camera lost", stalled: "no new image",
  connecting: "camera not connected yet", failed: "camera given up", no_thermal: "image not there", missing: "missing", returning: "waits until it is steady again", energy: "strange input",
};

// `ffc`, or `thermal_ffc` and `visible_lost` where the reason stands for itself.
export function reasonWords(reason) {
  const [, camera, bare] = reason.match(/^(?:(thermal|visible)_)?(.*)$/);
  if (!WORDS[bare]) return reason;
  return camera ? `${camera} ${WORDS[bare]}` : WORDS[bare];
}

// The share of the image that a class of a label map has.
export const areaWords = ({ class: name, share }) => `${name} ${share < 0.005 ? "<1" : (100 * share).toFixed(0)} %`;

// The same in the colour that tints its pixels.
function area({ colour, ...found }) {
  const chip = h("span", { class: "badge" }, areaWords(found));
  chip.style.background = colour;
  return chip;
}

// A class of the whole pair, in its colour.
function score({ class: name, colour, score: value }) {
  const chip = h("span", { class: "badge" }, `${name} ${value.toFixed(2)}`);
  chip.style.background = colour;
  return chip;
}

function outline(context, box, scale) {
  const [x1, y1, x2, y2] = box.box_xyxy.map((edge) => edge * scale);
  for (const [colour, width] of [[INK, 4], [box.colour, 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
}

function tag(context, box, scale, [width, height], taken) {
  const parts = [box.class, box.track_id === undefined ? "" : `#${box.track_id}`, box.score.toFixed(2)];
  if (box.celsius !== undefined) parts.push(`${box.celsius.toFixed(1)} °C`);
  const text = parts.filter(Boolean).join(" ");
  context.font = "600 12px system-ui, sans-serif";
  const [w, h] = [context.measureText(text).width + 8, 16];
  const [x1, y1, x2, y2] = box.box_xyxy.map((edge) => edge * scale);
  const left = Math.max(0, Math.min(x1, width - w));
  const right = Math.max(0, Math.min(x2 - w, width - w));
  for (const [x, y] of [[left, y1 - h], [right, y1 - h], [left, y2], [right, y2]]) {
    const free = taken.every(([a, b, c]) => x + w <= a || a + c <= x || y + h <= b || b + h <= y);
    if (y < 0 || y + h > height || !free) continue;
    taken.push([x, y, w]);
    context.fillStyle = box.colour;
    context.fillRect(x, y, w, h);
    context.fillStyle = INK;
    context.fillText(text, x + 4, y + 12);
    return;
  }
}

// An older thermal image is hatched: it must not pass for the present.
function hatch(context, width, height) {
  context.strokeStyle = "rgb(150 156 166 / 0.45)";
  context.lineWidth = 1;
  context.beginPath();
  for (let x = -height; x < width; x += HATCH_PX) {
    context.moveTo(x, height);
    context.lineTo(x + height, 0);
  }
  context.stroke();
}
