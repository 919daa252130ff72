"""What manifests must be before a cluster sees them: pure functions over parsed objects.

`policies` holds the rules for single objects and what they name, `flows` who may speak to whom, `ways` who should, `arithmetic`
whether times add up to what is promised, `targets` whether patches found what they name, `difference` how two renderings differ.
`ladder.climb` is all of it that needs nothing but the objects.
"""
