// Where answers differ: a tree of paths, real differences against noise. A field filters the examples.

import { h } from "./dom.js";
import { count, share } from "./format.js";
import { change } from "./route.js";
import { KINDS } from "./verdict.js";

/** The tree of an endpoint's fields. */
export function fields(endpoint, route) {
  const roots = tree(endpoint.fields);
  return h("section", { class: "panel", "aria-labelledby": "fields-title" },
    h("h2", { id: "fields-title" }, "Fields that differ ",
      h("small", {}, "of ", count(endpoint.compared), " compared")),
    roots.length === 0
      ? h("p", { class: "empty" }, "None.")
      : h("div", { class: "scroll" }, h("table", { id: "fields", class: "fields" },
        h("thead", {}, h("tr", {}, ["Field", "How", "Differ", "Baseline", "Part"].map((it) => h("th", { scope: "col" }, it)))),
        h("tbody", {}, roots.flatMap((it) => rows(it, 0, endpoint, route))))),
    endpoint.fields_beyond > 0 && h("p", { class: "note" }, `${count(endpoint.fields_beyond)} differences are of further fields.`));
}

/** Fields by their paths' parts, a part with one child only drawn together with it. */
export function tree(fields) {
  const root = { children: new Map() };
  for (const field of fields) {
    let node = root;
    for (const part of field.path.split(".")) {
      if (!node.children.has(part)) node.children.set(part, { part, children: new Map(), fields: [] });
      node = node.children.get(part);
    }
    node.fields.push(field);
    node.path = field.path;
  }
  return [...root.children.values()].map(folded).sort(byCount);
}

function folded(node) {
  let { part } = node;
  while (node.fields.length === 0 && node.children.size === 1) {
    [node] = node.children.values();
    part += `.${node.part}`;
  }
  const children = [...node.children.values()].map(folded).sort(byCount);
  const own = node.fields.reduce((sum, it) => sum + (it.noise ? 0 : it.count), 0);
  return { part, path: node.path, fields: node.fields, children, total: children.reduce((sum, it) => sum + it.total, own) };
}

function byCount(a, b) {
  return b.total - a.total || (a.part < b.part ? -1 : 1);
}

function rows(node, depth, endpoint, route) {
  const own = node.fields.length === 0
    ? [h("tr", { key: `${depth} ${node.part}` }, name(node.part, depth), h("td", { colspan: "4" }))]
    : node.fields.map((field, index) => row(field, index === 0 ? node.part : "", depth, endpoint, route));
  return [...own, ...node.children.flatMap((it) => rows(it, depth + 1, endpoint, route))];
}

function row(field, label, depth, endpoint, route) {
  const chosen = route.field === field.path;
  const pick = h("button", {
    type: "button", class: "field", "aria-pressed": String(chosen), "aria-label": `Examples with ${field.path}`,
    "data-field": field.path, onclick: () => change({ field: chosen ? "" : field.path }),
  }, label || "″");
  const width = (number, whole) => (whole ? (100 * number) / whole : 0);
  return h("tr", { key: `${field.path} ${field.kind}`, class: field.noise ? "is-noise" : "" }, name(pick, depth),
    h("td", { class: "kind", title: KINDS[field.kind] }, field.kind, field.noise && " (noise)"),
    h("td", { class: `number ${field.noise ? "" : "bad"}` }, count(field.count), h("small", {}, ` ${share(field.count, endpoint.compared)}`)),
    h("td", { class: "number" }, endpoint.baseline ? [count(field.baseline), h("small", {}, ` ${share(field.baseline, endpoint.baseline)}`)] : "–"),
    h("td", { class: "gauge", "aria-hidden": "true" },
      h("div", { class: "bar" }, h("span", { class: `fill ${field.noise ? "noise" : "v-status"}`, "width%": width(field.count, endpoint.compared) })),
      endpoint.baseline > 0 && h("div", { class: "bar" }, h("span", { class: "fill noise", "width%": width(field.baseline, endpoint.baseline) }))));
}

function name(content, depth) {
  return h("th", { scope: "row", class: `name indent-${Math.min(depth, 6)}` }, content);
}
