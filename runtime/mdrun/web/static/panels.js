// Everything that the status tells, in words and small tables.

import { latencyChart, skewChart } from "./charts.js";
import { ago, badge, byId, h, ms, now, table } from "./dom.js";
import { reasonWords } from "./views.js";

const KEEP_S = 10;
const NOTICES = 200;

export class Panels {
  constructor() {
    this.reset();
  }

  // A new connection tells everything again.
  reset() {
    this.points = [];
    this.notices = [];
    this.status = null;
    this.at = 0;
    byId("notices").replaceChildren();
  }

  update(status) {
    this.status = status;
    this.at = now();
    this.points.push(...status.recent);
    const end = this.points.at(-1)?.[0] ?? 0;
    this.points = this.points.filter((point) => point[0] > end - KEEP_S);
    this.cameras();
    this.shutter();
    this.ladder();
    this.charts();
    this.results();
    this.sinks();
    this.tellNotices();
  }

  // Ages run on between two statuses, and most of all when none comes any more.
  tick() {
    for (const cell of document.querySelectorAll("[data-age]")) {
      cell.textContent = ago(Number(cell.dataset.age) + now() - this.at);
    }
  }

  // The present on the clock of the frames.
  frameClock() {
    const camera = this.status?.cameras.visible;
    if (!camera || camera.last_captured_s === null) return null;
    return camera.last_captured_s + (camera.age_s ?? 0) + now() - this.at;
  }

  cameras() {
    const rows = Object.entries(this.status.cameras).map(([role, camera]) => [
      h("b", {}, camera.name),
      role,
      h("span", {}, badge(camera.state), camera.code ? h("small", {}, ` ${camera.code} ${camera.message}`) : null),
      camera.age_s === null ? "never" : h("span", { "data-age": camera.age_s, class: "number" }, ago(camera.age_s)),
      camera.fps === null ? null : `${camera.fps.toFixed(1)}`,
      camera.width ? `${camera.width}×${camera.height} ${camera.dtype}` : null,
      camera.clock || null,
      camera.reconnects,
      causes(camera.dropped),
    ]);
    byId("cameras").replaceChildren(
      table(["camera", "role", "state", "last frame", "fps", "image", "clock", "reconnects", "dropped"], rows));
  }

  shutter() {
    const camera = this.status.cameras.thermal;
    byId("shutter").replaceChildren(...(camera ? [
      h("p", {}, badge(camera.ffc)),
      h("p", {}, `${camera.ffc_events} shutter event${camera.ffc_events === 1 ? "" : "s"} (FFC), ${camera.ffc_seconds.toFixed(1)} s in all`),
      h("p", {}, "Thermal input of all results: ", causes(this.status.thermal_provenance)),
    ] : [h("p", {}, "no thermal camera")]));
  }

  ladder() {
    const { engines, active, reason, transitions } = this.status.ladder;
    const rows = engines.map((engine, rung) => [
      rung === active ? badge("live", "runs") : rung + 1,
      h("b", {}, engine.name), engine.task, engine.precision, engine.backend, engine.device, (engine.needs ?? []).join(" + "),
    ]);
    const parts = [table(["", "engine", "task", "precision", "backend", "device", "needs"], rows)];
    if (reason) parts.push(h("p", {}, `not the first one, because: ${reasonWords(reason)}`));
    if (transitions.length) {
      parts.push(table(["switched from", "to", "because", "times"],
        transitions.map((step) => [step.from, step.to, reasonWords(step.reason) || "returned", step.count])));
    }
    byId("ladder").replaceChildren(...parts);
  }

  charts() {
    const { skew_ms: skew, latency_ms: latency, skew_histogram: bins, stages_ms: stages } = this.status;
    byId("skew").replaceChildren(skewChart(this.points, bins.edges_ms, skew), numbers(skew, "distance "));
    const end = this.frameClock() ?? 0;
    byId("latency").replaceChildren(latencyChart(this.points, end, latency), numbers(latency));
    byId("stages").replaceChildren(table(["stage", "p50", "p95", "p99"],
      Object.entries(stages).map(([name, found]) => [name, ms(found?.p50), ms(found?.p95), ms(found?.p99)]), false));
  }

  results() {
    const status = this.status;
    byId("results").replaceChildren(
      h("p", {}, h("b", { class: "number" }, String(status.results)), " results in ", ago(status.uptime_s)),
      h("p", {}, "dropped: ", causes(status.drops)),
      h("p", {}, "found: ", causes(status.objects)),
      h("p", {}, "events: ", causes(status.events)),
      Object.keys(status.verdicts).length ? h("p", {}, "energy: ", causes(status.verdicts)) : "");
  }

  sinks() {
    const rows = Object.entries(this.status.sinks).map(([name, sink]) => [
      h("b", {}, name),
      sink.alive ? badge("writing") : badge("failing"),
      sink.written, sink.dropped, sink.errors, sink.message || "",
    ]);
    byId("sinks").replaceChildren(table(["output", "state", "written", "dropped", "errors", "message"], rows));
  }

  notice(notice) {
    this.notices.unshift(notice);
    this.notices.length = Math.min(this.notices.length, NOTICES);
    if (this.status) this.tellNotices();
  }

  tellNotices() {
    const clock = this.frameClock();
    const items = this.notices.map((notice) => h("li", { class: severity(notice) },
      h("time", {}, clock === null ? "" : `${ago(Math.max(0, clock - notice.at_s))} ago`), " ",
      h("b", {}, notice.kind), " ", sentence(notice)));
    byId("notices").replaceChildren(...(items.length ? items : [h("li", {}, "none so far")]));
  }
}

function causes(counts) {
  return Object.entries(counts).map(([name, count]) => `${reasonWords(name)} ${count}`).join(", ") || "none";
}

function numbers(found, word = "") {
  return h("p", { class: "number" }, found
    ? `${word}p50 ${ms(found.p50)} · p95 ${ms(found.p95)} · p99 ${ms(found.p99)} ms`
    : "no values yet");
}

const BAD = new Set(["lost", "failed", "stalled", "stuck"]);

function severity(notice) {
  if (notice.kind === "alarm" || notice.alarm === true) return "bad";
  if (BAD.has(notice.state) || BAD.has(notice.to) || notice.alive === false) return "bad";
  return "";
}

function sentence(notice) {
  const { kind, at_s: _, ...data } = notice;
  if (kind === "source") return [data.camera, data.source, data.state, data.code, data.message].filter(Boolean).join(" ");
  if (kind === "ffc") return `shutter ${data.from} → ${data.to}, ${data.events} so far`;
  if (kind === "ladder") return `${data.from ?? "none"} → ${data.to ?? "none"}: ${reasonWords(data.reason)}`;
  if (kind === "sink") {
    return data.alive ? `${data.sink} works again` : [data.sink, "fails:", data.code, data.message].filter(Boolean).join(" ");
  }
  if (kind === "alarm") {
    const where = [data.event, data.place, data.direction].filter(Boolean).join(" ");
    return `${data.class} #${data.track_id} ${where}, score ${data.score.toFixed(2)}, thermal ${data.thermal}`;
  }
  return Object.entries(data).map(([name, value]) => `${name} ${typeof value === "number" ? Number(value.toFixed(2)) : value}`).join(", ");
}
