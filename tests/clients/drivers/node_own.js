/** Our JavaScript client in Node. */
import * as rankcast from "../../../web/static/rankcast.js";
import { watch } from "./own.js";
import { asked, tell } from "./telling.js";

await watch(rankcast, asked, tell);
