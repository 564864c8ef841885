"""The model kit: building blocks of sequential recommenders, each an ordinary torch module.

Shapes, everywhere in this package:

    B  sequences of a bucket        V  items the model knows
    L  positions, right-padded      N  predictions to make
    D  width of hidden vectors      K  recommendations

An event becomes a vector (`inputs` of `items` and `embeddings`, changed by `noise`, and `positions`), an objective says
what is read and what is predicted (`objectives`), an encoder turns (B, L, D) into (B, L, D) (`encoders`), what is known of
the user may join it there (`fusion`), and heads with their losses make predictions of it (`heads`, `losses`, `negatives`).
`network.Network` holds them together, `vocabulary.Vocabulary` says which item is which row.
`item_index` is 0 … V−1: there are no special items. Padding is a length, and a mask is a parameter.
"""
