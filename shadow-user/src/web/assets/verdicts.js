// Verdicts of a tally: one bar, and a list that filters.

import { h } from "./dom.js";
import { count, share } from "./format.js";
import { change } from "./route.js";
import { VERDICTS } from "./verdict.js";

/** The verdicts of a tally as one bar. */
export function bar(tally) {
  const given = Object.keys(VERDICTS).filter((it) => tally.verdicts[it]);
  const label = given.map((it) => `${it} ${share(tally.verdicts[it], tally.exchanges)}`).join(", ");
  return h("div", { class: "bar", role: "img", "aria-label": label || "nothing yet", title: label },
    given.map((it) => h("span", { key: it, class: `fill v-${it}`, "width%": (100 * tally.verdicts[it]) / tally.exchanges })));
}

/** The verdicts of a tally with their counts, each a filter. */
export function verdicts(tally, route) {
  return h("section", { class: "panel", "aria-labelledby": "verdicts-title" },
    h("h2", { id: "verdicts-title" }, "Verdicts"),
    bar(tally),
    h("ul", { class: "verdicts" }, Object.entries(VERDICTS).map(([verdict, meaning]) => {
      const chosen = route.verdict === verdict;
      const number = tally.verdicts[verdict] ?? 0;
      return h("li", { key: verdict },
        h("button", {
          type: "button", id: `verdict-${verdict}`, class: number ? "" : "none", title: meaning,
          "aria-pressed": String(chosen), onclick: () => change({ verdict: chosen ? "" : verdict }),
        },
        h("i", { class: `dot v-${verdict}`, "aria-hidden": "true" }),
        h("span", { class: "word" }, verdict),
        h("span", { class: "number" }, count(number)),
        h("small", { class: "number" }, share(number, tally.exchanges))));
    })));
}
