/** Our JavaScript client, the same in Node and in a page: it resumes by itself, and stops after the end. */
export async function watch({ Client, JobFailed, JobCancelled }, { url, job: id, cursor, key }, tell) {
  const job = new Client(url, { key }).job(id);
  for await (const event of job.stream({ lastEventId: cursor })) await tell(event);
  try {
    await tell({ ended: "succeeded", output: await job.result() });
  } catch (error) {
    const ended = error instanceof JobFailed ? "failed" : error instanceof JobCancelled ? "cancelled" : `${error}`;
    await tell({ ended, error: error.error });
  }
}
