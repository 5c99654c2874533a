// page.js - what the daemon does, as GET / shows it.  Only reads, by the API that all clients have.
// Everything from the daemon becomes a text node: nothing is ever parsed as HTML.
"use strict";

const PERIOD_MS = 2000; // between two looks, while the page is in view
const ROWS = 50; // of each table
const POINTS = 150; // of a plot
const GRAPH_CHARS = 400000; // of a graph that are shown
const TOKEN = "pt2d-token"; // in sessionStorage: gone with the tab

class Unauthorized extends Error {}

const byId = (id) => document.getElementById(id);

// ---- the API ----

async function ask(path) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const reply = await fetch(path, { headers, cache: "no-store" });
  if (reply.status === 401) throw new Unauthorized(path);
  if (!reply.ok) {
    const problem = await reply.json().catch(() => ({}));
    throw new Error(`${path}: ${reply.status} ${problem.detail || ""}`);
  }
  return reply;
}

const askJson = async (path) => (await ask(path)).json();

// ---- words ----

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${n < 10 && i ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 1) return `${(s * 1000).toPrecision(3)} ms`;
  if (s < 120) return `${s.toPrecision(3)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

const short = (id) => (id ? id.slice(0, 12) : "–");
const time = (text) => (text ? text.slice(0, 19).replace("T", " ") : "–");

// ---- elements ----

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function cell(value) {
  const made = element("td");
  made.append(value);
  return made;
}

// columns: [[heading, item => text or element], …]
function fill(id, columns, list) {
  const head = element("tr");
  for (const [heading] of columns) head.append(element("th", heading));
  const rows = list.data.map((item) => {
    const row = element("tr");
    for (const [, show] of columns) row.append(cell(show(item)));
    return row;
  });
  const more = list.next ? [element("caption", `the first ${ROWS}`)] : [];
  if (!rows.length) rows.push(cell("none"));
  byId(id).replaceChildren(...more, head, ...rows);
}

// ---- plots ----

const series = { rate: [], p50: [], p99: [], cache: [] };

function remember(stats) {
  const quantiles = stats.steps.seconds || { p50: 0, p99: 0 };
  series.rate.push(stats.steps.per_second);
  series.p50.push(quantiles.p50);
  series.p99.push(quantiles.p99);
  series.cache.push(stats.sessions.cache_bytes);
  for (const values of Object.values(series)) if (values.length > POINTS) values.shift();
}

function polyline(values, max, kind) {
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const at = (value, i) => `${POINTS - values.length + i},${99 - (98 * value) / max}`;
  line.setAttribute("points", values.map(at).join(" "));
  line.setAttribute("class", kind);
  return line;
}

function plot(caption, show, lines) {
  const max = Math.max(...lines.flat(), 1e-9);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${POINTS} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  lines.forEach((values, i) => svg.append(polyline(values, max, i ? "second" : "first")));
  const figure = element("figure");
  figure.append(element("figcaption", `${caption}, up to ${show(max)}`), svg);
  return figure;
}

function showPlots() {
  byId("plots").replaceChildren(
    plot("Steps a second", (n) => n.toPrecision(3), [series.rate]),
    plot("A step's time, p99 and p50 of the last minute", seconds, [series.p99, series.p50]),
    plot("Memory of the sessions' caches", bytes, [series.cache]),
  );
}

// ---- parts of the page ----

function tile(name, value) {
  const box = element("div");
  box.append(element("dt", name), element("dd", value));
  return box;
}

function showStats(stats) {
  const { queue, sessions, steps, programs, disk } = stats;
  byId("daemon").textContent =
    `${stats.version}, up ${seconds(stats.uptime)}, ${bytes(stats.process.resident_bytes)} of memory`;
  byId("tiles").replaceChildren(
    tile("Steps a second", steps.per_second.toPrecision(3)),
    tile("A step, p50 / p99", steps.seconds ? `${seconds(steps.seconds.p50)} / ${seconds(steps.seconds.p99)}` : "–"),
    tile("Calls waiting, running", `${steps.waiting}, ${steps.running}`),
    tile("Sessions", `${sessions.count} of ${sessions.limit}`),
    tile("Caches", `${bytes(sessions.cache_bytes)} of ${bytes(sessions.cache_limit_bytes)}`),
    tile("Programs open", `${programs.open} of ${programs.count}`),
    tile("Exports waiting", queue.queued ? `${queue.queued}, ${seconds(queue.oldest_seconds)}` : "0"),
    tile("Exports running", `${queue.running} of ${queue.workers}`),
    tile("Disk used, free", `${bytes(disk.objects_bytes + disk.database_bytes)}, ${bytes(disk.free_bytes)}`),
  );
  remember(stats);
  showPlots();
}

function progress(job) {
  if (job.state !== "running" || !job.progress) {
    return job.error ? element("span", job.error.detail, { class: "failed" }) : job.cached ? "cached" : "";
  }
  const { stage, done, total } = job.progress;
  const box = element("span", `${stage} `);
  box.append(element("progress", undefined, total > 0 ? { value: done, max: total } : {}));
  return box;
}

const programLink = (id) => element("a", short(id), { href: `#program/${id}`, title: id });

// The program that the address names, "#program/<id>"; "" where it names none.
function namedProgram() {
  const named = /^#program\/([0-9a-f]{8,64})$/.exec(location.hash);
  return named ? named[1] : "";
}

async function showGraph() {
  const id = namedProgram();
  byId("graph").hidden = true;
  if (!id) return;
  const text = await (await ask(`v1/programs/${id}/graph`)).text();
  byId("graph-title").textContent = `The graph of ${id}`;
  byId("graph-text").textContent =
    text.length > GRAPH_CHARS ? `${text.slice(0, GRAPH_CHARS)}\n… ${text.length - GRAPH_CHARS} more` : text;
  byId("graph").hidden = false;
  byId("graph").scrollIntoView();
}

const engines = (program) =>
  Object.keys(program.engines).filter((name) => program.engines[name].ok).join(", ") || "–";

const TABLES = {
  exports: [
    ["Export", (job) => job.id], ["Model", (job) => job.model], ["State", (job) => job.state],
    ["", progress], ["Program", (job) => (job.program ? programLink(job.program) : "–")],
    ["Created", (job) => time(job.created)],
  ],
  sessions: [
    ["Session", (s) => s.id], ["Program", (s) => programLink(s.program)], ["Engine", (s) => s.engine],
    ["Position", (s) => `${s.position} of ${s.max_cache_len}`], ["Cache, in full", (s) => bytes(s.cache_bytes)],
    ["Expires", (s) => time(s.expires)],
  ],
  programs: [
    ["Program", (p) => programLink(p.id)], ["Model", (p) => p.model || "–"], ["From", (p) => p.origin],
    ["Size", (p) => bytes(p.bytes)], ["Engines", engines], ["Created", (p) => time(p.created)],
  ],
  models: [
    ["Model", (m) => m.id], ["Type", (m) => m.model_type || "–"], ["Dtype", (m) => m.dtype || "–"],
    ["Size", (m) => bytes(m.bytes)], ["Exportable", (m) => (m.exportable ? "yes" : m.reason || "no")],
  ],
};

// ---- looking ----

// Do something that asks the daemon, and say what became of it.
async function look(what) {
  let trouble = "";
  try {
    await what();
    document.querySelector("main").hidden = false;
    byId("token-form").hidden = true;
  } catch (error) {
    if (error instanceof Unauthorized) {
      sessionStorage.removeItem(TOKEN);
      document.querySelector("main").hidden = true;
      byId("token-form").hidden = false;
    } else {
      trouble = error.message;
    }
  }
  byId("trouble").textContent = trouble;
  byId("trouble").hidden = !trouble;
}

async function refresh() {
  showStats(await askJson("v1/stats"));
  for (const [name, columns] of Object.entries(TABLES)) {
    fill(name, columns, await askJson(`v1/${name}?limit=${ROWS}`));
  }
}

async function begin() {
  await refresh();
  await showGraph();
}

async function watch() {
  if (!document.hidden && byId("token-form").hidden) await look(refresh);
  setTimeout(watch, PERIOD_MS);
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("token").value);
  byId("token").value = "";
  look(begin);
});
byId("graph-close").addEventListener("click", () => {
  location.hash = "";
});
window.addEventListener("hashchange", () => look(showGraph));
look(begin).then(() => setTimeout(watch, PERIOD_MS));
