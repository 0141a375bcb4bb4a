"use strict";
// All sides run together and one is let through, so a switch keeps the position.
const figures = [...document.querySelectorAll("figure")];
const $ = (id) => document.getElementById(id);
const seconds = Number($("seek").max);
let context = null, buffers = null, sources = [], gains = [], selected = 0, offset = 0, playing = false, began = 0;

function position() { return playing ? Math.min(offset + Math.max(context.currentTime - began, 0), seconds) : offset; }
async function decode() {
  context = new AudioContext({ sampleRate: 48000 });
  buffers = await Promise.all(figures.map((figure) => {
    const text = atob(figure.querySelector("audio").src.split(",")[1]);
    return context.decodeAudioData(Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer);
  }));
}
async function play() {
  try { if (!buffers) await decode(); } catch {
    $("message").textContent = "This browser cannot play these sounds; the download holds them.";
    $("message").hidden = false;
    return;
  }
  context.resume();
  if (offset >= seconds - 0.01) offset = 0;
  began = context.currentTime + 0.02;
  sources = buffers.map((buffer, i) => {
    const source = new AudioBufferSourceNode(context, { buffer });
    gains[i] = new GainNode(context, { gain: i === selected ? 1 : 0 });
    source.connect(gains[i]).connect(context.destination);
    source.start(began, offset);
    return source;
  });
  playing = true;
}
function stop() {
  offset = position();
  if (playing) sources.forEach((source) => source.stop());
  playing = false;
  gains = [];
}
function select(number) {
  selected = number;
  gains.forEach((gain, i) => gain.gain.setTargetAtTime(i === number ? 1 : 0, context.currentTime, 0.005));
  figures.forEach((figure, i) => figure.querySelector("button").setAttribute("aria-pressed", i === number));
}
function go(to) {
  const again = playing;
  stop();
  offset = Math.min(Math.max(to, 0), seconds);
  if (again) play();
}
$("play").addEventListener("click", () => (playing ? stop() : play()));
$("seek").addEventListener("input", () => go(Number($("seek").value)));
figures.forEach((figure, i) => {
  figure.querySelector("button").addEventListener("click", () => { select(i); if (!playing) play(); });
  const picture = figure.querySelector(".picture");
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    select(i);
    go(((event.clientX - box.left) / box.width) * seconds);
  });
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && !event.target.matches("button")) { event.preventDefault(); $("play").click(); }
  else if (figures[Number(event.key) - 1]) select(Number(event.key) - 1);
});
function tick() {
  if (playing && position() >= seconds) { stop(); offset = 0; }
  const at = position();
  $("play").textContent = playing ? "Stop" : "Play";
  if (document.activeElement !== $("seek") || playing) $("seek").value = at;
  $("position").textContent = `${at.toFixed(1)} of ${seconds.toFixed(1)} s`;
  figures.forEach((figure) => { figure.querySelector(".cursor").style.left = `${(100 * at) / seconds}%`; });
  requestAnimationFrame(tick);
}
select(0);
requestAnimationFrame(tick);
