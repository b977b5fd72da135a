// The live page. Its first duty: what stands still must not look live. Three things see to that:
// the age of every picture and of the last answer is looked at four times a second; a picture is covered as soon as
// either is too old; and the cover comes by itself, by CSS alone, where this script has stopped running (style.css).

import { ago, ask, byId, clockTime, h, mark, now, sleep } from "./dom.js";
import { Panels } from "./panels.js";
import { Registration } from "./registration.js";
import { Views, unpack } from "./views.js";

const CONTACT_S = 2.5; // the server tells its status each second
const TICK_S = 0.25;
const RETRY_S = 0.5;
const RIGS_S = 3; // how often the other rigs are looked at

class Page {
  constructor() {
    this.contactAt = now();
    this.pictureAt = null;
    this.pictureStale = 2;
    this.run = 0; // of the loops; another number ends them
    this.live = true; // the live tab is shown
    this.there = true; // mdrun has the rig that is shown
    this.views = new Views(byId("views"));
    this.panels = new Panels();
    this.registration = new Registration();
  }

  async start() {
    setInterval(() => this.tick(), TICK_S * 1000);
    document.addEventListener("visibilitychange", () => this.tick());
    this.tabs();
    for (const button of document.querySelectorAll(".enlarge")) button.addEventListener("click", () => enlarge(button));
    byId("rig").addEventListener("change", () => { location.hash = byId("rig").value; });
    window.addEventListener("hashchange", () => this.chooseRig());
    this.watchRigs();
    await this.chooseRig();
  }

  // Rigs that come, go, or are not well, while another one is shown.
  async watchRigs() {
    for (;;) {
      await sleep(RIGS_S);
      const answer = document.hidden ? null : await ask("api/rigs").catch(() => null);
      if (answer?.status === 200 && this.rig) this.offer(answer.body);
    }
  }

  async chooseRig() {
    this.source?.close();
    this.run += 1;
    const run = this.run;
    for (;;) {
      const answer = await ask("api/rigs").catch(() => null);
      if (run !== this.run) return; // another choice was made meanwhile
      if (answer) this.contact();
      if (answer?.status === 200 && this.offer(answer.body)) break;
      await sleep(RETRY_S);
    }
    const { rig } = this;
    this.api = `api/${encodeURIComponent(rig)}`;
    byId("snapshot").href = `${this.api}/snapshot.zip`;
    this.events();
    this.frames(run);
    if (!this.live) this.registration.open(this.api);
  }

  // Lists the rigs and finds the wanted one. One that was shown and is gone is waited for, never replaced by another.
  offer(rigs) {
    const names = rigs.map((entry) => entry.rig);
    const wanted = decodeURIComponent(location.hash.slice(1)) || this.rig;
    const found = wanted ? rigs.find((entry) => entry.rig === wanted) : rigs[0];
    if (found && found.rig !== this.rig) {
      this.rig = found.rig;
      this.pictureAt = null;
    }
    this.there = Boolean(found);
    if (names.join() !== [...byId("rig").options].map((option) => option.value).join()) { // an open list stays open
      byId("rig").replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    }
    byId("rig").value = found?.rig ?? "";
    const others = rigs.filter((entry) => entry !== found && entry.state !== "ready");
    byId("others").replaceChildren(...others.map(({ rig, state }) =>
      mark(h("a", { href: `#${encodeURIComponent(rig)}` }), state, `${rig} ${state}`, "pill")));
    byId("rig-label").hidden = rigs.length < 2 && Boolean(found);
    byId("rig-name").hidden = rigs.length > 1 && Boolean(found);
    byId("rig-name").textContent = found?.rig ?? wanted ?? "";
    return Boolean(found);
  }

  contact() {
    this.contactAt = now();
  }

  events() {
    this.source = new EventSource(`${this.api}/events`);
    this.source.addEventListener("open", () => this.panels.reset());
    this.source.addEventListener("notice", (event) => {
      this.contact();
      const notice = JSON.parse(event.data);
      this.panels.notice(notice);
      if (notice.kind === "registration" && !this.live) this.registration.describe(); // perhaps saved by somebody else
    });
    this.source.addEventListener("status", (event) => {
      this.contact();
      const status = JSON.parse(event.data);
      mark(byId("rig-state"), status.state, undefined, "pill");
      this.panels.update(status);
    });
    this.source.addEventListener("error", () => {
      // a browser tries again by itself unless the server said no: the rig may be gone, or back under another name
      if (this.source.readyState === EventSource.CLOSED) setTimeout(() => this.chooseRig(), 1000 * RETRY_S);
    });
  }

  // One request at a time: a slow line skips pictures and never falls behind.
  async frames(run) {
    let number = "";
    while (run === this.run) {
      if (document.hidden || !this.live) {
        await sleep(TICK_S);
        continue;
      }
      try {
        const asked = now();
        const answer = await ask(`${this.api}/frame?after=${number}`, {}, 5);
        if (run !== this.run) return;
        this.contact();
        if (answer.status === 200) number = await this.show(answer.body, asked);
        else if (answer.status !== 204) await sleep(RETRY_S);
      } catch {
        await sleep(RETRY_S);
      }
    }
  }

  // The age counts the way here as well: it is at most what the answer took beyond the server's own waiting.
  async show(form, asked) {
    const frame = await unpack(form);
    const { age_s: age, waited_s: waited, stale_s: stale, number } = frame.shot;
    const oldest = age + Math.max(0, now() - asked - waited);
    this.views.show(frame);
    this.panels.areas = frame.shot.areas;
    this.pictureAt = now() - oldest;
    this.pictureStale = stale;
    if (oldest < stale) beat(stale - oldest);
    this.tick();
    return number;
  }

  // What is too old is covered and named.
  tick() {
    const silent = now() - this.contactAt;
    const age = this.pictureAt === null ? null : now() - this.pictureAt;
    const lost = silent > CONTACT_S;
    const old = lost || this.panels.silence() > CONTACT_S || !this.there; // a status that stands still does not look live, either
    let kind = "live";
    if (lost) kind = "lost";
    else if (this.live && age === null) kind = "connecting";
    else if (this.live && age > this.pictureStale) kind = "stale";
    const words = {
      live: this.live ? `live · ${ago(age)} old` : "in contact",
      lost: `no contact ${ago(silent)}`,
      stale: `no picture ${ago(age)}`,
      connecting: "no picture yet",
    }[kind];
    this.turn = !this.turn;
    mark(byId("liveness"), kind, words, `pill ${this.turn ? "tick-a" : "tick-b"}`);
    document.title = `${kind === "live" ? "" : `✕ ${words} · `}${this.rig ?? ""} · mdrun`;
    document.body.classList.toggle("no-contact", old);
    if (old) mark(byId("rig-state"), "unknown", "state unknown", "pill");
    if (lost) byId("others").replaceChildren();
    byId("as-of").hidden = !old || this.panels.silence() === null;
    byId("as-of").textContent = old ? `What follows is from ${clockTime(this.panels.at)}; nothing is known since.` : "";
    if (kind === "lost") problem("No contact with mdrun", silent, age);
    else if (kind === "stale") problem("No new picture", age, null, this.there ? "" : ` mdrun has no rig ${this.rig} any more.`);
    else banner("", "");
    if (kind === "connecting") stopBeat(words);
    this.panels.tick();
  }

  tabs() {
    const tabs = ["live", "registration"].map((name) => byId(`tab-${name}`));
    for (const tab of tabs) {
      tab.addEventListener("click", () => this.choose(tab, tabs));
      tab.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        const other = tabs[1 - tabs.indexOf(tab)];
        other.focus();
        this.choose(other, tabs);
      });
    }
  }

  choose(chosen, tabs) {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
    this.live = chosen.id === "tab-live";
    if (this.live) this.views.draw();
    else if (this.api) this.registration.open(this.api).catch(() => {});
    this.tick();
  }
}

function problem(what, seconds, age, why = "") {
  const since = ` for ${ago(seconds)}.`;
  banner(what, `${since}${age === null ? "" : ` The last picture is ${ago(age)} old.`}${why}`);
  stopBeat(`${what}${since}`);
}

// The words are read aloud once; the running number beside them is not.
function banner(text, number) {
  byId("banner").hidden = !text;
  if (byId("banner-text").textContent !== text) byId("banner-text").textContent = text;
  byId("banner-number").textContent = number;
}

// Starts the animation anew whose end is the cover: two of the same, in turns.
function beat(seconds) {
  const page = document.body;
  page.style.setProperty("--stale", `${seconds}s`);
  const next = page.classList.contains("beat-a") ? "beat-b" : "beat-a";
  page.classList.remove("beat-a", "beat-b");
  page.classList.add(next);
}

function stopBeat(text) {
  document.body.classList.remove("beat-a", "beat-b");
  for (const veil of document.querySelectorAll(".veil")) veil.textContent = text;
}

function enlarge(button) {
  const figure = button.closest("figure");
  const on = figure.classList.toggle("large");
  button.setAttribute("aria-pressed", String(on));
  button.textContent = on ? "Shrink" : "Enlarge";
}

new Page().start();
