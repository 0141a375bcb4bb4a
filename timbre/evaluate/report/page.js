
"use strict";
// Sorting: a click on a head sorts by that column, another one turns it round; gaps stay last.
function sortBy(head) {
  const heads = [...head.parentNode.children];
  const column = heads.indexOf(head);
  const body = head.closest("table").tBodies[0];
  const down = head.getAttribute("aria-sort") === "ascending";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const keyed = [...body.rows].map((row) => [row.cells[column].dataset.value, row]);
  const numbers = keyed.every(([key]) => key === "" || !isNaN(key));
  keyed.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = numbers ? Number(a) - Number(b) : a.localeCompare(b);
    return down ? -order : order;
  });
  body.append(...keyed.map(([, row]) => row));
}
document.addEventListener("click", (event) => {
  const head = event.target.closest("table.sortable th");
  if (head) sortBy(head);
});

// Breakdown: one figure by one kind of group.
const groupData = JSON.parse(document.getElementById("group-data").textContent);
function element(name, text, value) {
  const made = document.createElement(name);
  made.textContent = text;
  if (value !== undefined) made.dataset.value = value === null ? "" : value;
  return made;
}
function showGroup() {
  const lines = groupData[document.getElementById("group").value][document.getElementById("figure").value] || [];
  const columns = [...new Set(lines.flatMap((line) => Object.keys(line.cells)))];
  const table = document.createElement("table");
  table.className = "sortable";
  const head = table.createTHead().insertRow();
  for (const name of ["value", "pairs", "speakers", ...columns]) {
    const cell = document.createElement("th");
    cell.append(element("button", name));
    head.append(cell);
  }
  const body = table.createTBody();
  for (const line of lines) {
    const row = body.insertRow();
    row.append(element("td", line.value, line.value), element("td", line.pairs, line.pairs));
    row.append(element("td", line.speakers, line.speakers));
    for (const name of columns) {
      const [text, value] = line.cells[name] || ["", null];
      const cell = element("td", text, value);
      if (["better", "worse", "fooled"].includes(text)) cell.className = text;
      row.append(cell);
    }
  }
  document.getElementById("broken-down").replaceChildren(table);
}
if (Object.keys(groupData).length) {
  const figures = Object.keys(Object.values(groupData)[0]);
  for (const [id, names] of [["figure", figures], ["group", Object.keys(groupData)]]) {
    const select = document.getElementById(id);
    select.append(...names.map((name) => new Option(name, name)));
    select.addEventListener("change", showGroup);
  }
  document.getElementById("chooser").hidden = false;
  showGroup();
}

// Players: all sides of a case run together and one is heard, so a switch keeps the sample.
const players = [];
let context = null;
let current = null;
class Player {
  constructor(section) {
    this.section = section;
    this.seconds = Number(section.dataset.seconds);
    this.figures = [...section.querySelectorAll("figure")];
    this.selected = this.figures[0].dataset.name;
    this.offset = 0;
    this.playing = false;
    this.buffers = null;
    this.gains = {};
    this.seek = section.querySelector(".seek");
    this.button = section.querySelector(".play");
    this.loop = section.querySelector(".loop");
    this.output = section.querySelector(".position");
    section.querySelector(".player").hidden = false;
    section.classList.add("scripted");
    this.button.addEventListener("click", () => (this.playing ? this.stop() : this.play()));
    this.seek.addEventListener("input", () => this.go(Number(this.seek.value)));
    for (const figure of this.figures) {
      const picture = figure.querySelector(".picture");
      figure.querySelector("figcaption").addEventListener("click", () => this.select(figure.dataset.name));
      picture.addEventListener("click", (event) => {
        const box = picture.getBoundingClientRect();
        this.select(figure.dataset.name);
        this.go(((event.clientX - box.left) / box.width) * this.seconds);
      });
    }
    this.select(this.selected);
  }
  position() {
    if (!this.playing) return this.offset;
    const run = Math.max(context.currentTime - this.started, 0);
    return Math.min(this.offset + run, this.seconds);
  }
  select(name) {
    this.selected = name;
    for (const figure of this.figures) figure.classList.toggle("selected", figure.dataset.name === name);
    for (const [side, gain] of Object.entries(this.gains)) {
      gain.gain.setTargetAtTime(side === name ? 1 : 0, context.currentTime, 0.003);
    }
    if (!this.playing || current !== this) makeCurrent(this);
  }
  async decode() {
    const sides = this.figures.map(async (figure) => {
      const text = atob(figure.querySelector("audio").src.split(",")[1]);
      const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
      return [figure.dataset.name, await context.decodeAudioData(bytes.buffer)];
    });
    this.buffers = await Promise.all(sides);
  }
  async play() {
    if (this.playing || this.starting) return;
    this.starting = true;
    makeCurrent(this);
    context = context || new AudioContext({ sampleRate: 48000 });
    await context.resume();
    if (!this.buffers) await this.decode();
    if (this.offset >= this.seconds - 0.01) this.offset = 0;
    this.started = context.currentTime + 0.02;
    this.sources = this.buffers.map(([name, buffer]) => {
      const gain = context.createGain();
      gain.gain.value = name === this.selected ? 1 : 0;
      this.gains[name] = gain;
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.connect(gain).connect(context.destination);
      source.start(this.started, this.offset);
      return source;
    });
    this.playing = true;
    this.starting = false;
    this.button.textContent = "Stop";
  }
  stop() {
    this.offset = this.position();
    if (this.playing) this.sources.forEach((source) => source.stop());
    this.playing = false;
    this.gains = {};
    this.button.textContent = "Play";
    this.draw();
  }
  go(seconds) {
    const playing = this.playing;
    this.stop();
    this.offset = Math.min(Math.max(seconds, 0), this.seconds);
    this.draw();
    if (playing) this.play();
  }
  draw() {
    const seconds = this.position();
    this.seek.value = seconds;
    this.output.textContent = `${seconds.toFixed(2)} of ${this.seconds.toFixed(2)} s`;
    for (const figure of this.figures) {
      figure.querySelector(".cursor").style.left = `${(100 * seconds) / this.seconds}%`;
    }
  }
}
function makeCurrent(player) {
  if (current && current !== player && current.playing) current.stop();
  current = player;
}
function tick() {
  if (current && current.playing) {
    if (current.position() >= current.seconds) {
      current.stop();
      current.offset = 0;
      if (current.loop.checked) current.play();
    }
    current.draw();
  }
  requestAnimationFrame(tick);
}
document.querySelectorAll(".case").forEach((section) => players.push(new Player(section)));
current = players[0] || null;
players.forEach((player) => player.draw());
requestAnimationFrame(tick);
document.addEventListener("keydown", (event) => {
  if (!current || event.target.matches("select") || event.ctrlKey || event.metaKey) return;
  const figure = current.figures[Number(event.key) - 1];
  if (event.key === " " && !event.target.matches("button, input, summary")) {
    event.preventDefault();
    current.button.click();
  } else if (figure) {
    current.select(figure.dataset.name);
  }
});
