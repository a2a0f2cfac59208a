"""From the findings of a diff to statements that are checked on documents which did not propose them."""
