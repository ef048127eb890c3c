#!/usr/bin/env python3
"""Makes tests/golden/chat_templates.json: what Python's jinja2 makes of templates, set up as
transformers sets it up.

Needs jinja2. Three parts:
  chat         every template in tests/cases/chat_templates with every conversation below
  expressions  random expressions over the variables in `variables`
  templates    random templates: tags, white-space marks, loops, scopes
An expected null means that rendering fails.
"""

import argparse
import copy
import datetime
import json
import random
import re
from pathlib import Path

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

SEED = 20260131
NOW = datetime.datetime(2026, 1, 31, 12, 34, 56)
EXPRESSIONS = 4000
TEMPLATES = 1500


class GenerationBlock(Extension):
    """{% generation %}...{% endgeneration %}: renders its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def make_environment():
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, loopcontrols],
        optimized=False)  # constant folding has quirks of its own

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return environment


ENVIRONMENT = make_environment()


def render(source, variables):
    # A copy: some filters change a list that they should have refused.
    try:
        return ENVIRONMENT.from_string(source).render(**copy.deepcopy(variables))
    except Exception:
        return None


TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather now.\nOr later.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "Zürich, 東京, ..."},
            "days": {"type": "integer"},
            "units": {"type": "string", "enum": ["C", "F"]}},
            "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds <numbers> & \"things\".",
        "parameters": {"type": "object", "properties": {
            "values": {"type": "array", "items": {"type": "number"}, "description": "to add"},
            "names": {"type": "object", "additionalProperties": {"type": "string"}},
            "mode": {"type": ["string", "null"]}},
            "required": ["values"]}}},
]


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(identifier, name, arguments):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def conversations():
    system = {"role": "system", "content": "  You are terse. /no_think \n"}
    plain = [user("Hello"), assistant("Hi there."), user(" What is 2+2? \n")]
    calls = [
        user("Weather in Paris and Oslo?"),
        assistant(None, tool_calls=[
            call("abcdef012", "get_weather", {"city": "Paris", "days": 3, "units": "C"}),
            call("abcdef013", "get_weather", {"city": "Österbro \"x\"", "days": 1.5, "list": [1, True, None]})]),
        {"role": "tool", "tool_call_id": "abcdef012", "content": "18 °C"},
        {"role": "tool", "tool_call_id": "abcdef013", "content": "{\"t\": 7}\nline two"},
        assistant("Paris 18, Oslo 7."), user("Thanks")]
    one_call = [system, user("Add"), assistant("Let me see.", tool_calls=[call("abcdef012", "add", {"values": [1, 2]})]),
                {"role": "tool", "tool_call_id": "abcdef012", "content": "3"}]
    thinking = [user("Hard?"), assistant("<think>\nhm, let me think\n</think>\n\nYes."), user("Sure?"),
                assistant("No.", reasoning_content="doubt\n"), user("Well"),
                assistant("<think>\nagain\n</think>\n\nFine.")]
    parts = [user([{"type": "text", "text": "Look: "}, {"type": "image"}, {"type": "text", "text": "what?"}]),
             assistant("A cat."), user([{"type": "text", "text": "Sure?"}])]
    cases = {
        "one": {"messages": [user("Hi")]},
        "plain": {"messages": plain},
        "no_prompt": {"messages": plain[:2], "add_generation_prompt": False},
        "system": {"messages": [system] + plain},
        "unicode": {"messages": [user("🙂 ñandú\u00a0 日本語 <|im_end|>\r\n\ttab "), assistant("« ok » \u2028"), user("\u3000x\u3000")]},
        "wrong_order": {"messages": [assistant("I start"), user("no")]},
        "unknown_role": {"messages": [user("a"), {"role": "robot", "content": "b"}]},
        "missing_content": {"messages": [{"role": "user"}]},
        "empty": {"messages": []},
        "tools": {"messages": plain, "tools": TOOLS},
        "tools_system": {"messages": [system] + plain, "tools": TOOLS},
        "calls": {"messages": calls, "tools": TOOLS},
        "one_call": {"messages": one_call, "tools": TOOLS[1:]},
        "calls_without_tools": {"messages": one_call[1:]},
        "thinking": {"messages": thinking},
        "no_thinking": {"messages": plain, "extra": {"enable_thinking": False}},
        "parts": {"messages": parts},
        "system_parts": {"messages": [{"role": "system", "content": [{"type": "text", "text": "S"}]}] + parts},
        "tools_in_system": {"messages": plain, "tools": TOOLS, "extra": {"tools_in_user_message": False, "date_string": "1 Jan 2030"}},
        "effort": {"messages": plain, "tools": TOOLS, "extra": {"reasoning_effort": "high"}},
        "long": {"messages": [user("q%d" % i) if i % 2 == 0 else assistant("a%d" % i) for i in range(61)]},
    }
    return cases


def chat_cases(folder):
    out = []
    for name, case in conversations().items():
        variables = {
            "messages": case["messages"], "tools": case.get("tools"), "documents": None,
            "add_generation_prompt": case.get("add_generation_prompt", True),
            "bos_token": "<s>", "eos_token": "</s>", **case.get("extra", {})}
        expected = {path.name: render(path.read_text(encoding="utf-8"), variables)
                    for path in sorted(folder.glob("*.jinja"))}
        out.append({"name": name, "context": case, "expected": expected})
    return out


VARIABLES = {
    "i": 7, "j": -3, "zero": 0, "big": 4611686018427387904, "f": 2.5, "g": -0.125, "t": True, "n": None,
    "s": "Hello World", "u": "Ünï 日本 🙂!", "e": "", "w": "  pad\n\t", "h": "<a href='x'>\"&\"</a>",
    "lines": "one\ntwo\r\nthree\n\nfive", "csv": "a,b,,c", "num": "42", "fl": "3.75",
    "l": [3, 1, 2], "m": ["b", "A", "c", "a"], "mixed": [1, "x", None, 2.0, True, [1, 2]], "empty": [],
    "nested": [[1, 2], [3], []],
    "d": {"a": 1, "b": "two", "items_": [1], "c": {"x": None, "y": [True]}},
    "rows": [{"name": "x", "v": 3, "tag": {"k": "p"}}, {"name": "Y", "v": 1}, {"name": "x", "v": 2, "tag": {"k": "q"}}],
}


ROUNDINGS = ["", "1", "2", "0, 'floor'", "1, 'ceil'", "method='ceil'"]
JSON_STYLES = ["", "(indent=2)", "(sort_keys=true)", "(ensure_ascii=true)", "(separators=[',', ':'])"]
PREFIXES = "('H', 'a')"


class ExpressionMaker:
    """Random expressions, mostly well typed, now and then not."""

    def __init__(self, source):
        self.random = source

    def pick(self, *choices):
        return self.random.choice(choices)

    def any(self, depth):
        return self.pick(self.integer, self.number, self.text, self.boolean, self.list, self.other)(depth)

    def integer(self, depth):
        if self.random.random() < 0.04:
            return self.any(depth - 1) if depth > 0 else "missing"
        if depth <= 0:
            return self.pick("i", "j", "zero", "0", "1", "2", "5", "-4", "10", "1_000", "0x1F", "l[0]", "d.a")
        d = depth - 1
        return self.random.choice([
            lambda: f"({self.integer(d)} {self.pick('+', '-', '*', '//', '%')} {self.integer(d)})",
            lambda: f"{self.integer(d)} ** {self.pick('0', '1', '2', '3')}",
            lambda: f"-{self.integer(d)}",
            lambda: f"{self.text(d)} | length",
            lambda: f"({self.list(d)} | length)",
            lambda: f"({self.number(d)} | int)",
            lambda: f"({self.text(d)} | int({self.pick('', '7', 'default=3', '0, 16')}))",
            lambda: f"{self.text(d)}.{self.pick('find', 'rfind', 'count')}({self.text(0)})",
            lambda: f"({self.integer(d)} | abs)",
            lambda: f"({self.list(d)} | select('number') | sum)",
            lambda: f"(rows | map(attribute='v') | {self.pick('max', 'min', 'sum', 'first')})",
            lambda: f"({self.integer(d)} if {self.boolean(d)} else {self.integer(d)})",
        ])()

    def number(self, depth):
        if depth <= 0:
            return self.pick("f", "g", "1.5", "0.1", "1e3", "1e17", "2.5e-7", "i", "-0.0")
        d = depth - 1
        return self.random.choice([
            lambda: f"({self.number(d)} {self.pick('+', '-', '*', '/', '//', '%')} {self.number(d)})",
            lambda: f"({self.integer(d)} / {self.integer(d)})",
            lambda: f"({self.number(d)} | round({self.pick(*ROUNDINGS)}))",
            lambda: f"({self.pick(self.text, self.number, self.integer)(d)} | float)",
            lambda: f"{self.number(d)} ** {self.pick('2', '-1')}",
            lambda: self.integer(d),
        ])()

    def text(self, depth):
        if self.random.random() < 0.04:
            return self.any(depth - 1) if depth > 0 else "missing"
        if depth <= 0:
            return self.pick("s", "u", "e", "w", "h", "lines", "csv", "num", "fl", "'a'", "'o'", "' '", "','", "'\\n'",
                             "\"it's\"", "'\\u00e9\\t\\x41'", "m[0]", "d.b", "rows[0].name", "'l' 'l'")
        d = depth - 1
        text, zero = self.text, self.text(0)
        return self.random.choice([
            lambda: f"({text(d)} {self.pick('~', '+')} {text(d)})",
            lambda: f"({text(d)} ~ {self.any(d)})",
            lambda: f"({text(d)} * {self.pick('0', '2', '3', '-1')})",
            lambda: f"{text(d)}.{self.pick('strip', 'lstrip', 'rstrip', 'upper', 'lower', 'title', 'capitalize', 'swapcase')}()",
            lambda: f"{text(d)}.{self.pick('strip', 'lstrip', 'rstrip', 'removeprefix', 'removesuffix')}({zero})",
            lambda: f"({text(d)} | {self.pick('upper', 'lower', 'title', 'capitalize', 'trim', 'string', 'e', 'reverse', 'indent', 'first', 'last', 'safe')})",
            lambda: f"({text(d)} | indent({self.pick('2', 'width=1', '2, true', 'first=true, blank=true', repr('> '))}))",
            lambda: f"{text(d)}.replace({zero}, {self.text(0)}{self.pick('', ', 1')})",
            lambda: f"({text(d)} | replace({zero}, {self.text(0)}))",
            lambda: f"{text(d)}[{self.slice()}]",
            lambda: f"{text(d)}[{self.pick('0', '-1', '3', '99')}]",
            lambda: f"({self.list(d)} | join({self.pick('', zero)}))",
            lambda: f"{zero}.join({self.list(d)})",
            lambda: f"({self.any(d)} | tojson{self.pick(*JSON_STYLES)})",
            lambda: f"({self.any(d)} | string)",
            lambda: f"({self.any(d)} | default({zero}{self.pick('', ', true')}))",
            lambda: f"('%s/%s' % ({self.any(d)}, {self.any(d)}))",
            lambda: f"('{self.pick('%5d|', '%-5d|', '%05d|', '%x', '%+d')}' % {self.integer(d)})",
            lambda: f"('{self.pick('%.2f', '%8.3f|', '%e', '%g')}' | format({self.number(d)}))",
            lambda: f"'{self.pick('{}-{}', '{1}{0}', '{0!r}+{1}', '{:>8}|{}', '{:^6}|{:<4}|')}'.format({text(d)}, {self.any(d)})",
            lambda: f"'{{:{self.pick('d', '05d', ',', '.2f', 'x', '>7', '+.1f', 'e')}}}'.format({self.pick(self.integer, self.number)(d)})",
            lambda: f"({text(d)} if {self.boolean(d)} else {text(d)})",
            lambda: f"{text(d)}.{self.pick('center', 'ljust', 'rjust', 'zfill')}({self.pick('3', '12', '15')})",
        ])()

    def boolean(self, depth):
        if depth <= 0:
            return self.pick("true", "false", "t", "True", "none", "s is defined", "missing is defined", "n is none")
        d = depth - 1
        return self.random.choice([
            lambda: f"({self.integer(d)} {self.compare()} {self.number(d)})",
            lambda: f"({self.text(d)} {self.compare()} {self.text(d)})",
            lambda: f"({self.any(d)} {self.pick('==', '!=')} {self.any(d)})",
            lambda: f"({self.integer(0)} {self.compare()} {self.integer(d)} {self.compare()} {self.integer(0)})",
            lambda: f"({self.text(0)} {self.pick('in', 'not in')} {self.text(d)})",
            lambda: f"({self.any(0)} {self.pick('in', 'not in')} {self.list(d)})",
            lambda: f"({self.text(0)} in d)",
            lambda: f"({self.boolean(d)} {self.pick('and', 'or')} {self.any(d)})",
            lambda: f"(not {self.any(d)})",
            lambda: f"({self.any(d)} is {self.pick('', 'not ')}{self.test()})",
            lambda: f"({self.integer(d)} is {self.pick('odd', 'even', 'divisibleby 3', 'divisibleby(2)', 'gt 2', 'le(3)', 'eq 7', 'in [1,2,7]')})",
            lambda: f"{self.text(d)}.{self.pick('startswith', 'endswith')}({self.pick(self.text(0), PREFIXES)})",
            lambda: f"{self.text(d)}.{self.pick('isdigit', 'isalpha', 'isspace', 'isupper', 'islower', 'isalnum')}()",
            lambda: f"({self.list(d)} {self.compare()} {self.list(d)})",
        ])()

    def compare(self):
        return self.pick("==", "!=", "<", "<=", ">", ">=")

    def test(self):
        return self.pick("defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number",
                         "string", "mapping", "sequence", "iterable", "callable", "lower", "upper", "sameas true",
                         "sameas none")

    def slice(self):
        return self.pick(":", "1:", ":2", ":-1", "-2:", "::2", "::-1", "1:-1", "5:1:-2", "-1:0:-1", "i:", "99:", ":n")

    def list(self, depth):
        if self.random.random() < 0.03:
            return self.any(depth - 1) if depth > 0 else "missing"
        if depth <= 0:
            return self.pick("l", "m", "mixed", "empty", "nested", "[1, 2]", "()", "(1,)", "['a', none]", "rows",
                             "range(4)", "range(5, 0, -2)", "d.keys()", "d.values()", "d.items()")
        d = depth - 1
        return self.random.choice([
            lambda: f"[{self.any(d)}, {self.any(d)}]",
            lambda: f"({self.any(d)}, {self.any(d)})",
            lambda: f"({self.list(d)} + {self.list(d)})",
            lambda: f"({self.list(0)} * {self.pick('0', '2')})",
            lambda: f"{self.list(d)}[{self.slice()}]",
            lambda: f"({self.list(d)} | {self.pick('list', 'sort', 'reverse | list', 'unique | list', 'sort(reverse=true)', 'sort(case_sensitive=true)', 'batch(2) | list', 'batch(3, 0) | list')})",
            lambda: f"({self.list(d)} | {self.pick('map', 'map')}({self.pick(repr('string'), repr('upper'), repr('default') + ', 1', repr('length'), repr('tojson'))}) | list)",
            lambda: f"({self.list(d)} | {self.pick('select', 'reject')}({self.pick('', repr('string'), repr('defined'), repr('none'), repr('equalto') + ', 1', repr('in') + ', l', repr('odd'))}) | list)",
            lambda: f"(rows | {self.pick('selectattr', 'rejectattr')}({self.pick(repr('tag'), repr('v') + ', ' + repr('gt') + ', 1', repr('name') + ', ' + repr('equalto') + ', ' + repr('x'), repr('tag.k') + ', ' + repr('defined'))}) | map(attribute='v') | list)",
            lambda: f"(rows | map(attribute={self.pick(repr('name'), repr('v'), repr('tag'))}{self.pick('', ', default=0')}) | list)",
            lambda: f"(rows | sort(attribute={self.pick(repr('name'), repr('v'), repr('name,v'))}{self.pick('', ', reverse=true')}) | map(attribute='v') | list)",
            lambda: f"{self.text(d)}.split({self.pick('', zero := self.text(0), zero + ', 1')})",
            lambda: f"{self.text(d)}.{self.pick('rsplit', 'splitlines', 'partition', 'rpartition')}({self.pick('', self.text(0))})",
            lambda: f"(d | {self.pick('list', 'items | list', 'dictsort', 'dictsort(reverse=true)', 'length')})",
            lambda: f"(d {self.pick('.items()', '.keys()', '.values()')} | list)",
            lambda: f"({self.text(d)} | list)",
        ])()

    def other(self, depth):
        d = depth - 1
        return self.random.choice([
            lambda: "d", lambda: "n", lambda: "missing", lambda: "d.nothing", lambda: "d['c'].y",
            lambda: f"{{'k': {self.any(d) if d >= 0 else 1}, {self.pick('1', 'none', 'true', repr('x'))}: 2}}",
            lambda: f"d.get({self.text(0)}{self.pick('', ', 5')})",
            lambda: f"d[{self.text(0)}]", lambda: f"{self.list(0)}[{self.pick('0', '-1', '1', '9')}]",
            lambda: f"({self.list(0)} | {self.pick('first', 'last', 'min', 'max', 'sum', 'random_missing')})",
            lambda: f"rows[{self.pick('0', '1', '-1', '7')}].{self.pick('name', 'v', 'tag', 'tag.k')}",
            lambda: f"dict(a={self.integer(0)}, b={self.text(0)})",
            lambda: f"({self.any(d) if d >= 0 else 'i'} if {self.boolean(0)})",
            lambda: f"({self.any(d) if d >= 0 else 'i'} | attr('x'))",
        ])()


def comparable(result):
    """Whether the output is one that another implementation can be held to."""
    if result is None:
        return True
    if len(result) > 600 or re.search(r"generator object| at 0x|<built-in|<Macro|Markup\(|\bj\)|[0-9]j\b|reversed", result):
        return False
    return not re.search(r"\d{19}", result)


def random_expressions():
    source = random.Random(SEED)
    maker = ExpressionMaker(source)
    out = []
    seen = set()
    while len(out) < EXPRESSIONS:
        expression = maker.any(source.randint(1, 4))
        if expression in seen or len(expression) > 240:
            continue
        seen.add(expression)
        # `t` is true. It keeps the compiler from folding constants, whose errors it swallows.
        result = render("{{ (" + expression + ") if t }}", VARIABLES)
        if result is None and source.random() < 0.5 and len(out) % 2:
            continue  # keep failures a minority
        if comparable(result):
            out.append([expression, result])
    return out


class TemplateMaker:
    """Random templates out of text, tags and white space."""

    def __init__(self, source):
        self.random = source
        self.expressions = ExpressionMaker(source)

    def space(self):
        return self.random.choice(["", "", " ", "\n", "\n\n", "  ", " \n  ", "\t", "\r\n", "\n    "])

    def text(self):
        return self.random.choice(["", "x", "a b", "{", "}", "%", "{ %", "# }", "#", "é", "line\nbreak", "\n  "])

    def open(self, kind="{%"):
        return kind + self.random.choice(["", "", "-", "+"]) + self.random.choice([" ", " ", "\n"])

    def close(self, kind="%}"):
        marks = ["", "", "-", "+"] if kind == "%}" else ["", "", "-"]
        return " " + self.random.choice(marks) + kind

    def tag(self, content):
        return self.open() + content + self.close()

    def expression(self):
        return self.expressions.any(self.random.randint(0, 1))

    def piece(self, depth):
        choices = [self.text, self.output, self.comment, self.raw, self.assignment]
        if depth > 0:
            choices += [lambda: self.branch(depth - 1), lambda: self.loop(depth - 1), lambda: self.loop(depth - 1),
                        lambda: self.macro(depth - 1), lambda: self.scoped(depth - 1), lambda: self.spaces(depth - 1)]
        return self.space() + self.random.choice(choices)() + self.space()

    def body(self, depth):
        return "".join(self.piece(depth) for _ in range(self.random.randint(0, 3)))

    def output(self):
        return self.open("{{") + self.expression() + self.close("}}")

    def comment(self):
        return self.random.choice(["{#", "{#-", "{#+"]) + " note {{ x }} " + self.random.choice(["#}", "-#}", "+#}"])

    def raw(self):
        return self.tag("raw") + self.space() + "{{ not }} {% this %}" + self.space() + self.tag("endraw")

    def assignment(self):
        return self.tag(self.random.choice(["set v = ", "set k = ", "set v, k = 1, "]) + self.expression()) + self.random.choice(
            ["", "{{ v }}", "{{ k }}|{{ v }}"])

    def branch(self, depth):
        out = self.tag("if " + self.expressions.boolean(1)) + self.body(depth)
        if self.random.random() < 0.4:
            out += self.tag("elif " + self.expressions.boolean(1)) + self.body(depth)
        if self.random.random() < 0.5:
            out += self.tag("else") + self.body(depth)
        return out + self.tag("endif")

    def loop(self, depth):
        target = self.random.choice(["x", "x", "a, b"])
        iterable = self.random.choice(["l", "m", "nested", "d", "d.items()", "rows", "s", "empty", "range(3)",
                                       "rows|selectattr('tag')", "mixed", "[[1, 2], (3, 4)]"])
        condition = self.random.choice(["", "", " if x != 1", " if loop_missing is not defined"])
        inner = self.random.choice(["", "{{ x }}", "{{ loop.index }}/{{ loop.length }}", "{{ a }}={{ b }}", "{{ loop.last }}",
                                    "{{ loop.previtem }}{{ loop.nextitem }}", "{{ loop.cycle('o', 'e') }}{{ loop.revindex0 }}",
                                    "{{ loop.changed(x) }}", "{% set v = x %}{{ v }}", "{{ loop.depth }}"])
        control = self.random.choice(["", "", "", "{% break %}", "{% if x == 2 %}{% continue %}{% endif %}",
                                      "{% if loop.index > 1 %}{% break %}{% endif %}"])
        out = self.tag(f"for {target} in {iterable}{condition}") + inner + control + self.body(depth)
        if self.random.random() < 0.3:
            out += self.tag("else") + "none" + self.body(depth)
        return out + self.tag("endfor")

    def macro(self, depth):
        signature = self.random.choice(["p", "p, q=2", "p=i, q=p", ""])
        inner = self.random.choice(["{{ p }}", "{{ p }}{{ q }}", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller }}", "{{ v }}"])
        out = self.tag(f"macro mac({signature})") + inner + self.body(depth) + self.tag("endmacro")
        if self.random.random() < 0.3:
            return out + self.tag("call mac(1)") + self.body(depth) + self.tag("endcall")
        arguments = self.random.choice(["", "1", "1, 2", "q=5", "p=s", "1, 2, 3", "z=1"])
        return out + "{{ mac(" + arguments + ") }}"

    def scoped(self, depth):
        return self.random.choice([
            lambda: self.tag("with v = 1, k = i") + "{{ v }}{{ k }}" + self.body(depth) + self.tag("endwith"),
            lambda: self.tag("set v") + self.body(depth) + self.tag("endset") + "[{{ v }}]",
            lambda: self.tag("set v | upper | trim") + self.body(depth) + self.tag("endset") + "[{{ v }}]",
            lambda: self.tag("filter upper") + self.body(depth) + self.tag("endfilter"),
            lambda: self.tag("filter replace('a', '_') | indent(2)") + self.body(depth) + self.tag("endfilter"),
            lambda: self.tag("generation") + "{% set v = 'in' %}" + self.body(depth) + self.tag("endgeneration") + "{{ v }}",
        ])()

    def spaces(self, depth):
        change = self.random.choice(["ns.n = ns.n + 1", "ns.n = loop.index if loop is defined else 0", "ns.other = x"])
        return ("{% set ns = namespace(n=0, s=s) %}" + self.tag("for x in l") + self.tag("set " + change) + self.body(depth) +
                self.tag("endfor") + "{{ ns.n }}{{ ns.other }}{{ ns.s }}")


def random_templates():
    source = random.Random(SEED + 1)
    maker = TemplateMaker(source)
    out = []
    while len(out) < TEMPLATES:
        template = "".join(maker.piece(2) for _ in range(source.randint(1, 3)))
        if len(template) > 500:
            continue
        result = render(template, VARIABLES)
        if result is None and source.random() < 0.7:
            continue
        if comparable(result):
            out.append([template, result])
    return out


def main():
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=root / "tests/golden/chat_templates.json")
    arguments = parser.parse_args()
    golden = {
        "unix_time": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "variables": VARIABLES,
        "chat": chat_cases(root / "tests/cases/chat_templates"),
        "expressions": random_expressions(),
        "templates": random_templates(),
    }
    lines = ",\n".join(f"{json.dumps(key)}: " + (
        "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
        if isinstance(value, list) else json.dumps(value, ensure_ascii=False)) for key, value in golden.items())
    arguments.output.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    failures = sum(result is None for _, result in golden["expressions"])
    print(f"{arguments.output}: {len(golden['chat'])} conversations, {len(golden['expressions'])} expressions "
          f"({failures} fail), {len(golden['templates'])} templates")


if __name__ == "__main__":
    main()
