// Asking the daemon, and hearing from it.

/** The answer at `path`, or an error with what the daemon said. */
export async function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  const search = new URLSearchParams(given).toString();
  const response = await fetch(`/api/v1/${path}${search ? `?${search}` : ""}`, { cache: "no-store" });
  if (!response.ok) throw new Error((await response.text()).trim() || `${response.status}`);
  return response.json();
}

/** Calls `seen` with each overview, and `state` with whether they come. */
export function listen(seen, state) {
  const source = new EventSource("/api/v1/events");
  source.addEventListener("overview", (event) => {
    state("live");
    seen(JSON.parse(event.data));
  });
  // The browser tries again by itself, except after an answer that is no stream.
  source.onerror = () => {
    state("lost");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(seen, state), 3000);
  };
}
