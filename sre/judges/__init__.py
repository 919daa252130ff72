"""From numbers to verdicts. Pure arithmetic: `ruling.py` holds the rules, each sibling says what is measured."""
