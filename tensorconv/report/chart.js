// Charts: points and lines in SVG, each with its title, a legend, and its numbers as a table.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const MARKS = ["circle", "square", "triangle", "cross", "star", "turned"]; // a diamond is what was chosen
const LEAST = 1e-8; // where logarithmic axes end: below is rounding
const HEIGHT = 270, LEFT = 52, RIGHT = 14, TOP = 10, BOTTOM = 42;

// Make an element; texts become text nodes, never markup.
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function mark(kind, x, y, r = 4.5) {
  const at = (...steps) => steps.map(([dx, dy], i) => `${i ? "L" : "M"}${x + r * dx} ${y + r * dy}`).join("");
  return {
    circle: `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
    square: at([-.85, -.85], [.85, -.85], [.85, .85], [-.85, .85]) + "Z",
    triangle: at([0, -1.1], [1.05, .8], [-1.05, .8]) + "Z",
    turned: at([0, 1.1], [1.05, -.8], [-1.05, -.8]) + "Z",
    diamond: at([0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]) + "Z",
    cross: at([-.85, -.85], [.85, .85]) + at([-.85, .85], [.85, -.85]),
    star: at([-1.1, 0], [1.1, 0]) + at([0, -1.1], [0, 1.1]),
  }[kind];
}

// About five round numbers from 0 to the largest; on a logarithmic axis, powers of ten.
function ticks(low, high, logarithmic) {
  const found = [];
  if (logarithmic) {
    const step = Math.max(1, Math.ceil((Math.log10(high) - Math.log10(low)) / 6));
    const between = high / low < 101 ? [1, 2, 5] : [1];
    for (let e = Math.ceil(Math.log10(high)); e >= Math.log10(low) - 1e-9; e -= step) {
      found.push(...between.map((n) => n * 10 ** e).filter((y) => y <= high * 1.0001));
    }
    return found;
  }
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * .999);
  for (let i = Math.ceil(low / step); i * step <= high * 1.0001; i++) found.push(i * step);
  return found;
}

const number = (value) => value === 0 ? "0"
  : Math.abs(value) < .001 || Math.abs(value) >= 1e4 ? value.toExponential(Math.abs(value) < 1 ? 0 : 1)
  : String(Number(value.toPrecision(3)));

// series: {name, style, points: [{x, y, text}], line} each; frontier: points under a line; chosen: one point with a name.
function plot(width, chart) {
  const every = [...chart.series.flatMap((one) => one.points), ...(chart.chosen ? [chart.chosen] : [])];
  const ys = every.map((point) => point.y).filter((y) => !chart.logarithmic || y > 0);
  const xHigh = chart.xHigh ?? Math.max(...every.map((point) => point.x)), xLow = chart.xLow ?? 0;
  const low = chart.logarithmic ? Math.max(LEAST, 10 ** Math.floor(Math.log10(Math.min(...ys)) + 1e-9)) : 0;
  const high = (chart.logarithmic ? 1 : 1.05) * (Math.max(...ys) || 1);
  const scaled = (y) => chart.logarithmic ? Math.log10(Math.max(y, low) / low) / (Math.log10(high / low) || 1) : y / high;
  const px = (x) => LEFT + (width - LEFT - RIGHT) * (x - xLow) / (xHigh - xLow || 1);
  const py = (y) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * scaled(y);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": chart.label });
  for (const y of ticks(low, high, chart.logarithmic)) {
    svg.append(draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: py(y), y2: py(y) }),
      draw("text", { x: LEFT - 8, y: py(y) + 4, "text-anchor": "end" }, number(y)));
  }
  for (const x of ticks(xLow, xHigh, false)) {
    svg.append(draw("text", { x: px(x), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, chart.xText(x)));
  }
  svg.append(draw("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: py(low), y2: py(low) }),
    draw("text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, chart.xTitle));
  const path = (points) => points.map((p, i) => `${i ? "L" : "M"}${px(p.x).toFixed(1)} ${py(p.y).toFixed(1)}`).join("");
  if (chart.frontier) svg.append(draw("path", { class: "frontier", d: path(chart.frontier) }));
  for (const one of chart.series) {
    const i = one.style % 6;
    if (one.line) svg.append(draw("path", { class: `trace series-${i}`, d: path(one.points) }));
    const apart = one.line ? Math.ceil(one.points.length / 12) : 1;
    for (const point of one.points.filter((_, at) => at % apart === 0)) {
      const node = draw("path", { class: `mark series-${i}`, d: mark(MARKS[i], px(point.x), py(point.y), one.line ? 3 : 4.5) });
      node.append(draw("title", {}, point.text));
      svg.append(node);
    }
  }
  if (chart.chosen) {
    const [x, y] = [px(chart.chosen.x), py(chart.chosen.y)];
    svg.append(draw("path", { class: "chosen", d: mark("diamond", x, y, 8) }, draw("title", {}, chart.chosen.text)));
    const left = x > width - 110;
    svg.append(draw("text", { class: "name", x: x + (left ? -13 : 13), y: y - 7, "text-anchor": left ? "end" : "start" },
      chart.chosen.name));
  }
  return svg;
}

function legend(chart) {
  const sample = (kind, attributes) => draw("svg", { viewBox: "0 0 18 14", "aria-hidden": "true" },
    draw("path", { ...attributes, d: kind === "line" ? "M1 7L17 7" : mark(kind, 9, 7, kind === "diamond" ? 5 : 4.5) }));
  const entries = chart.series.map((one) => make("li", {},
    sample(MARKS[one.style % 6], { class: `mark series-${one.style % 6}` }), one.name));
  if (chart.frontier) entries.push(make("li", {}, sample("line", { class: "frontier" }), "least error at a cost"));
  if (chart.chosen) entries.push(make("li", {}, sample("diamond", { class: "chosen" }), chart.chosen.name));
  return make("ul", { class: "legend" }, ...entries);
}

// The numbers of a chart, made when they are asked for.
function numbers(chart) {
  const details = make("details", {}, make("summary", {}, "Numbers of this chart"));
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const head = make("tr", {}, ...chart.columns.map((title) => make("th", { scope: "col" }, title)));
    const rows = chart.rows().map(([first, ...rest]) =>
      make("tr", {}, make("th", { scope: "row" }, first), ...rest.map((cell) => make("td", {}, cell))));
    details.append(make("div", { class: "numbers", role: "group", tabindex: "0", "aria-label": chart.title },
      make("table", {}, make("caption", { class: "spoken" }, chart.title), make("thead", {}, head), make("tbody", {}, ...rows))));
  });
  return details;
}

// Put a chart into a place; it is drawn again when its width changes, so that its texts keep their size.
function show(place, chart) {
  const frame = make("div");
  place.append(make("figure", {}, make("figcaption", {}, chart.title), frame, legend(chart), numbers(chart)));
  let before = 0;
  new ResizeObserver(() => {
    const width = Math.round(frame.clientWidth);
    if (width && width !== before) frame.replaceChildren(plot(before = width, chart));
  }).observe(frame);
}
