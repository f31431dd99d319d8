"""Make the task's feedback: the base answers each prompt four times, and four simulated labelers judge.

Run: python -m heedful.tasks.pep8.feedback     (writes heedful/assets/pep8/feedback.jsonl.gz)
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from heedful.models import load
from heedful.records import Feedback, to_json
from heedful.sampling import Sampling, generate
from heedful.scorers.reading import cut_at_last_logical_line
from heedful.tasks.pep8.assets import ASSETS, write
from heedful.tasks.pep8.labelers import Labeler, calibrate, judge, panel
from heedful.tasks.pep8.task import PEP8, RESPONSE_TOKENS

K = 4
CALIBRATED_ON = 200  # prompts
TEMPERATURE = 1.0  # of sampling: labelers compare what the model might say, not what it says most


def responses_of(task: PEP8, *, seed: int) -> list[list[str]]:
    """K different responses of the base to each prompt; a prompt with an empty or repeated one is answered by fewer."""
    prompts = [task.text.encode_prompt(row["prompt"]) for row in task.prompts]
    settings = Sampling(
        max_tokens=RESPONSE_TOKENS, stop_at_eos=False, banned=task.text.control_ids, temperature=TEMPERATURE
    )
    drawn = generate(load(task.base).lm, task.text, prompts, settings, k=K, seed=seed)
    found = []
    for row, several in zip(task.prompts, drawn):
        texts = (cut_at_last_logical_line(row["prompt"], sample.text) for sample in several)
        found.append(list(dict.fromkeys(text for text in texts if text)))
    return found


def make(task: PEP8, *, seed: int = 0) -> list[Feedback]:
    """One record a prompt, the labelers in turn; their noise calibrated on these responses."""
    answered = [(row, texts) for row, texts in zip(task.prompts, responses_of(task, seed=seed)) if len(texts) > 1]
    samples: Sequence = [(row["prompt"], texts) for row, texts in answered[:CALIBRATED_ON]]
    labelers = panel(calibrate(samples, panel()))
    prompts, ids = [row["prompt"] for row, _ in answered], [row["id"] for row, _ in answered]
    turns = [labelers[n % len(labelers)] for n in range(len(answered))]
    with ProcessPoolExecutor() as pool:  # autopep8 takes its whole five seconds on one response in eighty
        work = pool.map(partial(_judge, seed), prompts, [texts for _, texts in answered], turns, ids, chunksize=4)
        return list(work)


def _judge(seed: int, prompt: str, texts: Sequence[str], labeler: Labeler, id: str) -> Feedback:
    return judge(prompt, texts, labeler, seed=seed, id=id)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, default=ASSETS / "base")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    records = make(PEP8(split="feedback", base=arguments.base), seed=arguments.seed)
    print(write("feedback", map(to_json, records)), "records")


if __name__ == "__main__":
    main()
