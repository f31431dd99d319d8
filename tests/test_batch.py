"""Rows as trees and as plain sequences."""

import pytest
import torch

from heedful.batch import Branch, Group, Pair, attention, by_branch, collate, keep, micro_batches, tree_is_cheaper


def branch(*tokens, **streams):
    return Branch(tokens, streams or {"mask": [1.0] * len(tokens)})


PAIR = Group("pair", (1, 5, 6), (branch(7, 8), branch(9)))
SINGLE = Group("single", (1,), (branch(4, 4, 4),))


def test_a_tree_holds_the_prompt_once_and_restarts_positions_after_it():
    batch = collate([PAIR], tree=True)
    assert batch.tokens.tolist() == [[1, 5, 6, 7, 8, 9]]
    assert batch.position.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert batch.predecessor.tolist() == [[0, 0, 1, 2, 3, 2]]  # token 9 is predicted at the prompt's last position
    assert batch.response.tolist() == [[-1, -1, -1, 0, 0, 1]]
    assert batch.num_tokens == 6


def test_a_response_sees_its_prompt_and_itself_only():
    sees = attention(collate([PAIR], tree=True))[0, 0].int().tolist()
    assert sees == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],  # 9 does not see 7 and 8
    ]


def test_a_window_counts_tree_positions_not_columns():
    sees = attention(collate([PAIR], tree=True), window=2)[0, 0]
    assert sees[5].int().tolist() == [0, 0, 1, 0, 0, 1]


def test_padding_sees_itself_so_that_no_softmax_is_empty():
    sees = attention(collate([PAIR, SINGLE], tree=True))
    assert sees.any(-1).all()
    assert not sees[1, 0, :4, 4:].any()


def test_plain_rows_repeat_the_prompt_and_keep_the_numbering():
    batch = collate([PAIR, SINGLE], tree=False)
    assert batch.tokens.tolist() == [[1, 5, 6, 7, 8], [1, 5, 6, 9, 0], [1, 4, 4, 4, 0]]
    assert batch.response.tolist() == [[-1, -1, -1, 0, 0], [-1, -1, -1, 1, -2], [-1, 2, 2, 2, -2]]
    assert batch.group.tolist() == [0, 0, 1]
    assert batch.is_plain
    assert batch.num_tokens == collate([PAIR, SINGLE], tree=True).num_tokens == 10


def test_only_tokens_with_a_stream_are_predicted():
    batch = collate([Group("a", (1,), (branch(5, 6, 7, mask=[0.0, 1.0, 0.0], weight=[0.0, 0.0, 2.0]),))], tree=False)
    assert batch.predicted.tolist() == [[False, False, True, True]]


def test_fields_follow_the_responses():
    group = Group("a", (1,), (Branch((5,), {}, {"rank": 2.0}), Branch((6,), {}, {"rank": 1.0})))
    assert collate([group], tree=True).read("rank").tolist() == [2.0, 1.0]


@pytest.mark.parametrize("part_cost", [0, 10])
@pytest.mark.parametrize("reads_trees", [True, False])
@pytest.mark.parametrize("num_responses", [1, 3])
@pytest.mark.parametrize("budget", [1, 8, 50, 10_000])
def test_micro_batches_keep_every_group_once_and_the_budget(budget, num_responses, reads_trees, part_cost):
    groups = [Group(str(n), (1,), (branch(*range(2, 2 + n)),) * num_responses) for n in range(1, 30)]
    parts = micro_batches(groups, budget, reads_trees=reads_trees, part_cost=part_cost)
    assert sorted(g.id for part in parts for g in part) == sorted(g.id for g in groups)
    for part in parts:
        laid_out = collate(part, tree=reads_trees and tree_is_cheaper(part))
        assert len(part) == 1 or laid_out.tokens.numel() <= budget


def test_a_step_is_cut_where_padding_would_cost_more_than_a_part():
    groups = [Group(str(n), (1,), (branch(*range(n)),)) for n in (9, 49, 48, 45, 10)]  # rows of 10, 50, 49, 46, 11

    def lengths(part_cost):
        parts = micro_batches(groups, 1000, reads_trees=True, part_cost=part_cost)
        return [[group.num_tokens for group in part] for part in parts]

    assert lengths(0) == [[50, 49, 46, 11, 10]]  # only the budget counts
    assert lengths(30) == [[50, 49, 46], [11, 10]]  # 150 + 22 and 2 parts: 232, against 250 and 1 part: 280
    assert lengths(3) == [[50, 49], [46], [11, 10]]  # 4 tokens of padding cost more than a part, 1 does not
    assert lengths(100) == [[50, 49, 46, 11, 10]]  # 350 against 372


def test_plain_rows_of_a_long_prompt_fill_the_budget_sooner_than_trees():
    groups = [Group(str(n), (1,) * 2000, (branch(*range(50)),) * 8) for n in range(3)]
    assert [len(part) for part in micro_batches(groups, 8192, reads_trees=True)] == [3]  # 3 rows of 2400
    assert [len(part) for part in micro_batches(groups, 8192, reads_trees=False)] == [1, 1, 1]  # 8 rows of 2050 each


def test_a_tree_is_chosen_for_long_prompts_and_not_for_single_responses():
    long_prompt = Group("a", tuple(range(300)), (branch(*range(20)), branch(*range(20))))
    assert tree_is_cheaper([long_prompt])
    assert not tree_is_cheaper([SINGLE])


def test_streams_take_the_dtype_asked_for():
    assert collate([PAIR], tree=True, dtype=torch.float64).read("mask").dtype is torch.float64


# Pairs and responses


COMPARED = Group("compared", (1, 5, 6), (branch(7, 8), branch(9), branch(7)), (Pair(2, 0, 0.5), Pair(1, 2, 0.25)))


@pytest.mark.parametrize("tree", [True, False])
def test_pairs_point_at_the_responses_of_their_own_group(tree):
    batch = collate([SINGLE, COMPARED, PAIR], tree=tree)
    assert batch.group.tolist() == [0, 1, 1, 1, 2, 2]
    assert batch.pair.tolist() == [[3, 1], [2, 3]]
    assert batch.pair_weight.tolist() == [0.5, 0.25]
    assert batch.tokens.flatten()[batch.last].tolist() == [4, 8, 9, 7, 8, 9]


@pytest.mark.parametrize("tree", [True, False])
def test_sums_by_response_and_parts_by_branch_are_those_of_its_own_tokens(tree):
    groups = [SINGLE, COMPARED]
    batch = collate(groups, tree=tree)
    assert batch.by_response(batch.tokens.float()).tolist() == [12, 15, 9, 7]
    parts = by_branch(batch.tokens, batch, groups)
    assert [[part.tolist() for part in group] for group in parts] == [[[4, 4, 4]], [[7, 8], [9], [7]]]


def test_a_group_that_keeps_some_branches_keeps_the_pairs_among_them():
    kept = keep(COMPARED, {1, 2})
    assert [list(b.tokens) for b in kept.branches] == [[9], [7]]
    assert kept.pairs == (Pair(0, 1, 0.25),)
