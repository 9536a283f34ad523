"""Networks from elsewhere: for each library a function of parameters and inputs, in a few lines.

Each file has ``as_function``, which makes ``(apply, params)`` of that library's model, a selection
of its head by name, and a command: ``python -m hoarfrost.examples.networks.pytorch``. The libraries
are imported where they are used; Hoarfrost depends on none of them. A function is of the model as
it was: change the model's settings, and make a new one.
"""
