/** Files on their way into jobs and out of them, with fal's JavaScript client; told are the outputs. */
const { createFalClient } = require("../../clients/node_modules/@fal-ai/client");

const base = process.env.RANKCAST_TEST_URL;
const services = { "https://queue.fal.run": "/queue", "https://fal.run": "/run", "https://rest.fal.ai": "/rest" };
const fal = createFalClient({
  credentials: process.env.FAL_KEY,
  requestMiddleware: async (request) => {
    const [host] = Object.keys(services).filter((each) => request.url.startsWith(`${each}/`));
    return { ...request, url: request.url.replace(host, `${base}${services[host]}`) };
  },
});

async function main() {
  const blob = new Blob(["hello from a blob"], { type: "text/plain" });
  const file = new File(["hello from a file"], "my cat.png", { type: "image/png" });
  const byRun = await fal.run("acme/reads", { input: { image_url: blob } });
  const byQueue = await fal.subscribe("acme/reads", { input: { image_url: file } });
  const stored = await fal.subscribe("acme/stores", { input: { size: 2_000_000 } });
  const again = await fal.run("acme/reads", { input: { image_url: stored.data.file.url } });
  console.log(JSON.stringify({ by_run: byRun.data, by_queue: byQueue.data, stored: stored.data, again: again.data }));
}

main();
