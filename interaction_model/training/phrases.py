"""What speakers say: phrases of the vocabulary, from patterns of the nano model's world and from words at random.

Half of all phrases follow no grammar, so that a word must be heard and cannot be guessed. Knows nothing of sound.
"""

from __future__ import annotations

import numpy as np

from microturn.interaction_model.native.vocabulary import THEMES, WORDS, number_words

RANDOM_SHARE = 0.5
"""Share of phrases that are words at random."""
MOST_RANDOM_WORDS = 6

PATTERNS = (
    "{commands} the {colours} {objects}",
    "put the {colours} {objects} in the {rooms}",
    "move the {objects} to the {places}",
    "where is the {objects}",
    "where is my {colours} {objects}",
    "is the {objects} in the {rooms}",
    "what colour is the {objects}",
    "what is in the {objects}",
    "do you see a {colours} {shapes}",
    "tell me when you see a {colours} {shapes}",
    "say {colours} when you see {colours}",
    "how many {fruits} do you see",
    "i want a {fruits} and a {fruits}",
    "is there a {fruits} on the table",
    "turn on the lamp in the {rooms}",
    "turn off the {rooms} lamp please",
    "open the {rooms} door",
    "close the {rooms} window",
    "remind me in {number} {durations}",
    "remind me to breathe every {number} seconds",
    "remind me every {number} {durations} until i say stop",
    "breathe in and breathe out",
    "say {colours} in {number} seconds",
    "start a timer for {number} {durations}",
    "count to {number}",
    "count the {repetitions}",
    "count my {repetitions} please",
    "how many {repetitions} was that",
    "tell me when the person starts and stops",
    "what time is it",
    "what day is {days}",
    "how long did it take",
    "what is the {topics}",
    "what is the weather in {cities} {days}",
    "will it rain {days} {day_parts}",
    "find a {topics} to {cities}",
    "find me a flight from {cities} to {cities}",
    "book a restaurant for {number} on {days}",
    "book a hotel in {cities} for {number}",
    "check my email please",
    "search for a recipe with {fruits}",
    "what is the price of the {objects}",
    "call the doctor on {days} {day_parts}",
    "change the meeting to {days}",
    "cancel the {topics}",
    "cancel that",
    "play some music in the {rooms}",
    "{answers}",
    "{answers} {answers}",
    "{answers} thanks",
    "no not the {colours} {objects} the {colours} one",
    "no wait",
    "wait {number} {durations}",
    "stop it now",
    "stop please",
    "okay then start again",
    "let's start now",
    "{fillers} {answers}",
    "{fillers} what is the {topics} {fillers} {days}",
    "{number}",
    "{number} {number}",
    "{number} {number} {number} {number}",
    "the next one is {number}",
    "{quantities} {colours} {objects}",
    "it's {results}",
    "it's {number} degrees in {cities}",
    "what did you say",
    "say that again",
    "can you hear me",
    "watch the {objects} and tell me when it moves",
)


def draw_phrase(generator: np.random.Generator) -> tuple[str, ...]:
    """Return the words of a phrase, 1 to about 12; the generator alone decides which."""
    if generator.random() < RANDOM_SHARE:
        count = int(generator.integers(2, MOST_RANDOM_WORDS + 1))
        return tuple(WORDS[int(at)] for at in generator.integers(len(WORDS), size=count))
    pattern = PATTERNS[int(generator.integers(len(PATTERNS)))]
    return tuple(word for piece in pattern.split() for word in _filled(piece, generator))


def _filled(piece: str, generator: np.random.Generator) -> tuple[str, ...]:
    if not piece.startswith("{"):
        return (piece,)
    slot = piece.strip("{}")
    if slot == "number":
        return number_words(_number(generator))
    words = _DURATIONS if slot == "durations" else THEMES[slot.replace("_", " ")]
    return (words[int(generator.integers(len(words)))],)


def _number(generator: np.random.Generator) -> int:
    """Return a number from 0 to 999, mostly a small one: people count and time things."""
    limits = (13, 100, 1000)
    return int(generator.integers(limits[int(generator.choice(3, p=(0.6, 0.3, 0.1)))]))


_DURATIONS = ("seconds", "minutes", "hours")
