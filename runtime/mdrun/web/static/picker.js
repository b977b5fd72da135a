// One picture to pick points in, by pointer or by keyboard, with a magnifier.
// Coordinates given out: pixels as captured, the centre of the first pixel is (0, 0).

import { canvasFor } from "./views.js";

const INK = "#101216";
const POINT = "#f0e442";
const LOUPE_PX = 96; // side of the magnifier on the screen
const LOUPE_ZOOM = 4; // over the size of the picture on the screen
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Picker {
  // `points`: what to draw, [[x, y], …] with null for none; `pending`: a point whose partner is missing.
  constructor(canvas, { onPick, onCancel, points, pending }) {
    Object.assign(this, { canvas, onPick, points, pending });
    this.bitmap = null;
    this.size = null;
    this.cross = null;
    canvas.addEventListener("pointermove", (event) => this.move(this.at(event)));
    canvas.addEventListener("pointerleave", () => this.move(null));
    canvas.addEventListener("click", (event) => this.pick(this.at(event)));
    canvas.addEventListener("keydown", (event) => {
      if (event.key === "Escape") onCancel();
      else if (event.key === "Enter") this.pick(this.cross);
      else if (KEYS[event.key]) this.step(KEYS[event.key], event.shiftKey ? 10 : 1);
      else return;
      event.preventDefault();
    });
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  // `size`: (width, height) as captured; the bitmap may be smaller.
  show(bitmap, size) {
    this.bitmap = bitmap;
    this.size = size;
    this.cross = null;
    this.draw();
  }

  at(event) {
    if (!this.size) return null;
    const place = this.canvas.getBoundingClientRect();
    const x = (event.clientX - place.left) / place.width * this.size[0] - 0.5;
    const y = (event.clientY - place.top) / place.height * this.size[1] - 0.5;
    return this.clamp([x, y]);
  }

  clamp([x, y]) {
    return [Math.max(0, Math.min(this.size[0] - 1, x)), Math.max(0, Math.min(this.size[1] - 1, y))];
  }

  move(place) {
    this.cross = place;
    this.draw();
  }

  step([dx, dy], pixels) {
    if (!this.size) return;
    const [x, y] = this.cross ?? this.size.map((length) => length / 2);
    this.move(this.clamp([Math.round(x) + dx * pixels, Math.round(y) + dy * pixels]));
  }

  pick(place) {
    if (place) this.onPick(place.map((value) => Math.round(value * 10) / 10));
  }

  draw() {
    if (!this.bitmap) return;
    const [context, width, height] = canvasFor(this.canvas, this.size[1] / this.size[0]);
    const screen = ([x, y]) => [(x + 0.5) / this.size[0] * width, (y + 0.5) / this.size[1] * height];
    context.drawImage(this.bitmap, 0, 0, width, height);
    this.points().forEach((point, index) => point && spot(context, screen(point), String(index + 1)));
    const pending = this.pending();
    if (pending) spot(context, screen(pending), "?");
    if (!this.cross) return;
    const at = screen(this.cross);
    hair(context, at, 9);
    this.loupe(context, at, width, height);
  }

  // In the upper corner away from the cross, so that a finger does not hide it.
  loupe(context, [x, y], width, height) {
    const side = Math.min(LOUPE_PX, height / 2);
    const left = x > width / 2 ? 6 : width - side - 6;
    const part = side / LOUPE_ZOOM;
    const [sx, sy] = [this.bitmap.width / width, this.bitmap.height / height];
    context.save();
    context.beginPath();
    context.rect(left, 6, side, side);
    context.clip();
    context.fillStyle = INK;
    context.fillRect(left, 6, side, side);
    context.drawImage(this.bitmap, (x - part / 2) * sx, (y - part / 2) * sy, part * sx, part * sy, left, 6, side, side);
    hair(context, [left + side / 2, 6 + side / 2], side / 4);
    context.restore();
    context.strokeStyle = POINT;
    context.lineWidth = 1;
    context.strokeRect(left, 6, side, side);
  }
}

function hair(context, [x, y], length) {
  for (const [colour, width] of [[INK, 3], [POINT, 1]]) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * 2, y + dy * 2);
      context.lineTo(x + dx * length, y + dy * length);
    }
    context.stroke();
  }
}

function spot(context, [x, y], text) {
  hair(context, [x, y], 8);
  context.font = "600 13px system-ui, sans-serif";
  context.lineWidth = 4;
  context.strokeStyle = INK;
  context.strokeText(text, x + 7, y - 6);
  context.fillStyle = POINT;
  context.fillText(text, x + 7, y - 6);
}
