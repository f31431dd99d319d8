"""Pairs a second from text to token ids, heedful's targets of DPO beside TRL's preparation of the same pairs.

The text is the feedback that ships with heedful, one pair a prompt, with that task's own tokenizer; TRL's cache is off.
Run: python bench/preprocessing.py [--pairs 500] [--rounds 5]
"""

import statistics
import time

import torch
from common import CONTEXT, arguments, say
from datasets import Dataset, disable_caching
from side_by_side import quiet
from theirs import DPOConfig, DPOTrainer

from heedful.data import load_feedback
from heedful.models import load_tokenizer
from heedful.records import Feedback, strict_pairs
from heedful.targets.pair import compared_responses
from heedful.tasks.pep8.assets import ASSETS
from heedful.text import Text


def one_pair_each(feedback, number: int) -> list[Feedback]:
    """Records of two responses, the better first."""
    found = []
    for record in feedback:
        if pairs := strict_pairs(record):
            better, worse = (record.responses[index].text for index in pairs[0])
            responses = [type(record.responses[0])(text, rank=n + 1) for n, text in enumerate((better, worse))]
            found.append(Feedback(record.prompt, responses, id=f"{len(found)}"))
    return (found * (number // max(1, len(found)) + 1))[:number]


def theirs(tokenizer, records):
    """TRL's own method, on a trainer that has what it reads."""
    columns = [(record.prompt, *(response.text for response in record.responses)) for record in records]
    rows = Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), row)) for row in columns])
    trainer = object.__new__(DPOTrainer)
    trainer._tokenizer = tokenizer
    args = DPOConfig(output_dir="unused", use_cpu=True, bf16=False, report_to="none", max_length=CONTEXT)
    return lambda: trainer._prepare_dataset(rows, tokenizer, args, "train")


def main(args) -> None:
    quiet()
    disable_caching()
    torch.set_num_threads(args.threads)
    records = one_pair_each(load_feedback(ASSETS / "feedback.jsonl.gz"), args.pairs)
    text = Text(load_tokenizer(ASSETS / "tokenizer"), max_length=CONTEXT)
    sides = {
        "ours": lambda: compared_responses(records, text=text),
        "theirs": theirs(load_tokenizer(ASSETS / "tokenizer"), records),
    }
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(args.rounds):
        for side, run in sides.items():
            start = time.process_time()
            run()
            speeds[side].append(len(records) / (time.process_time() - start))
    best = {side: round(statistics.median(values)) for side, values in speeds.items()}
    ratio = statistics.median(ours / other for ours, other in zip(speeds["ours"], speeds["theirs"]))
    say(
        {
            "workload": "preprocessing",
            "ratio": round(ratio, 2),
            **best,
            "unit": "pairs a second",
            "rounds": args.rounds,
        },
        args,
    )


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args())
