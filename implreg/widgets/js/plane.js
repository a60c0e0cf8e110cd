import { html, svg } from "./dom.js";
import { fixed } from "./format.js";
import { outputsAt } from "./network.js";
import { layerColour } from "./panel.js";

const EDGE = 1.7; // the plane is drawn from -EDGE to EDGE; samples have norm 1
const SIZE = 300; // of the drawing, in its own units
const CELLS = 56; // of the shading, along each side
const STEP = 0.02; // of the arrow keys; ten times with Shift
const POSITIVE = [230, 120, 40];
const NEGATIVE = [40, 130, 200];

/**
 * The plane through both samples and the origin: two points to drag, the path between them with its
 * breakpoints, the lines on which units of the first layer switch, and the output as a shade.
 */
export class Plane {
  /** @param move called with both points when the reader has moved one */
  constructor(move) {
    this.move = move;
    this.canvas = html("canvas", { width: CELLS, height: CELLS, "aria-hidden": "true" });
    this.folds = svg("path", { class: "folds" });
    this.circle = svg("circle", { class: "circle", cx: SIZE / 2, cy: SIZE / 2, r: (SIZE / 2) / EDGE });
    this.origin = svg("path", { class: "origin", d: `M${SIZE / 2 - 4} ${SIZE / 2}h8m-4-4v8` });
    this.way = svg("path", { class: "way" });
    this.cuts = svg("g");
    this.here = svg("circle", { class: "here", r: 4.5 });
    this.handles = ["A", "B"].map((name, which) => this.#handle(name, which));
    this.svg = svg(
      "svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "group", "aria-label": "The plane of the two samples" },
      this.folds, this.circle, this.origin, this.way, this.cuts, this.here, ...this.handles,
    );
    this.element = html("div", { class: "plane" }, this.canvas, this.svg);
    this.points = [[1, 0], [0, 1]];
    this.movable = true;
  }

  /** Draw both points, the path, its breakpoints and the position t. */
  draw(points, path, layers, t) {
    this.points = points;
    const [a, b] = points.map(([x, y]) => [toX(x), toY(y)]);
    const at = (share) => [a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])];
    this.way.setAttribute("d", `M${a}L${b}`);
    const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
    const across = [(-(b[1] - a[1]) / length) * 5, ((b[0] - a[0]) / length) * 5];
    const ticks = Array(layers).fill("");
    path.t.forEach((share, i) => {
      const [x, y] = at(share);
      ticks[path.layer[i]] += `M${(x - across[0]).toFixed(1)} ${(y - across[1]).toFixed(1)}`
        + `l${(2 * across[0]).toFixed(1)} ${(2 * across[1]).toFixed(1)}`;
    });
    while (this.cuts.children.length < layers) this.cuts.append(svg("path"));
    [...this.cuts.children].forEach((line, layer) => {
      line.setAttribute("d", ticks[layer] ?? "");
      line.style.stroke = layerColour(layer, layers);
    });
    const [x, y] = at(t);
    this.here.setAttribute("cx", x);
    this.here.setAttribute("cy", y);
    this.handles.forEach((handle, which) => {
      const [px, py] = points[which];
      handle.setAttribute("transform", `translate(${toX(px)} ${toY(py)})`);
      handle.setAttribute("aria-valuenow", fixed(Math.atan2(py, px) * (180 / Math.PI), 0).replace("\u2212", "-"));
      handle.setAttribute("aria-valuetext", `${fixed(px, 2)} across, ${fixed(py, 2)} up`);
      handle.setAttribute("aria-disabled", String(!this.movable));
    });
  }

  /** Draw the first layer's folds at once, and shade the plane when there is time. */
  show(network, unit, output) {
    const { weights, biases, outputs } = network[0];
    let d = "";
    for (let i = 0; i < outputs; i++) {
      const [p, q] = [weights[2 * i] * unit, weights[2 * i + 1] * unit];
      const size = Math.hypot(p, q);
      if (!(size > 0) || !Number.isFinite(size)) continue;
      const far = -biases[i] / size;
      if (!(Math.abs(far) < 2 * EDGE)) continue;
      const [u, v] = [p / size, q / size];
      const ends = [-3, 3].map((s) => `${toX(far * u - s * v).toFixed(1)} ${toY(far * v + s * u).toFixed(1)}`);
      d += `M${ends[0]}L${ends[1]}`;
    }
    this.folds.setAttribute("d", d);
    clearTimeout(this.later);
    this.later = setTimeout(() => this.#shade(network, unit, output), 60);
  }

  /** Nothing is known of the plane but the path. */
  clear() {
    clearTimeout(this.later);
    this.folds.setAttribute("d", "");
    this.canvas.getContext("2d")?.clearRect(0, 0, CELLS, CELLS);
  }

  #shade(network, unit, output) {
    const context = this.canvas.getContext("2d");
    if (!context) return;
    const values = new Float64Array(CELLS * CELLS);
    let largest = 0;
    for (let row = 0, k = 0; row < CELLS; row++) {
      for (let column = 0; column < CELLS; column++, k++) {
        const x = EDGE * ((2 * (column + 0.5)) / CELLS - 1) * unit;
        const y = -EDGE * ((2 * (row + 0.5)) / CELLS - 1) * unit;
        values[k] = outputsAt(network, [x, y])[output];
        if (Number.isFinite(values[k])) largest = Math.max(largest, Math.abs(values[k]));
      }
    }
    const image = context.createImageData(CELLS, CELLS);
    values.forEach((value, k) => {
      const share = largest > 0 && Number.isFinite(value) ? value / largest : 0;
      image.data.set([...(share > 0 ? POSITIVE : NEGATIVE), 150 * Math.sqrt(Math.abs(share))], 4 * k);
    });
    context.putImageData(image, 0, 0);
  }

  #handle(name, which) {
    const handle = svg(
      "g",
      {
        class: "handle", role: "slider", tabindex: 0, "aria-label": `Sample ${name}`,
        "aria-valuemin": -180, "aria-valuemax": 180,
      },
      svg("circle", { r: 22, class: "reach" }), svg("circle", { r: 10 }),
      svg("text", { "text-anchor": "middle", dy: "0.35em" }, name),
    );
    const put = (x, y) => {
      if (!this.movable || !Number.isFinite(x + y)) return;
      const inside = [x, y].map((value) => Math.min(Math.max(value, -EDGE), EDGE));
      this.points = this.points.map((point, i) => (i === which ? inside : point));
      this.move(this.points);
    };
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = this.svg.getBoundingClientRect();
      const x = (2 * (event.clientX - box.left)) / box.width - 1;
      const y = 1 - (2 * (event.clientY - box.top)) / box.height;
      put(EDGE * x, EDGE * y);
    });
    handle.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!way) return;
      event.preventDefault();
      const far = event.shiftKey ? 10 * STEP : STEP;
      const [x, y] = this.points[which];
      put(x + far * way[0], y + far * way[1]);
    });
    return handle;
  }
}

function toX(x) {
  return (SIZE / 2) * (1 + x / EDGE);
}

function toY(y) {
  return (SIZE / 2) * (1 - y / EDGE);
}
