// Example exchanges that were kept: a list to choose from.

import { h } from "./dom.js";
import { time } from "./format.js";
import { link } from "./route.js";

/** The list; `found` is null while it is on its way. */
export function examples(found, route) {
  return h("section", { class: "panel", "aria-labelledby": "examples-title" },
    h("h2", { id: "examples-title" }, "Examples ",
      h("small", {}, "a few of each kind are kept", route.field && ["; with ", h("code", {}, route.field)])),
    found === null && h("p", { class: "empty" }, "Asking…"),
    found?.length === 0 && h("p", { class: "empty" }, "None was kept that passes the filter."),
    found?.length > 0 && h("div", { class: "scroll" }, h("table", { id: "examples", class: "examples" },
      h("thead", {}, h("tr", {}, ["Request", "Verdict", "Production", "Shadow", "Differences"].map((it) => h("th", { scope: "col" }, it)))),
      h("tbody", {}, found.map((it) => row(it, route))))));
}

function row(it, route) {
  return h("tr", { key: it.id },
    h("th", { scope: "row", class: "name" },
      h("a", { href: link({ ...route, view: "example", id: it.id, name: it.endpoint }) },
        h("span", { class: "method" }, it.method), it.target)),
    h("td", {}, h("span", { class: `tag v-${it.verdict}` }, it.verdict)),
    h("td", { class: "number" }, it.production.status, " ", h("small", {}, time(it.production.seconds))),
    h("td", { class: "number" }, it.shadow.status, " ", h("small", {}, time(it.shadow.seconds))),
    h("td", { class: "differences" }, h("code", {}, it.fields.slice(0, 4).join(", ")), it.fields.length > 4 && ` and ${it.fields.length - 4} more`));
}
