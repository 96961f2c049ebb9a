// The page: uploads, the queue, and the player of a result.
import { setUpLive } from "./live.js";
import { $, CHUNK, clock, drawHeat, limits, showProblem, sizeCanvas } from "./common.js";

// Tabs ----------------------------------------------------------------------------------------------------------

const tabs = [$("tab-video"), $("tab-live")];
function showTab(tab, focus = false) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", chosen);
    one.tabIndex = chosen ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
  if (tab === $("tab-live")) { player.pause(); history.replaceState(null, "", "#live"); }
  else history.replaceState(null, "", current ? `#job=${current.id}` : "#");
  drawTimeline();
}
for (const tab of tabs) {
  tab.onclick = () => showTab(tab);
  tab.onkeydown = (event) => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") showTab(tabs[tab === tabs[0] ? 1 : 0], true);
  };
}

// Upload --------------------------------------------------------------------------------------------------------

const queue = []; // files chosen together go one after the other
let request = null;

function send(files) {
  showProblem("problem", "");
  queue.push(...files);
  if (!request) sendNext();
}

// Beside what is told of other files.
function addProblem(text) { showProblem("problem", [$("problem").textContent, text].filter(Boolean).join(" ")); }

function sendNext() {
  const file = queue.shift();
  if (!file) return;
  if (limits.max_upload_megabytes && file.size > limits.max_upload_megabytes * 1e6) {
    addProblem(`${file.name} is too large: ${(file.size / 1e6).toFixed(0)} MB of at most ${limits.max_upload_megabytes} MB.`);
    return sendNext();
  }
  const form = new FormData();
  form.append("without-sound", $("option-silent").checked);
  form.append("stride", $("option-stride").value);
  for (const name of ["start", "end"]) if ($(`option-${name}`).value) form.append(name, $(`option-${name}`).value);
  form.append("video", file);
  request = new XMLHttpRequest();
  request.open("POST", "v1/predict");
  request.responseType = "json";
  $("uploading").hidden = false;
  $("uploading-name").textContent = file.name;
  $("uploading-bar").value = 0;
  $("uploading-status").textContent = "uploading";
  request.upload.onprogress = (event) => {
    $("uploading-bar").value = event.loaded / event.total;
    $("uploading-status").textContent = event.loaded < event.total
      ? `uploading, ${(event.loaded / 1e6).toFixed(1)} of ${(event.total / 1e6).toFixed(1)} MB` : "checking the video";
  };
  request.onload = async () => {
    const { status, response } = request;
    done();
    if (status === 202) { awaited = response.id; await refresh(); open(response.id); }
    else addProblem(`${file.name}: ${response?.error ?? `the server answered ${status}`}`);
  };
  request.onerror = () => { done(); addProblem(`${file.name}: the server cannot be reached, or refused the upload.`); };
  request.onabort = done;
  request.send(form);
  function done() { request = null; $("uploading").hidden = true; sendNext(); }
}
$("uploading-cancel").onclick = () => request?.abort();
$("file").onchange = (event) => { send([...event.target.files]); event.target.value = ""; };
for (const kind of ["dragenter", "dragover"]) addEventListener(kind, (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  $("drop").classList.add("over");
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  showTab($("tab-video"));
  send([...event.dataTransfer.files]);
});

// Jobs ----------------------------------------------------------------------------------------------------------

let jobs = [], current = null, awaited = null, timer = 0;
const items = new Map();

async function refresh() {
  clearTimeout(timer);
  try {
    const answer = await fetch("v1/jobs");
    if (!answer.ok) throw new Error((await answer.json()).error);
    jobs = await answer.json();
    showProblem("problem", $("problem").dataset.connection ? "" : $("problem").textContent);
    delete $("problem").dataset.connection;
  } catch (error) {
    $("problem").dataset.connection = "1";
    showProblem("problem", `No connection to the server. ${error.message ?? ""}`);
  }
  showJobs();
  const job = jobs.find((one) => one.id === awaited);
  if (job?.status === "finished") open(job.id);
  watch(job);
  const busy = jobs.some((one) => one.status === "queued" || one.status === "running");
  timer = setTimeout(refresh, document.hidden ? 5000 : busy ? 700 : 4000);
}

// The video that was uploaded last fills the room in which its result will be.
function watch(job) {
  const busy = !current && (job?.status === "queued" || job?.status === "running");
  $("watching").hidden = !busy;
  for (const part of document.querySelectorAll(".intro")) part.hidden = busy;
  if (!busy) return;
  const waiting = jobs.filter((one) => one.status === "queued").reverse();
  $("watching-name").textContent = job.name;
  if (job.progress) $("watching-bar").value = job.progress; else $("watching-bar").removeAttribute("value");
  $("watching-status").textContent = describe(job, waiting.indexOf(job));
}

function showJobs() {
  $("jobs-title").hidden = jobs.length === 0;
  const waiting = jobs.filter((job) => job.status === "queued").reverse();
  for (const [id, item] of items) if (!jobs.some((job) => job.id === id)) { item.remove(); items.delete(id); }
  jobs.forEach((job, place) => {
    let item = items.get(job.id);
    if (!item) {
      item = document.createElement("li");
      item.className = "job";
      item.innerHTML = '<div class="job-line"><button type="button" class="job-name"></button><button type="button" class="quiet"></button></div><progress max="1"></progress><div class="job-status"></div>';
      items.set(job.id, item);
      const [name, end] = item.querySelectorAll("button");
      name.onclick = () => { awaited = job.id; open(job.id); };
      end.onclick = () => remove(job.id);
    }
    if ($("jobs").children[place] !== item) $("jobs").insertBefore(item, $("jobs").children[place] ?? null);
    const [name, end] = item.querySelectorAll("button"), bar = item.querySelector("progress"), status = item.querySelector(".job-status");
    const busy = job.status === "queued" || job.status === "running";
    item.classList.toggle("current", job.id === current?.id);
    name.textContent = name.title = job.name;
    end.textContent = busy ? "Cancel" : "Remove";
    end.setAttribute("aria-label", `${end.textContent} ${job.name}`);
    bar.hidden = !busy;
    if (job.status === "running" && job.progress === 0) bar.removeAttribute("value"); else bar.value = job.progress;
    status.classList.toggle("bad", job.status === "failed" || job.status === "interrupted");
    status.textContent = describe(job, waiting.indexOf(job));
  });
}

function describe(job, place) {
  if (job.status === "queued") return place > 0 ? `waiting, ${place} before it` : "waiting";
  if (job.status === "running") {
    const parts = [job.progress ? `${Math.floor(job.progress * 100)} %` : "starting"];
    if (job.frames_per_second) parts.push(`${job.frames_per_second.toFixed(1)} frames/s`);
    if (job.seconds_left != null) parts.push(`${duration(job.seconds_left)} left`);
    return parts.join(" · ");
  }
  if (job.status === "finished") return `${job.outcome.num_frames} frames · ${new Date(job.created * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" })}`;
  return job.error ? `${job.status}: ${job.error}` : job.status;
}
const duration = (seconds) => seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;

async function remove(id) {
  await fetch(`v1/jobs/${id}`, { method: "DELETE" });
  if (awaited === id) awaited = null;
  if (current?.id === id) close();
  refresh();
}

// Result --------------------------------------------------------------------------------------------------------

const player = $("player");
let result = null;

function close() {
  current = result = null;
  player.removeAttribute("src");
  player.load();
  $("result").hidden = true;
  $("welcome").hidden = false;
  document.body.classList.remove("has-result");
  history.replaceState(null, "", "#");
}

async function open(id) {
  const job = jobs.find((one) => one.id === id);
  if (!job || job.status !== "finished") return;
  awaited = null;
  if (current?.id === id) return;
  current = job;
  result = null;
  history.replaceState(null, "", `#job=${id}`);
  showJobs();
  const base = `v1/jobs/${id}/results/`;
  $("welcome").hidden = true;
  $("result").hidden = false;
  document.body.classList.add("has-result");
  $("result-name").textContent = job.name;
  const { width, height } = job.info;
  $("result-facts").textContent = `${width}×${height} · ${job.outcome.num_frames} frames · ${job.info.has_sound ? "with sound" : "has no sound"} · weights: ${job.outcome.weights}`;
  $("warnings").replaceChildren(...job.outcome.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  showDownloads(job, base);
  $("stages").parentElement.classList.toggle("no-page", !job.has_page);
  for (const part of document.querySelectorAll("#stages, #result .controls, .timeline, .table-frame")) part.hidden = !job.has_page;
  if (!job.has_page) return;
  const read = async (name) => { const answer = await fetch(base + name); if (!answer.ok) throw new Error(name); return answer; };
  const loaded = { ...(await (await read("page/page.json")).json()), base, job };
  loaded.rows = parseTable(await (await read("frames.csv")).text());
  if (job.without_sound) loaded.silentRows = parseTable(await (await read("without-sound/frames.csv")).text());
  if (current?.id !== id) return;
  result = loaded;
  result.maps = makeMaps(base + "page/maps.u8");
  result.silentMaps = job.without_sound ? makeMaps(base + "page/without-sound.u8") : null;
  result.index = 0;
  $("mode-silent").hidden = $("legend-silent").hidden = !job.without_sound;
  if (!job.without_sound && mode() === "silent") document.querySelector("[value=overlay]").checked = true;
  player.src = base + "page/video.mp4";
  player.onloadedmetadata = () => { fit(); showMode(); };
  showNumbers();
  drawTimeline();
}

function parseTable(text) {
  const [head, ...lines] = text.trim().split("\n").map((line) => line.split(","));
  return lines.map((line) => Object.fromEntries(head.map((name, column) => [name, Number(line[column])])));
}

// Maps come in chunks as they are needed; only the last few are kept.
function makeMaps(url) {
  const [height, width] = result.map_size, size = height * width, chunks = new Map();
  const fetchChunk = (number) => {
    const first = number * CHUNK * size, last = Math.min((number + 1) * CHUNK, result.times.length) * size - 1;
    if (first > last) return Promise.resolve(null);
    if (!chunks.has(number)) {
      const entry = { data: null };
      entry.promise = fetch(url, { headers: { Range: `bytes=${first}-${last}` } })
        .then((answer) => { if (!answer.ok) throw new Error(answer.status); return answer.arrayBuffer(); })
        .then((buffer) => (entry.data = new Uint8Array(buffer)))
        .catch(() => { chunks.delete(number); return null; });
      chunks.set(number, entry);
      if (chunks.size > 6) chunks.delete(chunks.keys().next().value);
    }
    return chunks.get(number);
  };
  return (index, whenThere) => {
    const number = Math.floor(index / CHUNK), entry = fetchChunk(number);
    if (index % CHUNK > CHUNK / 2) fetchChunk(number + 1);
    if (!entry.data) { entry.promise?.then((data) => data && whenThere()); return null; }
    const offset = (index - number * CHUNK) * size;
    return { width, height, data: entry.data.subarray(offset, offset + size) };
  };
}

const mode = () => document.querySelector("[name=mode]:checked").value;

function fit() {
  if (!result) return;
  const two = mode() === "silent", ratio = result.width / result.height;
  $("stages").classList.toggle("two", two);
  $("stage-silent").hidden = !two;
  for (const screen of document.querySelectorAll("#stages .screen")) {
    screen.style.aspectRatio = `${ratio}`;
    screen.style.maxWidth = `${Math.round(innerHeight * 0.62 * ratio)}px`;
  }
}

function showMode() { fit(); draw(); }
for (const input of document.querySelectorAll("[name=mode]")) input.onchange = showMode;
$("opacity").oninput = () => draw();

function frameAt(seconds) {
  const times = result.times, wanted = seconds + times[0] + 0.002;
  let low = 0, high = times.length - 1;
  while (low < high) { const middle = (low + high + 1) >> 1; if (times[middle] <= wanted) low = middle; else high = middle - 1; }
  return low;
}

function draw(seconds = player.currentTime) {
  if (!result || $("view-video").hidden) return;
  const index = (result.index = frameAt(seconds)), shown = mode(), opacity = Number($("opacity").value);
  player.classList.toggle("faint", shown === "map");
  const kind = shown === "map" ? "map" : shown === "original" ? "none" : "overlay", again = () => { if (result?.index === index) draw(seconds); };
  drawHeat($("heat"), kind === "none" ? null : result.maps(index, again), kind, opacity);
  if (shown === "silent") {
    const copy = sizeCanvas($("copy")), context = copy.getContext("2d");
    if (player.readyState > 1) context.drawImage(player, 0, 0, copy.width, copy.height);
    drawHeat($("heat-silent"), result.silentMaps(index, again), "overlay", opacity);
  }
  $("clock").textContent = `${clock(player.currentTime)} / ${clock(player.duration || 0)}`;
  showNumbers();
  drawTimeline();
}

if ("requestVideoFrameCallback" in HTMLVideoElement.prototype) {
  const step = (_, frame) => { draw(frame.mediaTime); player.requestVideoFrameCallback(step); };
  player.requestVideoFrameCallback(step);
} else player.ontimeupdate = () => draw();
player.onseeked = () => draw();
player.onplay = player.onpause = () => {
  $("play").classList.toggle("playing", !player.paused);
  $("play").setAttribute("aria-label", player.paused ? "Play" : "Pause");
};
player.onended = () => draw();
player.onerror = () => { if (player.getAttribute("src")) showProblem("problem", "This browser cannot play the video; the downloads work."); };
const toggle = () => (player.paused ? player.play() : player.pause());
$("play").onclick = toggle;
player.parentElement.onclick = toggle;
$("mute").onclick = () => { player.muted = !player.muted; $("mute").setAttribute("aria-pressed", player.muted); };
addEventListener("keydown", (event) => {
  if (!result || $("view-video").hidden || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, button, a, summary")) return;
  if (event.key === " " || event.key === "k") { event.preventDefault(); toggle(); }
  else if (event.key === "m") $("mute").click();
  else if (event.target !== $("timeline")) seekKey(event);
});
$("timeline").addEventListener("keydown", (event) => seekKey(event));

function seekKey(event) {
  const step = 1 / (result.job.info.frame_rate || 25);
  const targets = { ArrowLeft: -1, ArrowRight: 1, ",": -step, ".": step, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 };
  if (!(event.key in targets)) return;
  event.preventDefault();
  player.currentTime = Math.min(Math.max(player.currentTime + targets[event.key], 0), player.duration || 0);
}

// Timeline ------------------------------------------------------------------------------------------------------

function drawTimeline() {
  if (!result || $("view-video").hidden) return;
  const canvas = sizeCanvas($("timeline")), context = canvas.getContext("2d"), { width, height } = canvas, scale = devicePixelRatio || 1;
  const style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue(name);
  const { rows, silentRows, times } = result, begin = times[0], length = Math.max(times.at(-1) - begin, 1e-3);
  const x = (seconds) => ((seconds - begin) / length) * width;
  context.clearRect(0, 0, width, height);
  if (result.audio_level_db) {
    context.fillStyle = color("--level");
    context.beginPath();
    context.moveTo(0, height);
    result.audio_level_db.forEach((level, i) => context.lineTo(x(times[i]), height - (1 + Math.max(level, -80) / 80) * height * 0.5));
    context.lineTo(width, height);
    context.fill();
  }
  const plot = (values, low, high, name, top, share) => {
    context.strokeStyle = color(name);
    context.lineWidth = 1.5 * scale;
    context.beginPath();
    values.forEach((value, i) => context.lineTo(x(times[i]), height * (top + share * (1 - (value - low) / (high - low || 1)))));
    context.stroke();
  };
  context.globalAlpha = 0.7;
  plot(rows.map((row) => row.peak_x), 0, result.width, "--x", 0.05, 0.9);
  plot(rows.map((row) => result.height - row.peak_y), 0, result.height, "--y", 0.05, 0.9);
  context.globalAlpha = 1;
  const entropies = [...rows, ...(silentRows ?? [])].map((row) => row.entropy_bits);
  let low = Infinity, high = -Infinity;
  for (const value of entropies) { low = Math.min(low, value); high = Math.max(high, value); }
  const middle = (low + high) / 2, reach = Math.max(high - low, 0.2) / 2;
  if (silentRows) plot(silentRows.map((row) => row.entropy_bits), middle - reach, middle + reach, "--silent", 0.08, 0.84);
  plot(rows.map((row) => row.entropy_bits), middle - reach, middle + reach, "--entropy", 0.08, 0.84);
  context.fillStyle = color("--ink");
  context.fillRect(x(times[result.index]) - scale, 0, 2 * scale, height);
  const slider = $("timeline");
  slider.setAttribute("aria-valuemax", length.toFixed(2));
  slider.setAttribute("aria-valuenow", (times[result.index] - begin).toFixed(2));
  slider.setAttribute("aria-valuetext", clock(times[result.index] - begin));
}
function seekTo(event) {
  const box = $("timeline").getBoundingClientRect(), share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  player.currentTime = Math.min(share * (result.times.at(-1) - result.times[0]), player.duration || 0);
}
$("timeline").onpointerdown = (event) => { if (!result) return; $("timeline").setPointerCapture(event.pointerId); seekTo(event); };
$("timeline").onpointermove = (event) => { if (result && event.buttons) seekTo(event); };

// Numbers and downloads -----------------------------------------------------------------------------------------

const NUMBERS = [
  ["Entropy (bits)", (row) => row.entropy_bits, 2], ["Spread (pixels)", (row) => row.spread_pixels, 0],
  ["Peak x (pixels)", (row) => row.peak_x, 0], ["Peak y (pixels)", (row) => row.peak_y, 0],
  ["Center x (pixels)", (row) => row.center_x, 0], ["Center y (pixels)", (row) => row.center_y, 0],
  ["Peak probability", (row) => row.peak_probability, 3],
];

function showNumbers() {
  const columns = [["frame", result.rows, false], ["mean", result.rows, true]];
  if (result.silentRows) columns.push(["frame, no sound", result.silentRows, false], ["mean, no sound", result.silentRows, true]);
  result.means ??= new Map(columns.filter((one) => one[2]).map(([, rows]) => [rows, NUMBERS.map(([, get]) => rows.reduce((sum, row) => sum + get(row), 0) / rows.length)]));
  const table = $("numbers");
  if (table.dataset.job !== result.job.id) {
    table.dataset.job = result.job.id;
    const cell = (kind, text) => Object.assign(document.createElement(kind), { textContent: text });
    const line = document.createElement("tr");
    line.append(cell("th", ""), ...columns.map(([name]) => cell("th", name)));
    table.tHead.replaceChildren(line);
    table.tBodies[0].replaceChildren(...NUMBERS.map(([name]) => {
      const row = document.createElement("tr");
      row.append(cell("th", name), ...columns.map(() => document.createElement("td")));
      return row;
    }));
  }
  NUMBERS.forEach(([, get, digits], i) => columns.forEach(([, rows, mean], j) => {
    table.tBodies[0].rows[i].cells[j + 1].textContent = (mean ? result.means.get(rows)[i] : get(rows[result.index])).toFixed(digits);
  }));
}

const TITLES = {
  "all.zip": "Everything (zip)",
  "overlay.mp4": "Overlay video", "saliency.mp4": "Gray saliency video", "saliency.npz": "Maps as numbers (npz)", "frames.csv": "Table, a row per frame (CSV)",
  "summary.json": "Summary (JSON)", "timeline.png": "Timeline (PNG)", "without-sound/saliency.npz": "Maps without sound (npz)", "without-sound/frames.csv": "Table without sound (CSV)",
  "maps.zip": "Maps as pictures (zip)", "pred_sal.zip": "Published format (zip)",
};
function showDownloads(job, base) {
  const names = Object.keys(TITLES).filter((name) => job.results.includes(name));
  $("downloads").replaceChildren(...names.map((name) => {
    const item = document.createElement("li"), link = document.createElement("a");
    link.href = `${base}${name}?download`;
    link.download = "";
    link.textContent = TITLES[name];
    if (name === "all.zip") link.className = "all";
    item.append(link);
    return item;
  }));
}

// Beginning -----------------------------------------------------------------------------------------------------

addEventListener("resize", () => { fit(); draw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawTimeline());
const wanted = location.hash;
Object.assign(limits, await (await fetch("v1/limits")).json());
$("limits").textContent = `up to ${limits.max_upload_megabytes} MB and ${duration(limits.max_seconds)}`;
setUpLive();
if (wanted === "#live") showTab($("tab-live"));
$("about").textContent = `stavis ${limits.version} · weights: ${limits.weights}`;
await refresh();
if (wanted.startsWith("#job=")) { awaited = wanted.slice(5); open(awaited); }
