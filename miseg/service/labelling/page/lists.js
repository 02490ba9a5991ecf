// The lists beside the image: classes and drawings.

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(properties.attributes || {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Rebuilding a list would take the focus from what is typed in: it waits until that is over.
const inUse = (list) => list.contains(document.activeElement) && document.activeElement.matches("input[type=text], input[type=color]");

export function showClasses(list, state, chosen, told) {
  if (inUse(list)) return list.addEventListener("focusout", () => setTimeout(() => told.again()), { once: true });
  const focused = list.contains(document.activeElement) ? document.activeElement.id : null;
  const count = new Map();
  for (const drawing of state.drawings) count.set(drawing.class_id, (count.get(drawing.class_id) || 0) + 1);
  list.replaceChildren(
    ...state.classes.map((one, index) => {
      const pick = element("input", { type: "radio", name: "class", id: `class-${one.id}`, value: one.id, checked: one.id === chosen });
      pick.setAttribute("aria-label", `Label as ${one.name}${index < 9 ? ` (${index + 1})` : ""}`);
      pick.addEventListener("change", () => told.choose(one.id));
      const colour = element("input", { type: "color", value: one.colour, id: `colour-${one.id}` });
      colour.setAttribute("aria-label", `Colour of ${one.name}`);
      colour.addEventListener("change", () => told.edit({ ...one, colour: colour.value }));
      const name = element("input", { type: "text", value: one.name, maxLength: 100, id: `name-${one.id}` });
      name.setAttribute("aria-label", `Name of class ${index + 1}`);
      name.addEventListener("change", () => told.edit({ ...one, name: name.value }));
      name.addEventListener("keydown", (event) => event.key === "Enter" && name.blur());
      const remove = element("button", { type: "button", textContent: "✕", id: `remove-${one.id}`, title: "Remove the class with its drawings" });
      remove.setAttribute("aria-label", `Remove class ${one.name} with its drawings`);
      remove.addEventListener("click", () => told.remove(one.id));
      const number = element("span", { className: "count", textContent: count.get(one.id) || 0, title: "drawings" });
      return element("li", {}, pick, colour, name, number, remove);
    }),
  );
  if (focused) document.getElementById(focused)?.focus();
}

const KINDS = { Point: "point", LineString: "line", Polygon: "area", MultiPoint: "points", MultiLineString: "lines", MultiPolygon: "areas" };
const MOST_SHOWN = 200;

export function showDrawings(list, count, state, scene, selected, told) {
  const names = new Map(state.classes.map((one) => [one.id, one.name]));
  const here = state.drawings.filter((one) => one.scene === scene);
  const bad = here.filter((one) => state.problems[one.id]);
  count.textContent = bad.length ? `${here.length}, ${bad.length} with problems` : here.length;
  count.className = bad.length ? "bad" : "";
  const focused = list.contains(document.activeElement) ? document.activeElement.id : null;
  // Those with problems first: they are what one looks for here.
  const shown = [...bad, ...here.filter((one) => !state.problems[one.id]).reverse()].slice(0, MOST_SHOWN);
  list.replaceChildren(
    ...shown.map((one) => {
      const what = `${names.get(one.class_id)}, ${KINDS[one.geometry.type]} at ${placeOf(one.geometry)}`;
      const pick = element("button", { type: "button", textContent: what, id: `pick-${one.id}` });
      pick.addEventListener("click", () => told.select(one.id));
      const erase = element("button", { type: "button", textContent: "Erase", id: `erase-${one.id}` });
      erase.setAttribute("aria-label", `Erase ${what}`);
      erase.addEventListener("click", () => told.erase([one.id]));
      const item = element("li", {}, pick, erase);
      pick.setAttribute("aria-pressed", selected.has(one.id));
      for (const reason of state.problems[one.id] || []) {
        item.append(element("span", { className: "problem", textContent: `left out: ${reason}` }));
      }
      return item;
    }),
  );
  if (here.length > shown.length) list.append(element("li", { textContent: `and ${here.length - shown.length} more` }));
  if (focused) document.getElementById(focused)?.focus();
}

function placeOf(geometry) {
  let first = geometry.coordinates;
  while (Array.isArray(first[0])) first = first[0];
  return `column ${Math.floor(first[0])}, row ${Math.floor(first[1])}`;
}
