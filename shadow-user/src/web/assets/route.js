// What is looked at, kept behind the # of the address: links, reload and the back button work.

/** `{view, name, id, production, shadow, verdict, field, find}`, all but `view` optional. */
export function read() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const view = ["endpoint", "example"].includes(path) ? path : "overview";
  return { view, ...Object.fromEntries(new URLSearchParams(search ?? "")) };
}

/** The address of a route. */
export function link({ view, ...rest }) {
  const given = Object.entries(rest).filter(([, value]) => value);
  const search = new URLSearchParams(given).toString();
  return `#/${view === "overview" ? "" : view}${search ? `?${search}` : ""}`;
}

/** Changes a part of the route in its place: a filter is no step to go back from. */
export function change(part) {
  history.replaceState(null, "", link({ ...read(), ...part }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** The filters of a route, to be taken along to the next one. */
export function filters({ production, shadow, verdict }) {
  return { production, shadow, verdict };
}
