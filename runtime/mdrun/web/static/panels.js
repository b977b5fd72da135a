// Everything that the status tells, in words and small tables.

import { latencyChart, skewChart } from "./charts.js";
import { ago, badge, byId, clockTime, h, ms, now, table } from "./dom.js";
import { isBad, problems, sentence, title } from "./notices.js";
import { areaWords, reasonWords } from "./views.js";

const KEEP_S = 10;
const NOTICES = 100; // and as many alarms: a busy night must not wash away what befell the cameras
const STATUS_S = 1.5; // one comes each second

export class Panels {
  constructor() {
    this.reset();
  }

  // A new connection tells everything again.
  reset() {
    this.points = [];
    this.areas = []; // of the latest picture, where its engine gives the class of every pixel
    this.logs = { notices: [], alarms: [] };
    this.untold = new Set(Object.keys(this.logs)); // waits for a status, which knows the time
    this.seen = {}; // of each camera: when its last image came
    this.status = null;
    this.at = 0;
    this.told = "";
    for (const log of Object.keys(this.logs)) byId(log).replaceChildren();
    byId("problems").hidden = true;
  }

  update(status) {
    this.status = status;
    this.at = now();
    this.points.push(...status.recent);
    this.cameras();
    this.shutter();
    this.ladder();
    this.charts();
    this.results();
    this.sinks();
    this.problems();
    for (const log of this.untold) this.tell(log);
  }

  // Seconds since the last status; null before the first.
  silence() {
    return this.status === null ? null : now() - this.at;
  }

  // Ages run on when no status comes any more; between two, the age of a live image is not that of its status.
  tick() {
    const silence = this.silence();
    for (const cell of document.querySelectorAll("[data-age]")) {
      cell.textContent = `${ago(Number(cell.dataset.age) + (silence > STATUS_S ? silence : 0))} ago`;
    }
    for (const cell of document.querySelectorAll("[data-wall]")) cell.textContent = ago(Math.max(0, now() - Number(cell.dataset.wall)));
  }

  // The present on the clock of the frames.
  frameClock() {
    const cameras = Object.values(this.status?.cameras ?? {}).filter((camera) => camera.last_captured_s !== null);
    if (!cameras.length) return null;
    return Math.max(...cameras.map((camera) => camera.last_captured_s + (camera.age_s ?? 0))) + now() - this.at;
  }

  // When a notice was, by the clock on the wall; found once, so that it does not waver.
  wall(notice) {
    const clock = this.frameClock();
    if (notice.wall === undefined && clock !== null) notice.wall = now() - Math.max(0, clock - notice.at_s);
    return notice.wall ?? null;
  }

  // The same for the last image of a camera; for one that never gave any, the start.
  lastSeen(role) {
    const { captured, age_s: age } = this.status.cameras[role];
    if (this.seen[role]?.captured !== captured) this.seen[role] = { captured, at: now() - (age ?? this.status.uptime_s) };
    return this.seen[role].at;
  }

  // What is wrong, since when and why; written anew only where it changed, because it is read aloud.
  problems() {
    const found = problems(this.status, this.logs.notices, { wall: (notice) => this.wall(notice), lastSeen: (role) => this.lastSeen(role) }, now());
    const told = JSON.stringify(found);
    if (told === this.told) return;
    this.told = told;
    byId("problems").hidden = found.length === 0;
    byId("problems-title").textContent = `What is wrong now: ${found.length}`;
    byId("problem-list").replaceChildren(...found.map(({ what, why, since }) => h("li", {},
      h("b", {}, `✕ ${what}`), " ", sinceWhen(since), " ", h("span", { class: "why" }, why.filter(Boolean).join("; ")))));
  }

  cameras() {
    const rows = Object.entries(this.status.cameras).map(([role, camera]) => [
      h("span", { class: "name" }, h("b", {}, ...breakable(camera.name)), " ", h("small", {}, role)),
      h("span", { class: "name" }, badge(camera.state), camera.code ? h("small", {}, ` ${camera.code} ${camera.message}`) : null),
      camera.age_s === null ? "never" : h("span", { "data-age": camera.age_s, class: "number" }, `${ago(camera.age_s)} ago`),
      camera.fps === null ? null : `${camera.fps.toFixed(1)}`,
      camera.width ? `${camera.width}×${camera.height} ${camera.dtype}` : null,
      camera.clock || null,
      camera.reconnects,
      causes(camera.dropped),
    ]);
    byId("cameras").replaceChildren(
      table(["camera", "state", "last image", "fps", "image", "clock", "reconnects", "dropped"], rows));
  }

  shutter() {
    const camera = this.status.cameras.thermal;
    byId("shutter").replaceChildren(...(camera ? [
      h("p", {}, camera.state === "live" ? badge(camera.ffc) : badge("unknown", `unknown: camera ${camera.state}`)),
      h("p", {}, `${camera.ffc_events} shutter event${camera.ffc_events === 1 ? "" : "s"} (FFC), ${camera.ffc_seconds.toFixed(1)} s in all`),
      h("p", {}, "Thermal input of all results: ", causes(this.status.thermal_provenance)),
    ] : [h("p", {}, "no thermal camera")]));
  }

  ladder() {
    const { engines, active, reason, transitions } = this.status.ladder;
    const rows = engines.map((engine, rung) => [
      rung === active ? badge("live", "runs") : rung + 1,
      name(engine.name, "b"), engine.task, engine.precision, engine.backend, engine.device, (engine.needs ?? []).join(" + "),
    ]);
    const parts = [table(["place", "engine", "task", "precision", "backend", "device", "needs"], rows)];
    const which = active === null ? "none runs" : "not the first one";
    if (reason) parts.push(h("p", {}, `${which}, because: ${reasonWords(reason)}`));
    if (transitions.length) {
      parts.push(table(["switched from", "to", "because", "times"],
        transitions.map((step) => [name(step.from), name(step.to), reasonWords(step.reason) || "returned", step.count])));
    }
    byId("ladder").replaceChildren(...parts);
  }

  charts() {
    const { skew_ms: skew, latency_ms: latency, skew_histogram: bins, stages_ms: stages } = this.status;
    const end = this.frameClock() ?? 0;
    this.points = this.points.filter((point) => point[0] > end - KEEP_S);
    byId("skew").replaceChildren(skewChart(this.points, bins.edges_ms, skew), numbers(skew, "without sign "));
    byId("latency").replaceChildren(latencyChart(this.points, end, latency), numbers(latency));
    byId("stages").replaceChildren(table(["stage", "p50", "p95", "p99"],
      Object.entries(stages).map(([name, found]) => [name, ms(found?.p50), ms(found?.p95), ms(found?.p99)]), false));
  }

  results() {
    const status = this.status;
    byId("results").replaceChildren(
      h("p", {}, h("b", { class: "number" }, String(status.results)), " results in ", ago(status.uptime_s)),
      h("p", {}, "found: ", this.areas.length ? `now ${this.areas.map(areaWords).join(", ")}` : causes(status.objects)),
      h("p", {}, "events: ", causes(status.events)),
      Object.keys(status.verdicts).length ? h("p", {}, "energy: ", causes(status.verdicts)) : "");
  }

  sinks() {
    const rows = Object.entries(this.status.sinks).map(([output, sink]) => [
      name(output, "b"),
      sink.alive ? badge("writing") : badge("failing"),
      sink.written, sink.dropped, sink.errors, sink.lost, sink.message ? name(sink.message) : "–",
    ]);
    byId("sinks").replaceChildren(table(["output", "state", "written", "dropped", "errors", "messages lost", "message"], rows));
  }

  notice(notice) {
    const log = notice.kind === "alarm" ? "alarms" : "notices";
    this.logs[log].unshift(notice);
    this.logs[log].length = Math.min(this.logs[log].length, NOTICES);
    this.untold.add(log);
    if (this.status) this.tell(log);
  }

  tell(log) {
    if (this.frameClock() !== null) this.untold.delete(log);
    const items = this.logs[log].map((notice) => {
      const at = this.wall(notice);
      return h("li", { class: isBad(notice) && "bad" },
        at === null ? h("time", {}) : h("time", { datetime: new Date(at * 1000).toISOString() }, clockTime(at), " ", h("small", {}, gone(at), " ago")),
        " ", h("span", {}, h("b", {}, `${sign(notice)}${title(notice)}`), " ", sentence(notice, this.status.cameras)));
    });
    byId(log).replaceChildren(...(items.length ? items : [h("li", {}, "none so far")]));
  }
}

// Names and messages of any length: they alone may be broken anywhere, best behind a sign that parts words.
const breakable = (text) => text.split(/(?<=[_\-/.:@])/).flatMap((part) => [part, h("wbr")]);
const name = (text, tag = "span") => h(tag, { class: "name" }, ...breakable(text));

const sign = (notice) => notice.kind === "alarm" ? "▲ " : isBad(notice) ? "✕ " : "";

// How long ago, kept up by `tick`; a running number is not read aloud.
const gone = (wall) => h("span", { "data-wall": wall, "aria-hidden": "true" }, ago(Math.max(0, now() - wall)));

const sinceWhen = (wall) => wall === null ? null : h("span", { class: "since number" }, `since ${clockTime(wall)} (`, gone(wall), ")");

function causes(counts) {
  return Object.entries(counts).map(([name, count]) => `${reasonWords(name)} ${count}`).join(", ") || "none";
}

function numbers(found, word = "") {
  return h("p", { class: "number" }, found
    ? `${word}p50 ${ms(found.p50)} · p95 ${ms(found.p95)} · p99 ${ms(found.p99)} ms`
    : "no values yet");
}
