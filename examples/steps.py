import time

from rankcast import DistributedWorker, task


@task("examples/steps", world_size=2, timeout_s=600)
class Steps(DistributedWorker):
    def setup(self, **kwargs):  # once per group, on every rank: load your model here
        self.rank_print("ready")

    def __call__(self, prompt: str, steps: int = 20):  # on every rank; rank 0 returns the output
        for step in range(1, steps + 1):
            if self.should_stop():  # somebody cancelled: the same answer on every rank
                break
            time.sleep(0.05)  # your work
            self.add_streaming_result({"step": step, "total": steps, "progress": step / steps})
        return {"prompt": prompt, "steps": steps, "ranks": self.world_size}
