"""Mutants of C code, made by script: which small faults a source can be given, each with a name.

A mutant is one replacement in one function: a bound that is off by one, a mask that is dropped, a
statement that is missing. They are found in the stream of tokens, so comments, strings and
preprocessor lines are left alone. A name says file, function, what was done, and which of the
function's places of that kind it was: `bits.c:split:less-equal#2`. It depends on the function's
text only: code that moves keeps its names.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOKEN = re.compile(
    r"""(?P<skip>\s+|/\*.*?\*/|//[^\n]*|^[ \t]*\#(?:[^\n\\]|\\.|\\\n)*)
      |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      |(?P<number>0[xX][0-9a-fA-F]+[uUlL]*|[0-9]+[uUlL]*)
      |(?P<word>[A-Za-z_]\w*)
      |(?P<op><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\.\.\.|.)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)

# An operator, the one it becomes, and what that is called.
SWAPS = {
    "<": ("<=", "less-equal"),
    "<=": ("<", "less"),
    ">": (">=", "greater-equal"),
    ">=": (">", "greater"),
    "==": ("!=", "not-equal"),
    "!=": ("==", "equal"),
    "&&": ("||", "or"),
    "||": ("&&", "and"),
    "+=": ("=", "sum-dropped"),
    "-=": ("+=", "sign-turned"),
    "|=": ("=", "bits-dropped"),
    "&=": ("=", "mask-dropped"),
    ">>=": ("<<=", "shift-turned"),
    "<<=": (">>=", "shift-turned"),
}
# Only between two operands: these are signs, addresses and pointers too.
BINARY = {
    "+": ("-", "minus"),
    "-": ("+", "plus"),
    "&": ("|", "mask-or"),
    "|": ("&", "or-mask"),
    "^": ("|", "xor-or"),
    "<<": (">>", "shift-turned"),
    ">>": ("<<", "shift-turned"),
}
DROPPED = {"&": "mask-dropped", "<<": "shift-dropped", ">>": "shift-dropped", "-": "less-dropped"}
# Of two neighbouring statements, the order matters where one of these takes or gives something.
ORDERED = re.compile(
    r"\b(?!_mm)\w*(?:release|close|free|take|pin|put|lock|begin|end|add|open|cut|undone|next|"
    r"reserve|mark|scan|copy|map|seek)\w*\("
)
KEYWORDS = {"return", "if", "else", "for", "while", "do", "switch", "case", "default", "goto"}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def is_operand(self) -> bool:
        return self.kind in {"number", "string"} or self.text in {")", "]"} or self.is_name

    @property
    def is_name(self) -> bool:
        return self.kind == "word" and self.text not in KEYWORDS


@dataclass(frozen=True)
class Mutant:
    """One replacement: source[start:end] becomes `text`."""

    file: str
    function: str
    kind: str
    number: int
    line: str  # as it is written
    start: int
    end: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.function}:{self.kind}#{self.number}"

    def apply(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]


def tokens_of(source: str) -> list[Token]:
    found = [(m.lastgroup or "", m[0], m.start()) for m in TOKEN.finditer(source)]
    return [Token(*token) for token in found if token[0] != "skip"]


def partners_of(tokens: list[Token]) -> dict[int, int]:
    """Index of each opening bracket's closing one, and the reverse."""
    partners: dict[int, int] = {}
    stack: list[int] = []
    for i, token in enumerate(tokens):
        if token.kind == "op" and token.text in "([{":
            stack.append(i)
        elif token.kind == "op" and token.text in ")]}" and stack:
            partners[i] = stack.pop()
            partners[partners[i]] = i
    return partners


class Finder:
    """Finds the mutants of one file."""

    def __init__(self, file: str, source: str) -> None:
        self.file = file
        self.source = source
        self.tokens = tokens_of(source)
        self.partners = partners_of(self.tokens)

    def functions(self) -> Iterator[tuple[str, int, int]]:
        """Name, and the indexes of the braces, of each function."""
        i = 0
        while i < len(self.tokens):
            if self.tokens[i].text == "{" and i in self.partners:
                if i > 0 and self.tokens[i - 1].text == ")":
                    name = self.tokens[self.partners[i - 1] - 1].text
                    yield name, i, self.partners[i]
                    i = self.partners[i]
                elif self.tokens[i - 1].kind != "string":  # extern "C" is looked into
                    i = self.partners[i]
            i += 1

    def mutants(self) -> list[Mutant]:
        counts: Counter[tuple[str, str]] = Counter()
        made = []
        for function, opening, closing in self.functions():
            changes = [
                *(c for i in range(opening + 1, closing) for c in self.of_token(i)),
                *self.of_statements(opening, closing),
            ]
            for kind, start, end, text in sorted(changes, key=lambda c: (c[1], c[2], c[0])):
                line = self.source.rfind("\n", 0, start) + 1, self.source.find("\n", start)
                if self.source[slice(*line)].lstrip().startswith("assert("):
                    continue
                counts[function, kind] += 1
                made.append(
                    Mutant(
                        self.file,
                        function,
                        kind,
                        counts[function, kind],
                        self.source[slice(*line)].strip(),
                        start,
                        end,
                        text,
                    )
                )
        return made

    # --- one token ------------------------------------------------------------------------------

    def of_token(self, i: int) -> Iterator[tuple[str, int, int, str]]:
        """What can be done at a token: kind, where from, where to, and the text instead."""
        token = self.tokens[i]
        before, after = self.tokens[i - 1], self.tokens[i + 1]
        between = before.is_operand and not self.is_cast(i - 1)
        if token.text in SWAPS and not self.is_choice_of_two(i):
            text, kind = SWAPS[token.text]
            yield kind, token.start, token.end, text
        elif token.text in BINARY and between:
            text, kind = BINARY[token.text]
            yield kind, token.start, token.end, text
            if token.text in "+-" and after.text == "1":
                yield "one-dropped", token.start, after.end, ""
            elif token.text in DROPPED:
                yield DROPPED[token.text], token.start, self.tokens[self.operand(i + 1)].end, ""
        elif token.text == "~" or (token.text == "!" and after.text != "="):
            yield "not-dropped", token.start, token.end, ""
        elif token.text == "?":
            yield from self.swapped_choice(i)
        elif token.kind == "number":
            yield "constant", token.start, token.end, other_number(token.text)
        elif token.text in {"true", "false"}:
            other = "false" if token.text == "true" else "true"
            yield "truth-turned", token.start, token.end, other
        elif token.text == "UINT64_MAX":
            yield "constant", token.start, token.end, "(UINT64_MAX - 1)"
        elif re.fullmatch("E[A-Z]{3,}", token.text) and before.text == "-":
            yield "errno", token.start, token.end, "EDOM"
        elif token.text == "if" and after.text == "(":
            opening, closing = self.tokens[i + 1], self.tokens[self.partners[i + 1]]
            condition = self.source[opening.start : closing.end]
            yield "negated", opening.start, closing.end, f"(!{condition})"
        elif token.text == "iova_atomic_exchange64":
            end = self.partners[i + 1]
            word = self.text(i + 2, self.separators(i + 1, end)[0])
            load = f"iova_atomic_load64({word})"
            yield "exchange-load", token.start, self.tokens[end].end, load

    def is_cast(self, i: int) -> bool:
        """Whether a closing bracket is the end of a cast: (uint64_t)-1 has a sign."""
        if self.tokens[i].text != ")":
            return False
        inside = self.tokens[self.partners[i] + 1 : i]
        before = self.tokens[self.partners[i] - 1]
        return not before.is_name and bool(inside) and inside[0].text.endswith(("_t", "char"))

    def operand(self, i: int) -> int:
        """Index of the last token of the operand that starts at i."""
        while self.tokens[i].text in {"~", "!", "-", "*", "&"}:
            i += 1
        if self.tokens[i].text == "(":
            cast = self.is_cast(self.partners[i])
            i = self.partners[i]
            if cast:
                return self.operand(i + 1)
        while self.tokens[i + 1].text in {"(", "[", "->", "."}:
            i = self.partners[i + 1] if self.tokens[i + 1].text in "([" else i + 2
        return i

    def separators(self, opening: int, closing: int) -> list[int]:
        """The commas between two brackets, not those of brackets inside."""
        commas, i = [], opening + 1
        while i < closing:
            if self.tokens[i].text == ",":
                commas.append(i)
            i = self.partners.get(i, i) + 1 if self.tokens[i].text in "([{" else i + 1
        return commas

    def choice(self, i: int) -> tuple[int, int]:
        """Of the ? at i: its colon, and the token behind its last one."""
        colon = end = 0
        depth, k = 0, i + 1
        while not end:
            text = self.tokens[k].text
            if text in "([{":
                k = self.partners[k]
            elif text == "?":
                depth += 1
            elif text == ":" and depth:
                depth -= 1
            elif text == ":" and not colon:
                colon = k
            elif text in {";", ",", ")", "]", "}", ":"}:
                end = k
            k += 1
        return colon, end

    def text(self, first: int, behind: int) -> str:
        return self.source[self.tokens[first].start : self.tokens[behind - 1].end]

    def swapped_choice(self, i: int) -> Iterator[tuple[str, int, int, str]]:
        colon, end = self.choice(i)
        left, right = self.text(i + 1, colon), self.text(colon + 1, end)
        start, stop = self.tokens[i + 1].start, self.tokens[end - 1].end
        yield "choice-swapped", start, stop, f"({right}) : ({left})"

    def is_choice_of_two(self, i: int) -> bool:
        """a < b ? a : b and the like: at a == b both are right, so only the choice is swapped."""
        if self.tokens[i].text not in {"<", "<=", ">", ">="}:
            return False
        end = self.operand(i + 1) + 1
        if self.tokens[end].text != "?":
            return False
        colon, behind = self.choice(end)
        values = {self.text(end + 1, colon), self.text(colon + 1, behind)}
        return self.text(i + 1, end) in values

    # --- statements -----------------------------------------------------------------------------

    def statements(self, opening: int, closing: int) -> Iterator[tuple[int, int, int]]:
        """First token, semicolon and depth of each simple statement between two braces."""
        depth, first, i = 1, opening + 1, opening + 1
        while i < closing:
            text = self.tokens[i].text
            if text in "([":
                i = self.partners[i]
                if self.tokens[first].text in {"if", "for", "while", "switch"}:
                    first = i + 1
            elif text == "{" and self.tokens[i - 1].text in {"=", ")", ","}:
                if self.tokens[i - 1].text == ")" and first == i:
                    depth, first = depth + 1, i + 1
                else:
                    i = self.partners[i]  # values
            elif text in "{}":
                depth, first = depth + (1 if text == "{" else -1), i + 1
            elif (text == ":" and self.tokens[first].text in {"case", "default"}) or text in {
                "else",
                "do",
            }:
                first = i + 1
            elif text == ";":
                yield first, i, depth
                first = i + 1
            i += 1

    def is_expression(self, first: int, semicolon: int) -> bool:
        """Neither a declaration nor a return, but something that is done."""
        if self.tokens[first].text in {"break", "continue"} or self.tokens[first].text in "*+(":
            return self.tokens[first].text != "(" or self.tokens[first + 1].text != "void"
        after = self.tokens[first + 1].text
        assigns = {"=", "->", ".", "[", "(", "++", "--"} | set(SWAPS)
        return self.tokens[first].is_name and after in assigns and semicolon > first + 1

    def of_statements(self, opening: int, closing: int) -> Iterator[tuple[str, int, int, str]]:
        previous: tuple[int, int] | None = None
        for first, semicolon, depth in self.statements(opening, closing):
            start, end = self.tokens[first].start, self.tokens[semicolon].end
            if self.tokens[first].text == "return" and depth > 1:
                yield "return-removed", start, end, ";"
            if not self.is_expression(first, semicolon):
                previous = None
                continue
            yield "removed", start, end, ";"
            if previous is not None and previous[1] + 1 == first:
                left, right = self.text(previous[0], first), self.text(first, semicolon + 1)
                jumps = self.tokens[previous[0]].text in {"break", "continue"}
                if not jumps and (ORDERED.search(left) or ORDERED.search(right)):
                    whole = self.tokens[previous[0]].start, end
                    yield "order-swapped", *whole, f"{right} {left}"
            previous = first, semicolon


def other_number(text: str) -> str:
    """One more; of a mask in hexadecimal, without the highest bit."""
    digits = text.rstrip("uUlL")
    suffix = text[len(digits) :]
    if digits.lower().startswith("0x"):
        return f"{int(digits, 16) >> 1:#x}{suffix}"
    return f"{int(digits, 8 if digits.startswith('0') and digits != '0' else 10) + 1}{suffix}"


def mutants_of(path: Path, core: Path) -> list[Mutant]:
    return Finder(path.relative_to(core).as_posix(), path.read_text(encoding="utf-8")).mutants()


def in_order(mutants: list[Mutant], seed: str = "") -> list[Mutant]:
    """The order in which a file's mutants are chosen: kinds in turn, each at random, the same each
    time. It depends on nothing but the names, so it hardly changes with the code."""

    def at_random(mutant: Mutant) -> str:
        return hashlib.sha256(f"{seed}{mutant.name}".encode()).hexdigest()

    kinds: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in sorted(mutants, key=at_random):
        kinds[mutant.kind].append(mutant)
    turns = {m.name: turn for group in kinds.values() for turn, m in enumerate(group)}
    return sorted(mutants, key=lambda m: (turns[m.name], at_random(m)))
