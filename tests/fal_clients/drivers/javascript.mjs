/** The ways of ways.mjs on Node: javascript.mjs <"middleware" | "proxy"> <mark>; prints what each gave. */
import { createFalClient } from "../../clients/node_modules/@fal-ai/client/src/index.js";
import { all } from "./ways.mjs";

const [how, mark] = process.argv.slice(2).map((text) => JSON.parse(text));
const base = process.env.RANKCAST_TEST_URL;
const services = { "https://queue.fal.run": "/queue", "https://fal.run": "/run", "https://rest.fal.ai": "/rest" };

async function requestMiddleware(request) {
  const host = Object.keys(services).find((each) => request.url.startsWith(`${each}/`));
  return { ...request, url: request.url.replace(host, `${base}${services[host]}`) };
}

const fal = createFalClient(
  how === "proxy"
    ? { proxyUrl: { url: `${base}/api/fal/proxy`, when: "always" } }
    : { credentials: process.env.FAL_KEY, requestMiddleware },
);
for (const told of await all(fal, { mark })) console.log(JSON.stringify(told));
