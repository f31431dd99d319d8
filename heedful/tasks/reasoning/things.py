"""The names of people and things in the questions: one pool for all splits, each word a token of the task's
tokenizer."""

PEOPLE = ["Alice", "Bob", "Claire", "Dave", "Eve", "Fred", "Gertrude", "Helga", "Joe", "Mel", "Rob", "Ada"]
COLOURS = ["red", "blue", "green", "yellow", "black", "white", "orange", "purple", "pink", "brown"]
NOVELS = ["Ulysses", "Frankenstein", "Lolita", "Emma", "Dracula", "Ivanhoe", "Walden", "Candide"]
DRINKS = ["tea", "coffee", "milk", "water", "juice", "soda", "cocoa", "cider"]
ITEMS = ["pen", "cup", "plate", "scarf", "key", "mug", "booklet", "bracelet", "crayon", "puzzle", "keychain", "ring"]
BIRDS = ["owl", "robin", "quail", "raven", "crow", "hawk", "falcon", "hummingbird"]
FRUITS = ["apple", "banana", "grape", "orange", "peach", "plum", "strawberry", "kiwi", "mango", "cherry"]
ANIMALS = ["bear", "cat", "chicken", "dog", "frog", "goat", "pig", "rabbit", "snake", "duck"]
INSTRUMENTS = ["piano", "flute", "drum", "violin", "clarinet", "trumpet", "accordion", "trombone"]
FURNITURE = ["bed", "chair", "couch", "lamp", "table", "stove", "oven", "fridge"]
PENGUINS = ["Louis", "Bernard", "Vincent", "Gwen", "James", "Donna", "Jody", "Marian"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def plural(noun: str) -> str:
    """`cherries` of `cherry`."""
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}es" if noun.endswith(("ch", "sh", "s")) else f"{noun}s"
