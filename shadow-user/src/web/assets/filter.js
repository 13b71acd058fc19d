// Which exchanges are looked at: by the status of each leg, and by verdict.

import { h } from "./dom.js";
import { change } from "./route.js";
import { VERDICTS } from "./verdict.js";

/** Whether a status passes `200`, `2xx`, `none` or one of these behind a `!`. */
export function passes(status, wanted) {
  if (!wanted) return true;
  if (wanted.startsWith("!")) return !passes(status, wanted.slice(1));
  if (/^\dxx$/.test(wanted)) return /^\d\d\d$/.test(status) && status[0] === wanted[0];
  return status === wanted;
}

/**
 * How many exchanges of a tally pass the filters of a route. Statuses and verdicts are counted apart:
 * with both of them it is how many may pass at most.
 */
export function passing(tally, { production, shadow, verdict }) {
  const statuses = tally.statuses
    .filter((it) => passes(it.production, production) && passes(it.shadow, shadow))
    .reduce((sum, it) => sum + it.count, 0);
  return verdict ? Math.min(statuses, tally.verdicts[verdict] ?? 0) : statuses;
}

/** Whether a route has a filter at all. */
export function isOn({ production, shadow, verdict }) {
  return Boolean(production || shadow || verdict);
}

/** The controls, with the statuses that `tally` has seen to choose from. */
export function controls(tally, route) {
  const broken = route.production === "200" && route.shadow === "!200" && !route.verdict;
  return h("form", { class: "filter", "aria-label": "Filter", onsubmit: (event) => event.preventDefault() },
    h("button", {
      type: "button", id: "broken", class: "chip", "aria-pressed": String(broken),
      onclick: () => change(broken ? NOTHING : { ...NOTHING, production: "200", shadow: "!200" }),
    }, "200 in production, not 200 in the shadow"),
    choice("production", "Production", statuses(tally, "production", route.production), route),
    choice("shadow", "Shadow", statuses(tally, "shadow", route.shadow), route),
    choice("verdict", "Verdict", Object.keys(VERDICTS).map((it) => [it, it]), route),
    route.view === "overview" && h("label", {}, h("span", {}, "Endpoint"),
      h("input", {
        type: "search", id: "find", placeholder: "any", value: route.find, autocomplete: "off", spellcheck: "false",
        oninput: (event) => change({ find: event.target.value }),
      })),
    isOn(route) && h("button", { type: "button", id: "clear", class: "plain", onclick: () => change(NOTHING) }, "Clear"));
}

const NOTHING = { production: "", shadow: "", verdict: "" };

function statuses(tally, leg, chosen) {
  const seen = [...new Set(tally.statuses.map((it) => it[leg]))].sort();
  const codes = seen.filter((it) => it !== "none");
  const classes = [...new Set(codes.filter((it) => /^\d\d\d$/.test(it)).map((it) => `${it[0]}xx`))];
  const all = [...classes, ...codes, "!2xx", ...codes.map((it) => `!${it}`)];
  if (seen.includes("none")) all.push("none");
  if (chosen && !all.includes(chosen)) all.push(chosen);
  return all.map((it) => [it, it === "none" ? "no answer" : it.replace(/^!/, "not ")]);
}

function choice(name, label, options, route) {
  return h("label", {}, h("span", {}, label),
    h("select", { id: name, value: route[name] ?? "", onchange: (event) => change({ [name]: event.target.value }) },
      h("option", { key: "", value: "" }, "any"),
      options.map(([value, text]) => h("option", { key: value, value }, text))));
}
