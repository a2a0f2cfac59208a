"""Labelled sets in, figures out: how good is what saeray makes, beside what a user would use instead?"""
