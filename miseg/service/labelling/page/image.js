// The image, the map over it, the drawings, and the tools that draw: OpenLayers in pixels of the image.

const ol = window.ol;
const KEYBOARD_STEP = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SURE = [8, 48, 107];
const SMALLEST_MOVE = 0.3; // pixels: what a scribble may be off when it is simplified

// Positions at any depth of a geometry's coordinates.
const each = (coordinates, move) =>
  typeof coordinates[0] === "number" ? move(coordinates) : coordinates.map((inner) => each(inner, move));

export class ImageView {
  // `part` is the part of the image that is shown, {row, column, height, width}. `told` is asked to draw and reshape.
  constructor(target, part, told) {
    this.part = part;
    this.told = told;
    this.colour = "#000000";
    this.look = { mode: "classes", fade: false };
    this.canvas = Object.assign(document.createElement("canvas"), { width: part.width, height: part.height });
    const extent = [0, 0, part.width, part.height];
    const projection = new ol.proj.Projection({ code: "pixels", units: "pixels", extent });
    this.projection = projection;
    this.extent = extent;
    this.picture = new ol.layer.Image();
    this.overlaySource = new ol.source.ImageCanvas({
      projection,
      ratio: 1,
      interpolate: false,
      canvasFunction: (shown, resolution, ratio, size) => this.#drawn(shown, size),
    });
    this.overlay = new ol.layer.Image({ source: this.overlaySource, opacity: 0.55, className: "overlay" });
    this.drawings = new ol.source.Vector();
    this.sketch = new ol.source.Vector();
    this.map = new ol.Map({
      target,
      layers: [
        this.picture,
        this.overlay,
        new ol.layer.Vector({ source: this.drawings, style: (feature) => this.#style(feature) }),
        new ol.layer.Vector({ source: this.sketch, style: (feature) => this.#style(feature) }),
      ],
      view: new ol.View({ projection, extent: grown(extent), showFullExtent: true, maxResolution: undefined, minResolution: 1 / 64 }),
      controls: ol.control.defaults.defaults({ attribution: false, rotate: false }),
      interactions: ol.interaction.defaults.defaults({ altShiftDragRotate: false, pinchRotate: false, doubleClickZoom: false, keyboard: false }),
    });
    this.map.getView().fit(extent, { padding: [8, 8, 8, 8] });
    this.map.on("pointermove", (event) => this.told.pointed(...this.pixelAt(event.coordinate)));
    this.cross = null;
    this.begun = [];
    this.selection = new ol.Collection();
    target.addEventListener("keydown", (event) => this.#key(event));
    target.addEventListener("blur", () => this.#showCross(false));
  }

  pixelAt([x, y]) {
    return [Math.floor(x) + this.part.column, Math.floor(this.part.height - y) + this.part.row];
  }

  // Pixels of the whole image, rows downwards, and back to the view's coordinates.
  toImage(coordinates) {
    return each(coordinates, ([x, y]) => [x + this.part.column, this.part.height - y + this.part.row]);
  }

  toView(coordinates) {
    return each(coordinates, ([x, y]) => [x - this.part.column, this.part.height - (y - this.part.row)]);
  }

  showImage(url) {
    const source = new ol.source.ImageStatic({ url, imageExtent: this.extent, projection: this.projection, interpolate: false });
    return new Promise((resolve, reject) => {
      source.once("imageloadend", resolve);
      source.once("imageloaderror", () => reject(new Error("the image cannot be shown")));
      this.picture.setSource(source);
    });
  }

  // classes and confidence: a byte a pixel; colours: by label. Null shows no map.
  showMap(found) {
    this.found = found;
    this.repaint();
  }

  repaint() {
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    if (this.found && this.look.mode !== "off") {
      const pixels = context.createImageData(width, height);
      const { classes, confidence, colours } = this.found;
      const palette = colours.map((colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16)));
      for (let i = 0; i < classes.length; i++) {
        const colour = palette[classes[i]];
        if (!colour) continue;
        const sure = confidence[i] / 255;
        const shade = this.look.mode === "confidence" ? SURE.map((level) => 255 + (level - 255) * sure) : colour;
        pixels.data.set([shade[0], shade[1], shade[2], this.look.mode === "classes" && this.look.fade ? 40 + 215 * sure : 255], 4 * i);
      }
      context.putImageData(pixels, 0, 0);
    }
    this.overlaySource.changed();
  }

  // What the map says of a pixel of the image: label and confidence, or null.
  readAt(column, row) {
    const [x, y] = [column - this.part.column, row - this.part.row];
    if (!this.found || x < 0 || y < 0 || x >= this.part.width || y >= this.part.height) return null;
    const i = y * this.part.width + x;
    return { label: this.found.classes[i], confidence: this.found.confidence[i] / 255 };
  }

  showDrawings(drawings, colours) {
    const known = new Map(this.drawings.getFeatures().map((feature) => [feature.getId(), feature]));
    for (const drawing of drawings) {
      let feature = known.get(drawing.id);
      known.delete(drawing.id);
      const text = JSON.stringify(drawing.geometry);
      if (!feature) {
        feature = new ol.Feature();
        feature.setId(drawing.id);
        this.drawings.addFeature(feature);
      }
      if (feature.get("text") !== text) feature.setGeometry(this.#geometry(drawing.geometry));
      feature.setProperties({ text, colour: colours.get(drawing.class_id) });
    }
    for (const feature of known.values()) {
      this.drawings.removeFeature(feature);
      this.selection.remove(feature);
    }
  }

  select(ids) {
    this.selection.clear();
    for (const id of ids) {
      const feature = this.drawings.getFeatureById(id);
      if (feature) this.selection.push(feature);
    }
    this.drawings.changed();
  }

  setTool(tool) {
    for (const interaction of this.tools || []) this.map.removeInteraction(interaction);
    this.abandon();
    this.tool = tool;
    this.tools = this.#interactions(tool);
    for (const interaction of this.tools) this.map.addInteraction(interaction);
    this.map.getViewport().style.cursor = tool === "pan" ? "grab" : tool === "select" ? "pointer" : "crosshair";
  }

  setColour(colour) {
    this.colour = colour;
    this.sketch.changed();
  }

  abandon() {
    this.begun = [];
    for (const interaction of this.tools || []) if (interaction.abortDrawing) interaction.abortDrawing();
    this.#sketchCross();
  }

  zoom(steps) {
    const view = this.map.getView();
    view.animate({ zoom: view.getZoom() + steps, duration: 120 });
  }

  whenPainted() {
    return new Promise((resolve) => {
      this.map.once("rendercomplete", resolve);
      this.map.render();
    });
  }

  #drawn(shown, size) {
    const canvas = Object.assign(document.createElement("canvas"), { width: size[0], height: size[1] });
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const [scaleX, scaleY] = [size[0] / (shown[2] - shown[0]), size[1] / (shown[3] - shown[1])];
    context.drawImage(this.canvas, -shown[0] * scaleX, (shown[3] - this.part.height) * scaleY, this.part.width * scaleX, this.part.height * scaleY);
    return canvas;
  }

  #interactions(tool) {
    if (tool === "select") {
      const select = new ol.interaction.Select({ features: this.selection, hitTolerance: 8, style: null, layers: (layer) => layer.getSource() === this.drawings });
      select.on("select", () => this.told.selected(this.selection.getArray().map((feature) => feature.getId())));
      const modify = new ol.interaction.Modify({ features: this.selection, pixelTolerance: 12 });
      modify.on("modifyend", (event) => {
        for (const feature of event.features.getArray()) this.told.reshaped(feature.getId(), this.#toGeoJSON(feature.getGeometry()));
      });
      return [select, modify];
    }
    const make = {
      point: () => new ol.interaction.Draw({ type: "Point" }),
      line: () => new ol.interaction.Draw({ type: "LineString", freehand: true }),
      box: () => new ol.interaction.Draw({ type: "Circle", freehand: true, geometryFunction: ol.interaction.Draw.createBox() }),
    }[tool];
    if (!make) return [];
    const draw = make();
    draw.on("drawend", (event) => {
      const began = performance.now();
      const geometry = event.feature.getGeometry();
      const simple = tool === "line" ? geometry.simplify(SMALLEST_MOVE) : geometry;
      this.#finish(tool, simple.getCoordinates(), began);
    });
    return [draw];
  }

  // A drawing from coordinates of the view.
  #finish(tool, coordinates, began) {
    const moved = this.toImage(coordinates);
    const inside = ([x, y]) => x >= 0 && y >= 0;
    let geometry;
    if (tool === "point") geometry = { type: "Point", coordinates: moved.map((value) => Math.floor(value) + 0.5) };
    if (tool === "line") {
      const apart = moved.some(([x, y]) => x !== moved[0][0] || y !== moved[0][1]);
      geometry = apart && moved.length > 1 ? { type: "LineString", coordinates: moved } : { type: "Point", coordinates: moved[0].map((value) => Math.floor(value) + 0.5) };
    }
    if (tool === "box") geometry = boxOf(moved[0], this.part);
    const anywhere = geometry.type === "Point" ? [geometry.coordinates] : geometry.type === "LineString" ? geometry.coordinates : geometry.coordinates[0];
    if (anywhere.some(inside)) this.told.drawn(geometry, began);
  }

  #geometry(geometry) {
    return new ol.format.GeoJSON().readGeometry({ type: geometry.type, coordinates: this.toView(geometry.coordinates) });
  }

  #toGeoJSON(geometry) {
    return { type: geometry.getType(), coordinates: this.toImage(geometry.getCoordinates()) };
  }

  #style(feature) {
    const colour = feature.get("colour") || this.colour;
    const chosen = this.selection.getArray().includes(feature);
    const outline = (width, shade) => new ol.style.Stroke({ color: shade, width });
    const dot = (radius, shade) => new ol.style.Circle({ radius, fill: new ol.style.Fill({ color: shade }) });
    const halo = chosen ? "#000000" : "#ffffff";
    return [
      new ol.style.Style({ stroke: outline(chosen ? 7 : 5, halo), image: dot(chosen ? 8 : 6, halo) }),
      new ol.style.Style({ stroke: outline(2.5, colour), image: dot(4, colour) }),
    ];
  }

  // The cross that keys move

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = KEYBOARD_STEP[event.key];
    if (step) {
      const far = event.shiftKey ? 10 : 1;
      const { row, column, width, height } = this.part;
      const at = this.cross || [column + Math.floor(width / 2), row + Math.floor(height / 2)];
      const clamp = (value, low, size) => Math.min(Math.max(value, low), low + size - 1);
      this.cross = this.cross ? [clamp(at[0] + far * step[0], column, width), clamp(at[1] + far * step[1], row, height)] : at;
      this.#showCross(true);
    } else if (event.key === "Enter" && this.cross) this.#enter();
    else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 0.5 : -0.5);
    else return;
    event.preventDefault();
  }

  #enter() {
    const began = performance.now();
    const [x, y] = this.toView([this.cross[0] + 0.5, this.cross[1] + 0.5]);
    const last = this.begun[this.begun.length - 1];
    if (this.tool === "point") this.#finish("point", [x, y], began);
    if (this.tool === "select") {
      const nearest = this.drawings.getClosestFeatureToCoordinate([x, y]);
      this.told.selected(nearest ? [nearest.getId()] : []);
    }
    if (this.tool === "line" && last && last[0] === x && last[1] === y) {
      const corners = this.begun;
      this.abandon();
      this.#finish("line", corners, began);
    } else if (this.tool === "line") this.begun.push([x, y]);
    if (this.tool === "box" && last) {
      this.abandon();
      this.#finish("box", [[last, [x, y]]], began);
    } else if (this.tool === "box") this.begun.push([x, y]);
    this.#sketchCross();
  }

  #showCross(visible) {
    this.sketching = visible;
    this.#sketchCross();
    if (!visible) return;
    this.told.pointed(...this.cross);
    const [x, y] = this.toView([this.cross[0] + 0.5, this.cross[1] + 0.5]);
    const view = this.map.getView();
    if (!ol.extent.containsCoordinate(view.calculateExtent(), [x, y])) view.setCenter([x, y]);
  }

  #sketchCross() {
    this.sketch.clear();
    if (!this.cross || !this.sketching) return;
    const [x, y] = this.toView([this.cross[0] + 0.5, this.cross[1] + 0.5]);
    const long = 8 * this.map.getView().getResolution();
    const arms = new ol.geom.MultiLineString([[[x - long, y], [x + long, y]], [[x, y - long], [x, y + long]]]);
    this.sketch.addFeature(new ol.Feature({ geometry: arms, colour: "#000000" }));
    if (this.begun.length) this.sketch.addFeature(new ol.Feature(new ol.geom.LineString([...this.begun, [x, y]])));
  }
}

// Whole pixels of the shown part between two corners, as a polygon.
function boxOf(corners, part) {
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  const within = (value, low, size) => Math.min(Math.max(value, low), low + size);
  const left = within(Math.floor(Math.min(...xs)), part.column, part.width - 1);
  const top = within(Math.floor(Math.min(...ys)), part.row, part.height - 1);
  const right = Math.max(within(Math.ceil(Math.max(...xs)), part.column, part.width), left + 1);
  const bottom = Math.max(within(Math.ceil(Math.max(...ys)), part.row, part.height), top + 1);
  return { type: "Polygon", coordinates: [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]] };
}

function grown([left, bottom, right, top]) {
  const [x, y] = [(right - left) / 2, (top - bottom) / 2];
  return [left - x, bottom - y, right + x, top + y];
}
