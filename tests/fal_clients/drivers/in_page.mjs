/** The ways of ways.mjs in a page; its tests bundle this file. A string for `proxyUrl` counts in browsers alone. */
import { createFalClient } from "../../clients/node_modules/@fal-ai/client";
import { all } from "./ways.mjs";

globalThis.tryAll = (base, mark) => all(createFalClient({ proxyUrl: `${base}/api/fal/proxy` }), { mark });
