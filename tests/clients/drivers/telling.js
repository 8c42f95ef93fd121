/** What a driver in Node is asked, and how it tells what it saw: one line of JSON an event. */
const [url, job, cursor] = process.argv.slice(2);
export const asked = { url, job, cursor, key: process.env.RANKCAST_KEY };
export const tell = (seen) => console.log(JSON.stringify(seen));
