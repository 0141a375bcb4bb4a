"use strict";
// The plan names systems, so it is not written in plain text: who reads the source by chance learns nothing.
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const plan = JSON.parse(new TextDecoder().decode(bytesOf(document.getElementById("plan").textContent)));
const RIGHT_TONES = 5, TONES = 6;
const $ = (id) => document.getElementById(id);
const slot = "timbre listen " + plan.test;
let state = null, keeps = true, context = null, player = null, toneTrial = null, loading = 0;

function say(text) { $("message").textContent = text || ""; $("message").hidden = !text; }
function show(id) {
  for (const name of ["start", "check", "trial", "end"]) $(name).hidden = name !== id;
  const head = $(id).querySelector("[tabindex]");
  if (head) head.focus();
}
function save() {
  try { localStorage.setItem(slot, JSON.stringify(state)); }
  catch { if (keeps) say("This browser keeps nothing, so please finish without closing the page."); keeps = false; }
}
function restored() {
  try {
    const kept = JSON.parse(localStorage.getItem(slot));
    return kept && kept.test === plan.test && Array.isArray(kept.trials) ? kept : null;
  } catch { return null; }
}
function shuffled(list) {
  const copy = [...list];
  for (let i = copy.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [copy[i], copy[j]] = [copy[j], copy[i]];
  }
  return copy;
}
function fresh(listener) {
  const order = shuffled(plan.trials.map((trial, number) => ({ number, order: shuffled(trial.stimuli.map((_, i) => i)) })));
  return { test: plan.test, listener, started: new Date().toISOString(), finished: null, headphones: null, order, trials: [], draft: {} };
}

// All versions run together and one is let through, so a switch keeps the position.
class Player {
  constructor(buffers, selected) {
    Object.assign(this, { buffers, selected, offset: 0, playing: false, sources: [], gains: [], played: new Set() });
    this.seconds = Math.max(...buffers.map((b) => b.duration));
  }
  position() {
    if (!this.playing) return this.offset;
    const run = this.offset + Math.max(context.currentTime - this.started, 0);
    return $("loop").checked ? run % this.seconds : Math.min(run, this.seconds);
  }
  select(number) {
    this.selected = number;
    this.gains.forEach((gain, i) => gain.gain.setTargetAtTime(i === number ? 1 : 0, context.currentTime, 0.005));
    if (this.playing) this.played.add(number);
  }
  play() {
    if (this.playing) return;
    context.resume();
    if (this.offset >= this.seconds - 0.01) this.offset = 0;
    this.started = context.currentTime + 0.02;
    this.sources = this.buffers.map((buffer, i) => {
      const source = new AudioBufferSourceNode(context, { buffer, loop: $("loop").checked });
      this.gains[i] = new GainNode(context, { gain: i === this.selected ? 1 : 0 });
      source.connect(this.gains[i]).connect(context.destination);
      source.start(this.started, this.offset);
      return source;
    });
    this.playing = true;
    this.played.add(this.selected);
  }
  stop() {
    this.offset = this.position();
    if (this.playing) this.sources.forEach((source) => source.stop());
    this.playing = false;
    this.gains = [];
  }
  go(seconds) {
    const playing = this.playing;
    this.stop();
    this.offset = seconds;
    if (playing) this.play();
  }
}

// A browser lets it sound only after a click or a key; decoding needs none.
function ready() { context = context || new AudioContext({ sampleRate: 48000 }); }
async function decoded(number) {
  return context.decodeAudioData(bytesOf($("sound" + number).textContent).buffer);
}

// Three tones of which one is quieter and another has its two sides in opposite phase: over
// loudspeakers that one cancels and seems the quietest (Woods et al. 2017).
function newTones() {
  const [quiet, opposite] = shuffled([0, 1, 2]);
  toneTrial = { quiet, opposite, played: false };
  document.querySelectorAll(".tone").forEach((button) => { button.disabled = true; });
  $("tone-count").textContent = `${state.headphones.of} of ${TONES} answered`;
}
function playTones() {
  ready();
  context.resume();
  const rate = context.sampleRate, buffer = context.createBuffer(2, 4 * rate, rate);
  for (let tone = 0; tone < 3; tone++) {
    for (let n = 0; n < rate; n++) {
      const edge = Math.min(1, n / (0.1 * rate), (rate - n) / (0.1 * rate));
      const value = 0.2 * edge * Math.sin(2 * Math.PI * 200 * n / rate) * (tone === toneTrial.quiet ? 0.5 : 1);
      const at = Math.floor(tone * 1.5 * rate) + n;
      buffer.getChannelData(0)[at] = value;
      buffer.getChannelData(1)[at] = tone === toneTrial.opposite ? -value : value;
    }
  }
  if (toneTrial.source) toneTrial.source.stop();
  toneTrial.source = new AudioBufferSourceNode(context, { buffer });
  toneTrial.source.connect(context.destination);
  toneTrial.source.start();
  document.querySelectorAll(".tone").forEach((button) => { button.disabled = false; });
}
function answerTones(number) {
  if (toneTrial.source) toneTrial.source.stop();
  state.headphones.of += 1;
  state.headphones.right += number === toneTrial.quiet ? 1 : 0;
  if (state.headphones.of < TONES) { save(); newTones(); return; }
  state.headphones.passed = state.headphones.right >= RIGHT_TONES;
  save();
  say(state.headphones.passed ? "" : "That sounds like loudspeakers. Please use headphones if you can; the result says that the check failed.");
  openTrial();
}

function openTrial() {
  if (state.trials.length >= plan.trials.length) { finish(); return; }
  loadTrial().catch(() => {
    say("This browser cannot play the sounds of this page. Please try a recent Firefox, Chrome, Edge or Safari.");
  });
}
async function loadTrial() {
  const turn = ++loading;
  const { number, order } = state.order[state.trials.length];
  const trial = plan.trials[number];
  show("trial");
  $("progress").textContent = `Part ${state.trials.length + 1} of ${plan.trials.length}`;
  $("stimuli").replaceChildren(); $("choices").replaceChildren();
  $("next").disabled = true; $("todo").textContent = "";
  ready();
  const numbers = [...order.map((i) => trial.stimuli[i].sound), ...(plan.method === "mushra" ? [trial.reference] : [])];
  const buffers = await Promise.all(numbers.map(decoded));
  if (turn !== loading) return;
  player = new Player(buffers, plan.method === "mushra" ? order.length : 0);
  $("seek").max = player.seconds;
  (plan.method === "mushra" ? drawSliders : drawChoices)(order.length);
  select(player.selected);
  update();
}
function drawSliders(count) {
  for (let i = 0; i < count; i++) {
    const row = document.createElement("li");
    row.innerHTML = '<button aria-pressed="false"></button><input type="range" min="0" max="100" step="1"><output></output>';
    const [button, slider, output] = row.children;
    const value = state.draft[i];
    button.textContent = `Version ${i + 1}`;
    slider.value = value ?? 50;
    slider.setAttribute("aria-label", `rating of version ${i + 1}`);
    output.textContent = value ?? "–";
    button.addEventListener("click", () => { select(i); play(); });
    slider.addEventListener("focus", () => select(i));
    const rate = () => {
      state.draft[i] = Number(slider.value);
      output.textContent = slider.value;
      save(); update();
    };
    slider.addEventListener("input", rate);
    slider.addEventListener("change", rate);
    $("stimuli").append(row);
  }
}
function drawChoices() {
  ["A", "B"].forEach((name, i) => {
    const row = document.createElement("li"), button = document.createElement("button");
    button.textContent = `Play ${name}`;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => { select(i); play(); });
    row.append(button);
    $("stimuli").append(row);
  });
  for (const [answer, text] of [[0, "I prefer A"], [1, "I prefer B"], [-1, "No preference"]]) {
    const button = document.createElement("button");
    button.textContent = text;
    button.dataset.answer = answer;
    button.addEventListener("click", () => { state.draft.answer = answer; save(); update(); });
    $("choices").append(button);
  }
  $("choices").hidden = false;
}
function select(number) {
  player.select(number);
  [...$("stimuli").children].forEach((row, i) => {
    row.classList.toggle("current", i === number);
    row.querySelector("button").setAttribute("aria-pressed", i === number);
  });
  if ($("reference")) $("reference").setAttribute("aria-pressed", number === player.buffers.length - 1);
  update();
}
function play() { player.play(); update(); }
function missing() {
  const { order } = state.order[state.trials.length];
  const names = order.map((_, i) => (plan.method === "mushra" ? `version ${i + 1}` : "AB"[i]));
  const unheard = names.filter((_, i) => !player.played.has(i));
  if (unheard.length) return `Still to play: ${unheard.join(", ")}`;
  if (plan.method === "mushra") {
    const unrated = names.filter((_, i) => state.draft[i] === undefined);
    return unrated.length ? `Still to rate: ${unrated.join(", ")}` : "";
  }
  return state.draft.answer === undefined ? "Which do you prefer?" : "";
}
function update() {
  if (!player) return;
  const text = missing();
  $("next").disabled = text !== "";
  $("todo").textContent = text;
  $("play").textContent = player.playing ? "Stop" : "Play";
  [...$("choices").children].forEach((b) => b.setAttribute("aria-pressed", Number(b.dataset.answer) === state.draft.answer));
}
function next() {
  if ($("next").disabled || !player) return;
  const { number, order } = state.order[state.trials.length];
  const trial = plan.trials[number], names = order.map((i) => trial.stimuli[i].name);
  const answer = plan.method === "mushra"
    ? { ratings: Object.fromEntries(names.map((name, i) => [name, state.draft[i]])) }
    : { a: names[0], b: names[1], preferred: state.draft.answer < 0 ? null : names[state.draft.answer] };
  state.trials.push({ clip: trial.clip, ...answer });
  state.draft = {};
  player.stop(); player = null;
  say("");
  save();
  openTrial();
}
function finish() {
  state.finished = state.finished || new Date().toISOString();
  save();
  const result = {
    format: "timbre listen 1", test: plan.test, method: plan.method, reference: plan.reference, parts: plan.trials.length,
    listener: state.listener, headphones: state.headphones, started: state.started, finished: state.finished, trials: state.trials,
  };
  $("save").href = URL.createObjectURL(new Blob([JSON.stringify(result, null, 1)], { type: "application/json" }));
  $("save").download = `listen-${plan.test}-${state.listener.replace(/[^\p{L}\p{N}]+/gu, "-")}.json`;
  show("end");
}

function begin(check) {
  const name = $("listener").value.trim();
  if (!name) { say("Please write a name or a number first, so that your result can be told from others."); $("listener").focus(); return; }
  say("");
  state = fresh(name);
  if (check) { state.headphones = { right: 0, of: 0, passed: false }; newTones(); show("check"); $("tones").focus(); }
  save();
  if (!check) openTrial();
}
$("begin").addEventListener("click", () => begin(true));
$("skip").addEventListener("click", () => begin(false));
$("tones").addEventListener("click", playTones);
document.querySelectorAll(".tone").forEach((button, i) => button.addEventListener("click", () => answerTones(i)));
$("play").addEventListener("click", () => { if (player) { player.playing ? player.stop() : player.play(); update(); } });
if ($("reference")) $("reference").addEventListener("click", () => { select(player.buffers.length - 1); play(); });
$("seek").addEventListener("input", () => { if (player) player.go(Number($("seek").value)); });
$("loop").addEventListener("change", () => { if (player) player.go(player.position() % player.seconds); });
$("next").addEventListener("click", next);
$("again").addEventListener("click", () => { state = null; try { localStorage.removeItem(slot); } catch { /* nothing is kept */ } $("listener").value = ""; show("start"); });
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=text]")) return;
  if (!$("check").hidden && "123".includes(event.key)) {
    const button = document.querySelectorAll(".tone")[Number(event.key) - 1];
    if (button && !button.disabled) button.click();
    return;
  }
  if ($("trial").hidden || !player) return;
  const row = $("stimuli").children[Number(event.key) - 1];
  const answer = { a: 0, b: 1, n: 2 }[event.key.toLowerCase()];
  if (event.key === " " && !event.target.matches("button, input[type=checkbox]")) { event.preventDefault(); $("play").click(); }
  else if (event.key === "Enter" && !event.target.matches("button")) next();
  else if (event.key === "0" && $("reference")) $("reference").click();
  else if (row) { row.querySelector("button").click(); const slider = row.querySelector("input"); if (slider) slider.focus(); }
  else if (answer !== undefined && plan.method === "ab") $("choices").children[answer].click();
});
function tick() {
  if (player) {
    if (player.playing && !$("loop").checked && player.position() >= player.seconds) { player.stop(); player.offset = 0; update(); }
    if (document.activeElement !== $("seek")) $("seek").value = player.position();
    $("position").textContent = `${player.position().toFixed(1)} of ${player.seconds.toFixed(1)} s`;
  }
  requestAnimationFrame(tick);
}
requestAnimationFrame(tick);
state = restored();
if (!state) show("start");
else {
  $("listener").value = state.listener;
  if (state.headphones && state.headphones.of < TONES && !state.trials.length) { newTones(); show("check"); } else openTrial();
}
