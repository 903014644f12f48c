"""The form of an exercise, which lesson_N.py fills in: `Value`, `Parts` or `Function`.

In each, ``mistakes`` is a table {sentence: wrong answer}. The sentence is the reply to whoever gives this very answer, and
a wrong function is best the right one with a wrong argument: {argument: what it is then}. Where a mistake shows in many answers, its row is
``sentence: seen(an example, when)``. tests/test_exercises.py proves that each row gets its own sentence.

Texts have {places} for the facts: ``found`` (what was answered), ``expected``, and in a `Function` the arguments by their
names. Instead of a text, there may be a function of those facts that its parameters name.
"""

import inspect
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence, Set, Sized, ValuesView
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from course_helpers.exercises.running import (
    Nearly,
    Raised,
    Unanswered,
    Wrong,
    about_notebook,
    begin,
    call,
    described,
    handed,
    is_lazy,
    is_unchanged,
    names_used,
    shown,
)

NOT_YET = "not answered yet. Replace the ... above and run both cells again."
NOTHING = object()  # the result of a function that raises, or returns something of another kind
ANY = object()  # as `right`: several answers are, all that no row of `mistakes` recognises
MOST_ENTRIES = 1_000_000  # of a list; arrays may have more


def equal(found, right):
    """Whether two answers have the same content."""
    if isinstance(found, np.ndarray) or isinstance(right, np.ndarray):
        return np.array_equal(found, right)
    return found == right


def told(text, facts):
    """A text with its {places} filled in, or what a function makes of the facts that its parameters name."""
    if callable(text):
        return text(**{name: facts[name] for name in inspect.signature(text).parameters})
    return text.format(**facts)


def holds(when, facts):
    """What a function of facts returns; None where one that its parameters name is not known."""
    return told(when, facts) if set(inspect.signature(when).parameters) <= set(facts) else None


class seen(NamedTuple):  # noqa: N801, because it reads as a verb in a table
    """A mistake that shows in many answers: one of them, and a function of the facts that recognises them.

    ``when`` may return a dict of further facts for the sentence.
    """

    example: object
    when: Callable


@dataclass(kw_only=True)
class Form:
    """What all exercises have. `seconds` is the limit for one call of a learner's function, or another step."""

    hints: list = field(default_factory=list)
    praise: object = ""
    mistakes: dict = field(default_factory=dict)
    also_right: tuple = ()  # for the tests: other answers that get ✓
    otherwise: object = "this is not right."
    seconds: float = 10

    def judge(self, *answers, **named):
        """The sentence that follows "correct"; Wrong, Nearly or Unanswered where the answer is not right."""
        if not answers and not named or answers and answers[0] is ...:
            raise Unanswered(NOT_YET)
        if len(answers) != 1 or named:
            given = len(answers) + len(named)
            raise Wrong(f"{given} answers were handed over, but one is asked for, without a name: .check(answer)")
        return self.judged(answers[0])

    def recognised(self, facts):
        """The sentence of the first mistake that is seen in these facts, or None; rows that name others are passed over."""
        for says, wrong in self.mistakes.items():
            if isinstance(wrong, seen) and (more := holds(wrong.when, facts)):
                return told(says, {**facts, **more} if isinstance(more, dict) else facts)
        return None

    def refuse(self, facts, given="", more=""):
        """Wrong, with what it was given in front and more behind, if a mistake is seen in these facts."""
        if says := self.recognised(facts):
            raise Wrong(given + says + more)


@dataclass(kw_only=True)
class Value(Form):
    """One answer that is no function: `reads` makes of it what is compared with `right` by `same`."""

    right: object = ANY
    reads: Callable
    same: Callable = equal
    lazy: bool = False  # `reads` takes plans, too
    nearly: dict = field(default_factory=dict)  # {sentence: value that is accepted as an approximation}

    def judged(self, answer):
        found = read(self.reads, answer, "the answer is", self.lazy)
        if fault := self.fault(found):
            raise Wrong(fault)
        if says := self.approximation(found):
            raise Nearly(told(says, {"found": found}))
        return told(self.praise, {"found": found})

    def approximation(self, found):
        """The sentence about a value that is accepted as an approximation, or None."""
        return next((says for says, value in self.nearly.items() if self.same(found, value)), None)

    def fault(self, found):
        """A sentence about a value that is not right, or None."""
        facts = {"found": found, "expected": self.right}
        if self.right is not ANY and self.same(found, self.right) or self.approximation(found):
            return None
        for says, wrong in self.mistakes.items():
            if not isinstance(wrong, seen) and self.same(found, wrong):
                return told(says, facts)
        return self.recognised(facts) or (None if self.right is ANY else told(self.otherwise, facts))


@dataclass(kw_only=True)
class Parts(Form):
    """Several answers, as {name: Value}: handed over one after the other, or in one dictionary. Each is told alone.

    `mistakes` are those that show in all parts together, as {name: answer}; the facts are the parts by their names.
    `follows` tells by the same facts of a part that is not right whether it follows rightly from parts that are not right.
    """

    parts: dict
    in_dict: bool = False
    tells: str = "{name} = {found}: {fault}"
    follows: dict = field(default_factory=dict)  # {name: function of the facts}

    def judge(self, *answers, **named):
        if not answers and not named:
            raise Unanswered(NOT_YET)
        found, faults = {}, {}
        for name, answer in self.gathered(answers, named).items():
            if answer is not ...:
                try:
                    found[name] = read(self.parts[name].reads, answer, f"{name} is", self.parts[name].lazy)
                    if fault := self.parts[name].fault(found[name]):
                        faults[name] = self.tells.format(name=name, found=shown(found[name]), fault=fault)
                except Wrong as reason:
                    faults[name] = str(reason)
        still_open = [name for name in self.parts if name not in found and name not in faults]
        right = [name for name in found if name not in faults and self.parts[name].right is not ANY]
        more = list(faults)[1:]
        follow = [name for name in more if name in self.follows and holds(self.follows[name], found)]
        told_apart = {"Right so far": right, "Not right, either": [name for name in more if name not in follow]}
        told_apart |= {"Will change with that": follow, "Still open": still_open}
        state = "".join(f" {state}: {', '.join(names)}." for state, names in told_apart.items() if names)
        if not still_open and (together := self.together(found)):
            raise Wrong(together)
        if faults:
            raise Wrong(next(iter(faults.values())) + state)
        if still_open:
            raise Unanswered(state if right else NOT_YET)
        for name, part in self.parts.items():
            if says := part.approximation(found[name]):
                raise Nearly(f"{told(says, {'found': found[name]})} {told(self.praise, found)}")
        return told(self.praise, found)

    def gathered(self, answers, named):
        """The answers by their names, ... for what is missing."""
        if self.in_dict:
            if len(answers) != 1 or named or not isinstance(answers[0], (dict, type(...))):
                what = (
                    "the answer is " + shown(answers[0])
                    if len(answers) == 1
                    else f"there are {len(answers) + len(named)} answers"
                )
                raise Wrong(f"{what}, but the dictionary of the task is asked for.")
            answers, named = (), {} if answers[0] is ... else answers[0]
        given = {**dict(zip(self.parts, answers)), **named}
        if (
            len(answers) > len(self.parts)
            or set(given) - set(self.parts)
            or set(list(self.parts)[: len(answers)]) & set(named)
        ):
            raise Wrong(f"these are not the parts that are asked for, spelled like this: {', '.join(self.parts)}.")
        return {name: given.get(name, ...) for name in self.parts}

    def together(self, found):
        """A sentence about a mistake that shows in all parts together, or None."""
        for says, wrong in self.mistakes.items():
            if not isinstance(wrong, seen) and found == wrong:
                return told(says, found)
        return self.recognised(found)


class Answered(NamedTuple):
    """A case, the copy that a learner's function got, what it made of it, what is right, and the arguments it changed."""

    number: int
    arguments: dict
    own: dict  # the copies by their names, and what else was noted on the way
    given: str
    found: object
    expected: object
    changed: list

    @property
    def facts(self):
        return {**self.own, **self.arguments, "found": self.found, "expected": self.expected}


def about_changes(case):
    """A sentence about the arguments that a learner's function changed; empty if it changed none."""
    names = [f"the files of {name}" if isinstance(case.arguments[name], Path) else name for name in case.changed]
    return f" But your function changes {' and '.join(names)}: leave what you are given as it is." if names else ""


@dataclass(kw_only=True)
class Function(Form):
    """A function, compared with the function `right` on cases that the learner has not seen.

    `cases` makes tuples of arguments; if it has a parameter ``folder``, it may write files there and hand over their
    Paths. `given` tells a case in words. `reads` makes of a result what is compared. Names in `without` must not be used.
    `shows` tells a result in words. A mistake is named if it gives what was found in all wrong cases, or alone in more than
    `share` of them.
    """

    right: Callable
    cases: Callable
    given: object
    reads: Callable
    same: Callable = equal
    without: tuple = ()
    share: float = 0.5
    shows: Callable = shown
    _outcomes: dict = field(default_factory=dict, init=False, repr=False)

    def judged(self, answer):
        is_function(answer, self.without)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            answered = list(self.answered(answer, Path(folder)))
            wrong = [
                case for case in answered if case.found is not NOTHING and not self.alike(case.found, case.expected)
            ]
            if wrong:
                begin("comparing your results with known mistakes", limited=False)
                says = self.fault(answer, wrong[0], answered)
                shows = self.shows(wrong[0].found)
                raise Wrong(f"for {wrong[0].given} you get {shows}: {says}{about_changes(wrong[0])}")
        for case in answered:
            if case.changed:
                raise Wrong(f"the result is right for {case.given}.{about_changes(case)}")
        return told(self.praise, {"count": len(answered), "answer": answer})

    def made_by(self, mistake):
        """The wrong function of a row: a dict holds arguments for the right one, or functions of the case that give them."""
        if not isinstance(mistake, dict):
            return mistake

        def right_with_a_wrong_argument(*case):
            arguments = dict(zip(inspect.signature(self.right).parameters, case))
            changes = {name: told(new, arguments) if callable(new) else new for name, new in mistake.items()}
            return self.right(**{**arguments, **changes})

        return right_with_a_wrong_argument

    def all_cases(self, folder):
        """The arguments of each case by their names, which are those of the right function."""
        names = list(inspect.signature(self.right).parameters)
        return (dict(zip(names, case)) for case in told(self.cases, {"folder": folder}))

    def answered(self, answer, folder):
        """What the learner's function makes of each case. A complaint is raised, except after a wrong result."""
        all_right = True
        for number, arguments in enumerate(self.all_cases(folder)):
            own = {name: handed(argument, folder) for name, argument in arguments.items()}
            given = told(self.given, arguments)
            try:
                found = self.found(answer, own, given)
            except (Wrong, Unanswered) as reason:
                if all_right:
                    self.explain(reason, arguments, about_notebook(answer))
                    raise
                found = NOTHING
            begin("comparing your results", limited=False)
            expected = self.known("", number, arguments)
            all_right &= self.alike(found, expected)
            changed = [name for name in arguments if not is_unchanged(own[name], arguments[name])]
            case = Answered(number, arguments, own, given, found, expected, changed)
            if all_right:
                self.look(case)
            yield case

    def look(self, case):
        """Wrong if a right result came about in a wrong way."""

    def found(self, answer, own, given):
        """What a learner's function makes of its copies of the arguments, to which facts may be added."""
        return read(self.reads, call(answer, *own.values(), given=given), f"for {given} your function returns")

    def known(self, says, number, arguments):
        """The outcome of the mistake with this sentence, or of the right function for "", computed once for each case."""
        if (says, number) not in self._outcomes:
            outcome = self.outcome(self.made_by(self.mistakes[says]) if says else self.right, arguments)
            if outcome is NOTHING:  # perhaps for want of room
                return NOTHING
            self._outcomes[says, number] = outcome
        return self._outcomes[says, number]

    def outcome(self, function, arguments):
        """What a function of ours makes of a case, as it is compared; a plan is computed."""
        own = [argument if isinstance(argument, Path) else handed(argument, None) for argument in arguments.values()]
        try:
            result = function(*own)
            return self.reads(plain(result.compute(scheduler="synchronous") if is_lazy(result) else result))
        except Exception:
            return NOTHING

    def alike(self, one, other):
        """Whether two outcomes are the same, also where there is none."""
        return one is other if one is NOTHING or other is NOTHING else self.same(one, other)

    def explain(self, reason, arguments, about):
        """Wrong with the sentence of a mistake that raises the same exception, or is seen in it, and what is said about the function."""
        if not isinstance(reason, Raised):
            return
        raises = f"for {told(self.given, arguments)} your function raises {reason.error}: "
        for says, mistake in self.mistakes.items():
            try:
                if not isinstance(mistake, seen):
                    self.made_by(mistake)(*arguments.values())
            except Exception as error:
                if described(error) == reason.error:
                    raise Wrong(raises + told(says, arguments) + about) from None
        self.refuse({"error": reason.error}, raises, about)

    def fault(self, answer, first, answered):
        """A sentence about the first wrong case.

        A mistake is named only if it gives the same here and in all cases where the answer is right. One that gives the same
        in all others, too, comes first, then, of a function that uses no data of the notebook, the one mistake that gives the
        same in enough of the others, then what is seen.
        """
        right = [case for case in answered if self.alike(case.found, case.expected)]
        wrong = [case for case in answered if not self.alike(case.found, case.expected)]
        agreement = {}  # in how many wrong cases a mistake gives what was found
        for says, mistake in self.mistakes.items():
            if not isinstance(mistake, seen):
                same = (
                    self.alike(case.found, self.known(says, case.number, case.arguments))
                    for case in [first, *right, *wrong]
                )
                if all(islice(same, 1 + len(right))):
                    agreement[says] = sum(same)
        best = max(agreement, key=agreement.get, default=None)
        about = about_notebook(answer)
        if best and agreement[best] == len(wrong):
            return told(best, first.facts) + about
        if (
            not about
            and best
            and agreement[best] > self.share * len(wrong)
            and [*agreement.values()].count(agreement[best]) == 1
        ):
            return told(best, first.facts)
        return (self.recognised(first.facts) or told(self.otherwise, first.facts)) + about


# --- how answers are read: each reader returns a plain value, or raises Wrong with what is asked for ---


def read(reads, answer, subject, lazy=False):
    """The answer as `reads` gives it; Wrong, with what the answer is instead, where it is of another kind."""
    try:
        return reads(answer if lazy and is_lazy(answer) else plain(answer))
    except Wrong as reason:
        is_text = isinstance(answer, str) and re.fullmatch(r"[\d\s.,()\[\]-]+", answer)
        hint = " Leave the quotes away." if is_text else " Are its () missing?" * callable(answer)
        raise Wrong(f"{subject} {shown(answer)}, but {reason}{hint}") from None


def plain(answer):
    """The answer, if it is of a kind and size that can be looked at; what an iterator gives, as a list."""
    if answer is None:
        raise Wrong("a value is asked for. None is what remains of a search or a function that ends without one.")
    if is_lazy(answer):
        raise Wrong("nothing is computed yet: it is a plan of dask's. Call .compute() on it.")
    if np.ma.isMaskedArray(answer):
        if np.ma.getmaskarray(answer).any():
            raise Wrong("its mask hides entries. An array in which all entries count is asked for.")
        return np.ma.getdata(answer)
    if hasattr(answer, "to_numpy"):
        return answer.to_numpy()
    if isinstance(answer, Iterator):
        answer = list(islice(answer, MOST_ENTRIES + 1))
    if isinstance(answer, Sized) and not isinstance(answer, np.ndarray) and len(answer) > MOST_ENTRIES:
        raise Wrong(f"nothing with more than {MOST_ENTRIES:,} entries is asked for.")
    return answer


def is_function(answer, without=()):
    """Wrong if the answer cannot be called, need not come to an end, or uses one of the names."""
    if answer is None or not callable(answer):
        raise Wrong(f"the answer is {shown(answer)}, but a function is asked for: hand it over without calling it.")
    if inspect.iscoroutinefunction(answer):
        raise Wrong("the answer is a function that begins with async def. Write def alone.")
    for name in without:
        if name in names_used(answer):
            raise Wrong(f"your function uses {name}. Here you write it yourself.")


def number(answer):
    """One finite number, as an int or a float."""
    try:
        value = np.asarray(float(answer) if isinstance(answer, (Decimal, Fraction)) else answer)
    except ValueError:  # a ragged list, for example
        value = np.array(None)
    if value.dtype.kind not in "iuf" or value.size != 1 or value.ndim and not isinstance(answer, np.ndarray):
        raise Wrong("one number is asked for.")
    if not np.isfinite(value).all():
        raise Wrong("a finite number is asked for.")
    return value.item()


def whole_number(answer):
    """One whole number, as an int."""
    value = number(answer)
    if value != int(value):
        raise Wrong("a whole number is asked for.")
    return int(value)


def array(answer):
    """A NumPy array of numbers."""
    try:
        values = np.asarray(answer)
    except ValueError:
        values = np.array(None)
    if values.dtype.kind not in "biuf":
        raise Wrong("an array of numbers is asked for.")
    return values


def entries(answer, asked):
    """The entries of a list, a tuple, a set or an array with axes, as a list; Wrong with what is asked for."""
    is_list = isinstance(answer, (Sequence, Set, ValuesView)) and not isinstance(answer, (str, bytes))
    if is_list or isinstance(answer, np.ndarray) and answer.ndim:
        return list(answer)
    raise Wrong(asked)


def whole_numbers(asked):
    """A reader for as many whole numbers as ``asked`` has names, in this order: "row, column"; as a tuple."""

    def reads(answer):
        wanted = f"{asked} are asked for, as {len(asked.split(','))} whole numbers."
        parts = [] if isinstance(answer, Set) else entries(answer, wanted)
        if len(parts) != len(asked.split(",")):
            raise Wrong(wanted)
        try:
            return tuple(whole_number(part) for part in parts)
        except Wrong:
            raise Wrong(wanted) from None

    return reads


def pairs(answer):
    """A list of pairs of whole numbers, sorted; what comes twice stays twice."""
    asked = "a list of pairs is asked for, such as [(1, 5), (2, 5)]."
    found = []
    for pair in entries(answer, asked):
        parts = entries(pair, asked)
        if isinstance(pair, Set):
            raise Wrong("pairs with a first and a second number are asked for. A set has no order.")
        if len(parts) != 2:
            raise Wrong(f"{asked} {shown(pair)} is no pair.")
        if any(isinstance(part, (Sequence, Set)) for part in parts):
            raise Wrong(f"{asked} A part of {shown(pair)} is no single number: write a pair for each.")
        found.append(tuple(whole_number(part) for part in parts))
    return sorted(found)


def choice(*names):
    """A reader for one of these names, however it is spelled, or for the function that has this name."""
    known = {bare(name): name for name in names}

    def reads(answer):
        one = answer[0] if isinstance(answer, (list, tuple)) and len(answer) == 1 else answer
        name = bare(one if isinstance(one, str) else getattr(one, "__name__", ""))
        if name not in known:
            raise Wrong(f"one of {', '.join(names)} is asked for.")
        return known[name]

    return reads


def bare(name):
    """The letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]", "", str(name)).lower()


def letters(known):
    """A reader for a choice of several letters, as in "AD", "a, d", "A/D" or ["A", "D"]; as a sorted text."""

    def reads(answer):
        parts = [answer] if isinstance(answer, str) else entries(answer, f"letters from {known} are asked for.")
        if not all(isinstance(part, str) for part in parts):
            raise Wrong(f"letters from {known} are asked for.")
        chosen = set(re.sub(r"\bAND\b|[^A-Z0-9]", "", " ".join(parts).upper()))
        if not chosen:
            raise Unanswered("no letter yet. Write all letters that you choose into one text.")
        if chosen - set(known):
            raise Wrong(f"letters from {known} are asked for.")
        return "".join(sorted(chosen))

    return reads
