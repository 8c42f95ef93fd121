/** Uploads by fal's JavaScript client; told are the URLs, and what a large file is refused with. */
const { createFalClient } = require("../../clients/node_modules/@fal-ai/client");

const base = process.env.RANKCAST_TEST_URL;
const MIB = 1024 * 1024;
const fal = createFalClient({
  credentials: process.env.FAL_KEY,
  requestMiddleware: async (request) => ({ ...request, url: request.url.replace("https://rest.fal.ai", `${base}/rest`) }),
});
const proxied = createFalClient({ proxyUrl: { url: `${base}/api/fal/proxy`, when: "always" } });

async function main() {
  const lifecycle = { expiresIn: "1h", initialAcl: { default: "hide" } };
  const urls = {
    blob: await fal.storage.upload(new Blob(["hello"], { type: "image/png" })),
    untyped: await fal.storage.upload(new Blob(["hello"])),
    file: await fal.storage.upload(new File(["hello"], "my cat.png", { type: "image/png" })),
    settings: await fal.storage.upload(new Blob(["hello"]), { lifecycle }),
  };
  if (process.env.FAL_KEY === "any:thing") urls.proxied = await proxied.storage.upload(new Blob(["hello"]));
  console.log(JSON.stringify(urls));
  try {
    await fal.storage.upload(new Blob([new Uint8Array(90 * MIB + 1)]));
  } catch (error) {
    console.log(JSON.stringify([error.status, error.body.error_type, error.body.detail]));
  }
}

main();
