// What has happened, and what is wrong now: in words for somebody who was woken by it.

import { reasonWords } from "./views.js";

const BAD = new Set(["lost", "failed", "stalled", "stuck"]);
const BRIEF_S = 3; // engines take over from each other for a moment at every shutter event: that is no problem yet

const KINDS = { source: "camera", ffc: "shutter", ladder: "engine", drift: "registration", sink: "output", thermal: "thermal camera" };

export const title = (notice) => KINDS[notice.kind] ?? notice.kind;

export function isBad(notice) {
  if (notice.kind === "alarm" || notice.kind === "thermal" || notice.kind === "clock" || notice.alarm === true) return true;
  if (notice.kind === "ladder" && notice.to === null) return true;
  return BAD.has(notice.state) || BAD.has(notice.to) || notice.alive === false;
}

// A notice as one line, without its title.
export function sentence(notice, cameras) {
  const name = cameras[notice.camera]?.name ?? notice.source;
  switch (notice.kind) {
    case "source": return `${notice.camera} ${name} ${notice.state}${why(bare(notice.message, name, notice.source), notice.code)}`;
    case "ffc": return `${notice.from} → ${notice.to}, ${notice.events} so far`;
    case "ladder": return `${notice.from ?? "none"} → ${notice.to ?? "none"}: ${reasonWords(notice.reason)}`;
    case "drift": return drift(notice);
    case "registration": return registration(notice);
    case "sink": return notice.alive ? `${notice.sink} works again` : `${notice.sink} fails${why(notice.message, notice.code)}`;
    case "thermal": return notice.problem;
    case "clock": return `of ${notice.camera} ${name} is ${notice.ahead_ms} ms ahead of what can be: arrival times are used`;
    case "track": return `${notice.event.class} #${notice.event.track_id} ${notice.event.kind}`;
    case "alarm": {
      const where = [notice.event, notice.place, notice.direction].filter(Boolean).join(" ");
      return `${notice.class} #${notice.track_id} ${where}, score ${notice.score.toFixed(2)}, thermal ${notice.thermal}`;
    }
    default: {
      const { kind: _, at_s: __, wall: ___, ...data } = notice;
      return Object.entries(data).map(([key, value]) => `${key} ${typeof value === "number" ? Number(value.toFixed(2)) : value}`).join(", ");
    }
  }
}

// What is wrong now: [{ what, why, since }], since on the wall clock where it is known. `notices`: newest first.
// `wall`: of a notice, `lastSeen`: of a camera's last image.
export function problems(status, notices, { wall, lastSeen }, now) {
  const found = [];
  // the oldest of those at the top that say so: a thing is told again while it goes on
  const began = (concerns, says) => {
    let first = null;
    for (const notice of notices.filter(concerns)) {
      if (!says(notice)) break;
      first = notice;
    }
    return first;
  };
  const since = (notice) => notice ? wall(notice) : null;

  for (const [role, camera] of Object.entries(status.cameras)) {
    if (camera.state === "live" || camera.state === "ended") continue;
    const told = notices.find((notice) => notice.kind === "source" && notice.camera === role);
    const cause = camera.message ? camera : told && told.state !== "live" ? told : {};
    const what = camera.captured ? "no image" : "no image yet";
    found.push({ what: `${role} camera ${camera.name}: ${what}`, why: [text(bare(cause.message, camera.name, cause.source), cause.code), DOING[camera.state]], since: lastSeen(role) });
  }
  if (status.cameras.thermal?.ffc === "stuck") {
    const start = began((notice) => notice.kind === "ffc", (notice) => notice.to === "stuck");
    found.push({ what: "thermal shutter stuck", why: ["the image stands still"], since: since(start) });
  }
  const { engines, active, reason } = status.ladder;
  if (reason && reason !== "thermal_ffc" && !reason.startsWith("visible_")) { // without a visible camera: told above
    const start = since(notices.find((notice) => notice.kind === "ladder"));
    const what = active === null ? "no engine can run" : `engine ${engines[active].name} runs instead of ${engines[0].name}`;
    if (active === null || start === null || now - start > BRIEF_S) found.push({ what, why: [reasonWords(reason)], since: start });
  }
  const moved = status.registration.drift;
  if (moved?.alarm) {
    const start = began((notice) => notice.kind === "drift", (notice) => notice.alarm);
    found.push({ what: "registration does not fit any more", why: [drift(moved)], since: since(start) });
  }
  for (const [name, sink] of Object.entries(status.sinks)) {
    if (sink.alive) continue;
    const start = began((notice) => notice.kind === "sink" && notice.sink === name, (notice) => !notice.alive);
    found.push({ what: `output ${name} fails`, why: [sink.message], since: since(start) });
  }
  return found;
}

const DOING = {
  connecting: "connecting", stalled: "connected, but silent", lost: "waits to connect again", failed: "given up: mdrun does not try again",
};

// A message without the name before it, where that stands beside it already.
const bare = (message, ...names) => names.reduce((rest, name) => rest?.startsWith(`${name}: `) ? rest.slice(name.length + 2) : rest, message);
const text = (message, code) => [message, code && `[${code}]`].filter(Boolean).join(" ");
const why = (message, code) => message || code ? `: ${text(message, code)}` : "";

const registration = ({ file, mapping, residual_px: error }) =>
  `${file} is in use: ${mapping}${error === null ? "" : `, median error ${error.toFixed(2)} px of the thermal image`}`;

function drift({ shift_px: shift, alarm }) {
  const words = shift === null || shift === undefined
    ? "whether the cameras have moved cannot be told from what they see"
    : `cameras shifted by ${shift.toFixed(1)} px of the thermal image against each other`;
  return alarm ? `${words}: calibrate again` : words;
}
