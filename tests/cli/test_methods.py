"""`heedful methods`: what each learns from, and what else is enough."""


def test_what_is_enough_with_another_judge_is_said_of_the_methods_that_have_one(heedful):
    listed = heedful("methods", "--json").json
    assert listed["ppo"]["feedback"] == ["pairs"] and listed["ppo"]["with_another_judge"] == ["prompts"]
    assert listed["rest_em"]["feedback"] == ["answers"] and listed["rest_em"]["with_another_judge"] == ["prompts"]
    assert [name for name, entry in listed.items() if entry["with_another_judge"]] == [
        *("slic_hf", "ppo", "rloo", "grpo", "hir", "farl", "rest_em", "raft")
    ]
    assert "learns from pairs; with another method.judge, such as module:function, prompts are enough" in (
        heedful("methods").out
    )


def test_what_is_needed_together_is_said(heedful):
    shown = " ".join(heedful("methods").out.split())
    assert "where PPO starts learns from demonstrations with documents or imitable with documents" in shown
