"""Views in a notebook's output that can be used while its kernel runs, each beside a card that stays."""
