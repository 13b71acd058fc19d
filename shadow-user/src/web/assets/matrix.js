// Production's status against the shadow's. A cell is a filter.

import { h } from "./dom.js";
import { count, short } from "./format.js";
import { change } from "./route.js";

/** The matrix of a tally. */
export function matrix(tally, route) {
  const counts = new Map();
  for (const { production, shadow, count } of tally.statuses) {
    const key = `${production} ${shadow}`;
    counts.set(key, (counts.get(key) ?? 0) + count);
  }
  const rows = [...new Set(tally.statuses.map((it) => it.production))].sort(order);
  const columns = [...new Set(tally.statuses.map((it) => it.shadow))].sort(order);
  const most = Math.max(1, ...counts.values());
  return h("section", { class: "panel", "aria-labelledby": "matrix-title" },
    h("h2", { id: "matrix-title" }, "Status"),
    h("div", { class: "scroll" }, h("table", { id: "matrix", class: "matrix" },
      h("caption", {}, h("b", { class: "production" }, "production ↓"), " against ", h("b", { class: "shadow" }, "shadow →")),
      h("thead", {}, h("tr", {}, h("td", {}), columns.map((it) => h("th", { key: it, scope: "col" }, word(it))))),
      h("tbody", {}, rows.map((production) => h("tr", { key: production },
        h("th", { scope: "row" }, word(production)),
        columns.map((shadow) => cell(production, shadow, counts.get(`${production} ${shadow}`), most, route))))))),
    rows.length === 0 && h("p", { class: "empty" }, "No exchange yet."),
    tally.statuses_beyond > 0 && h("p", { class: "note" }, `${count(tally.statuses_beyond)} exchanges have further pairs.`));
}

function cell(production, shadow, number, most, route) {
  if (!number) return h("td", { key: shadow, class: "none" }, "·");
  const chosen = route.production === production && route.shadow === shadow;
  // Few among many must still be seen: the depth of colour goes with the logarithm.
  const depth = Math.ceil(4 * (Math.log(1 + number) / Math.log(1 + most)));
  const next = chosen ? { production: "", shadow: "" } : { production, shadow };
  return h("td", { key: shadow, class: `${production === shadow ? "same" : "other"} depth-${depth}` },
    h("button", {
      type: "button", "aria-pressed": String(chosen), onclick: () => change(next),
      "aria-label": `production ${word(production)}, shadow ${word(shadow)}: ${count(number)} exchanges`,
      title: `${count(number)} exchanges`,
    }, short(number)));
}

function word(status) {
  return status === "none" ? "none" : status;
}

function order(a, b) {
  return (a === "none") - (b === "none") || (a < b ? -1 : a > b ? 1 : 0);
}
