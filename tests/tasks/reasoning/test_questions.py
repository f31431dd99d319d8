"""The questions of the reasoning task: every answer by another way, splits by structure, exact text."""

import re
from datetime import date, timedelta
from itertools import islice, permutations

import pytest

from heedful.tasks.reasoning import things
from heedful.tasks.reasoning.counting import KINDS
from heedful.tasks.reasoning.families import FAMILIES, questions, siblings
from heedful.tasks.reasoning.question import SPLITS, split_of
from heedful.tasks.reasoning.shapes import SIDES
from heedful.tasks.reasoning.task import has_right_form

NUMBER = 150
PLACES = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "sixth": 5}


def some(task, split="train", number=NUMBER):
    return list(islice(questions(task, split, seed="test"), number))


def options(question):
    return re.findall(r"\n- (.+)", question.text)


def place(words, size):
    """0 for the first place of `size`, from the words of a clue or a question."""
    words = words.removeprefix("the ")
    if words in ("leftmost", "rightmost", "last"):
        return 0 if words == "leftmost" else size - 1
    name, _, side = words.partition(" from the ")
    return size - 1 - PLACES[name] if side == "right" else PLACES[name]


def holds(clue, order):
    """Whether an order of names, from left or from first, agrees with a clue in words."""
    clue = clue.removeprefix("The ")
    if match := re.fullmatch(r"(\w+) (?:is to the (left|right) of the|finished (above|below)) (\w+)", clue):
        name, side, way, other = match.groups()
        is_before = (side or way) in ("left", "above")
        return (order.index(name) < order.index(other)) == is_before
    name, where = re.fullmatch(r"(\w+) (?:is|finished) (.+)", clue).groups()
    return order[place(where, len(order))] == name


@pytest.mark.parametrize("size", ["three", "five", "seven"])
def test_clues_leave_one_order_and_the_answer_is_in_it(size):
    for question in some(f"logical_deduction_{size}_objects", number=NUMBER if size != "seven" else 15):
        names = options(question)
        said, asked = re.search(r"(?:branch|shelf|race)\. (.+)\. Which is (.+)\?", question.text).groups()
        fitting = [order for order in permutations(names) if all(holds(clue, order) for clue in said.split(". "))]
        assert len(fitting) == 1
        assert question.answer == fitting[0][place(asked, len(names))]


@pytest.mark.parametrize("size", ["three", "five", "seven"])
def test_objects_are_where_the_swaps_bring_them(size):
    for question in some(f"tracking_shuffled_objects_{size}_objects"):
        held = dict(re.findall(r"(\w+) has (\w+)[,.]", question.text.partition(" At the end")[0]))
        for one, other in re.findall(r"(\w+) and (\w+) swap", question.text):
            held[one], held[other] = held[other], held[one]
        asked = re.search(r"At the end, (\w+) has", question.text)[1]
        assert question.answer == held[asked]


def test_things_are_counted():
    singular = {thing: kind for kind, pool in KINDS.items() for thing in pool}
    kinds = singular | {things.plural(thing): kind for thing, kind in singular.items()}
    for question in some("object_counting"):
        total = 0
        for number, thing in re.findall(r"(an?|two|three) (\w+)", question.text.partition(". ")[0]):
            asked = re.search(r"How many (.+) do I have", question.text)[1]
            total += (things.NUMBERS.index(number) if number in things.NUMBERS else 1) * (kinds[thing] == asked)
        assert question.answer == str(total)


def test_dates_are_so_far_apart():
    days = {"tomorrow": 1, "yesterday": -1, "one week from today": 7, "one week ago from today": -7, "10 days ago": -10}
    months = {"a month ago": -1, "a month from today": 1, "one year ago from today": -12, "one year from today": 12}
    for question in some("date_understanding"):
        month, day, year = map(int, re.search(r"Today is (\d+)/(\d+)/(\d+)", question.text).groups())
        asked = re.search(r"the date (.+) in MM", question.text)[1]
        if asked in days:
            right = date(year, month, day) + timedelta(days=days[asked])
        else:
            place = year * 12 + month - 1 + months[asked]
            right = date(place // 12, place % 12 + 1, day)
        assert question.answer == right.strftime("%m/%d/%Y")


def test_penguins_are_looked_up():
    for question in some("penguins_in_a_table"):
        rows = re.findall(r"(\w+), (\d+), (\d+), (\d+)\.", question.text)
        table = {name: list(map(int, row)) for name, *row in rows}
        given = question.answer
        if match := re.search(r"What is the (\w+) of (\w+)\?", question.text):
            assert int(given) == table[match[2]][("age", "height", "weight").index(match[1])]
        elif match := re.search(r"are (older|taller|heavier) than (\d+)", question.text):
            column = ("older", "taller", "heavier").index(match[1])
            assert int(given) == sum(row[column] > int(match[2]) for row in table.values())
        else:
            word = re.search(r"is the (\w+)\?", question.text)[1]
            most, least = ("oldest", "tallest", "heaviest"), ("youngest", "shortest", "lightest")
            column = (most if word in most else least).index(word)
            best = (max if word in most else min)(table, key=lambda name: table[name][column])
            assert given == best


def test_sides_are_counted():
    for question in some("geometric_shapes"):
        path = re.search(r'd="(.+?)"', question.text)[1]
        given = question.answer
        if "A" in path:
            assert given == ("circle" if path.count("A") == 2 else "sector")
        else:
            points = re.findall(r"([ML]) (\d+,\d+)", path)
            assert path.count("L") == SIDES[given]
            assert given == "line" or points[0][1] == points[-1][1], "closed"
            assert all(points[n - 1][1] == point for n, (kind, point) in enumerate(points) if n and kind == "M")


def test_colours_are_seen():
    for question in some("reasoning_about_colored_objects"):
        row = re.findall(r"an? (\w+) (\w+)", question.text.partition(" in a row.")[0])
        colours, items = [colour for colour, _ in row], [item for _, item in row]
        given = question.answer
        if match := re.search(r"How many things are (\w+)\?", question.text):
            assert things.NUMBERS.index(given) == colours.count(match[1])
        else:
            side, item = re.search(
                r"What color is the (?:thing directly to the (\w+) of the )?(\w+)\?", question.text
            ).groups()
            assert given == colours[items.index(item) + {None: 0, "right": 1, "left": -1}[side]]


def test_words_are_sorted():
    for question in some("word_sorting"):
        words = question.text.partition("List: ")[2].split()
        assert question.answer.split() == sorted(words) and len(set(words)) == len(words)


@pytest.mark.parametrize("task", FAMILIES)
def test_no_structure_is_in_two_splits(task):
    found = {split: {question.structure for question in some(task, split, 200)} for split in SPLITS}
    assert all(split_of(structure) == split for split, own in found.items() for structure in own)
    assert not found["train"] & found["test"] and not found["train"] & found["selection"]
    assert not found["selection"] & found["test"]


@pytest.mark.parametrize("task", FAMILIES)
def test_the_splits_share_the_names(task):
    words = {
        split: {word for q in some(task, split, 400) for word in re.findall(r"[A-Za-z]+", q.text)} for split in SPLITS
    }
    assert words["test"] <= words["train"] | words["selection"]


@pytest.mark.parametrize("task", FAMILIES)
def test_the_same_seed_asks_the_same_and_nothing_twice(task):
    first, again = some(task), some(task)
    assert first == again and len({question.text for question in first}) == NUMBER
    assert first != list(islice(questions(task, "train", seed="other"), NUMBER))


@pytest.mark.parametrize("task", FAMILIES)
def test_wrong_answers_have_the_form_of_the_right_one_and_are_not_it(task):
    for question in some(task):
        assert question.answer not in question.wrong and len(set(question.wrong)) == len(question.wrong) > 0
        assert len(question.wrong) < question.num_answers and has_right_form(question, question.habit)
        assert question.num_answers == (len(options(question)) or question.num_answers)
        assert not options(question) or sorted(options(question)) == sorted([question.answer, *question.wrong])


def test_siblings_share_their_scene_and_differ_in_what_is_asked():
    several = next(siblings("tracking_shuffled_objects_five_objects", "train", number=4))
    scenes = {question.text.partition(" At the end")[0] for question in several}
    assert len(scenes) == 1 and 1 < len({question.text for question in several}) == len(several) <= 4
    assert {split_of(question.structure) for question in several} == {"train"}


EXAMPLES = {
    "logical_deduction_three_objects": (
        "There are three birds on a branch. The crow is to the right of the robin. The robin is to the "
        "right of the raven. Which is the second from the left?\nOptions:\n- crow\n- robin\n- raven",
        "robin",
        "deduction/3/a01;a12/1",
    ),
    "logical_deduction_five_objects": (
        "There were five runners in a race. Ada finished third. Claire finished first. Helga finished "
        "above Eve. Rob finished above Helga. Which is second?\nOptions:\n- Helga\n- Eve\n- Ada\n- Rob\n"
        "- Claire",
        "Rob",
        "deduction/5/p22;p40;b01;b30/1",
    ),
    "logical_deduction_seven_objects": (
        "There are seven birds on a branch. The owl is to the right of the crow. The hummingbird is the "
        "rightmost. The robin is the leftmost. The raven is the third from the right. The hawk is to the"
        " left of the crow. The falcon is the fourth from the left. Which is the third from the right?\n"
        "Options:\n- raven\n- owl\n- crow\n- hawk\n- falcon\n- hummingbird\n- robin",
        "raven",
        "deduction/7/a12;p56;p60;p04;b32;p43/4",
    ),
    "tracking_shuffled_objects_three_objects": (
        "Joe has coffee, Mel has milk, and Rob has soda. First, Joe and Rob swap. At the end, Mel has\n"
        "Options:\n- coffee\n- milk\n- soda",
        "milk",
        "tracking/3/02/1",
    ),
    "tracking_shuffled_objects_five_objects": (
        "Alice has Emma, Fred has Walden, Gertrude has Frankenstein, Helga has Ulysses, and Joe has "
        "Lolita. First, Joe and Gertrude swap. Then, Fred and Gertrude swap. At the end, Joe has\n"
        "Options:\n- Emma\n- Walden\n- Frankenstein\n- Ulysses\n- Lolita",
        "Frankenstein",
        "tracking/5/2412/4",
    ),
    "tracking_shuffled_objects_seven_objects": (
        "Ada has Ivanhoe, Alice has Dracula, Bob has Emma, Claire has Ulysses, Fred has Walden, Joe has "
        "Lolita, and Mel has Candide. First, Alice and Claire swap. At the end, Ada has\nOptions:\n"
        "- Ivanhoe\n- Dracula\n- Emma\n- Ulysses\n- Walden\n- Lolita\n- Candide",
        "Ivanhoe",
        "tracking/7/13/0",
    ),
    "object_counting": (
        "I have a table, a bed, and two mangos. How many pieces of furniture do I have?",
        "2",
        "counting/+1+1-2",
    ),
    "date_understanding": (
        "Today is 03/26/1999. What is the date a month ago in MM/DD/YYYY?\nOptions:\n- 02/27/1999\n"
        "- 03/26/1999\n- 02/28/1999\n- 02/26/1999",
        "02/26/1999",
        "dates/a month ago/3-26",
    ),
    "penguins_in_a_table": (
        "Here is a table of penguins: name, age, height (cm), weight (kg). Gwen, 13, 75, 15. Donna, 5, "
        "80, 21. Jody, 1, 60, 28. Louis, 10, 40, 25. What is the weight of Louis?\nOptions:\n- 15\n- 21\n"
        "- 28\n- 25",
        "25",
        "penguins/2/0132/value/3",
    ),
    "geometric_shapes": (
        'This SVG path element <path d="M 43,45 L 52,43 L 58,49 M 58,49 L 58,58 L 51,63 L 42,60 L 39,52 '
        'L 43,45"/> draws a\nOptions:\n- heptagon\n- octagon\n- pentagon\n- rectangle\n- triangle',
        "heptagon",
        "shapes/llmllll1/78543",
    ),
    "reasoning_about_colored_objects": (
        "On the nightstand, I see a blue scarf, a blue bracelet, a blue ring, a white plate, and an "
        "orange key in a row. How many things are blue?\nOptions:\n- zero\n- one\n- two\n- three\n- four\n"
        "- five",
        "three",
        "colours/00012/number/0",
    ),
    "word_sorting": (
        "Sort the following words alphabetically: List: banana chair drum",
        "banana chair drum",
        "sorting/012",
    ),
}


@pytest.mark.parametrize("task", FAMILIES)
def test_a_question_reads_like_this(task):
    question = next(questions(task, "train"))
    assert (question.text, question.answer, question.structure) == EXAMPLES[task]
