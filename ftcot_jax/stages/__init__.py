"""The stages of the road, each on artefacts: completions, pairs, records, students, scores, report."""
