// One example: the request, production's response and the shadow's side by side.

import { h } from "./dom.js";
import { bytes, change, time } from "./format.js";
import { KINDS, VERDICTS } from "./verdict.js";

/** The pair, as `/api/v1/examples/{id}` gives it. */
export function pair(it) {
  const fields = new Set(it.differences.filter((one) => !one.noise && one.path.startsWith("header.")).map((one) => one.path.slice(7)));
  return [
    h("section", { class: "panel", "aria-labelledby": "pair-title" },
      h("h2", { id: "pair-title" }, h("span", { class: `tag v-${it.verdict}` }, it.verdict), " ", h("small", {}, VERDICTS[it.verdict])),
      h("p", { class: "request-line" }, h("span", { class: "method" }, it.method), it.target),
      h("p", { class: "note" }, `${it.client} to ${it.server}, ${it.protocol}`,
        ` · production ${time(it.production.seconds)}, shadow ${time(it.shadow.seconds)} `,
        `(${change(it.production.seconds, it.shadow.seconds)})`),
      differences(it)),
    h("section", { class: "panel request", "aria-labelledby": "request-title" },
      h("h2", { id: "request-title" }, "Request"), message(it.request, new Set())),
    h("div", { class: "sides" },
      side("production", it.production, fields, it.shadow),
      side("shadow", it.shadow, fields, it.production)),
  ];
}

function differences({ differences, more }) {
  if (differences.length === 0) return h("p", { class: "empty" }, "No difference.");
  return h("div", { class: "scroll" }, h("table", { id: "differences", class: "differences" },
    h("thead", {}, h("tr", {}, ["Field", "How", "Production", "Shadow"].map((it) => h("th", { scope: "col" }, it)))),
    h("tbody", {}, differences.map((it) => h("tr", { class: it.noise ? "is-noise" : "" },
      h("th", { scope: "row", class: "name" }, h("code", {}, it.path)),
      h("td", { class: "kind", title: KINDS[it.kind] }, it.kind, it.noise && " (noise)"),
      h("td", { class: "value production" }, value(it.production)),
      h("td", { class: "value shadow" }, value(it.shadow)))))),
  more > 0 && h("p", { class: "note" }, `and ${more} more`));
}

function value(text) {
  return text === null ? h("span", { class: "none" }, "–") : h("code", {}, text);
}

function side(leg, response, fields, other) {
  return h("section", { class: `panel side ${leg}`, "aria-labelledby": `${leg}-title` },
    h("h2", { id: `${leg}-title` }, h("i", { class: "dot", "aria-hidden": "true" }), leg === "production" ? "Production" : "Shadow",
      h("small", {}, ` ${time(response.seconds)}`)),
    response.unpaired
      ? h("p", { class: "empty" }, `No answer: ${response.unpaired}.`)
      : [h("p", { class: `status-line ${response.status === other.status ? "" : "differs"}` }, response.line || response.status), message(response, fields)]);
}

function message({ head, trailers, body }, fields) {
  return [
    head.length > 0 && heads(head, fields),
    trailers?.length > 0 && [h("h3", {}, "Trailers"), heads(trailers, fields)],
    h("p", { class: "note" }, `Body: ${bytes(body.bytes)}`, body.cut && `, the first ${bytes(body.kept)} are shown`, body.hidden && `; ${body.hidden}`),
    body.text != null && h("pre", { class: "body", tabindex: "0", "aria-label": "Body" }, body.text),
  ];
}

function heads(list, fields) {
  return h("table", { class: "head" }, h("tbody", {}, list.map(([name, text]) =>
    h("tr", { class: fields.has(name.toLowerCase()) ? "differs" : "" },
      h("th", { scope: "row" }, name), h("td", {}, text)))));
}
