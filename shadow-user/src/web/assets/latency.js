// How long both legs took: the spread over a logarithmic scale, and percentiles.

import { h } from "./dom.js";
import { change, time } from "./format.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [400, 170, 4, 4, 14, 22];
const LEGS = ["production", "shadow"];

/** The plot of a latency `{production, shadow}`, each with `buckets` of `[seconds, count]`. */
export function latency({ production, shadow }) {
  const legs = { production, shadow };
  return h("section", { class: "panel latency", "aria-labelledby": "latency-title" },
    h("h2", { id: "latency-title" }, "Latency ", h("small", {}, "request’s first octet to answer’s last")),
    production.count + shadow.count > 0 ? plot(legs) : h("p", { class: "empty" }, "No answer yet."),
    h("table", { id: "latency", class: "percentiles" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Leg"), PERCENTILES.map(([label]) => h("th", { scope: "col" }, label)))),
      h("tbody", {},
        LEGS.map((leg) => h("tr", {},
          h("th", { scope: "row", class: leg }, h("i", { class: "dot", "aria-hidden": "true" }), leg),
          PERCENTILES.map(([, key]) => h("td", { class: "number" }, time(legs[leg][key]))))),
        h("tr", { class: "change" }, h("th", { scope: "row" }, "change"),
          PERCENTILES.map(([, key]) => h("td", { class: "number" }, change(production[key], shadow[key])))))));
}

const PERCENTILES = [["p50", "p50"], ["p90", "p90"], ["p99", "p99"], ["p99.9", "p999"], ["max", "max"]];

function plot(legs) {
  const all = LEGS.flatMap((leg) => legs[leg].buckets.filter(([, number]) => number > 0).map(([bound]) => bound));
  const low = Math.floor(4 * Math.log10(Math.min(...all)) - 1) / 4;
  const high = Math.max(Math.ceil(4 * Math.log10(Math.max(...all)) + 1) / 4, low + 1);
  const x = (seconds) => LEFT + ((Math.log10(seconds) - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
  const spreads = Object.fromEntries(LEGS.map((leg) => [leg, spread(legs[leg], low, high)]));
  const most = Math.max(...LEGS.flatMap((leg) => spreads[leg].map(([, part]) => part)), 1e-9);
  const y = (part) => HEIGHT - BOTTOM - (part / most) * (HEIGHT - BOTTOM - TOP);
  const label = LEGS.map((leg) => `${leg}: median ${time(legs[leg].p50)}, p99 ${time(legs[leg].p99)}`).join("; ");
  return h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "plot", role: "img", "aria-label": label },
    ticks(low, high).map(([seconds, isWhole]) => h("g", { class: "tick" },
      h("line", { x1: x(seconds), x2: x(seconds), y1: TOP, y2: HEIGHT - BOTTOM, class: isWhole ? "whole" : "" }),
      isWhole && h("text", { x: x(seconds), y: HEIGHT - 6, "text-anchor": "middle" }, time(seconds, true)))),
    LEGS.map((leg) => h("path", { class: `area ${leg}`, d: outline(spreads[leg], x, y) })),
    [["p50", TOP], ["p99", TOP + 14]].flatMap(([key, top]) => {
      const isFirst = (leg) => (legs.production[key] <= legs.shadow[key]) === (leg === "production");
      return LEGS.map((leg) => legs[leg][key] && marker(leg, key, x(legs[leg][key]), top, isFirst(leg)));
    }));
}

/** The share of answers in each of 16 steps a decade, smoothed over three. */
function spread({ buckets, count }, low, high) {
  const steps = Math.round((high - low) * 16);
  const parts = Array(steps + 1).fill(0);
  for (const [bound, number] of buckets) {
    const at = Math.round((Math.log10(bound) - low) * 16);
    if (at >= 0 && at <= steps && count) parts[at] += number / count;
  }
  return parts.map((part, at) => {
    const smooth = (part * 2 + (parts[at - 1] ?? 0) + (parts[at + 1] ?? 0)) / 4;
    return [10 ** (low + at / 16), smooth];
  });
}

function outline(points, x, y) {
  const at = points.map(([seconds, part]) => [x(seconds), y(part)]);
  const point = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  // Each point bends the line between the middles of its neighbours.
  const bends = at.slice(0, -1).map((it, index) => {
    const next = at[index + 1];
    return `Q${point(it)} ${point([(it[0] + next[0]) / 2, (it[1] + next[1]) / 2])}`;
  });
  return `M${point([at[0][0], y(0)])} ${bends.join(" ")} L${point([at.at(-1)[0], y(0)])} Z`;
}

function marker(leg, key, at, y, isFirst) {
  return h("g", { class: `marker ${leg}` },
    h("line", { x1: at, x2: at, y1: y - 8, y2: HEIGHT - BOTTOM }),
    h("text", { x: isFirst ? at - 3 : at + 3, y, "text-anchor": isFirst ? "end" : "start" }, key));
}

function ticks(low, high) {
  const found = [];
  for (let decade = Math.floor(low); decade <= high; decade += 1) {
    for (const step of [1, 2, 5]) {
      const at = decade + Math.log10(step);
      if (at >= low + 0.05 && at <= high - 0.05) found.push([step * 10 ** decade, step === 1]);
    }
  }
  return found;
}
