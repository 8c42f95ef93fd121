/** npm's eventsource, which can send headers: its `fetch` option is the way. */
import { EventSource } from "eventsource";
import { watch } from "./eventsource.js";
import { asked, tell } from "./telling.js";

const headers = asked.key === undefined ? {} : { Authorization: `Key ${asked.key}` };
const options = { fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } }) };
await watch(EventSource, { ...asked, options }, tell);
