// The live view: camera and microphone to the server, maps back.
import { $, drawHeat, limits, showProblem, sizeCanvas } from "./common.js";

const CHUNK_MS = 100, PLOT_SECONDS = 60;
const camera = $("camera"), heat = $("live-heat");
let stream = null, recorder = null, socket = null, began = 0, last = null, history = [], delays = [];
export const figures = { maps: 0, delays: [], times: [], first: 0, error: "" }; // for measurements
window.stavisLive = figures;

export function setUpLive() {
  for (let i = 0; i <= 7; i++) $("look-ahead").add(new Option(i === 0 ? "0 frames: at once" : i === 7 ? "7 frames: as for files" : `${i} frame${i > 1 ? "s" : ""}`, i, i === 3, i === 3));
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
    $("start").disabled = true;
    $("live-note").textContent = "This browser gives a page camera and microphone only over https or on this machine itself (localhost).";
    return;
  }
  if (limits.max_live === 0) { $("start").disabled = true; $("live-note").textContent = "This server allows no live sessions."; return; }
  $("start").onclick = start;
  $("stop").onclick = () => stop();
  $("hears").onchange = () => { socket?.readyState === 1 && socket.send(JSON.stringify({ hears: $("hears").checked })); };
  for (const id of ["cameras", "microphones", "look-ahead"]) $(id).onchange = () => { if (stream) { stop(); start(); } };
  for (const input of document.querySelectorAll("[name=live-mode]")) input.onchange = draw;
  $("live-opacity").oninput = draw;
  addEventListener("resize", draw);
  addEventListener("pagehide", () => stop());
}

async function start() {
  showProblem("live-problem", "");
  const audio = $("microphones").value === "none" ? false
    : { deviceId: $("microphones").value || undefined, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const video = { deviceId: $("cameras").value || undefined, width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25, max: 30 } };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video, audio });
  } catch (error) {
    figures.error = error.name === "NotAllowedError" ? "Camera or microphone were not permitted." : `Camera or microphone cannot be used: ${error.message}`;
    showProblem("live-problem", figures.error);
    return;
  }
  listDevices();
  camera.srcObject = stream;
  await camera.play().catch(() => {});
  $("live-screen").style.aspectRatio = `${camera.videoWidth || 4}/${camera.videoHeight || 3}`;
  const type = ["video/webm;codecs=vp8,opus", "video/webm;codecs=vp8", "video/webm", "video/mp4"].find((one) => MediaRecorder.isTypeSupported(one));
  socket = new WebSocket(new URL("v1/live", location.href).href.replace(/^http/, "ws"));
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify({ container: type.split(";")[0], look_ahead: Number($("look-ahead").value), hears: $("hears").checked }));
  socket.onmessage = (event) => receive(event.data, type);
  socket.onclose = () => { if (stream) stop(figures.error || "The connection to the server ended."); };
  Object.assign(figures, { maps: 0, delays: [], times: [], first: 0, error: "" });
  history = []; delays = []; last = null;
  $("live-start").hidden = true;
  for (const id of ["live-controls", "meters", "live-plot"]) $(id).hidden = false;
  $("delay").textContent = "starting";
}

function record(type) {
  recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 1.2e6, audioBitsPerSecond: 64e3 });
  recorder.onstart = () => (began = performance.now());
  recorder.ondataavailable = (event) => {
    if (event.data.size && socket?.readyState === 1) socket.send(event.data);
    if (socket?.bufferedAmount > 2e6) stop("The connection to the server is too slow.");
  };
  began = performance.now();
  recorder.start(CHUNK_MS);
}

function receive(data, type) {
  if (typeof data === "string") { figures.error = JSON.parse(data).error ?? ""; return; }
  const size = new DataView(data).getUint32(0, true), header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
  if (header.type === "ready") {
    const deaf = header.modality !== "audiovisual";
    $("hears").disabled = deaf;
    record(type);
    return;
  }
  last = { ...header, data: new Uint8Array(data, 4 + size) };
  requestAnimationFrame(() => {
    draw();
    const delay = (performance.now() - began) / 1000 - header.time;
    figures.maps++;
    figures.first ||= performance.now();
    if (figures.maps < 1e5) figures.delays.push(delay);
    if (figures.maps < 1e5) figures.times.push(performance.now());
    delays.push(delay);
    if (delays.length > 40) delays.shift();
    show(header);
  });
}

function show(header) {
  const sorted = [...delays].sort((a, b) => a - b);
  $("delay").textContent = `${sorted[sorted.length >> 1].toFixed(2)} s`;
  $("rate").textContent = header.maps_per_second.toFixed(1);
  $("level").value = header.level;
  $("live-entropy").textContent = `${header.entropy.toFixed(2)} bits`;
  $("live-peak").textContent = `${Math.round((100 * header.peak[0]) / header.size[0])} %, ${Math.round((100 * header.peak[1]) / header.size[1])} %`;
  history.push([header.time, header.entropy, $("hears").checked]);
  while (history.length && history[0][0] < header.time - PLOT_SECONDS) history.shift();
  plot();
}

function draw() {
  const kind = document.querySelector("[name=live-mode]:checked").value;
  camera.classList.toggle("faint", kind === "map");
  drawHeat(heat, kind === "original" ? null : last, kind, Number($("live-opacity").value));
}

// The entropy of the last minute; where the network did not hear, in the color of "without sound".
function plot() {
  const canvas = sizeCanvas($("live-plot")), context = canvas.getContext("2d"), { width, height } = canvas;
  const style = getComputedStyle(document.documentElement), end = history.at(-1)[0];
  const values = history.map((one) => one[1]), middle = (Math.min(...values) + Math.max(...values)) / 2;
  const reach = Math.max(Math.max(...values) - Math.min(...values), 0.2) / 2;
  context.clearRect(0, 0, width, height);
  context.lineWidth = 1.5 * (devicePixelRatio || 1);
  const at = ([time, value]) => [width * (1 - (end - time) / PLOT_SECONDS), height * (0.5 - (0.42 * (value - middle)) / reach)];
  for (let i = 1; i < history.length; i++) {
    context.strokeStyle = style.getPropertyValue(history[i][2] ? "--entropy" : "--silent");
    context.beginPath();
    context.moveTo(...at(history[i - 1]));
    context.lineTo(...at(history[i]));
    context.stroke();
  }
}

function stop(problem = "") {
  const old = stream;
  stream = null;
  if (recorder?.state === "recording") { recorder.ondataavailable = null; recorder.stop(); }
  recorder = null;
  socket?.close();
  socket = null;
  old?.getTracks().forEach((track) => track.stop());
  camera.srcObject = null;
  last = null;
  draw();
  $("live-start").hidden = false;
  for (const id of ["live-controls", "meters", "live-plot"]) $(id).hidden = true;
  figures.error = problem;
  showProblem("live-problem", problem);
}

async function listDevices() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  for (const [id, kind] of [["cameras", "videoinput"], ["microphones", "audioinput"]]) {
    const chosen = $(id).value;
    for (const option of [...$(id).options].filter((one) => one.dataset.device)) option.remove();
    for (const device of devices.filter((one) => one.kind === kind && one.deviceId && one.deviceId !== "default")) {
      const option = new Option(device.label || kind, device.deviceId);
      option.dataset.device = "1";
      $(id).add(option);
    }
    $(id).value = chosen;
  }
}
