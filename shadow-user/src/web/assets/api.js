// Asking the daemon, and hearing from it.

/** The answer at `path`, or an error with what the daemon said. */
export async function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value);
  const search = new URLSearchParams(given).toString();
  const response = await fetch(`/api/v1/${path}${search ? `?${search}` : ""}`, { cache: "no-store" });
  if (!response.ok) throw new Error((await response.text()).trim() || `${response.status}`);
  return response.json();
}

/**
 * Calls `seen` with each overview, and `state` with whether they come. A page that nobody sees hears
 * nothing: a browser has few connections to one host, and the daemon few streams.
 */
export function listen(seen, state) {
  let source = null;
  const close = () => {
    source?.close();
    source = null;
  };
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource("/api/v1/events");
    source.addEventListener("overview", (event) => {
      state("live");
      seen(JSON.parse(event.data));
    });
    // The browser tries again by itself, except after an answer that is no stream.
    source.onerror = () => {
      state("lost");
      if (source?.readyState !== EventSource.CLOSED) return;
      close();
      setTimeout(open, 3000);
    };
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  // The browser may keep a page that was left, to go back to.
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
}
