// The page: themes, sorting, filtering, and layers that open to their charts. Without it, everything but charts is there.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const table = document.querySelector("table.layers");
const bodies = [...table.tBodies];
const METHODS = [...new Set(data.layers.flatMap((layer) => layer.points.map((point) => point.method)))];
const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
document.documentElement.classList.add("js");

function themes() {
  const button = document.getElementById("theme"), root = document.documentElement;
  let dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { button.textContent = dark ? "Light theme" : "Dark theme"; };
  button.addEventListener("click", () => {
    dark = !dark;
    root.style.colorScheme = dark ? "dark" : "light";
    label();
  });
  label();
  button.hidden = false;
}

function methodCurves(layer) {
  const methods = [...new Set(layer.points.map((point) => point.method))];
  const text = (point) => `${point.method} ${point.text}: ${percent(point.macs / layer.macs)} of the MACs, error ${number(point.error)}`
    + (point.time === null ? "" : `, ${percent(point.time)} of the time`);
  const at = (point) => ({ x: point.macs / layer.macs, y: point.error, text: text(point) });
  const sorted = [...layer.points].sort((a, b) => a.macs - b.macs || a.error - b.error);
  const least = sorted.filter((point, i) => sorted.slice(0, i).every((other) => other.error > point.error));
  const chosen = layer.points.find((point) => point.chosen);
  return {
    title: "Error of the candidates against MACs",
    label: `Error against share of MACs, ${layer.points.length} factorizations by ${methods.join(", ")}`
      + (chosen ? `; chosen: ${text(chosen)}` : "; none chosen"),
    xTitle: "share of the layer's MACs", xText: percent, xHigh: 1,
    series: methods.map((name) => ({ name, style: METHODS.indexOf(name), points: layer.points.filter((point) => point.method === name).map(at) })),
    frontier: least.length > 1 ? least.map(at) : null,
    chosen: chosen && { ...at(chosen), name: "chosen" },
    columns: ["method", "options", "MACs", "error", "time", "chosen"],
    rows: () => sorted.map((point) => [point.method, point.text, percent(point.macs / layer.macs), number(point.error),
      point.time === null ? "not timed" : percent(point.time), point.chosen ? "yes" : ""]),
  };
}

function spectra(layer) {
  const names = Object.keys(layer.spectra);
  const last = Math.max(...names.map((name) => layer.spectra[name].at(-1)[0]));
  return {
    title: "Singular values of the kernel, the largest 1",
    label: "Singular values over the largest, logarithmic: "
      + names.map((name) => `${name} fall to ${number(layer.spectra[name].at(-1)[1])} at ${layer.spectra[name].at(-1)[0]}`).join("; "),
    xTitle: "number of the singular value", xText: (x) => Number.isInteger(x) ? String(x) : "", xLow: 1, xHigh: last, logarithmic: true,
    series: names.map((name, style) => ({ name, style, line: true,
      points: layer.spectra[name].map(([x, y]) => ({ x, y, text: `${name} ${x}: ${number(y)}` })) })),
    columns: ["unfolding", "number", "over the largest"],
    rows: () => names.flatMap((name) => layer.spectra[name].map(([x, y]) => [name, String(x), number(y)])),
  };
}

function tradeOff(found) {
  const points = found.points.map(([x, y]) => ({ x, y, text: `${percent(x)}: ${number(y)}` }));
  const [x, y] = found.chosen;
  return {
    title: `${found.error[0].toUpperCase()}${found.error.slice(1)}, over the share of ${found.cost}`,
    label: `${found.error} falls from ${number(points[0].y)} at ${percent(points[0].x)} of the ${found.cost} to ${number(points.at(-1).y)} `
      + `at ${percent(points.at(-1).x)}; this plan: ${number(y)} at ${percent(x)}`,
    xTitle: `share of the ${found.cost} of all convolutions`, xText: percent, xHigh: 1,
    series: [{ name: "least error that a budget allows", style: 0, points, line: true }],
    chosen: { x, y, text: `${percent(x)}: ${number(y)}`, name: "this plan" },
    columns: [`share of the ${found.cost}`, found.error],
    rows: () => points.map((point) => [percent(point.x), number(point.y)]),
  };
}

function open(body, wanted) {
  const button = body.querySelector("th button"), place = body.querySelector(".charts");
  button.setAttribute("aria-expanded", String(wanted));
  body.classList.toggle("open", wanted);
  if (!wanted || place.childElementCount) return;
  const layer = data.layers[body.dataset.layer];
  if (layer.points.length) show(place, methodCurves(layer));
  if (Object.keys(layer.spectra).length) show(place, spectra(layer));
}

function openers() {
  for (const body of bodies) {
    const cell = body.rows[0].cells[0];
    const button = make("button", { type: "button", "aria-expanded": "false", "aria-controls": body.rows[1].id }, cell.textContent);
    cell.replaceChildren(button);
    button.addEventListener("click", () => open(body, button.getAttribute("aria-expanded") === "false"));
  }
  const all = document.getElementById("all");
  all.addEventListener("click", () => {
    const wanted = all.getAttribute("aria-pressed") === "false";
    all.setAttribute("aria-pressed", String(wanted));
    for (const body of bodies) if (!body.hidden) open(body, wanted);
  });
}

function sorting() {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const order = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] ?? "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== "none") head.setAttribute("aria-sort", order);
      const key = (body) => body.rows[0].cells[column].dataset.key;
      const numeric = head.classList.contains("number"), sign = order === "descending" ? -1 : 1;
      const compare = (a, b) => {
        const [first, second] = [key(a), key(b)];
        if (first === "" || second === "") return (first === "") - (second === "");  // what has no number stays below
        return sign * (numeric ? first - second : first.localeCompare(second, "en", { numeric: true }));
      };
      table.tFoot.before(...(order === "none" ? bodies : [...bodies].sort(compare)));
    });
  });
}

function filtering() {
  const input = document.getElementById("filter"), count = document.getElementById("count"), all = count.textContent;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const body of bodies) {
      const text = body.rows[0].textContent.toLowerCase();
      body.hidden = !words.every((word) => text.includes(word));
    }
    const left = bodies.filter((body) => !body.hidden).length;
    count.textContent = words.length ? `${left} of ${bodies.length} convolutions` : all;
  });
  document.querySelector(".tools").hidden = false;
}

themes();
openers();
sorting();
filtering();
if (data.tradeOff) show(document.getElementById("trade-off"), tradeOff(data.tradeOff));
