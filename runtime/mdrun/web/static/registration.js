// How the thermal image lies on the visible one: look, pick points, fit, save.

import { ask, byId, h, table } from "./dom.js";
import { Picker } from "./picker.js";
import { reasonWords, unpack } from "./views.js";

const TOKEN = "mdrun-token"; // in sessionStorage: gone with the tab
const LEAST = 3; // any affine map fits three: the error is known from the fourth on
const ENOUGH = 8;

export class Registration {
  constructor() {
    this.api = null;
    this.clearAll();
    const pickers = ["visible", "thermal"].map((side, index) => new Picker(byId(`pick-${side}`), {
      onPick: (point) => this.picked(side, point),
      onCancel: () => this.cancel(),
      points: () => this.pairs.map((pair) => pair.slice(2 * index, 2 * index + 2)),
      pending: () => this.pending[side],
    }));
    [this.visible, this.thermal] = pickers;
    this.opacity = byId("overlay-opacity");
    this.opacity.addEventListener("input", () => this.overlay());
    byId("hold").addEventListener("click", () => this.hold());
    byId("fit").addEventListener("click", () => this.fit());
    byId("save").addEventListener("click", () => this.save());
    byId("csv").addEventListener("click", () => this.download());
    byId("clear").addEventListener("click", () => { this.clearAll(); this.list(); });
    byId("token-ok").addEventListener("click", () => this.tokenGiven());
    byId("token").addEventListener("keydown", (event) => event.key === "Enter" && this.tokenGiven());
    byId("token-cancel").addEventListener("click", () => byId("token-dialog").close());
    new ResizeObserver(() => this.overlay()).observe(byId("overlay"));
    this.list();
  }

  clearAll() {
    this.pairs = [];
    this.pending = {};
    this.result = null;
  }

  // Another rig, or the tab was opened.
  async open(api) {
    if (api !== this.api) {
      this.api = api;
      this.held = null;
      this.clearAll();
      this.list();
    }
    await this.describe();
    if (!this.held) await this.hold();
  }

  async describe() {
    const { status, body } = await reach(`${this.api}/registration`);
    if (status !== 200) return;
    this.about = body;
    const current = body.current ?? {};
    const rows = Object.entries(current)
      .filter(([, value]) => known(value))
      .map(([name, value]) => [name.replaceAll("_", " "), words(value)]);
    byId("current").replaceChildren(h("div", { class: "scroll" }, table(["", ""], rows, false)));
    byId("current").querySelector("thead").remove();
    this.buttons();
  }

  async hold() {
    const answer = await ask(`${this.api}/frame?views=visible,thermal,raw`).catch(() => null);
    if (answer?.status !== 200) return this.say("held", "no picture to hold; is mdrun running?");
    const { shot, images } = await unpack(answer.body);
    if (!shot.thermal.shown) return this.say("held", `no thermal image at this moment (${reasonWords(shot.thermal.reason)}); try again`);
    this.held = { shot, images };
    this.visible.show(images.visible, [shot.visible.width, shot.visible.height]);
    this.thermal.show(images.raw, [shot.thermal.raw_width, shot.thermal.raw_height]);
    this.say("held", `frame ${shot.sequence}, held: this picture stands still`);
    this.overlay();
  }

  picked(side, point) {
    this.pending[side] = point;
    if (this.pending.visible && this.pending.thermal) {
      this.pairs.push([...this.pending.visible, ...this.pending.thermal]);
      this.cancel();
    }
    this.list();
  }

  cancel() {
    this.pending = {};
    this.visible?.draw();
    this.thermal?.draw();
  }

  remove(index) {
    this.pairs.splice(index, 1);
    this.list();
  }

  // Points changed: what was fitted through the old ones no longer holds.
  list() {
    this.result = null;
    this.rows();
    const missing = (wanted) => wanted - this.pairs.length;
    if (missing(LEAST) > 0) this.say("fit-result", `${missing(LEAST)} more pairs are needed`);
    else this.say("fit-result", missing(ENOUGH) > 0 ? `${missing(ENOUGH)} more pairs make it better` : "");
    this.visible?.draw();
    this.thermal?.draw();
    this.overlay();
  }

  rows() {
    const point = (x, y, digits) => `${x.toFixed(digits)}, ${y.toFixed(digits)}`;
    const pixels = (value) => typeof value === "number" ? value.toFixed(2) : "–";
    byId("pairs").replaceChildren(...this.pairs.map((pair, index) => {
      const button = h("button", { "aria-label": `remove pair ${index + 1}` }, "✕");
      button.addEventListener("click", () => this.remove(index));
      const off = this.result && !this.result.inliers[index];
      return h("tr", { class: off ? "worst" : "" }, h("td", {}, String(index + 1)), h("td", {}, point(...pair.slice(0, 2), 0)),
        h("td", {}, point(...pair.slice(2), 1)), h("td", {}, pixels(this.result?.residuals_px[index])),
        h("td", {}, off ? "does not fit" : pixels(this.result?.left_out_px[index])), h("td", {}, button));
    }));
    this.buttons();
  }

  buttons() {
    byId("fit").disabled = byId("save").disabled = this.pairs.length < LEAST;
    byId("csv").disabled = byId("clear").disabled = this.pairs.length === 0;
    if (this.about && !this.about.savable) byId("save").disabled = true;
    byId("save").title = this.about?.savable === false
      ? "This page is read-only: start mdrun with ?token=… at the output, or download the points" : "";
  }

  async fit() {
    const answer = await reach(`${this.api}/registration/fit?points=${encodeURIComponent(JSON.stringify(this.pairs))}`);
    this.fitted(answer);
  }

  fitted({ status, body }) {
    if (status !== 200) return this.say("fit-result", body.error ?? `the server answered ${status}`);
    this.result = body;
    this.rows();
    const error = body.registration.residual_px;
    const words = [`Median error ${error === null ? "unknown" : `${error.toFixed(2)} px of the thermal image`}.`,
      ...body.notes.map((note) => `${note}.`)];
    if (body.saved) words.push(`Saved as ${body.saved}, and in use now; name it as calibration in the rig file to keep it.`);
    this.say("fit-result", words.join(" "));
    this.overlay();
    return undefined;
  }

  async save() {
    const token = sessionStorage.getItem(TOKEN);
    if (!token) return this.askToken("Saving a registration wants the token of this page's output: ?token=…");
    const answer = await reach(`${this.api}/registration`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ points: this.pairs }),
    });
    if (answer.status === 403) {
      sessionStorage.removeItem(TOKEN);
      return this.askToken(answer.body.error);
    }
    this.fitted(answer);
    return this.describe();
  }

  askToken(text) {
    byId("token-text").textContent = text;
    byId("token").value = "";
    if (!byId("token-dialog").open) byId("token-dialog").showModal();
  }

  tokenGiven() {
    const token = byId("token").value.trim();
    if (!token) return;
    sessionStorage.setItem(TOKEN, token);
    byId("token-dialog").close();
    this.save();
  }

  download() {
    const lines = ["visible_x,visible_y,thermal_x,thermal_y", ...this.pairs.map((pair) => pair.join(","))];
    const link = h("a", { href: URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" })), download: "points.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // A fit is shown by the browser itself: a homography is what CSS calls matrix3d.
  overlay() {
    if (!this.held) return;
    const { shot, images } = this.held;
    const box = byId("overlay");
    const [width, height] = [box.clientWidth, box.clientWidth * shot.visible.height / shot.visible.width];
    box.style.height = `${height}px`;
    paint(byId("overlay-visible"), images.visible);
    const canvas = byId("overlay-thermal");
    canvas.style.opacity = this.opacity.value;
    const matrix = this.result?.matrix;
    byId("overlay-kind").textContent = !matrix ? "registration in use" : this.result.saved ? "the fit, saved" : "the fit, not yet saved";
    paint(canvas, matrix ? images.raw : images.thermal);
    canvas.style.width = matrix ? `${shot.thermal.raw_width}px` : "100%";
    canvas.style.height = matrix ? `${shot.thermal.raw_height}px` : "100%";
    canvas.style.transform = matrix ? matrix3d(matrix, width / shot.visible.width, height / shot.visible.height) : "";
  }

  say(id, text) {
    byId(id).textContent = text;
  }
}

// An answer in any case: where there is none, the words that say so.
const reach = (url, options) => ask(url, options).catch(() => ({ status: 0, body: { error: "no contact with mdrun; nothing was done" } }));

// There is something to say; of what no list or object holds, nothing is.
const known = (value) => value instanceof Object ? Object.values(value).some(known) : value !== null && value !== "";

function words(value) {
  if (typeof value === "number") return String(Number(value.toFixed(3)));
  if (Array.isArray(value)) return value.join(" × ");
  if (value instanceof Object) return Object.entries(value).filter(([, inner]) => known(inner)).map(([name, inner]) => `${name.replaceAll("_", " ")}: ${words(inner)}`).join(", ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  return String(value);
}

function paint(canvas, bitmap) {
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

// (3, 3) thermal to visible, then visible to the screen, in the column order of CSS.
function matrix3d([[a, b, c], [d, e, f], [g, h_, i]], sx, sy) {
  return `matrix3d(${[a * sx, d * sy, 0, g, b * sx, e * sy, 0, h_, 0, 0, 1, 0, c * sx, f * sy, 0, i].join(",")})`;
}
