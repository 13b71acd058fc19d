// The table of endpoints: what differs most comes first, unless told otherwise.

import { h } from "./dom.js";
import { change, count, share, time } from "./format.js";
import { isOn, passing } from "./filter.js";
import { filters, link } from "./route.js";
import { bar } from "./verdicts.js";

const COLUMNS = [
  ["name", "Endpoint", (it) => it.name],
  ["exchanges", "Exchanges", (it) => it.exchanges],
  ["differ", "Differ", (it) => it.mismatches / (it.compared || 1)],
  ["production", "Production p99", (it) => it.latency.production.p99 ?? -1],
  ["shadow", "Shadow p99", (it) => it.latency.shadow.p99 ?? -1],
  ["slower", "Change", (it) => ratio(it.latency)],
];

const sorting = { by: "differ", down: true };
let shown = [];

/** The table of an overview; `redraw` is called when its order has changed. */
export function endpoints(overview, route, redraw) {
  const found = overview.endpoints
    .filter((it) => !route.find || it.name.toLowerCase().includes(route.find.toLowerCase()))
    .map((it) => ({ ...it, passing: passing(it, route) }))
    .filter((it) => !isOn(route) || it.passing > 0);
  const rows = settled(found, route);
  return h("section", { class: "panel", "aria-labelledby": "endpoints-title" },
    h("h2", { id: "endpoints-title" }, "Endpoints ", h("small", {}, noted(rows.length, overview.endpoints.length))),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of endpoints" },
      h("table", { id: "endpoints" },
        h("thead", {}, h("tr", {},
          COLUMNS.map(([id, label]) => heading(id, label, redraw)),
          h("th", { scope: "col", class: "spread" }, "Verdicts"))),
        h("tbody", {}, rows.map((it) => row(it, route))))),
    rows.length === 0 && h("p", { class: "empty" }, isOn(route) || route.find ? "No endpoint passes the filter." : "No exchange yet."));
}

function noted(shown, all) {
  return shown === all ? String(all) : `${shown} of ${all}`;
}

function heading(id, label, redraw) {
  const chosen = sorting.by === id;
  const order = chosen ? (sorting.down ? "descending" : "ascending") : "none";
  const turn = () => {
    sorting.down = chosen ? !sorting.down : id !== "name";
    sorting.by = id;
    shown = [];
    redraw();
  };
  return h("th", { scope: "col", "aria-sort": order, class: id },
    h("button", { type: "button", id: `sort-${id}`, onclick: turn }, label,
      h("span", { class: "arrow", "aria-hidden": "true" }, chosen ? (sorting.down ? " ↓" : " ↑") : "")));
}

/** In order; under the pointer the order stays, so that a row does not jump away from a click. */
function settled(found, route) {
  const value = COLUMNS.find(([id]) => id === sorting.by)[2];
  const sign = sorting.down ? -1 : 1;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    return x < y ? -sign : x > y ? sign : b.mismatches - a.mismatches || b.exchanges - a.exchanges || (a.name < b.name ? -1 : 1);
  };
  const sorted = found.sort(compare);
  if (document.querySelector("#endpoints tbody:hover, #endpoints tbody:focus-within")) {
    const place = new Map(shown.map((name, index) => [name, index]));
    sorted.sort((a, b) => (place.get(a.name) ?? shown.length) - (place.get(b.name) ?? shown.length));
  }
  shown = sorted.map((it) => it.name);
  return sorted;
}

function row(it, route) {
  const { production, shadow } = it.latency;
  const [method, path] = split(it.name);
  return h("tr", { key: it.name },
    h("th", { scope: "row", class: "name" },
      h("a", { "data-name": it.name, href: link({ view: "endpoint", name: it.name, ...filters(route) }) },
        h("span", { class: "method" }, method), path)),
    h("td", { class: "number" }, count(it.exchanges), isOn(route) && h("small", {}, ` ${count(it.passing)} pass`)),
    h("td", { class: `number differ ${it.mismatches ? "bad" : "good"}` }, share(it.mismatches, it.compared)),
    h("td", { class: "number" }, time(production.p99)),
    h("td", { class: "number" }, time(shadow.p99)),
    h("td", { class: `number ${worse(it.latency)}` }, change(production.p99, shadow.p99)),
    h("td", { class: "spread" }, bar(it)));
}

/** The method and the rest of `GET /users/{id}`. */
export function split(name) {
  const space = name.indexOf(" ");
  return space < 0 ? ["", name] : [name.slice(0, space), name.slice(space + 1)];
}

function ratio({ production, shadow }) {
  return production.p99 && shadow.p99 ? shadow.p99 / production.p99 : -1;
}

function worse(latency) {
  return ratio(latency) > 1.2 ? "warn" : "";
}
