// The labelling page: what is shown, and what follows from a click or a key.

import { ask, Changes, ServerError, setToken, takeToken } from "./server.js";
import { ImageView } from "./image.js";
import { element, showClasses, showDrawings } from "./lists.js";
import { bindDialogs, openDialog } from "./files.js";

const $ = (id) => document.getElementById(id);
const CLIENT = crypto.randomUUID ? crypto.randomUUID() : String(Math.random());
const TOOLS = [
  ["point", "Point", "p"],
  ["line", "Line", "l"],
  ["box", "Box", "b"],
  ["select", "Select", "s"],
  ["pan", "Pan", "h"],
];
const LOOK_EVERY = 2000; // milliseconds between two looks at other windows' changes and at dates getting ready

const page = { view: null, state: null, scene: null, classId: null, tool: "point", selected: new Set() };
let image, changes, ticket = 0, clicked = null;
// What the tests and the figures in docs/results/labelling.md are read from: milliseconds from a click to the painted map.
window.miseg = { timings: [], page };

function identifier() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble").querySelector("span").textContent = text;
}

function notice(text, kind = "") {
  $("notice").hidden = !text;
  $("notice").textContent = text;
  $("notice").className = kind;
}

// Where the printed address is opened once more in this window, only what follows the # changes.
addEventListener("hashchange", () => location.reload());

async function start() {
  takeToken();
  notice("Opening…", "loading");
  try {
    page.view = await (await ask("view")).json();
    page.state = await (await ask("state")).json();
  } catch (error) {
    if (error.status === 401) return openDialog("token-dialog", () => (setToken($("token").value.trim()), start()));
    notice(`The page cannot be opened: ${error.message}.\nIt tries again.`, "error");
    return setTimeout(start, 2000);
  }
  if (!image) build();
  showState();
  await showScene(sessionStorage.getItem("miseg-scene") || page.view.first);
  changes.send();
  setInterval(look, LOOK_EVERY);
}

function build() {
  const { view } = page;
  document.title = `${view.name} · labelling`;
  $("name").textContent = view.name;
  $("scene").replaceChildren(...view.scenes.map((scene) => element("option", { value: scene, textContent: scene })));
  $("compare").replaceChildren(...view.comparisons.map((one) => element("option", { value: one, textContent: one, selected: one === view.compare })));
  image = new ImageView($("map"), view.window, { drawn, reshaped, selected: select, pointed });
  window.miseg.image = image;
  changes = new Changes(view.folder, { revision: () => page.state.revision, saved, refused, waiting });
  $("tools").replaceChildren(
    ...TOOLS.map(([tool, name, key]) => {
      const button = element("button", { type: "button", textContent: name, id: `tool-${tool}`, title: `${name} (${key.toUpperCase()})` });
      button.addEventListener("click", () => chooseTool(tool));
      return button;
    }),
  );
  chooseTool("point");
  bindDialogs(page, { ask, trouble, saved: (state) => saved(state), compare: () => $("compare").value, sent: () => !changes.queue.length });
}

// What is shown

function showState() {
  const { state } = page;
  if (!state.classes.some((one) => one.id === page.classId)) page.classId = state.classes[0]?.id ?? null;
  const colours = new Map(state.classes.map((one) => [one.id, one.colour]));
  showClasses($("classes"), state, page.classId, {
    choose: chooseClass,
    edit: (one) => change({ do: "edit_class", id: one.id, name: one.name, colour: one.colour }),
    remove: (id) => change({ do: "remove_class", id }),
    again: showState,
  });
  showDrawings($("drawings"), $("count"), state, page.scene, page.selected, { select: (id) => select([id]), erase });
  image.showDrawings(state.drawings.filter((one) => one.scene === page.scene), colours);
  image.setColour(colours.get(page.classId) || "#000000");
  $("undo").disabled = !state.undo && !changes.queue.length;
  $("redo").disabled = !state.redo;
  const waiting = changes.queue.length;
  $("saved").textContent = waiting ? `saving ${waiting} …` : `saved, revision ${state.revision}`;
}

async function showScene(scene) {
  if (!page.view.scenes.includes(scene)) scene = page.view.first;
  page.scene = scene;
  sessionStorage.setItem("miseg-scene", scene);
  $("scene").value = scene;
  const at = page.view.scenes.indexOf(scene);
  $("before").disabled = at === 0;
  $("after").disabled = at === page.view.scenes.length - 1;
  page.selected.clear();
  image.showMap(null);
  showState();
  $("told").textContent = "";
  notice(`Loading ${scene} …`, "loading");
  try {
    const url = URL.createObjectURL(await (await ask("image", { scene })).blob());
    if (page.scene !== scene) return;
    await image.showImage(url);
    URL.revokeObjectURL(url);
    if (page.scene === scene) notice("");
  } catch (error) {
    if (page.scene === scene) notice(`${scene} cannot be shown: ${error.message}`, "error");
    return;
  }
  await showMap();
}

async function showMap() {
  const own = ++ticket;
  const [scene, compare, began] = [page.scene, $("compare").value, clicked];
  clicked = null;
  $("told").textContent = "computing the map …";
  for (const whole of [false, true]) {
    let answer;
    try {
      answer = await ask("map", { scene, compare, client: CLIENT, ticket: own, whole });
    } catch (error) {
      if (own !== ticket || error.body?.superseded) return;
      $("told").textContent = "";
      image.showMap(null);
      if (error.status === 0) return waiting(error, changes.queue.length);
      return notice(`There is no map of ${scene}: ${error.message}`, "error");
    }
    const told = answer.headers.get("X-Miseg-Map");
    if (own !== ticket) return;
    if (!told) return empty();
    const made = JSON.parse(told);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    if (own !== ticket) return;
    notice("");
    const colours = new Map(page.state.classes.map((one) => [one.id, one.colour]));
    const half = bytes.length / 2;
    image.showMap({ classes: bytes.subarray(0, half), confidence: bytes.subarray(half), ids: made.classes, colours: made.classes.map((id) => colours.get(id) || "#000000") });
    await image.whenPainted();
    const seconds = began === null ? null : (performance.now() - began) / 1000;
    if (began !== null) window.miseg.timings.push({ seconds, whole: made.whole, first: !whole, server: made.seconds });
    const after = seconds === null ? "" : `, ${seconds.toFixed(2)} s after the click`;
    $("told").textContent = `Map from ${made.pixels} labelled pixels, ${made.classes.length} classes${after}${made.whole ? "" : "; from a part of them, the rest follows …"}`;
    if (made.whole) return;
  }
}

function empty() {
  image.showMap(null);
  const { classes, drawings } = page.state;
  $("told").textContent = "no map yet";
  if (!classes.length) notice("No label yet.\nAdd two classes, then click the image where they are.", "empty");
  else if (classes.length < 2) notice("A map needs two classes: add another one.", "empty");
  else if (!drawings.length) notice("No label yet.\nClick the image where the classes are.", "empty");
  else notice("A map follows as soon as a second class has a label.", "empty");
}

function pointed(column, row) {
  const found = image.readAt(column, row);
  const one = found && page.state.classes.find((other) => other.id === image.found.ids[found.label]);
  const inside = found || (column >= page.view.window.column && row >= page.view.window.row);
  $("pointed").textContent = inside ? `column ${column}, row ${row}${one ? `: ${one.name}, confidence ${found.confidence.toFixed(2)}` : ""}` : "";
}

// What is done

function change(made) {
  trouble("");
  changes.push(made);
  showState();
}

function drawn(geometry, began) {
  if (!page.classId) return trouble("Add a class first: a label belongs to one.");
  clicked = began;
  const drawing = { id: identifier(), class_id: page.classId, scene: page.scene, geometry };
  page.state.drawings.push(drawing);
  change({ do: "draw", ...drawing });
}

function reshaped(id, geometry) {
  clicked = performance.now();
  change({ do: "reshape", id, geometry });
}

function erase(ids) {
  if (!ids.length) return;
  clicked = performance.now();
  change({ do: "erase", ids });
}

function select(ids) {
  page.selected = new Set(ids);
  image.select(ids);
  showState();
}

function saved(state, made) {
  const others = made && state.revision > page.state.revision + 1;
  page.state = state;
  // What is still on its way is shown as it will be.
  for (const later of changes.queue) if (later.do === "draw" && !state.drawings.some((one) => one.id === later.id)) state.drawings.push(later);
  if (others) trouble("Another window has changed the labels too; both changes are shown.");
  if (made?.do === "add_class") page.classId = made.id;
  showState();
  showMap();
}

async function refused(error, made) {
  trouble(error.status === 409 ? `${error.message}.` : `Not done: ${error.message}.`);
  try {
    page.state = await (await ask("state")).json();
    showState();
    showMap();
  } catch (again) {
    waiting(again, changes.queue.length);
  }
}

function waiting(error, count) {
  if (error.status === 401) return openDialog("token-dialog", () => setToken($("token").value.trim()));
  const kept = count ? `${count} change${count > 1 ? "s are" : " is"} kept in this tab and sent again.` : "It is asked again.";
  trouble(`${error instanceof ServerError ? error.message : error}. ${kept}`);
  $("saved").textContent = count ? `not saved: ${count}` : "no answer";
}

async function look() {
  if (document.hidden || changes.sending) return;
  try {
    const now = await (await ask("progress", { compare: $("compare").value })).json();
    if ($("saved").textContent === "no answer") (trouble(""), showState(), showMap());
    $("ready").hidden = now.ready >= now.of || now.full;
    $("ready").max = now.of;
    $("ready").value = now.ready;
    $("ready").title = `${now.ready} of ${now.of} dates ready`;
    if (now.revision !== page.state.revision && !changes.queue.length) {
      page.state = await (await ask("state")).json();
      showState();
      showMap();
    }
  } catch (error) {
    waiting(error, changes.queue.length);
  }
}

function chooseTool(tool) {
  page.tool = tool;
  if (tool !== "select") select([]);
  image.setTool(tool);
  for (const [name] of TOOLS) $(`tool-${name}`).setAttribute("aria-pressed", name === tool);
}

function chooseClass(id) {
  page.classId = id;
  if (page.selected.size) for (const one of page.selected) change({ do: "assign", id: one, class_id: id });
  else showState();
}

function step(far) {
  const at = page.view.scenes.indexOf(page.scene) + far;
  if (page.view.scenes[at]) showScene(page.view.scenes[at]);
}

function history(what) {
  clicked = performance.now();
  change({ do: what });
}

function setLook() {
  image.look = { mode: $("overlay").value, fade: $("fade").checked };
  image.overlay.setOpacity($("opacity").value / 100);
  $("ramp").hidden = $("overlay").value !== "confidence";
  image.repaint();
}

function nextLook() {
  $("overlay").selectedIndex = ($("overlay").selectedIndex + 1) % $("overlay").length;
  setLook();
}

const KEYS = [
  ...TOOLS.map(([tool, name, key]) => [key, `tool ${name}`, () => chooseTool(tool)]),
  ["u", "undo (also Ctrl+Z)", () => history("undo")],
  ["r", "redo (also Ctrl+Y)", () => history("redo")],
  ["[", "date before (also Page up)", () => step(-1)],
  ["]", "date after (also Page down)", () => step(1)],
  ["m", "show classes, confidence, or the image alone", nextLook],
  ["f", "fade where unsure", () => (($("fade").checked = !$("fade").checked), setLook())],
  ["n", "new class", () => $("new-class").focus()],
  ["Delete", "erase what is selected", () => erase([...page.selected])],
  ["Escape", "abandon the drawing, select nothing", () => (image.abandon(), select([]), trouble(""))],
  ["e", "export", () => $("export").click()],
  ["o", "load", () => $("load").click()],
  ["?", "these keys", () => $("help").click()],
];

document.addEventListener("keydown", (event) => {
  if (!page.view || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input[type=text], input:not([type]), input[type=password], select, textarea");
  if ((event.ctrlKey || event.metaKey) && !typing) {
    const what = { z: event.shiftKey ? "redo" : "undo", Z: "redo", y: "redo" }[event.key];
    if (what) (event.preventDefault(), history(what));
    return;
  }
  if (typing || event.altKey || event.ctrlKey || event.metaKey) return;
  if (!$("single-keys").checked && event.key.length === 1) return;
  const digit = page.state.classes[Number(event.key) - 1];
  const pressed = { PageUp: "[", PageDown: "]" }[event.key] || (event.key.length === 1 ? event.key.toLowerCase() : event.key);
  const found = KEYS.find(([key]) => key === pressed);
  if (digit) chooseClass(digit.id);
  else if (found) found[2]();
  else return;
  event.preventDefault();
});

$("keys").replaceChildren(
  ...[["1 … 9", "class"], ...KEYS].flatMap(([key, what]) => [element("dt", { textContent: key.length === 1 ? key.toUpperCase() : key }), element("dd", { textContent: what })]),
);
$("undo").addEventListener("click", () => history("undo"));
$("redo").addEventListener("click", () => history("redo"));
$("before").addEventListener("click", () => step(-1));
$("after").addEventListener("click", () => step(1));
$("scene").addEventListener("change", () => showScene($("scene").value));
$("compare").addEventListener("change", showMap);
$("help").addEventListener("click", () => openDialog("help-dialog"));
$("trouble").querySelector("button").addEventListener("click", () => trouble(""));
for (const id of ["overlay", "fade", "opacity"]) $(id).addEventListener("input", setLook);
$("add-class").addEventListener("submit", (event) => {
  event.preventDefault();
  change({ do: "add_class", id: identifier(), name: $("new-class").value });
  $("new-class").value = "";
});
window.addEventListener("beforeunload", (event) => changes?.queue.length && event.preventDefault());
start();
