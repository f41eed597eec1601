"""The statement of privacy as a page for people: one file without a script or a reference to another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from mltrain.privacy.epsilon_curve import epsilon_curve
from mltrain.privacy.rounding import shown_up

__all__ = ["statement_page"]

_STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --back: #fcfcfd; --soft: #60646c; --line: #d9dce2;
  --accent: #0b62c4; --bad: #b3261e; --bad-back: #fdecea; --note-back: #fff6e0; --note: #7a5200; }
@media (prefers-color-scheme: dark) { :root { --text: #e8eaed; --back: #15171a; --soft: #a3a8b0; --line: #363a41;
  --accent: #78b4ff; --bad: #ff9a92; --bad-back: #3a1917; --note-back: #352a10; --note: #ffd480; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem 1rem 3rem; max-width: 46rem; background: var(--back); color: var(--text);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.run, figcaption { color: var(--soft); margin: 0; font-size: .9rem; } .claim { font-size: 1.2rem; }
.void, .note { border-left: .4rem solid; padding: .75rem 1rem; margin: 1rem 0; border-radius: .25rem; }
.void { color: var(--bad); background: var(--bad-back); font-size: 1.15rem; }
.void strong { display: block; font-size: 1.8rem; } .note { color: var(--note); background: var(--note-back); }
table { border-collapse: collapse; width: 100%; } figure { margin: 0; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 500; color: var(--soft); width: 42%; } td { font-variant-numeric: tabular-nums; }
ul { padding-left: 1.2rem; } li { margin: .3rem 0; } code { font-size: .9em; }
.curve { width: 100%; height: auto; } .curve text { fill: var(--soft); font-size: 13px; }
.curve .grid { stroke: var(--line); } .curve .line { fill: none; stroke: var(--accent); stroke-width: 2.5; }
.curve .here { fill: var(--accent); } .curve .target { stroke: var(--bad); stroke-dasharray: 6 5; stroke-width: 1.5; }
"""
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
"""
_UNDER_WAY = (
    "The run was under way when this was written. Epsilon is stated for the most steps that the run may come to, so "
    "that it holds whatever becomes of it; the run writes another statement when it ends."
)
_INTERRUPTED = (
    "The run was interrupted after {steps} steps; epsilon is that of the weights of its last checkpoint or before; "
    "continuing raises it."
)


def statement_page(facts: Mapping[str, Any]) -> str:
    """Return the page as HTML.

    Args:
        facts: what `privacy.json` holds.
    """
    title = f"Privacy of {facts['run_name']}" if facts["run_name"] else "Privacy"
    sections = [
        f"<h1>{escape(title)}</h1>",
        *_warnings(facts),
        f'<p class="claim">{escape(_claim(facts))}</p>',
        _section("Figures", _table(_figures(facts))),
        _curve(facts),
        _section("Cross-check", f"<p>{escape(_cross_check(facts))}</p>"),
        _section("What is public", _list(facts["public"])),
        _section("What is not covered", _list(facts["not_covered"])),
        _section("What was written without privacy", _non_private(facts)),
        _section("Versions", _table((name, text or "not installed") for name, text in facts["versions"].items())),
    ]
    return "\n".join(
        [_HEAD.format(title=escape(title), style=_STYLE) + sections[0], *sections[1:], "</main>\n</body>\n</html>\n"]
    )


def _claim(facts: Mapping[str, Any]) -> str:
    """Return the claim in one sentence."""
    if facts["epsilon"] is None:
        return "This run makes no claim of differential privacy: its weights may tell anything about the training data."
    leaking = facts["selection"]["decided_by_private_values"]
    is_final = facts["state"] == "ended" and not leaking
    # The guarantee is for the weights after every step; a choice among them by private values is beyond it.
    weights = facts["selection"]["weights"] if is_final else "the weights after each step"
    told = "; ".join(f"{what} by {name}" for what, name in leaking.items())
    return (
        f"In this one run, {weights} are differentially private with epsilon {_number(facts['epsilon'])} and delta "
        f"{_number(facts['delta'])}: {facts['neighbouring_relation']}."
        + (f" What private values decided is not covered: {told}." if leaking else "")
    )


def _warnings(facts: Mapping[str, Any]) -> list[str]:
    """Return the boxes above the claim: what voids it, what it does not cover, what does not fit."""
    boxes = []
    if facts["void"]:
        boxes.append(f'<div class="void" role="alert"><strong>Void</strong>{escape(facts["void"])}</div>')
    states = {"under way": [_UNDER_WAY], "interrupted": [_INTERRUPTED.format(steps=facts["steps_counted"])]}
    notes = [*states.get(facts["state"], []), *facts["conditions"]]
    for what, name in facts["selection"]["decided_by_private_values"].items():
        waiver = " The user accepted that (dp.accept_selection_leak)." if facts["selection"]["waiver_used"] else ""
        notes.append(f"Epsilon does not cover {what}: decided by {name}, a value of private data.{waiver}")
    if facts["within_target"] is False:
        notes.append(f"Epsilon is above the target of {_number(facts['target_epsilon'])}.")
    if facts["cross_check"]["agrees"] is False:
        notes.append("The cross-check below finds a larger epsilon than the one that is claimed. Take the larger one.")
    return [*boxes, *(f'<div class="note" role="note">{escape(note)}</div>' for note in notes)]


def _figures(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    target = facts["target_epsilon"]
    weights = facts["initial_weights"]
    lost = facts["steps_counted"] - facts["steps_learned"]
    steps = f"{facts['steps_counted']} of {facts['planned_steps']} planned"
    if facts["under_way"]:
        steps = f"at most {facts['steps_counted']}, {facts['planned_steps']} planned"
    elif lost:
        steps += f"; {lost} of them were lost in a kill or taken again, and count"
    return [
        ("epsilon", "none" if facts["epsilon"] is None else f"{_number(facts['epsilon'])} ({facts['accountant']})"),
        ("delta", f"{_number(facts['delta'])} (1/N is {1 / facts['num_samples']:.4g})"),
        ("target of epsilon", "none" if target is None else _number(target)),
        ("sample rate q", f"{facts['sample_rate']:.6g}"),
        ("noise multiplier sigma", f"{facts['noise_multiplier']:.6g}"),
        ("clipping norm C", f"{facts['max_grad_norm']:g}"),
        ("steps T", steps),
        ("training examples N", str(facts["num_samples"])),
        ("expected batch B", str(facts["expected_batch_size"])),
        ("neighbouring data sets", facts["neighbouring_relation"]),
        ("sampling", facts["sampling"]),
        ("clipping", f"{facts['clipping']} (mode {facts['grad_sample_mode']})"),
        ("noise", facts["noise_source"]),
        ("processes, segments", f"{facts['num_processes']}, {facts['segments']}"),
        ("chosen weights", facts["selection"]["weights"]),
        (
            "initial weights",
            "random" if weights is None else f"{weights.get('source')}, sha256 {weights.get('sha256')}",
        ),
        ("digest of the data", facts["data_digest"] or "none"),
    ]


def _curve(facts: Mapping[str, Any]) -> str:
    points = facts["epsilon_by_steps"]
    if facts["epsilon"] is None or len(points) < 2:
        return ""
    svg = epsilon_curve(points, steps=facts["steps"], epsilon=facts["epsilon"], target=facts["target_epsilon"])
    caption = (
        f"Upper bounds of epsilon at delta {_number(facts['delta'])}, computed for {len(points) - 1} numbers of steps, "
        "with straight lines between them; the dot is this run."
    )
    return _section("Epsilon over the steps", f"<figure>{svg}<figcaption>{caption}</figcaption></figure>")


def _cross_check(facts: Mapping[str, Any]) -> str:
    check = facts["cross_check"]
    if check["why_not"]:
        return f"There is none: {check['why_not']}. It would be by {check['method']}."
    others = {name: value for name, value in facts["accountant_epsilons"].items() if value is not None}
    told = ", ".join(f"{name.upper()} {_number(value)}" for name, value in others.items())
    verdict = "does not lie below it" if check["agrees"] else "LIES BELOW IT"
    return (
        f"For the same q, sigma, T and delta: {told}. PLD is by {check['method']}; the epsilon claimed is an upper "
        f"bound and {verdict} (difference {check['difference']:.4f})."
    )


def _non_private(facts: Mapping[str, Any]) -> str:
    return (
        f"<p>Logged values: <code>{escape(facts['non_private_outputs_text'])}</code></p>"
        "<p>Files of the run folder that hold such values: keep them, and pass on the weights alone.</p>"
        + _list(facts["non_private_files"])
    )


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "\n".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in rows)
    return f"<table>\n{cells}\n</table>"


def _list(texts: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>"


def _number(value: float) -> str:
    return shown_up(value)
