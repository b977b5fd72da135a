// Small helpers that every part of the page uses.

export const byId = (id) => document.getElementById(id);

// An element with attributes and children; text children are text, never markup.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// On a phone each row stands as a block of its own, and each cell says what it is (style.css).
export function table(head, rows, stack = true) {
  return h("table", { class: stack && "stack" },
    h("thead", {}, h("tr", {}, ...head.map((text) => h("th", {}, text)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {},
      ...row.map((cell, column) => h("td", { "data-label": head[column] }, cell ?? "–"))))));
}

// Date.now, not performance.now: the latter stands still while a phone sleeps, and the age of a picture must not.
export const now = () => Date.now() / 1000;
export const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export function ms(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) < 10 ? value.toFixed(1) : value.toFixed(0);
}

export function ago(seconds) {
  if (seconds === null || seconds === undefined) return "never";
  if (seconds < 0.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// As the clock on the wall says it; with the date where that is not today's.
export function clockTime(wall) {
  const date = new Date(wall * 1000);
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

// Colour is never alone: each state has its sign and its word.
const SIGNS = {
  measured: "●", held: "◐", hallucinated: "◇", absent: "✕",
  live: "●", connecting: "◌", stalled: "◐", lost: "✕", failed: "✕", ended: "■",
  normal: "●", imminent: "◐", running: "■", settling: "◐", stuck: "✕",
  ready: "●", starting: "◌", degraded: "◐", stale: "✕", writing: "●", failing: "✕", unknown: "?",
};

export function mark(element, kind, text, base = "badge") {
  element.className = `${base} ${kind}`;
  element.textContent = `${SIGNS[kind] ?? "·"} ${text ?? kind}`;
  return element;
}

export const badge = (kind, text) => mark(document.createElement("span"), kind, text);

// Fetch that gives up: an answer that never comes must not look like a quiet one.
export async function ask(url, options = {}, seconds = 5) {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), seconds * 1000);
  try {
    const answer = await fetch(url, { cache: "no-store", ...options, signal: controller.signal });
    return { status: answer.status, headers: answer.headers, body: await read(answer) };
  } finally {
    clearTimeout(timer);
  }
}

function read(answer) {
  const kind = answer.headers.get("content-type") ?? "";
  if (answer.status === 204) return null;
  if (kind.startsWith("multipart/form-data")) return answer.formData();
  return kind.startsWith("application/json") ? answer.json() : answer.text();
}
