// How the mirror itself is: what is not counted here has not been compared.

import { h } from "./dom.js";
import { bytes, count, time } from "./format.js";

/** The mirror's figures and losses. */
export function mirror({ mirror, rates }) {
  const rows = [
    ["packets", [`${count(mirror.packets.captured)} captured`, per(rates.packets), `${count(mirror.packets.lost)} lost`]],
    ["flows", [`${count(mirror.flows.seen)} seen`, `${count(mirror.flows.open)} open`, `${count(mirror.flows.aborted)} aborted`]],
    ["requests", [`${count(mirror.requests.seen)} seen`, per(rates.requests), `${count(mirror.requests.answered)} answered`]],
    ["delivered", [bytes(mirror.bytes.delivered), `of ${bytes(mirror.bytes.captured)}`, ""]],
    ["capture lag", [`p50 ${time(mirror.lag.p50)}`, `p99 ${time(mirror.lag.p99)}`, `${bytes(mirror.memory)} held`]],
  ];
  for (const other of mirror.others) {
    const down = other.circuit_open ? "down" : `${count(other.flows.aborted)} flows aborted`;
    rows.push([`${other.role} ${other.to}`, [`${count(other.requests.seen)} requests seen`, `${count(other.requests.answered)} answered`, down]]);
  }
  return h("section", { class: "panel", "aria-labelledby": "mirror-title" },
    h("h2", { id: "mirror-title" }, "Mirror"),
    mirror.circuit_open && h("p", { class: "alarm", role: "status" }, "The shadow is down: no new sessions are begun."),
    h("table", { class: "mirror" }, h("tbody", {}, rows.map(([name, cells]) =>
      h("tr", { key: name }, h("th", { scope: "row" }, name), cells.map((it) => h("td", {}, it)))))),
    mirror.losses.length === 0
      ? h("p", { class: "note good" }, "Nothing was lost, skipped or aborted.")
      : [h("h3", {}, "Losses"), h("ul", { class: "losses", id: "losses" }, mirror.losses.map((it) =>
        h("li", { key: `${it.stage} ${it.reason}` }, h("code", {}, `${it.stage} ${it.reason}`), h("span", { class: "number" }, count(it.count)))))]);
}

function per(rate) {
  return rate == null ? "" : `${count(Math.round(rate))}/s`;
}
