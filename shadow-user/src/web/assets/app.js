// Puts the parts together: what the daemon tells, what the address asks for, one drawing of both.

import { get, listen } from "./api.js";
import { h, patch } from "./dom.js";
import { endpoints, split } from "./endpoints.js";
import { examples } from "./examples.js";
import { fields } from "./fields.js";
import { controls } from "./filter.js";
import { change, clock, count, share, time } from "./format.js";
import { latency } from "./latency.js";
import { matrix } from "./matrix.js";
import { mirror } from "./mirror.js";
import { pair } from "./pair.js";
import { filters, link, read } from "./route.js";
import { bar, verdicts } from "./verdicts.js";

const state = { overview: null, rates: {}, connection: "waiting", route: read(), detail: null, examples: null, example: null, error: null };

function seen(overview) {
  const before = state.overview;
  const seconds = before ? overview.seconds - before.seconds : 0;
  if (seconds > 0) {
    const rate = (now, then) => Math.max(0, now - then) / seconds;
    state.rates = {
      packets: rate(overview.mirror.packets.captured, before.mirror.packets.captured),
      requests: rate(overview.mirror.requests.seen, before.mirror.requests.seen),
    };
  }
  state.overview = overview;
  draw();
  load();
}

let loading = false;
let again = false;

/** Asks for what the route shows beside the overview; one question at a time, the last one counts. */
async function load() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  const route = state.route;
  try {
    const { name, production, shadow, verdict, field, id } = route;
    if (route.view === "endpoint") {
      const detail = await get("endpoint", { name });
      const found = await get("examples", { endpoint: name, production, shadow, verdict, field });
      Object.assign(state, { detail, examples: found.examples, error: null });
    } else if (route.view === "example" && state.example?.id !== id) {
      state.example = await get(`examples/${encodeURIComponent(id)}`);
      state.error = null;
    }
  } catch (error) {
    state.error = error.message;
  }
  loading = false;
  draw();
  if (again) {
    again = false;
    load();
  }
}

function moved() {
  const before = state.route;
  state.route = read();
  const isOther = before.view !== state.route.view || before.name !== state.route.name || before.id !== state.route.id;
  if (isOther) {
    Object.assign(state, { detail: null, examples: null, example: null, error: null });
    scrollTo(0, 0);
  }
  draw();
  if (isOther) document.getElementById("main").focus({ preventScroll: true });
  load();
}

function draw() {
  patch(document.getElementById("bar"), head());
  patch(document.getElementById("main"), state.overview ? content() : [h("p", { class: "empty" }, "Waiting for the daemon…")]);
  document.title = title();
}

function title() {
  const total = state.overview?.total;
  return total ? `${share(total.mismatches, total.compared)} differ · Shadowtap` : "Shadowtap";
}

function head() {
  const { overview, connection } = state;
  return [
    h("a", { class: "brand", href: "#/" }, h("img", { src: "/assets/icon.svg", alt: "", width: "22", height: "22" }), h("b", {}, "Shadowtap")),
    overview && h("span", { class: "to" }, "to ", h("b", {}, overview.shadow)),
    overview && h("span", { class: "note" }, `compare ${overview.compare}`, overview.noise && ", noise known"),
    h("span", { class: "space" }),
    overview && h("span", { class: "phase" }, `${overview.phase} ${clock(overview.seconds)}`),
    h("span", { class: `connection ${connection}`, role: "status" }, h("i", { class: "dot", "aria-hidden": "true" }),
      { live: "live", waiting: "connecting", lost: "connection lost" }[connection]),
  ];
}

function content() {
  const { overview, route } = state;
  if (!overview.total) {
    return [
      h("p", { class: "headline" }, "Answers are not compared."),
      h("p", { class: "note lead" }, "Start the mirror with ", h("code", {}, "--compare status"), " or ", h("code", {}, "--compare body"), " to see how the shadow behaves."),
      mirror({ mirror: overview.mirror, rates: state.rates }),
    ];
  }
  if (state.error) return [crumbs(), h("p", { class: "alarm", role: "alert" }, state.error)];
  return { overview: overviewPage, endpoint: endpointPage, example: examplePage }[route.view]();
}

function overviewPage() {
  const { overview, route, rates } = state;
  return [
    headline(overview.total),
    controls(overview.total, route),
    h("div", { class: "columns" },
      h("div", {}, endpoints(overview, route, draw), mirror({ mirror: overview.mirror, rates })),
      h("div", {}, verdicts(overview.total, route), matrix(overview.total, route), latency(overview.total.latency))),
  ];
}

function headline(total) {
  const { production, shadow } = total.latency;
  return h("div", { class: "headline" },
    h("p", { id: "headline" },
      h("b", { class: total.mismatches ? "bad" : "good" }, share(total.mismatches, total.compared)),
      ` of ${count(total.compared)} compared exchanges differ`),
    h("dl", {},
      fact("p50", time(production.p50), time(shadow.p50), change(production.p50, shadow.p50)),
      fact("p99", time(production.p99), time(shadow.p99), change(production.p99, shadow.p99))),
    bar(total));
}

function fact(name, production, shadow, difference) {
  return h("div", {}, h("dt", {}, name),
    h("dd", {}, h("span", { class: "production" }, production), " → ", h("span", { class: "shadow" }, shadow), h("small", {}, ` ${difference}`)));
}

function crumbs() {
  const { route } = state;
  const name = route.name ?? "";
  return h("nav", { class: "crumbs", "aria-label": "Way back" },
    h("a", { href: link({ view: "overview", ...filters(route) }) }, "All endpoints"),
    route.view === "example" && name && [" › ", h("a", { href: link({ ...route, view: "endpoint", id: "" }) }, name)]);
}

function endpointPage() {
  const { detail, route } = state;
  const [method, path] = split(route.name ?? "");
  const name = h("h1", {}, h("span", { class: "method" }, method), path);
  if (!detail) return [crumbs(), name, h("p", { class: "empty" }, "Asking…")];
  return [
    crumbs(), name, headline(detail), controls(detail, route),
    h("div", { class: "columns" },
      h("div", {}, fields(detail, route), examples(state.examples, route)),
      h("div", {}, verdicts(detail, route), matrix(detail, route), latency(detail.latency))),
  ];
}

function examplePage() {
  return [crumbs(), ...(state.example ? pair(state.example) : [h("p", { class: "empty" }, "Asking…")])];
}

addEventListener("hashchange", moved);
listen(seen, (connection) => {
  state.connection = connection;
  if (connection === "lost") draw();
});
draw();
