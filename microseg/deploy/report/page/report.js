"use strict";
/* The report's page: the table of fields (search, sort, rows in view only), the plots, and the viewer of pictures. */
(() => {
const byId = id => document.getElementById(id);
const made = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const { phases, sections, texts, rows } = JSON.parse(byId("data").textContent);
const total = rows.name.length;
const LEVELS = ["known", "doubtful", "foreign"];
const UNIT = 1e6, SETTLED_MS = 60;
// Rows enter and leave by so many at a time, as each change costs a layout of the table.
const CHUNK = 8;
const shown = value => value === null ? "–" : (100 * value / UNIT).toFixed(2);
const place = row => rows.place[row] || rows.name[row];
const address = (folder, row, suffix) => folder + "/" + place(row).split("/").map(encodeURIComponent).join("/") + suffix;
const overlayOf = row => address("overlays", row, ".jpg");
const maskOf = row => address("masks", row, ".png");
const plainOf = row => rows.plain[row] ? address("pictures", row, ".jpg") : null;
const previewOf = row => rows.preview[row] ? address("thumbnails", row, ".jpg") : overlayOf(row);
const notesOf = row => (rows.notes[row] || []).map(index => texts[index]);
const raised = row => rows.level ? rows.level[row] > 0 : false;
const collator = new Intl.Collator("en", { numeric: true });

/* ---- Which fields, in which order ---- */
const state = { sort: null, down: false, order: [], at: 0 };
const haystacks = [];
const haystack = row => haystacks[row] ??= [rows.name[row], sections[rows.section[row]], ...notesOf(row), texts[rows.counted[row]],
  rows.level && rows.level[row] >= 0 ? LEVELS[rows.level[row]] : ""].join(" ").toLowerCase();
const columns = [
  { key: "name", title: "Field", compare: (a, b) => collator.compare(rows.name[a], rows.name[b]) },
  ...phases.map((phase, index) => ({ key: "phase" + index, title: phase.name, note: "%, ± folds", phase, index,
    compare: (a, b) => empty(rows.fraction[index][a]) - empty(rows.fraction[index][b]) })),
  ...rows.error ? [{ key: "error", title: "Predicted error", note: "points", compare: (a, b) => empty(rows.error[a]) - empty(rows.error[b]) }] : [],
];
function empty(value) { return value === null ? -1 : value; }

function choose() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const section = byId("section").value, show = byId("show").value;
  const kept = { "": () => true, alarm: raised, notes: row => rows.notes[row] !== 0, uncounted: row => rows.counted[row] !== 0 }[show];
  const current = state.order[state.at];
  state.order = [];
  for (let row = 0; row < total; row++)
    if ((section === "" || rows.section[row] === Number(section)) && kept(row) && words.every(word => haystack(row).includes(word)))
      state.order.push(row);
  const column = columns.find(each => each.key === state.sort);
  if (column) state.order.sort((a, b) => (state.down ? -1 : 1) * column.compare(a, b) || a - b);
  state.at = Math.max(0, state.order.indexOf(current));
  byId("found").textContent = state.order.length === total ? `${total} field${total === 1 ? "" : "s"}` : `${state.order.length} of ${total} fields`;
  grid.scrollTop = 0;
  table.setAttribute("aria-rowcount", state.order.length + 1);
  redraw();
}
function sortBy(key) {
  state.down = state.sort === key && !state.down;
  state.sort = key;
  for (const head of grid.querySelectorAll("th[data-key]"))
    head.setAttribute("aria-sort", head.dataset.key !== key ? "none" : state.down ? "descending" : "ascending");
  choose();
}

/* ---- The table: only rows in view are in the document ---- */
const grid = byId("grid"), table = made("table", { role: "table", "aria-label": "Fields" }), body = made("tbody", { role: "rowgroup" });
const above = made("tr", { class: "gap", "aria-hidden": "true" }, made("td", { colspan: columns.length }));
const below = above.cloneNode(true);
let height = 84, settled = null, range = [-1, -1];
const drawn = new Map();

function setUpTable() {
  const head = made("tr", { role: "row", "aria-rowindex": 1 }), group = made("colgroup");
  for (const column of columns) {
    const button = made("button", { type: "button" }), label = made("span");
    if (column.phase) { const chip = made("span", { class: "chip" }); chip.style.background = column.phase.color; label.append(chip); }
    label.append(column.title);
    if (column.note) label.append(made("br"), column.note);
    button.append(label);
    button.addEventListener("click", () => sortBy(column.key));
    head.append(made("th", { scope: "col", role: "columnheader", "aria-sort": "none", "data-key": column.key, class: column.key === "name" ? "" : "number" }, button));
    group.append(made("col", { class: column.phase ? "phase" : column.key === "error" ? "alarm" : "" }));
  }
  table.append(group, made("thead", { role: "rowgroup" }, head), body);
  table.style.setProperty("--lines", Math.ceil((columns.length - 1) / 2));
  table.style.setProperty("--least", 128 * phases.length + (rows.error ? 120 : 0) + 300 + "px");
  grid.append(table);
}
function drawnRow(at) {
  const row = state.order[at], button = made("button", { type: "button", class: "open", tabindex: at === state.at ? 0 : -1 });
  const about = made("span", { class: "about" }), name = made("b", { title: rows.name[row] }, rows.name[row]), notes = notesOf(row);
  about.append(name, made("span", {}, (sections.length > 1 ? sections[rows.section[row]] + " · " : "") + texts[rows.detail[row]]));
  const flags = [raised(row) ? "alarm: " + LEVELS[rows.level[row]] : "", rows.counted[row] ? "not counted" : "",
    notes.length ? `${notes.length} notice${notes.length === 1 ? "" : "s"}: ${notes[0]}` : ""].filter(Boolean);
  if (flags.length) about.append(made("span", { class: "flag" }, flags.join(" · ")));
  button.append(made("span", { class: "shot" }), about);
  const line = made("tr", { role: "row", class: at === state.at ? "row at" : "row", "aria-rowindex": at + 2, "data-row": row });
  line.append(made("td", { role: "cell", class: "field" }, button));
  phases.forEach((phase, index) => line.append(made("td", { role: "cell", class: "number" }, made("span", { class: "value", "data-head": phase.name + ", %" },
    shown(rows.fraction[index][row]), " ", made("small", {}, spread(index, row))))));
  if (rows.error) line.append(made("td", { role: "cell", class: "number" }, made("span", { class: "value", "data-head": "Predicted error" },
    rows.error[row] === null ? "–" : (100 * rows.error[row] / UNIT).toFixed(1), " ", made("small", {}, rows.level[row] < 0 ? "" : LEVELS[rows.level[row]]))));
  button.addEventListener("click", () => { select(at); view(at); });
  return line;
}
function spread(index, row) { const value = rows.spread[index][row]; return value === null ? "" : "± " + shown(value); }

function redraw() {
  for (const line of drawn.values()) line.remove();
  drawn.clear();
  range = [-1, -1];
  body.replaceChildren(above, below);
  draw();
  const first = drawn.values().next().value, real = first ? first.offsetHeight : 0;
  if (real && real !== height) { height = real; range = [-1, -1]; }
  // The first rows give the table its height, and only then is known how many are in view.
  draw();
}
function draw() {
  const many = state.order.length, top = grid.scrollTop / height / CHUNK, bottom = (grid.scrollTop + grid.clientHeight) / height / CHUNK;
  const from = Math.max(0, (Math.floor(top - 0.5)) * CHUNK), to = Math.min(many, Math.ceil(bottom + 0.5) * CHUNK);
  if (from === range[0] && to === range[1]) return;
  range = [from, to];
  for (const [at, line] of drawn) if (at < from || at >= to) { line.remove(); drawn.delete(at); }
  let before = above;
  for (let at = from; at < to; at++) {
    let line = drawn.get(at);
    if (!line) { line = drawnRow(at); drawn.set(at, line); before.after(line); }
    before = line;
  }
  above.firstChild.style.height = from * height + "px";
  below.firstChild.style.height = Math.max(0, many - to) * height + "px";
  clearTimeout(settled);
  settled = setTimeout(showShots, SETTLED_MS);
}
function showShots() {
  for (const line of drawn.values()) {
    const shot = line.querySelector(".shot");
    if (!shot.firstChild) shot.append(made("img", { src: previewOf(Number(line.dataset.row)), alt: "", decoding: "async" }));
  }
}
function select(at, focus = false) {
  if (!state.order.length) return;
  state.at = Math.min(state.order.length - 1, Math.max(0, at));
  const top = state.at * height, headHeight = table.tHead.offsetHeight;
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (top + height > grid.scrollTop + grid.clientHeight - headHeight) grid.scrollTop = top + height + headHeight - grid.clientHeight;
  draw();
  for (const [each, line] of drawn) {
    line.classList.toggle("at", each === state.at);
    line.querySelector(".open").tabIndex = each === state.at ? 0 : -1;
  }
  if (focus) drawn.get(state.at)?.querySelector(".open").focus({ preventScroll: true });
}
function jump(row) {
  if (!state.order.includes(row)) {
    for (const id of ["search", "section", "show"]) byId(id).value = "";
    choose();
  }
  grid.scrollIntoView({ block: "nearest" });
  const at = state.order.indexOf(row);
  grid.scrollTop = Math.max(0, (at + 0.5) * height - grid.clientHeight / 2);
  select(at, true);
}

/* ---- The plots: a dot leads to its field ---- */
function setUpStrip(strip) {
  const index = Number(strip.dataset.phase), low = Number(strip.dataset.low), high = Number(strip.dataset.high);
  const sorted = [...Array(total).keys()].filter(row => !rows.counted[row] && rows.fraction[index][row] !== null)
    .sort((a, b) => rows.fraction[index][a] - rows.fraction[index][b]);
  if (!sorted.length) return;
  const here = made("span", { class: "here", hidden: "" }), tip = made("span", { class: "tip", hidden: "" });
  strip.append(here, tip);
  let at = Math.floor(sorted.length / 2);
  const words = () => `${rows.name[sorted[at]]}: ${shown(rows.fraction[index][sorted[at]])} %`;
  const name = `${phases[index].name}, fields by fraction. Arrow keys choose a field, Enter goes to it.`;
  for (const [key, value] of Object.entries({ role: "slider", tabindex: 0, "aria-label": name, "aria-valuemin": 0, "aria-valuemax": sorted.length - 1 }))
    strip.setAttribute(key, value);
  const tell = visible => {
    const x = 100 * (rows.fraction[index][sorted[at]] / UNIT - low) / (high - low);
    strip.setAttribute("aria-valuenow", at);
    strip.setAttribute("aria-valuetext", words());
    here.hidden = tip.hidden = !visible;
    here.style.left = x + "%";
    tip.textContent = words();
    tip.style.left = x < 50 ? x + "%" : "auto";
    tip.style.right = x < 50 ? "auto" : 100 - x + "%";
  };
  const nearest = event => {
    const dot = event.target.dataset?.row;
    if (dot !== undefined) { at = sorted.indexOf(Number(dot)); return; }
    const box = strip.getBoundingClientRect(), wanted = UNIT * (low + (high - low) * (event.clientX - box.left) / box.width);
    let from = 0, to = sorted.length;
    while (from < to) { const middle = (from + to) >> 1; if (rows.fraction[index][sorted[middle]] < wanted) from = middle + 1; else to = middle; }
    at = Math.min(from, sorted.length - 1);
    if (at > 0 && wanted - rows.fraction[index][sorted[at - 1]] < rows.fraction[index][sorted[at]] - wanted) at--;
  };
  tell(false);
  strip.addEventListener("pointermove", event => { nearest(event); tell(true); });
  strip.addEventListener("pointerleave", () => tell(document.activeElement === strip));
  strip.addEventListener("focus", () => tell(true));
  strip.addEventListener("blur", () => tell(false));
  strip.addEventListener("click", event => { nearest(event); tell(false); jump(sorted[at]); });
  strip.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -total, End: total }[event.key];
    if (step !== undefined) { at = Math.min(sorted.length - 1, Math.max(0, at + step)); tell(true); event.preventDefault(); }
    else if (event.key === "Enter" || event.key === " ") { jump(sorted[at]); event.preventDefault(); }
  });
}

/* ---- The viewer: the micrograph, and its overlay behind a slider ---- */
const viewer = byId("viewer"), under = viewer.querySelector(".under"), over = viewer.querySelector(".over"), edge = viewer.querySelector(".edge");
const slider = byId("slider"), stage = byId("stage");
const how = () => viewer.querySelector("[name=how]:checked").value;

function view(at) {
  const row = state.order[at], plain = plainOf(row), fractions = phases.map((phase, index) => `${phase.name} ${shown(rows.fraction[index][row])} %`);
  byId("viewed").replaceChildren(rows.name[row], made("small", { class: "soft" }, `${at + 1} of ${state.order.length} · ${texts[rows.detail[row]]}`));
  under.src = plain ?? overlayOf(row);
  under.alt = plain ? `Micrograph ${rows.name[row]}` : `Overlay of ${rows.name[row]}: ${fractions.join(", ")}`;
  over.hidden = plain === null;
  over.alt = plain ? `The phases found on it: ${fractions.join(", ")}` : "";
  if (plain) over.src = overlayOf(row); else over.removeAttribute("src");
  for (const each of viewer.querySelectorAll("#slider, [name=how]")) each.disabled = plain === null;
  const figures = made("p", { class: "figures" }), told = byId("told");
  phases.forEach((phase, index) => {
    const chip = made("span", { class: "chip" });
    chip.style.background = phase.color;
    figures.append(made("span", {}, chip, `${phase.name} ${shown(rows.fraction[index][row])} % ${spread(index, row)}`));
  });
  const links = made("p", {}, made("a", { href: overlayOf(row) }, "overlay"), " · ", made("a", { href: maskOf(row) }, "mask"));
  if (plain) links.append(" · ", made("a", { href: plain }, "micrograph"));
  const said = notesOf(row);
  if (rows.counted[row]) said.unshift("Not counted: " + texts[rows.counted[row]]);
  if (!plain) said.unshift("An earlier version measured this field and kept no plain picture of it.");
  told.replaceChildren(figures, ...said.map(text => made("p", { class: "soft" }, text)), links);
  byId("previous").disabled = at === 0;
  byId("next").disabled = at === state.order.length - 1;
  byId("live").textContent = `${rows.name[row]}, ${at + 1} of ${state.order.length}. ${fractions.join(", ")}`;
  if (!viewer.open) { viewer.showModal(); stage.focus(); }
  fit(); slide();
}
function slide() {
  const share = Number(slider.value), wipes = how() === "wipe";
  over.style.clipPath = wipes ? `inset(0 0 0 ${100 - share}%)` : "";
  over.style.opacity = wipes ? "" : share / 100;
  edge.hidden = !wipes || over.hidden || share === 0 || share === 100;
  edge.style.left = 100 - share + "%";
  slider.setAttribute("aria-valuetext", wipes ? `overlay on the right ${share} %` : `overlay ${share} % opaque`);
}
function fit() { stage.style.setProperty("--room", stage.clientHeight + "px"); }
function step(by) {
  const at = state.at + by;
  if (at < 0 || at >= state.order.length) return;
  select(at); view(at);
}
function setUpViewer() {
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => viewer.close());
  slider.addEventListener("input", slide);
  for (const each of viewer.querySelectorAll("[name=how]")) each.addEventListener("change", slide);
  byId("real").addEventListener("change", event => {
    stage.classList.toggle("real", event.target.checked);
    stage.classList.toggle("whole", !event.target.checked);
  });
  window.addEventListener("resize", fit);
  const pair = viewer.querySelector(".pair");
  const drag = event => {
    if (!event.buttons || how() !== "wipe" || slider.disabled || stage.classList.contains("real")) return;
    const box = pair.getBoundingClientRect();
    slider.value = 100 * (1 - (event.clientX - box.left) / box.width);
    slide();
  };
  pair.addEventListener("pointerdown", event => { event.preventDefault(); drag(event); });
  pair.addEventListener("pointermove", drag);
  viewer.addEventListener("close", () => select(state.at, true));
  let kept = 50;
  const flip = () => { if (Number(slider.value)) { kept = slider.value; slider.value = 0; } else slider.value = kept; slide(); };
  const turn = by => { slider.value = Number(slider.value) + by; slide(); };
  const keys = { n: () => step(1), p: () => step(-1), arrowright: () => step(1), arrowleft: () => step(-1), " ": flip,
    "+": () => turn(5), "=": () => turn(5), "-": () => turn(-5), home: () => step(-state.at), end: () => step(state.order.length - 1 - state.at) };
  viewer.addEventListener("keydown", event => {
    const pressed = event.key.toLowerCase(), target = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, pressed)) return;
    // Controls keep the keys that they understand themselves, and an enlarged picture scrolls by arrows.
    const own = target.tagName === "INPUT" && !/^[np]$/.test(pressed) || pressed === " " && target.tagName === "BUTTON" ||
      target === stage && stage.classList.contains("real") && pressed.startsWith("arrow");
    if (own) return;
    event.preventDefault();
    keys[pressed]();
  });
}

function setUp() {
  document.documentElement.classList.add("scripted");
  document.querySelector(".tools").hidden = false;
  const select_ = byId("section");
  sections.forEach((name, index) => select_.append(made("option", { value: index }, name)));
  select_.parentElement.hidden = sections.length < 2;
  byId("show").querySelector("[value=alarm]").hidden = !rows.level;
  setUpTable();
  choose();
  byId("search").addEventListener("input", choose);
  for (const id of ["section", "show"]) byId(id).addEventListener("change", choose);
  for (const button of document.querySelectorAll(".only")) {
    const index = sections.indexOf(button.closest(".chapter").dataset.name);
    button.hidden = index < 0;
    button.addEventListener("click", () => { select_.value = index; byId("search").value = byId("show").value = ""; choose(); byId("fields").scrollIntoView(); grid.focus({ preventScroll: true }); });
  }
  grid.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  window.addEventListener("resize", redraw);
  grid.addEventListener("keydown", event => {
    if (event.target !== grid && !event.target.classList.contains("open")) return;
    const page = Math.max(1, Math.floor(grid.clientHeight / height) - 1);
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -state.at, End: state.order.length }[event.key];
    if (by !== undefined) { select(state.at + by, true); event.preventDefault(); }
    else if (event.key === "Enter" && event.target === grid && state.order.length) { view(state.at); event.preventDefault(); }
  });
  document.querySelectorAll(".strip[data-phase]").forEach(setUpStrip);
  setUpViewer();
}
setUp();
})();
