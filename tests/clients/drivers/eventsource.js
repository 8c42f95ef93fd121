/** EventSource, a browser's and npm's: it resumes by itself, and stops when it is answered with 204. */
export function watch(EventSource, { url, job, cursor, options }, tell) {
  const query = cursor === undefined ? "" : `?last_event_id=${encodeURIComponent(cursor)}`;
  const source = new EventSource(`${url}/jobs/${job}/stream${query}`, options);
  for (const type of ["message", "state", "checkpoint", "gap", "reset", "end"]) {
    source.addEventListener(type, (event) => {
      tell({ id: event.lastEventId, kind: type === "message" ? "" : type, data: JSON.parse(event.data) });
    });
  }
  return new Promise((resolve) => {
    // An error after which it comes back is none.
    source.addEventListener("error", () => {
      if (source.readyState === source.CLOSED) resolve(tell({ ended: "closed" }));
    });
  });
}
